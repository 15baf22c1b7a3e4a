/*
 * From the kernel's last step to the agent's first, in a virtual machine.
 *
 * The initramfs has /init (the agent), /modules/order (names, in order of need) and the modules.
 * Two disks, told apart by the serials that the host gave them, since their letters follow from the
 * order in which the kernel finds them:
 *
 *	root   the image, shared by all its sandboxes, read-only
 *	disk   the sandbox's own: upper/ and work/ of an overlay, as runtime/layer_loop.c makes them
 *
 *   1. Modules. The kernel drops its own copy; the files are removed, as they are memory.
 *   2. The overlay, and the kernel's file systems in it. From there on every path is the image's.
 *   3. The link, resolv.conf, the host name.
 *
 * Nothing of a tenant's runs yet, but what the disk holds may be a tenant's: links are never
 * followed when a file is written, and a mount point that is none is an error.
 *
 * Whoever is root in here is root of this kernel alone: nothing is hidden, dropped or filtered. The
 * way out is the devices', and the host's.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include "agent/machine.h"
#include "base/fd.h"

#define ORDER_MAX   4096
#define CMDLINE_MAX 4096
#define NEW_ROOT    "/new"

#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t) /* no header for programs has it */

static bool ours;
/* The sandbox's disk and its file system, from before the overlay hid them: to grow it. */
static int disk_device = -EBADF, disk_root = -EBADF;

bool machine_is_ours(void)
{
	return ours;
}

struct mount {
	const char *type, *at, *data;
	unsigned long flags;
};

static int mount_one(const struct mount *m, const char *from, struct err *err)
{
	struct stat st;

	if (mkdir(m->at, 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "make %s", m->at);
	if (lstat(m->at, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(err, -ENOTDIR, ERR_INVALID, "%s is not a directory", m->at);
	if (mount(from, m->at, m->type, m->flags, m->data) < 0)
		return err_sys(err, -errno, "mount %s", m->at);
	return 0;
}

/* --- modules --- */

static int module_load(int dir, const char *name, struct err *err)
{
	auto_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		return err_sys(err, -errno, "load %s", name);
	unlinkat(dir, name, 0);
	return 0;
}

static int modules_load(struct err *err)
{
	auto_fd int dir = open("/modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_buf struct buf order = BUF_MAX(ORDER_MAX);
	int r = dir < 0 ? -errno : file_read(dir, "order", &order);
	struct str rest = buf_str(&order);

	if (r < 0)
		return err_sys(err, r, "read /modules/order");
	while (r == 0 && rest.n) {
		char name[64];

		r = str_copy(name, sizeof(name), str_cut(&rest, '\n'));
		if (r < 0)
			return err_sys(err, r, "read /modules/order");
		if (*name)
			r = module_load(dir, name, err);
	}
	return r;
}

/* --- disks --- */

/* Which device in /sys/block has this serial? */
static int disk_find(const char *serial, char *path, size_t size, struct err *err)
{
	DIR *blocks = opendir("/sys/block");
	struct dirent *e;
	bool found = false;

	while (blocks && !found && (e = readdir(blocks))) {
		auto_buf struct buf text = BUF_MAX(128);
		char name[300];

		if (strncmp(e->d_name, "vd", 2) != 0)
			continue;
		snprintf(name, sizeof(name), "%s/serial", e->d_name);
		if (file_read(dirfd(blocks), name, &text) < 0)
			continue;
		while (text.n && text.p[text.n - 1] == '\n')
			text.n--;
		found = str_eq_c(buf_str(&text), serial);
		if (found)
			snprintf(path, size, "/dev/%s", e->d_name);
	}
	if (blocks)
		closedir(blocks);
	return found ? 0 : err_set(err, -ENODEV, ERR_INTERNAL, "no disk has the serial %s", serial);
}

static int disk_mount(const char *serial, const char *at, unsigned long flags, struct err *err)
{
	const struct mount m = { "ext4", at, NULL, flags };
	char path[300];
	int r = disk_find(serial, path, sizeof(path), err);

	return r < 0 ? r : mount_one(&m, path, err);
}

/* The disk's own file system, as large as the device is by now. To be told its own size costs it a whole
 * commit of its journal, so what it fills already is remembered, in memory that a snapshot takes along. */
int machine_grow(void)
{
	static uint64_t fills;
	uint64_t bytes, blocks;
	struct statfs fs;

	if (ioctl(disk_device, BLKGETSIZE64, &bytes) < 0)
		return -errno;
	if (bytes == fills)
		return 0;
	if (fstatfs(disk_root, &fs) < 0)
		return -errno;
	blocks = bytes / (uint64_t)fs.f_bsize;
	if (ioctl(disk_root, EXT4_IOC_RESIZE_FS, &blocks) < 0)
		return -errno;
	fills = bytes;
	return 0;
}

static int disk_keep(struct err *err)
{
	char path[300];
	int r = disk_find("disk", path, sizeof(path), err);

	if (r < 0)
		return r;
	disk_device = open(path, O_RDONLY | O_CLOEXEC);
	disk_root = open("/disk", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disk_device < 0 || disk_root < 0)
		return err_sys(err, -errno, "open %s", path);
	r = machine_grow();
	return r < 0 ? err_sys(err, r, "grow the disk") : 0;
}

static int root_mount(struct err *err)
{
	const struct mount overlay = { "overlay", NEW_ROOT,
		"lowerdir=/root,upperdir=/disk/upper,workdir=/disk/work", 0 };
	int r = disk_mount("root", "/root", MS_RDONLY, err);

	r = r < 0 ? r : disk_mount("disk", "/disk", MS_NOATIME, err);
	r = r < 0 ? r : disk_keep(err);
	return r < 0 ? r : mount_one(&overlay, "overlay", err);
}

/* --- the sandbox's root --- */

static int root_enter(struct err *err)
{
	static const char *const moved[] = { "proc", "sys", "dev" };
	static const struct mount more[] = {
		{ "devpts", "dev/pts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC },
		{ "tmpfs", "dev/shm", "mode=1777", MS_NOSUID | MS_NODEV },
		{ "tmpfs", "run", "mode=755", MS_NOSUID | MS_NODEV },
		{ "cgroup2", "sys/fs/cgroup", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	};
	static const char *const links[][2] = { { "/proc/self/fd", "dev/fd" },
		{ "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
		{ "/proc/self/fd/2", "dev/stderr" } };
	char from[8];
	int r = 0;

	if (chdir(NEW_ROOT) < 0)
		return err_sys(err, -errno, "enter " NEW_ROOT);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(moved); i++) {
		const struct mount m = { NULL, moved[i], NULL, MS_MOVE };

		snprintf(from, sizeof(from), "/%s", moved[i]);
		r = mount_one(&m, from, err);
	}
	if (r == 0 && (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0))
		r = err_sys(err, -errno, "make " NEW_ROOT " the root");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(more); i++)
		r = mount_one(&more[i], more[i].type, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
			r = err_sys(err, -errno, "make /%s", links[i][1]);
	if (r == 0 && ((mkdir("/run/lock", 0777) < 0 || chmod("/run/lock", 01777) < 0) ||
			      (mkdir("/tmp", 0777) < 0 ? errno != EEXIST : chmod("/tmp", 01777) < 0)))
		r = err_sys(err, -errno, "make /run/lock and /tmp");
	return r;
}

static int resolv_write(struct err *err)
{
	const struct str text = STR("nameserver 169.254.77.1\noptions timeout:2 attempts:3 edns0\n");
	int r;

	if (mkdir("/etc", 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "make /etc");
	r = file_replace(AT_FDCWD, "/etc/resolv.conf", text, 0644, false);
	return r < 0 ? err_sys(err, r, "write /etc/resolv.conf") : 0;
}

int machine_boot(struct err *err)
{
	static const struct mount first[] = {
		{ "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "devtmpfs", "/dev", "mode=755", MS_NOSUID | MS_NOEXEC },
	};
	auto_buf struct buf text = BUF_MAX(CMDLINE_MAX);
	struct cmdline line;
	int r = 0;

	ours = true;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(first); i++)
		r = mount_one(&first[i], first[i].type, err);
	if (r < 0)
		return r;
	r = file_read(AT_FDCWD, "/proc/cmdline", &text);
	if (r < 0)
		return err_sys(err, r, "read /proc/cmdline");
	r = cmdline_read(buf_str(&text), &line, err);
	r = r < 0 ? r : modules_load(err);
	r = r < 0 ? r : root_mount(err);
	r = r < 0 ? r : root_enter(err);
	r = r < 0 ? r : held_open(err);
	r = r < 0 ? r : link_begin(&line.link, line.mtu, err);
	r = r < 0 ? r : resolv_write(err);
	if (r == 0 && *line.host && sethostname(line.host, strlen(line.host)) < 0)
		r = err_sys(err, -errno, "set the host name");
	return r;
}

void machine_ready(void)
{
	static const char byte = MACHINE_READY;
	auto_fd int fd = open("/dev/ttyS0", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && write(fd, &byte, 1) < 0)
		return; /* no such device: whoever waits asks for a connection instead */
}

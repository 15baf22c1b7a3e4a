/*
 * The first process of a sandbox, from clone to exec.
 *
 * It begins beside the starter, in its memory and on a stack of its own, in new user, pid, mount,
 * IPC, UTS and control group namespaces, and works in this order:
 *
 *   1. Become the namespace's root; keys of its own.
 *   2. Make /proc while the host's is still visible (the kernel demands it), then pivot into the
 *      overlay and drop the old tree. From here every path resolves inside the image, so an
 *      image's symbolic links can lead nowhere else.
 *   3. /dev, /run, /proc, /sys: the targets must be real directories of the image. Masks are
 *      opened on the mount itself, never through the image, and are covered with descriptors the
 *      starter made from the host's devices.
 *   4. resolv.conf, by the sandbox's own id and within its quota, as are the files of step 6.
 *   5. Descriptors, limits, session. The agent's socket is 3; what else is open closes. Here it
 *      parks: nothing so far has depended on whose sandbox this will be.
 *   6. A host name, /etc/hosts and /etc/hostname, the size of /dev/shm.
 *   7. System call filter, capabilities. Afterwards nothing is left to do but exec.
 *
 * no_new_privs is not set: sudo and su in an image are useful, and a set-user-id program gains an
 * id of this user namespace and capabilities from the bounding set, which is all root here has.
 *
 * Nobody else is in these namespaces until exec, so nothing here can be raced from inside. Nothing
 * allocates. The agent's image is a sealed memory file: writing to /proc/1/exe fails, and there is
 * no file of the host to write to (CVE-2019-5736).
 */
#include <limits.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/fault.h"
#include "base/fd.h"
#include "runtime/fork.h"
#include "runtime/inside.h"
#include "runtime/lift.h"
#include "runtime/path.h"
#include "runtime/sys.h"

#define AGENT_FD       3
#define NOFILE_MAX     1048576
#define NOFILE_DEFAULT 65536
#define SHM_SIZE       "64m" /* until the sandbox's memory is known */
#define SHM_INODES     "65536"

const char *const inside_dev_names[DEVS] = { "null", "zero", "full", "random", "urandom", "tty" };

/* What the container engines leave by default, without MKNOD and NET_RAW: no devices are made in
 * a sandbox and no packets but those of sockets (the kernel program would drop them). */
static const int capabilities[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL,
	CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_AUDIT_WRITE,
	CAP_SETFCAP };

/* What tells of the host, reaches its hardware or waits for a bug. Files are covered by /dev/null,
 * directories by an empty one. Not every kernel has every one. */
static const char *const proc_hidden[] = { "kcore", "keys", "key-users", "kmsg", "kallsyms",
	"timer_list", "timer_stats", "latency_stats", "sched_debug", "interrupts", "kpagecgroup",
	"kpagecount", "kpageflags", "iomem", "ioports", "modules", "slabinfo", "vmallocinfo",
	"sysrq-trigger", "config.gz", "acpi", "asound", "scsi", "driver", "dma" };
static const char *const proc_readonly[] = { "sys", "irq", "bus", "fs", "sysvipc", "mtrr" };
static const char *const sys_hidden[] = { "firmware", "kernel/debug", "kernel/tracing",
	"kernel/security", "kernel/boot_params", "kernel/vmcoreinfo", "kernel/notes",
	"devices/virtual/powercap", "devices/virtual/dmi", "devices/system/cpu/vulnerabilities",
	"fs/bpf", "fs/pstore", "hypervisor" };

static int own_ids(const struct inside *in, struct err *err)
{
	static const char name[] = "weir";
	char byte;

	umask(0); /* modes below are meant as written */
	if (read(in->go, &byte, 1) != 1)
		return err_set(err, -ECANCELED, ERR_INTERNAL, "the starter ended");
	if (LIFTED(LIFT_USERNS))
		return 0;
	/* Not by the C library: it would have the threads change that it knows of, the host role's. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, 0, 0, 0) < 0 ||
		syscall(SYS_setresuid, 0, 0, 0) < 0)
		return err_sys(err, -errno, "become root of the user namespace");
	/* An inherited session keyring would be the host role's. */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) < 0 && errno != ENOSYS)
		return err_sys(err, -errno, "leave the host's keyring");
	return 0;
}

static int enter_root(const struct inside *in, int *ret_root, int *ret_proc, struct err *err)
{
	/* By path: a descriptor of the starter's is on the starter's copy of these mounts. */
	auto_fd int root = -EBADF, stage = open("/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int proc = mount_new("proc", NULL, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	int r;

	if (proc < 0)
		return err_sys(err, proc, "mount /proc");
	r = stage < 0 ? -errno : mount_on(in->root, stage);
	if (r < 0)
		return err_sys(err, r, "attach the root");
	if (fchdir(in->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(err, -errno, "pivot into the root");
	/* "." is now the old root, stacked on the new one. */
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(err, -errno, "leave the starter's mounts");
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys(err, -errno, "open the root");
	*ret_root = take_fd(root);
	*ret_proc = proc;
	return 0;
}

/* Attach mnt on a directory of the image that must not be a link. */
static int attach(int root, const char *name, int mnt, struct err *err)
{
	auto_fd int at = path_dir_in_root(root, name, 0755);
	int r;

	if (LIFTED(LIFT_LINKS) && at < 0)
		at = path_in_root(root, name, O_PATH | O_DIRECTORY, 0);
	r = at < 0 ? at : mount_on(mnt, at);

	if (at == -ENOTDIR || at == -ELOOP)
		return err_set(err, r, ERR_INVALID, "/%s of the image is not a directory", name);
	return r < 0 ? err_sys(err, r, "attach /%s", name) : 0;
}

/* The first use attaches the cover itself, since only an attached mount can be copied. */
static int cover(int mnt, const char *path, int file, int dir, struct err *err)
{
	auto_fd int at = path_on_mount(mnt, path);
	auto_fd int copy = -EBADF;
	struct stat st;
	int with, r;

	if (at == -ENOENT)
		return 0;
	if (at < 0 || fstat(at, &st) < 0)
		return err_sys(err, at < 0 ? at : -errno, "find %s", path);
	with = S_ISDIR(st.st_mode) ? dir : file;
	copy = mount_copy(with, "");
	r = mount_on(copy < 0 ? with : copy, at);
	return r < 0 ? err_sys(err, r, "hide %s", path) : 0;
}

static int make_readonly(int mnt, const char *path, struct err *err)
{
	auto_fd int at = path_on_mount(mnt, path);
	auto_fd int copy = -EBADF;
	int r;

	if (at == -ENOENT)
		return 0;
	copy = at < 0 ? at : mount_copy(at, "");
	r = copy < 0 ? copy : mount_attr(copy, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
						       MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	r = r < 0 ? r : mount_on(copy, at);
	return r < 0 ? err_sys(err, r, "make /proc/%s read-only", path) : 0;
}

static int kernel_dirs(const struct inside *in, int root, int proc, struct err *err)
{
	const struct mount_opt tiny[] = { { "size", "0" }, { "nr_inodes", "2" }, { "mode", "555" } };
	auto_fd int empty = mount_new("tmpfs", tiny, ARRAY_SIZE(tiny),
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	int null = in->dev[DEV_NULL], r;

	if (empty < 0)
		return err_sys(err, empty, "make an empty directory");
	r = attach(root, "proc", proc, err);
	r = r < 0 ? r : attach(root, "sys", in->sysfs, err);
	if (r < 0 || LIFTED(LIFT_MASKS))
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(proc_hidden); i++)
		r = cover(proc, proc_hidden[i], null, empty, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(proc_readonly); i++)
		r = make_readonly(proc, proc_readonly[i], err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sys_hidden); i++)
		r = cover(in->sysfs, sys_hidden[i], null, empty, err);
	return r;
}

static int dev_nodes(const struct inside *in, int dev, struct err *err)
{
	static const char *const links[][2] = { { "/proc/self/fd", "fd" },
		{ "/proc/self/fd/0", "stdin" }, { "/proc/self/fd/1", "stdout" },
		{ "/proc/self/fd/2", "stderr" }, { "pts/ptmx", "ptmx" } };

	for (size_t i = 0; i < DEVS; i++) {
		auto_fd int at = openat(dev, inside_dev_names[i],
			O_CREAT | O_EXCL | O_NOFOLLOW | O_RDONLY | O_CLOEXEC, 0666);
		int r = at < 0 ? -errno : mount_on(in->dev[i], at);

		if (r < 0)
			return err_sys(err, r, "make /dev/%s", inside_dev_names[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlinkat(links[i][0], dev, links[i][1]) < 0)
			return err_sys(err, -errno, "make /dev/%s", links[i][1]);
	return 0;
}

static int dev_mount(int dev, const char *name, const char *fstype, const struct mount_opt *opts,
	size_t n, struct err *err)
{
	auto_fd int mnt = mount_new(fstype, opts, n, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	auto_fd int at = path_dir_in_root(dev, name, 0755);
	int r = mnt < 0 ? mnt : at < 0 ? at : mount_on(mnt, at);

	return r < 0 ? err_sys(err, r, "mount /dev/%s", name) : 0;
}

/* Memory file systems count as the sandbox's memory; their own limits only keep inodes in bounds. */
static int device_dirs(const struct inside *in, int root, struct err *err)
{
	const struct mount_opt dev_opts[] = { { "mode", "755" }, { "size", "64k" },
		{ "nr_inodes", "1024" } };
	const struct mount_opt pts[] = { { "newinstance", NULL }, { "ptmxmode", "0666" },
		{ "mode", "0620" }, { "gid", "5" }, { "max", "1024" } };
	const struct mount_opt shm[] = { { "mode", "1777" }, { "size", SHM_SIZE },
		{ "nr_inodes", SHM_INODES } };
	const struct mount_opt run[] = { { "mode", "755" }, { "size", "64m" },
		{ "nr_inodes", "65536" } };
	auto_fd int dev = mount_new("tmpfs", dev_opts, ARRAY_SIZE(dev_opts),
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	auto_fd int run_mnt = -EBADF;
	int r;

	if (dev < 0)
		return err_sys(err, dev, "mount /dev");
	r = attach(root, "dev", dev, err);
	r = r < 0 ? r : dev_nodes(in, dev, err);
	r = r < 0 ? r : dev_mount(dev, "pts", "devpts", pts, ARRAY_SIZE(pts), err);
	r = r < 0 ? r : dev_mount(dev, "shm", "tmpfs", shm, ARRAY_SIZE(shm), err);
	if (r < 0)
		return r;
	run_mnt = mount_new("tmpfs", run, ARRAY_SIZE(run), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (run_mnt < 0)
		return err_sys(err, run_mnt, "mount /run");
	r = attach(root, "run", run_mnt, err);
	if (r < 0)
		return r;
	if (mkdirat(run_mnt, "lock", 01777) < 0 || (mkdirat(root, "tmp", 01777) < 0 && errno != EEXIST))
		return err_sys(err, -errno, "make /run/lock and /tmp");
	return 0;
}

static int put_file(int root, const char *name, struct str text)
{
	auto_fd int fd = -EBADF;
	char path[64];

	if (!LIFTED(LIFT_LINKS))
		return path_replace_in_root(root, "etc", name, text);
	snprintf(path, sizeof(path), "etc/%s", name);
	fd = path_in_root(root, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	return fd < 0 ? fd : fd_write_all(fd, text.p, text.n);
}

static int write_resolv(int root, struct err *err)
{
	static const char resolv[] = "nameserver 169.254.77.1\noptions timeout:2 attempts:3 edns0\n";
	int r;

	if (mkdirat(root, "etc", 0755) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "make /etc");
	r = put_file(root, "resolv.conf", str_c(resolv));
	return r < 0 ? err_sys(err, r, "write /etc/resolv.conf") : 0;
}

static int write_name(const struct starter_order *o, int root, struct err *err)
{
	char hosts[512], name[IPC_NAME_LEN + 1];
	size_t n = 0;
	int r;

	n += (size_t)snprintf(hosts + n, sizeof(hosts) - n,
		"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	if (o->ip4.family)
		n += (size_t)snprintf(hosts + n, sizeof(hosts) - n, "%s\t%s\n", ip_text(o->ip4).s,
			o->hostname);
	if (o->ip6.family)
		n += (size_t)snprintf(hosts + n, sizeof(hosts) - n, "%s\t%s\n", ip_text(o->ip6).s,
			o->hostname);
	r = put_file(root, "hosts", str_n(hosts, n));
	snprintf(name, sizeof(name), "%s\n", o->hostname);
	r = r < 0 ? r : put_file(root, "hostname", str_c(name));
	return r < 0 ? err_sys(err, r, "write /etc/hosts and /etc/hostname") : 0;
}

static int limit(int what, rlim_t soft, rlim_t hard)
{
	struct rlimit now, want;

	if (getrlimit((enum __rlimit_resource)what, &now) < 0)
		return -errno;
	want.rlim_max = MIN(hard, now.rlim_max);
	want.rlim_cur = MIN(soft, want.rlim_max);
	return setrlimit((enum __rlimit_resource)what, &want) < 0 ? -errno : 0;
}

static int process_state(struct err *err)
{
	int r;

	if (setsid() < 0 && errno != EPERM)
		return err_sys(err, -errno, "begin a session");
	umask(022);
	r = limit(RLIMIT_NOFILE, NOFILE_DEFAULT, NOFILE_MAX);
	if (!LIFTED(LIFT_CORE))
		r = r < 0 ? r : limit(RLIMIT_CORE, 1, 1); /* why 1: filter.c */
	r = r < 0 ? r : limit(RLIMIT_MEMLOCK, 8 << 20, 64 << 20);
	return r < 0 ? err_sys(err, r, "set resource limits") : 0;
}

/* 0, 1, 2: /dev/null; 3: the agent's socket; 4: our channel and 5: the agent, both close on exec. */
static int arrange_fds(const struct inside *in, struct err *err)
{
	int high[3] = { -EBADF, -EBADF, -EBADF };
	const int want[3] = { in->agent_sock, in->chan, in->kit->agent };
	auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (null < 0)
		return err_sys(err, -errno, "open /dev/null");
	for (int i = 0; i < 3; i++) {
		high[i] = fcntl(want[i], F_DUPFD_CLOEXEC, 100);
		if (high[i] < 0)
			return err_sys(err, -errno, "arrange descriptors");
	}
	for (int i = 0; i < 3; i++)
		if (dup2(null, i) < 0)
			return err_sys(err, -errno, "arrange descriptors");
	for (int i = 0; i < 3; i++)
		if (dup3(high[i], AGENT_FD + i, i ? O_CLOEXEC : 0) < 0 && high[i] != AGENT_FD + i)
			return err_sys(err, -errno, "arrange descriptors");
	null = -EBADF; /* closed below, or one of 3..5 by now */
	if (!LIFTED(LIFT_FDS) && close_range(AGENT_FD + 3, ~0u, 0) < 0)
		return err_sys(err, -errno, "close descriptors");
	return 0;
}

static int drop_capabilities(struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	uint64_t keep = 0;

	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++)
		keep |= UINT64_C(1) << capabilities[i];
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_sys(err, -errno, "clear ambient capabilities");
	for (unsigned int cap = 0; cap < 64; cap++) {
		if (keep & UINT64_C(1) << cap || prctl(PR_CAPBSET_READ, cap, 0, 0, 0) <= 0)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return err_sys(err, -errno, "drop capability %u", cap);
	}
	/* Inheritable stays empty (CVE-2022-27650): exec as root takes what the bounding set allows. */
	for (int i = 0; i < 2; i++)
		data[i].permitted = data[i].effective = (uint32_t)(keep >> (32 * i));
	if (syscall(SYS_capset, &head, data) < 0)
		return err_sys(err, -errno, "set capabilities");
	return 0;
}

static int confine(const struct inside *in, struct err *err)
{
	int r;

	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED) <
		0)
		return err_sys(err, -errno, "set secure bits");
	/* The filter needs CAP_SYS_ADMIN of the namespace, so it comes first; it allows the rest. */
	r = LIFTED(LIFT_SECCOMP) ? 0 : filter_install(&in->kit->filter);
	if (r < 0)
		return err_sys(err, r, "install the system call filter");
	return LIFTED(LIFT_CAPS) ? 0 : drop_capabilities(err);
}

/* Who the sandbox is. */
static int become(const struct starter_order *o, struct err *err)
{
	auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char shm[64];

	if (root < 0)
		return err_sys(err, -errno, "open the root");
	if (sethostname(o->hostname, strlen(o->hostname)) < 0)
		return err_sys(err, -errno, "set the host name");
	snprintf(shm, sizeof(shm), "size=%um,nr_inodes=" SHM_INODES, o->mem_mib);
	if (o->mem_mib && mount(NULL, "/dev/shm", NULL, MS_REMOUNT | MS_NOSUID | MS_NOEXEC, shm) < 0)
		return err_sys(err, -errno, "size /dev/shm");
	return o->revive ? 0 : write_name(o, root, err); /* the files are the tenant's by then */
}

static int prepare(const struct inside *in, struct err *err)
{
	auto_fd int root = -EBADF, proc = -EBADF;
	int r = own_ids(in, err);

	r = r < 0 ? r : enter_root(in, &root, &proc, err);
	r = r < 0 ? r : device_dirs(in, root, err);
	r = r < 0 ? r : kernel_dirs(in, root, proc, err);
	r = r < 0 ? r : write_resolv(root, err);
	r = r < 0 ? r : process_state(err);
	return r;
}

/* Say that all is ready and wait for the order. The end of the host role ends this process. */
static void park(int chan, struct starter_order *ret)
{
	const struct fork_news ready = { .pid = 0 };
	ssize_t n;

	if (send(chan, &ready, sizeof(ready), MSG_NOSIGNAL) != sizeof(ready))
		_exit(0);
	do
		n = recv(chan, ret, sizeof(*ret), 0);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(*ret))
		_exit(0);
}

void inside_run(const struct inside *in)
{
	static char *const argv[] = { (char *)"weir-agent", NULL };
	static char *const env[] = {
		(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		(char *)"HOME=/root", (char *)"container=weir", NULL
	};
	struct fork_news news = { .pid = 0 };
	struct starter_order order;
	int chan = in->chan, r = prepare(in, &news.err);

	if (r == 0) {
		r = arrange_fds(in, &news.err);
		if (r == 0)
			chan = AGENT_FD + 1;
	}
	if (r == 0) {
		FAULT("host.inside.prepared");
		park(chan, &order);
		FAULT("host.inside.ordered");
		r = become(&order, &news.err);
	}
	r = r < 0 ? r : confine(in, &news.err);
	if (r == 0) {
		syscall(SYS_execveat, AGENT_FD + 2, "", argv, env, AT_EMPTY_PATH);
		err_sys(&news.err, -errno, "execute the agent");
	}
	send(chan, &news, sizeof(news), MSG_NOSIGNAL);
	_exit(126);
}

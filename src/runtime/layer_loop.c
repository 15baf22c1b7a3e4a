/*
 * Writable layers as ext4 images, one per sandbox: `<layers>/<name>/disk`.
 *
 * mkfs takes 5 to 10 ms, so it runs once per size: `<layers>/.template-<mib>` is copied by reflink
 * or, on file systems without, extent by extent (a fresh ext4 is a few hundred kilobytes in a
 * large hole). upper/ and work/ are in the template: in a fresh file system the first directories
 * below the root are what costs most. Growing a mounted image needs CAP_SYS_RESOURCE; an unmounted
 * one is grown by resize2fs.
 */
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "base/fault.h"
#include "base/fd.h"
#include "runtime/layer_ops.h"
#include "runtime/loop.h"
#include "runtime/sys.h"

#define TEMPLATES_MAX 32 /* sizes that are kept ready; shapes are few, odd sizes are made directly */
#define DISK_MIN_MIB  16
/* Of an image: mkfs leaves out a last group that would hold nothing but tables. */
#define UNUSED_MAX    (UINT64_C(8) << 20)
/* Half the descriptors to copy; 16 TiB are enough. */
#define FEATURES "extent,^64bit"
/* Of the host's disk, for a growth of a mounted one: a file system that grows writes its own tables, and
 * one that cannot write them goes read-only under the sandbox. Some 1/4096 of what is added. */
#define GROW_SPARE_MIB 32
#define DIRS	 ".new-dirs" /* what a new layer has in it; there while a template is made */

struct name {
	char s[300];
};

static struct name template_name(uint32_t mib)
{
	struct name n;

	snprintf(n.s, sizeof(n.s), ".template-%u", mib);
	return n;
}

static struct name disk_name(const char *layer)
{
	struct name n;

	snprintf(n.s, sizeof(n.s), "%s/disk", layer);
	return n;
}

static int loop_open(struct layers *ls, struct err *err)
{
	auto_fd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd;
	struct dirent *e;
	DIR *d;

	if (control < 0)
		return err_set(err, -errno, ERR_UNSUPPORTED,
			"writable layers need loop devices: /dev/loop-control: %s", strerror(errno));
	fd = openat(ls->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return err_sys(err, -errno, "read %s", ls->dir);
	while ((e = readdir(d)))
		ls->templates += str_starts(str_c(e->d_name), STR(".template-"));
	closedir(d);
	return 0;
}

static int make_template(struct layers *ls, const char *path, uint32_t mib, struct err *err)
{
	auto_fd int at = -EBADF;
	struct name dirs;
	int r;

	if (mkdirat(ls->fd, DIRS, 0700) < 0 && errno != EEXIST) /* a crash left it */
		return err_sys(err, -errno, "make %s/" DIRS, ls->dir);
	at = openat(ls->fd, DIRS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = at < 0 ? err_sys(err, -errno, "open %s/" DIRS, ls->dir) : layer_dirs(at, err);
	if (r < 0)
		return r;
	snprintf(dirs.s, sizeof(dirs.s), "%s/" DIRS, ls->dir);
	r = layer_mkfs(path, mib, FEATURES, dirs.s, err);
	unlinkat(at, "upper", AT_REMOVEDIR);
	unlinkat(at, "work", AT_REMOVEDIR);
	unlinkat(ls->fd, DIRS, AT_REMOVEDIR);
	return r;
}

static int loop_ready(struct layers *ls, uint32_t mib, struct err *err)
{
	struct name made, tmp, path;
	int r;

	if (mib < DISK_MIN_MIB)
		return err_field(err, -EINVAL, ERR_INVALID, "disk_mib", "at least %d MiB", DISK_MIN_MIB);
	made = template_name(mib);
	if (faccessat(ls->fd, made.s, F_OK, 0) == 0 || ls->templates >= TEMPLATES_MAX)
		return 0;
	snprintf(tmp.s, sizeof(tmp.s), "%s/.new-%u", ls->dir, mib);
	snprintf(path.s, sizeof(path.s), "%s/.template-%u", ls->dir, mib);
	unlink(tmp.s); /* a crash left it */
	r = make_template(ls, tmp.s, mib, err);
	if (r < 0)
		return r;
	if (rename(tmp.s, path.s) < 0)
		return err_sys(err, -errno, "keep %s", path.s);
	ls->templates++;
	return 0;
}

static int loop_make(struct layers *ls, const char *name, uint32_t mib, struct err *err)
{
	struct name disk = disk_name(name), whole;
	auto_fd int from = openat(ls->fd, template_name(mib).s, O_RDONLY | O_CLOEXEC);
	auto_fd int to = -EBADF;
	int r;

	if (from < 0) {
		if ((size_t)snprintf(whole.s, sizeof(whole.s), "%s/%s", ls->dir, disk.s) >=
			sizeof(whole.s))
			return err_sys(err, -ENAMETOOLONG, "layer %s", name);
		return layer_mkfs(whole.s, mib, FEATURES, NULL, err);
	}
	to = openat(ls->fd, disk.s, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return err_sys(err, -errno, "create the image of layer %s", name);
	r = fd_copy_sparse(from, to, (off_t)mib << 20);
	return r < 0 ? err_sys(err, r, "copy the template of %u MiB", mib) : 0;
}

static int loop_blank(struct layers *ls, const char *name, struct err *err)
{
	int here = openat(ls->fd, disk_name(name).s, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return here < 0 ? err_sys(err, -errno, "create the image of layer %s", name) : here;
}

static int loop_copy(struct layers *ls, const char *from, const char *name, struct err *err)
{
	auto_fd int there = openat(ls->fd, disk_name(from).s, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_fd int here = openat(ls->fd, disk_name(name).s, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;
	int r = there < 0 || here < 0 || fstat(there, &st) < 0 ? -errno : 0;

	r = r < 0 ? r : fd_copy_sparse(there, here, st.st_size);
	return r < 0 ? err_sys(err, r, "copy the disk of %s", from) : 0;
}

static int loop_image(struct layers *ls, const char *name, struct err *err)
{
	int disk = openat(ls->fd, disk_name(name).s, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	return disk < 0 ? err_sys(err, -errno, "open the image of layer %s", name) : disk;
}

static int loop_mount(struct layers *ls, const char *name, struct layer_at *ret, struct err *err)
{
	bool fresh = str_starts(str_c(name), STR(LAYER_SPARE));
	auto_fd int disk = loop_image(ls, name, err);
	auto_fd int loop = -EBADF;
	char dev[32];
	int r;

	if (disk < 0)
		return disk;
	loop = loop_attach(disk, fresh, dev, err);
	if (loop < 0)
		return loop;
	ret->mnt = layer_mount_ext4(dev, false, err);
	if (ret->mnt < 0)
		return ret->mnt;
	r = layer_dirs(ret->mnt, err);
	if (r < 0)
		return r;
	snprintf(ret->sub, sizeof(ret->sub), ".");
	return 0;
}

/* Whatever stopped the last writer. What the cautious run leaves to a person is what a resize2fs that
 * was cut off had under way: tables beyond the old end, not files. */
static void mend(const char *path)
{
	const char *const cautious[] = { "e2fsck", "-f", "-p", path, NULL };
	const char *const all[] = { "e2fsck", "-f", "-y", path, NULL };

	if (layer_run(cautious, NULL) < 0) /* also if it has mended all */
		layer_run(all, NULL);
}

/* mib 0: only mend what another growth has left. */
static int grow_unmounted(struct layers *ls, const char *name, uint32_t mib, struct err *err)
{
	char path[600], size[24];
	const char *const resize[] = { "resize2fs", "-f", path, size, NULL };
	int r;

	snprintf(path, sizeof(path), "%s/%s/disk", ls->dir, name);
	snprintf(size, sizeof(size), "%uM", mib);
	mend(path);
	r = mib ? layer_run(resize, err) : 0;
	if (r < 0) {
		mend(path); /* it comes back as it was */
		return err_wrap(err, r, "grow the writable layer of %s", name);
	}
	return 0;
}

static int grow_mounted(int loop, const char *dev, const char *name, uint32_t mib, struct err *err)
{
	uint64_t blocks = ((uint64_t)mib << 20) / 4096;
	auto_fd int mnt = -EBADF, root = -EBADF;
	int r = loop_resized(loop);

	if (r < 0)
		return err_sys(err, r, "resize %s", dev);
	mnt = layer_mount_ext4(dev, false, err); /* the same file system again, to speak to it */
	if (mnt < 0)
		return mnt;
	root = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys(err, -errno, "open the layer of %s", name);
	if (ioctl(root, _IOW('f', 16, uint64_t) /* EXT4_IOC_RESIZE_FS */, &blocks) == 0)
		return 0;
	if (errno == EPERM)
		return err_set(err, -EPERM, ERR_UNSUPPORTED,
			"growing a running sandbox's disk needs CAP_SYS_RESOURCE, which this machine's "
			"root does not have: pause it to storage or use disk.backend = quota");
	return err_sys(err, -errno, "grow the file system of %s", name);
}

struct super { /* of the file system on an image, or on its loop device while it is mounted */
	uint64_t bytes;
	bool clean;
};

static uint32_t le(const uint8_t *p, size_t n)
{
	return n ? p[0] | le(p + 1, n - 1) << 8 : 0;
}

static int super_read(int fd, struct super *ret)
{
	uint8_t b[0x40];

	if (pread(fd, b, sizeof(b), 1024) != sizeof(b))
		return -EIO;
	ret->bytes = (uint64_t)le(b + 4, 4) * 4096; /* blocks, as layer_mkfs has them */
	ret->clean = le(b + 0x3a, 2) == 1;	    /* resize2fs marks what it works on as faulty */
	return 0;
}

/* A growth that failed leaves the image as long as it was, unless its file system reaches beyond. */
static void ungrow(int disk, off_t before)
{
	char dev[32];
	auto_fd int loop = loop_find(disk, dev);
	struct super sb;

	if (loop < 0 && loop != -ENOENT)
		return;
	if (super_read(loop < 0 ? disk : loop, &sb) < 0 || sb.bytes > (uint64_t)before)
		return;
	if (ftruncate(disk, before) == 0 && loop >= 0)
		loop_resized(loop);
}

/*
 * A disk is as large as its file system, however long the image is: a growth that was cut off (kill
 * -9, a machine that went down) leaves the image longer than its file system, the file system anywhere
 * between, or marked as faulty. Neither may keep a sandbox from coming back with the size it is known
 * to have, and to a larger one it grows on from there.
 */
static int grow_offline(struct layers *ls, int disk, uint64_t length, const char *name, uint32_t mib,
	struct err *err)
{
	uint64_t want = (uint64_t)mib << 20;
	struct super sb;
	int r = super_read(disk, &sb);

	if (r < 0)
		return err_sys(err, r, "read the image of %s", name);
	if (length == want && sb.clean && sb.bytes <= want && sb.bytes + UNUSED_MAX > want)
		return 0; /* as nearly always */
	if (sb.bytes > want) /* it was asked for, and got that far */
		return grow_unmounted(ls, name, 0, err);
	if (ftruncate(disk, (off_t)want) < 0)
		return err_sys(err, -errno, "extend the image of %s", name);
	return grow_unmounted(ls, name, sb.bytes < want ? mib : 0, err);
}

int layer_image_room(int disk, uint64_t bytes, const char *name, struct err *err)
{
	uint64_t need = (bytes >> 12) + (GROW_SPARE_MIB << 20);
	struct statvfs v;

	if (fstatvfs(disk, &v) < 0)
		return err_sys(err, -errno, "ask for the host's free space");
	if ((uint64_t)v.f_bavail * v.f_frsize >= need)
		return 0;
	return err_set(err, -ENOSPC, ERR_CAPACITY,
		"grow the disk of %s: the host's own disk has less than %" PRIu64 " MiB left", name,
		need >> 20);
}

static int grow_online(int disk, const char *name, uint32_t mib, struct err *err)
{
	uint64_t want = (uint64_t)mib << 20;
	struct super sb;
	char dev[32];
	auto_fd int loop = loop_find(disk, dev);
	int r = loop;

	if (r >= 0)
		r = super_read(loop, &sb);
	if (r < 0)
		return err_sys(err, r, "find the loop device of %s", name);
	if (sb.bytes > want)
		return err_field(err, -EINVAL, ERR_INVALID, "disk_mib",
			"a disk cannot shrink: it has %" PRIu64 " MiB", sb.bytes >> 20);
	r = layer_image_room(disk, want - sb.bytes, name, err);
	if (r < 0)
		return r;
	if (ftruncate(disk, (off_t)want) < 0)
		return err_sys(err, -errno, "extend the image of %s", name);
	FAULT("host.grow.extended");
	r = FAULT_ERROR("host.grow.resized");
	if (r < 0)
		return err_sys(err, r, "grow the file system of %s", name);
	return grow_mounted(loop, dev, name, mib, err);
}

static int loop_grow(struct layers *ls, const char *name, uint32_t mib, bool mounted,
	struct err *err)
{
	auto_fd int disk = openat(ls->fd, disk_name(name).s, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	int r;

	if (disk < 0 || fstat(disk, &st) < 0)
		return err_sys(err, -errno, "open the image of layer %s", name);
	r = mounted ? grow_online(disk, name, mib, err)
		    : grow_offline(ls, disk, (uint64_t)st.st_size, name, mib, err);
	if (r < 0)
		ungrow(disk, st.st_size);
	return r;
}

static uint64_t loop_used(struct layers *ls, const char *name)
{
	struct stat st;

	if (fstatat(ls->fd, disk_name(name).s, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_blocks * 512;
}

const struct layer_ops layer_loop = {
	.name = "loop",
	.open = loop_open,
	.ready = loop_ready,
	.make = loop_make,
	.copy = loop_copy,
	.blank = loop_blank,
	.mount = loop_mount,
	.image = loop_image,
	.grow = loop_grow,
	.used = loop_used,
};

/*
 * Writable layers as directories of one ext4 volume with project quotas:
 * `<state_dir>/layers/volume`, sparse, mounted once through a loop device. A layer's project id is
 * its directory's inode number, which is taken until the last of it has been removed. Setting a
 * limit takes a fraction of a millisecond and growing is setting another.
 *
 * The volume is as large as the file system it lies on (it is one hole until written), so the
 * host's free space is the limit that all sandboxes share, as with images.
 *
 * Quotas do not bind CAP_SYS_RESOURCE of the initial user namespace: nothing of the host role
 * writes into a layer.
 */
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "base/fd.h"
#include "runtime/layer_ops.h"
#include "runtime/loop.h"
#include "runtime/sys.h"

#define PROJECT_QUOTA	2 /* PRJQUOTA, which sys/quota.h lacks */
#define INODES_PER_MIB	64 /* one per 16 KiB, as mkfs gives an image */
#define PROBE_MIB	32
#define VOLUME_MIN_MIB	256
#define VOLUME_MAX_MIB	(8u << 20)

static int quota_ctl(int fd, int cmd, uint32_t project, struct if_dqblk *dq)
{
	int sub = (int)((unsigned int)cmd << SUBCMDSHIFT | PROJECT_QUOTA);

	return syscall(SYS_quotactl_fd, fd, sub, project, dq) < 0 ? -errno : 0;
}

static int make_volume(struct layers *ls, const char *path, struct err *err)
{
	struct statvfs vfs;
	uint64_t mib;
	char tmp[300];
	int r;

	if (statvfs(ls->dir, &vfs) < 0)
		return err_sys(err, -errno, "look at %s", ls->dir);
	mib = MIN(((uint64_t)vfs.f_blocks * vfs.f_frsize) >> 20, (uint64_t)VOLUME_MAX_MIB);
	if (mib < VOLUME_MIN_MIB)
		return err_set(err, -ENOSPC, ERR_CAPACITY, "%s: less than %d MiB", ls->dir,
			VOLUME_MIN_MIB);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	unlink(tmp);
	r = layer_mkfs(tmp, (uint32_t)mib, "project,quota", NULL, err);
	if (r == 0 && rename(tmp, path) < 0)
		r = err_sys(err, -errno, "keep %s", path);
	return r;
}

/* Does the kernel have them at all? Asked of a small volume: the real one is as large as its host. */
static int probe_quota(struct layers *ls, struct err *err)
{
	auto_fd int file = -EBADF, loop = -EBADF, mnt = -EBADF;
	char path[280], dev[32];
	int r;

	snprintf(path, sizeof(path), "%s/.probe", ls->dir);
	unlink(path);
	r = layer_mkfs(path, PROBE_MIB, "project,quota", NULL, err);
	if (r < 0)
		return r;
	file = open(path, O_RDWR | O_CLOEXEC);
	r = file < 0 ? err_sys(err, -errno, "open %s", path) : 0;
	unlink(path);
	loop = r < 0 ? r : loop_attach(file, true, dev, err);
	mnt = loop < 0 ? loop : layer_mount_ext4(dev, true, err);
	if (mnt >= 0)
		return 0;
	return err_set(err, mnt, ERR_UNSUPPORTED,
		"the kernel has no ext4 project quota (modprobe quota_v2): %s", strerror(-mnt));
}

static int quota_open(struct layers *ls, struct err *err)
{
	char path[280];
	auto_fd int file = -EBADF, loop = -EBADF, mnt = -EBADF;
	struct if_dqblk dq;
	bool made = false;
	int r;

	snprintf(path, sizeof(path), "%s/volume", ls->dir);
	file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0 && errno == ENOENT) {
		r = probe_quota(ls, err);
		r = r < 0 ? r : make_volume(ls, path, err);
		if (r < 0)
			return r;
		made = true;
		file = open(path, O_RDWR | O_CLOEXEC);
	}
	if (file < 0)
		return err_sys(err, -errno, "open %s", path);
	loop = loop_attach(file, made, ls->device, err);
	r = loop < 0 ? loop : (mnt = layer_mount_ext4(ls->device, true, err));
	if (r >= 0) {
		ls->volume = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = ls->volume < 0 ? -errno : quota_ctl(ls->volume, Q_GETQUOTA, 0, &dq);
	}
	if (r >= 0)
		return 0;
	ls->volume = fd_close(ls->volume);
	return err_set(err, r, ERR_UNSUPPORTED,
		"the kernel has no ext4 project quota (modprobe quota_v2): %s", strerror(-r));
}

static int quota_ready(struct layers *ls, uint32_t mib, struct err *err)
{
	return mib ? 0 : err_field(err, -EINVAL, ERR_INVALID, "disk_mib", "at least 1 MiB");
}

/* The volume's file system once more: the same superblock, another mount. */
static int quota_mount(struct layers *ls, const char *name, struct layer_at *ret, struct err *err)
{
	ret->mnt = layer_mount_ext4(ls->device, true, err);
	if (ret->mnt < 0)
		return ret->mnt;
	snprintf(ret->sub, sizeof(ret->sub), "%s", name);
	return 0;
}

static int set_project(int layer, const char *name, uint32_t project)
{
	auto_fd int dir = openat(layer, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct fsxattr attr;

	if (dir < 0 || ioctl(dir, FS_IOC_FSGETXATTR, &attr) < 0)
		return -errno;
	attr.fsx_projid = project;
	attr.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	return ioctl(dir, FS_IOC_FSSETXATTR, &attr) < 0 ? -errno : 0;
}

static int set_limit(struct layers *ls, uint32_t project, uint32_t mib)
{
	struct if_dqblk dq = { .dqb_bhardlimit = (uint64_t)mib << 10, /* in KiB */
		.dqb_bsoftlimit = (uint64_t)mib << 10,
		.dqb_ihardlimit = MAX((uint64_t)mib * INODES_PER_MIB, UINT64_C(1024)),
		.dqb_isoftlimit = MAX((uint64_t)mib * INODES_PER_MIB, UINT64_C(1024)),
		.dqb_valid = QIF_LIMITS };

	return quota_ctl(ls->volume, Q_SETQUOTA, project, &dq);
}

static int quota_make(struct layers *ls, const char *name, uint32_t mib, struct err *err)
{
	auto_fd int dir = openat(ls->volume, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	uint32_t project;
	int r;

	if (dir < 0 || fstat(dir, &st) < 0)
		return err_sys(err, -errno, "open the writable layer %s", name);
	project = (uint32_t)st.st_ino; /* ext4 has 32 bits of them */
	r = layer_dirs(dir, err);
	if (r < 0)
		return r;
	r = set_limit(ls, project, mib);
	r = r < 0 ? r : set_project(dir, "upper", project);
	r = r < 0 ? r : set_project(dir, "work", project);
	return r < 0 ? err_sys(err, r, "limit the disk of %s to %u MiB", name, mib) : 0;
}

/* The project of a layer, and what it has. */
static int layer_quota_of(struct layers *ls, const char *name, uint32_t *ret_project,
	struct if_dqblk *dq)
{
	char path[64];
	auto_fd int dir = -EBADF;
	struct fsxattr attr;

	snprintf(path, sizeof(path), "%s/upper", name);
	dir = openat(ls->volume, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || ioctl(dir, FS_IOC_FSGETXATTR, &attr) < 0)
		return -errno;
	if (attr.fsx_projid == 0)
		return -ENODATA;
	*ret_project = attr.fsx_projid;
	return quota_ctl(ls->volume, Q_GETQUOTA, attr.fsx_projid, dq);
}

/* A sandbox that comes back has the limit that it is known to have: less than what the volume says if
 * a growth was cut off before it was answered. */
static int quota_grow(struct layers *ls, const char *name, uint32_t mib, bool mounted,
	struct err *err)
{
	struct if_dqblk dq = { 0 };
	uint32_t project = 0;
	int r = layer_quota_of(ls, name, &project, &dq);

	if (r < 0)
		return err_sys(err, r, "read the quota of %s", name);
	if (mounted && dq.dqb_bhardlimit > (uint64_t)mib << 10)
		return err_field(err, -EINVAL, ERR_INVALID, "disk_mib",
			"a disk cannot shrink: it has %" PRIu64 " MiB",
			(uint64_t)dq.dqb_bhardlimit >> 10);
	r = set_limit(ls, project, mib);
	return r < 0 ? err_sys(err, r, "grow the disk of %s", name) : 0;
}

static uint64_t quota_used(struct layers *ls, const char *name)
{
	struct if_dqblk dq = { 0 };
	uint32_t project;

	return layer_quota_of(ls, name, &project, &dq) < 0 ? 0 : dq.dqb_curspace;
}

const struct layer_ops layer_quota = {
	.name = "quota",
	.open = quota_open,
	.ready = quota_ready,
	.make = quota_make,
	.mount = quota_mount,
	.grow = quota_grow,
	.used = quota_used,
};

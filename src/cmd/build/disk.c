/*
 * A file system of its own for what a recipe makes: ext4 in a sparse file that has no name, mounted
 * in a mount namespace that is ours alone. So an image that unpacks to more than it may, in bytes or
 * in files, meets the end of its own disk; and whatever kills us takes mount, device and file along.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "base/fd.h"
#include "cmd/build/build.h"
#include "runtime/loop.h"

#define FULL_BYTES (16u << 20)
#define BYTES_PER_INODE "8192" /* twice as many files as ext4's own guess allows */

static int disk_make(const char *dev)
{
	/* No journal: the disk never outlives a crash. The file is one hole: nothing needs zeroing. */
	const char *argv[] = { "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-i", BYTES_PER_INODE,
		"-O", "^has_journal", "-E", "assume_storage_prezeroed=1,nodiscard,root_owner=0:0", dev,
		NULL };

	return run(argv);
}

int disk_open(struct job *job, struct err *err)
{
	auto_fd int file = -EBADF, loop = -EBADF;
	char tmp[1100], dev[32];
	int r = path_fmt(tmp, sizeof(tmp), err, "%s/tmp", job->store);

	if (r == 0)
		r = path_mkdirs(job->staging, 0755);
	if (r < 0)
		return err_sys(err, r, "make %s", job->staging);
	if (!job->disk_mib)
		return 0;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(err, -errno, "leave the machine's mounts");
	file = open(tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (file < 0 || ftruncate(file, (off_t)job->disk_mib << 20) < 0)
		return err_sys(err, -errno, "make a disk of %u MiB in %s", job->disk_mib, tmp);
	loop = loop_attach(file, true, dev, err);
	if (loop < 0)
		return loop;
	r = disk_make(dev);
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "mkfs.ext4 failed on a disk of %u MiB",
			job->disk_mib);
	if (mount(dev, job->staging, "ext4", MS_NODEV | MS_NOATIME, "discard") < 0)
		return err_sys(err, -errno, "mount %s", dev);
	return 0;
}

bool disk_full(const struct job *job)
{
	struct statvfs s;

	if (!job->disk_mib || statvfs(job->staging, &s) < 0)
		return false;
	/* What a write that failed had reserved is free again. */
	return s.f_bavail < MIN(s.f_blocks / 32, FULL_BYTES / s.f_bsize) || s.f_favail == 0;
}

void disk_close(struct job *job)
{
	if (!job->staging[0])
		return;
	if (job->disk_mib)
		umount2(job->staging, MNT_DETACH);
	else
		remove_tree(job->staging);
	rmdir(job->staging);
}

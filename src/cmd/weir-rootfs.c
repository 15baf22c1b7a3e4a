/*
 * weir-rootfs NAME --store DIR: the root file system of an image as a disk for virtual machines.
 *
 *	<store>/images/<hex>/rootfs.ext4	beside rootfs/, made once, then only read
 *
 * All machines made from an image share the file, and so its pages in the host's memory. It is ext4
 * since that is built into the distribution's kernels and mke2fs is on every machine; the host never
 * mounts it. No journal, checksums or room to grow: nobody writes it. What is not used is a hole.
 *
 * The tree is an image's, so foreign. mke2fs walks it as root of a user namespace that has the tree's
 * ids and nothing else of the machine: it owns the tree and the new file, sees no network, and ids
 * come out as the sandbox shall see them. It is handed both as descriptors, so no directory on the
 * way need be open to it. Afterwards the file is root's.
 *
 * The image's directory is locked meanwhile: of several that ask at once, one works. The name comes
 * last, so a file of that name is whole.
 */
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "runtime/image.h"

#define IDS	    65536u
#define BLOCK	    4096u
#define INODE	    256u
#define FILES_MAX   (4u << 20)	      /* in one image: over ten times a desktop distribution's */
#define BYTES_MAX   (UINT64_C(1) << 40) /* of one image */
#define WALK_FDS    64
#define DISK	    "rootfs.ext4"
#define PLACE	    "/proc/self/fd/3" /* of the new file, in the child */

static struct {
	uint64_t files, blocks;
} size;

static int count(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	uint64_t bytes = S_ISDIR(st->st_mode) || S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;

	/* A directory's entries are as long here as there; one more block for extents or attributes. */
	size.blocks += bytes / BLOCK + 2;
	return ++size.files > FILES_MAX || size.blocks > BYTES_MAX / BLOCK;
}

/* In the child, in the tree: run a program that has the file as PLACE. */
static int run(const char *const *argv, bool quiet)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (quiet)
			dup2(STDOUT_FILENO, STDERR_FILENO);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		fprintf(stderr, "weir-rootfs: %s is missing: install the package e2fsprogs\n", argv[0]);
		_exit(127);
	}
	return pid < 0 || waitpid(pid, &status, 0) < 0 || status ? -EIO : 0;
}

static int fill(void)
{
	char inodes[24], blocks[24];
	const char *const make[] = { "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m",
		"0", "-O", "^has_journal,^resize_inode,^metadata_csum,^64bit", "-E", "lazy_itable_init=1",
		"-N", inodes, "-d", ".", PLACE, blocks, NULL };
	const char *const tidy[] = { "debugfs", "-w", "-R", "rmdir lost+found", PLACE, NULL };

	if (nftw(".", count, WALK_FDS, FTW_PHYS) != 0) {
		fprintf(stderr, "weir-rootfs: the tree has over %u files or is over %u GiB\n", FILES_MAX,
			(unsigned int)(BYTES_MAX >> 30));
		return -EFBIG;
	}
	snprintf(inodes, sizeof(inodes), "%" PRIu64, size.files + 64);
	snprintf(blocks, sizeof(blocks), "%" PRIu64,
		size.blocks + size.blocks / 50 + (size.files * INODE) / BLOCK + 4096);
	/* mke2fs adds a directory that the image does not have; debugfs likes to say its name. */
	return run(make, false) < 0 || run(tidy, true) < 0 ? -EIO : 0;
}

static _noreturn_ void child(int ready, int mapped, int tree, int disk, uint32_t uid_base)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char go;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNET | CLONE_NEWIPC | (uid_base ? CLONE_NEWUSER : 0)) < 0) {
		perror("weir-rootfs: unshare");
		_exit(1);
	}
	fd_close(ready); /* tells the parent */
	if (read(mapped, &go, 1) != 1)
		_exit(1);
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ||
		fchdir(tree) < 0) {
		perror("weir-rootfs: become root of the user namespace");
		_exit(1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* cleared by the change of ids */
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(disk, 3) < 0) {
		perror("weir-rootfs: descriptors");
		_exit(1);
	}
	close_range(4, ~0u, 0);
	_exit(fill() < 0);
}

static int map_write(pid_t pid, const char *file, uint32_t base)
{
	char path[64], text[64];
	int n = snprintf(text, sizeof(text), "0 %u %u\n", base, IDS);

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	return file_write_kernel(AT_FDCWD, path, str_n(text, (size_t)n));
}

static int in_namespace(int tree, int disk, uint32_t uid_base, struct err *err)
{
	int ready[2], mapped[2], status, r = 0;
	pid_t pid;
	char c;

	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(mapped, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "pipe");
	pid = fork();
	if (pid == 0) {
		fd_close(ready[0]);
		fd_close(mapped[1]);
		child(ready[1], mapped[0], tree, disk, uid_base);
	}
	fd_close(ready[1]);
	fd_close(mapped[0]);
	if (pid < 0)
		return err_sys(err, -errno, "fork");
	if (read(ready[0], &c, 1) < 0)
		r = -errno;
	if (r == 0 && uid_base)
		r = map_write(pid, "uid_map", uid_base);
	if (r == 0 && uid_base)
		r = map_write(pid, "gid_map", uid_base);
	if (r == 0 && write(mapped[1], "g", 1) != 1)
		r = -errno;
	fd_close(ready[0]);
	fd_close(mapped[1]); /* a child that was not let go ends */
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "wait for mke2fs");
	if (r < 0)
		return err_sys(err, r, "map user ids");
	return status ? err_set(err, -EIO, ERR_INTERNAL, "mke2fs failed") : 0;
}

static int make(int dir, const struct image *im, struct err *err)
{
	char tmp[64];
	auto_fd int disk = -EBADF;
	int r;

	snprintf(tmp, sizeof(tmp), "." DISK ".new"); /* the lock's holder is the only one */
	unlinkat(dir, tmp, 0);
	disk = openat(dir, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (disk < 0 || fchown(disk, im->uid_base, im->uid_base) < 0)
		return err_sys(err, -errno, "make " DISK " of %s", im->name);
	r = in_namespace(im->rootfs, disk, im->uid_base, err);
	if (r == 0 && (fchown(disk, 0, 0) < 0 || fchmod(disk, 0444) < 0 || fsync(disk) < 0 ||
			      renameat(dir, tmp, dir, DISK) < 0))
		r = err_sys(err, -errno, "keep " DISK " of %s", im->name);
	if (r < 0)
		unlinkat(dir, tmp, 0);
	return r;
}

static int rootfs(const char *store, const char *name, struct err *err)
{
	auto_image struct image im = { .rootfs = -EBADF };
	auto_fd int dir = -EBADF;
	int r = image_resolve(store, name, &im, err);

	if (r < 0)
		return r;
	dir = openat(im.rootfs, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(err, -errno, "open the image %s", name);
	if (faccessat(dir, DISK, R_OK, 0) == 0)
		return 0;
	while (flock(dir, LOCK_EX) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "lock the image %s", name);
	return faccessat(dir, DISK, R_OK, 0) == 0 ? 0 : make(dir, &im, err);
}

static int usage(FILE *to, int code)
{
	fputs("usage: weir-rootfs NAME --store DIR\n"
	      "\n"
	      "Make the disk that virtual machines of the image NAME share, in the image store DIR.\n"
	      "Needs root. There already: does nothing.\n",
		to);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "store", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { 0 } };
	const char *store = NULL;
	struct err err = { 0 };
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 's': store = optarg; break;
		case 'h': return usage(stdout, 0);
		case 'V': puts("weir-rootfs " WEIR_VERSION); return 0;
		default: return usage(stderr, 2);
		}
	}
	if (optind + 1 != argc || !store || store[0] != '/')
		return usage(stderr, 2);
	umask(022);
	if (rootfs(store, argv[optind], &err) < 0) {
		fprintf(stderr, "weir-rootfs: %s\n", err.text);
		return 1;
	}
	return 0;
}

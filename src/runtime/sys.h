/*
 * System calls that glibc 2.36 does not wrap, and the few lines around the new mount API that
 * every user of it would repeat. Nothing here allocates: it is used between clone and exec.
 */
#pragma once
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include "base/err.h"

#define IDS_PER_SANDBOX 65536u

#define OPENAT2_TRIES 1024 /* each lost to a rename or mount somewhere on the machine */

/* A scoped ".." that raced with any rename or mount is EAGAIN: ask again. */
static inline int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode,
	uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve };
	long fd = -1;

	errno = EAGAIN;
	for (int i = 0; fd < 0 && errno == EAGAIN && i < OPENAT2_TRIES; i++)
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

/* Like fork, with flags. The child runs on a copy of the caller's stack. */
static inline pid_t sys_clone3(uint64_t flags, int exit_signal, int cgroup, int *pidfd)
{
	struct clone_args args = {
		.flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = (uint64_t)exit_signal,
		.cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 ? -errno : (pid_t)pid;
}

/* A detached copy of one mount: not of what is mounted below it. */
static inline int mount_copy(int dirfd, const char *path)
{
	int fd = open_tree(dirfd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
						 (*path ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? -errno : fd;
}

/* Attach a detached mount on what `at` (an O_PATH descriptor) refers to. */
static inline int mount_on(int mnt, int at)
{
	return move_mount(mnt, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

static inline int mount_attr(int mnt, uint64_t set)
{
	struct mount_attr attr = { .attr_set = set };

	return mount_setattr(mnt, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static inline int mount_attr_clear(int mnt, uint64_t clear)
{
	struct mount_attr attr = { .attr_clr = clear };

	return mount_setattr(mnt, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

struct mount_opt {
	const char *key, *value; /* value NULL: a flag */
};
/* A new file system instance as a detached mount. */
int mount_new(const char *fstype, const struct mount_opt *opts, size_t n, unsigned int attrs);

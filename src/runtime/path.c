/*
 * Resolution inside a root: see the header. The kernel does it (openat2), so that no check can be
 * raced: RESOLVE_IN_ROOT scopes "..", absolute links and the root itself; RESOLVE_NO_MAGICLINKS
 * refuses /proc/self/fd and its kin, whatever they point to.
 */
#include <sys/stat.h>
#include "base/fd.h"
#include "runtime/path.h"
#include "runtime/sys.h"

int path_in_root(int root, const char *path, int flags, unsigned int mode)
{
	return sys_openat2(root, path, (uint64_t)flags, flags & O_CREAT ? mode : 0,
		RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int path_on_mount(int mnt, const char *path)
{
	return sys_openat2(mnt, path, O_PATH, 0,
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

int path_dir_in_root(int root, const char *name, unsigned int mode)
{
	int fd;

	if (mkdirat(root, name, mode) < 0 && errno != EEXIST)
		return -errno;
	fd = sys_openat2(root, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0,
		RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	return fd == -ELOOP ? -ENOTDIR : fd;
}

int path_replace_in_root(int root, const char *dir, const char *name, struct str text)
{
	auto_fd int at = path_in_root(root, dir, O_PATH | O_DIRECTORY, 0);
	auto_fd int fd = -EBADF;

	if (at < 0)
		return at;
	if (unlinkat(at, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : fd_write_all(fd, text.p, text.n);
}

/* Network namespaces: see the header. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include "base/fd.h"
#include "base/log.h"
#include "host/netns.h"

int netns_current(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int netns_visit(struct netns_visit *v, int ns)
{
	auto_fd int home = netns_current();

	if (home < 0)
		return home;
	if (setns(ns, CLONE_NEWNET) < 0)
		return -errno;
	v->home = take_fd(home);
	return 0;
}

int netns_visit_new(struct netns_visit *v, int *ret)
{
	auto_fd int home = netns_current();
	int fresh;

	if (home < 0)
		return home;
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	v->home = take_fd(home);
	fresh = netns_current();
	if (fresh < 0) {
		netns_leave(v);
		return fresh;
	}
	*ret = fresh;
	return 0;
}

void netns_leave(struct netns_visit *v)
{
	if (v->home < 0)
		return;
	if (setns(v->home, CLONE_NEWNET) < 0) {
		log_event(LOG_ERROR, "netns.lost", "error=%s", strerror(errno));
		abort();
	}
	v->home = fd_close(v->home);
}

static bool is_nsfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

int netns_pinned(const char *path)
{
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (!is_nsfs(fd))
		return -ENOENT; /* the mount point without its mount: after a reboot */
	return take_fd(fd);
}

int netns_pin(const char *path)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_fd int ns = -EBADF, file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	char from[64];
	int r;

	if (file < 0)
		return -errno;
	r = netns_visit_new(&v, &ns);
	if (r < 0)
		return r;
	snprintf(from, sizeof(from), "/proc/thread-self/fd/%d", ns);
	if (mount(from, path, NULL, MS_BIND, NULL) < 0)
		return -errno;
	return take_fd(ns);
}

int netns_unpin(const char *path)
{
	if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return -errno;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

uint64_t netns_inode(int ns)
{
	struct stat st;

	return fstat(ns, &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

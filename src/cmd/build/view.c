/*
 * What a recipe sees of the machine: its programs and configuration, as nobody in particular may read
 * them, and of what can be written nothing but its own disk and the cache of downloads.
 *
 *	/run		empty: the sockets of the machine's services lie there, and a resolver behind
 *			one would answer past every policy
 *	/run/build	at (the disk), cache, and what secrets came with the job, in memory
 *	/tmp, /var/tmp	the disk's
 *	/dev/shm	empty; devices that anybody may open and no recipe needs are covered
 *	resolv.conf	in a slot: the gateway
 *
 * An image from a registry gets no cache: it has nothing to find there, and could leave something.
 */
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "cmd/build/build.h"
#include "runtime/sys.h"

#define GATEWAY_RESOLV "nameserver 169.254.77.1\noptions timeout:5 attempts:3\n"

int view_take(const struct job *job, struct view *v)
{
	char real[PATH_MAX];

	*v = (struct view){ .staging = mount_copy(AT_FDCWD, job->staging), .cache = -EBADF };
	if (v->staging >= 0 && !job->from)
		v->cache = mount_copy(AT_FDCWD, job->cache);
	if (v->staging < 0 || (!job->from && v->cache < 0)) {
		errno = v->staging < 0 ? -v->staging : -v->cache;
		return -errno;
	}
	if (realpath("/etc/resolv.conf", real))
		str_copy(v->resolv, sizeof(v->resolv), str_c(real));
	return 0;
}

static int cover(const char *where, const char *options)
{
	struct stat st;

	if (stat(where, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return mount("tmpfs", where, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 ? -errno : 0;
	return mount("/dev/null", where, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int attach(int mnt, const char *where)
{
	if (mkdir(where, 0755) < 0 && errno != EEXIST)
		return -errno;
	return move_mount(mnt, "", AT_FDCWD, where, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

static int bind_dir(const char *from, const char *where)
{
	return mount(from, where, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int put(const char *path, struct str text, mode_t mode)
{
	auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	return fd < 0 ? -errno : fd_write_all(fd, text.p, text.n);
}

/* Where /etc/resolv.conf leads: into the covered /run, as with most local resolvers, or a file. */
static int resolver(const struct view *v)
{
	char dir[sizeof(v->resolv)], *slash;
	int r;

	if (!v->resolv[0])
		return -ENOENT;
	if (str_starts(str_c(v->resolv), STR("/run/"))) {
		snprintf(dir, sizeof(dir), "%s", v->resolv);
		slash = strrchr(dir, '/');
		*slash = '\0';
		r = path_mkdirs(dir, 0755);
		return r < 0 ? r : put(v->resolv, STR(GATEWAY_RESOLV), 0644);
	}
	r = put("/run/build/resolv.conf", STR(GATEWAY_RESOLV), 0644);
	return r < 0 ? r : bind_dir("/run/build/resolv.conf", v->resolv);
}

int view_make(const struct job *job, struct view *v)
{
	static const char *const devices[] = { "/dev/shm", "/dev/kvm", "/dev/fuse", "/dev/net",
		"/dev/vsock", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/udmabuf", "/dev/dri" };
	int r = cover("/run", "mode=755,size=16m");

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(devices); i++)
		r = cover(devices[i], "mode=1777,size=64m");
	if (r == 0 && mkdir("/run/build", 0755) < 0)
		r = -errno;
	if (r == 0)
		r = attach(v->staging, VIEW_STAGING);
	if (r == 0 && v->cache >= 0)
		r = attach(v->cache, VIEW_CACHE);
	if (r == 0)
		r = bind_dir(VIEW_STAGING "/tmp", "/tmp");
	if (r == 0)
		r = bind_dir(VIEW_STAGING "/tmp", "/var/tmp");
	if (r == 0 && !secret_empty(&job->auth))
		r = put(VIEW_AUTH, secret_reveal(&job->auth), 0600);
	if (r == 0 && job->ca.n)
		r = put(VIEW_CA, buf_str(&job->ca), 0644);
	if (r == 0 && job->net == BUILD_NET_SLOT)
		r = resolver(v);
	v->staging = fd_close(v->staging);
	v->cache = fd_close(v->cache);
	errno = r < 0 ? -r : 0;
	return r;
}

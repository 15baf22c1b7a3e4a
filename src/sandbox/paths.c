/*
 * Where a daemon keeps things, and the lock that makes it the only one there (daemon.h).
 *
 *	<run_dir>/		0755: api.addr and ingress.addr are for clients
 *	  lock			flock, with the pid of its holder
 *	  router.ns		the router namespace, pinned by a bind mount
 *	  sandboxes/		0700: records (record.h)
 *	  sysctl, links		what was borrowed of the host; the counter of link names
 *	<state_dir>/		0711
 *	  api/			0700, of daemon.user: the api role's database
 *	  images/, layers/	the runtime's
 */
#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "sandbox/daemon.h"

#define PATH_OF(field, fmt, ...)                                                                   \
	((size_t)snprintf(field, sizeof(field), fmt, __VA_ARGS__) >= sizeof(field))

int daemon_program(const char *name, char *ret, size_t size)
{
	char self[512], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return -errno;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	/* Beside our own program; in a build directory; where they are installed. */
	for (int i = 0; i < 3; i++) {
		int k = i == 0	 ? snprintf(ret, size, "%s/%s", self, name)
			: i == 1 ? snprintf(ret, size, "%s/../agent/%s", self, name)
				 : snprintf(ret, size, "%s/%s", WEIR_LIBEXECDIR, name);

		if (k > 0 && (size_t)k < size && access(ret, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

int daemon_paths(struct daemon *d, const struct config *c, struct err *err)
{
	struct daemon_paths *p = &d->path;

	d->cfg = *c;
	d->lock_fd = d->records_dir = d->host_ns = d->router_ns = -EBADF;
	if (PATH_OF(p->run, "%s", c->run_dir) || PATH_OF(p->state, "%s", c->state_dir) ||
		PATH_OF(p->router_ns, "%s/router.ns", p->run) ||
		PATH_OF(p->lock, "%s/lock", p->run) ||
		PATH_OF(p->sysctl_memo, "%s/sysctl", p->run) ||
		PATH_OF(p->links, "%s/links", p->run) ||
		PATH_OF(p->sandboxes, "%s/sandboxes", p->run) ||
		PATH_OF(p->api_addr, "%s/api.addr", p->run) ||
		PATH_OF(p->ingress_addr, "%s/ingress.addr", p->run) ||
		PATH_OF(p->state_api, "%s/api", p->state) ||
		(c->image_dir[0] ? PATH_OF(p->images, "%s", c->image_dir)
				 : PATH_OF(p->images, "%s/images", p->state)))
		return err_set(err, -ENAMETOOLONG, ERR_INVALID, "a directory's name is too long");
	return 0;
}

int daemon_lock(struct daemon *d, pid_t *ret_pid, struct err *err)
{
	auto_fd int fd = -EBADF;
	char pid[16];
	int r = path_mkdirs(d->path.run, 0755);

	if (r == 0) {
		fd = open(d->path.lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		r = fd < 0 ? -errno : 0;
	}
	if (r < 0)
		return err_sys(err, r, "open %s", d->path.lock);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		ssize_t n = pread(fd, pid, sizeof(pid), 0);
		uint64_t v = 0;

		*ret_pid = n > 1 && str_u64(str_n(pid, (size_t)n - 1), INT32_MAX, &v) == 0
				   ? (pid_t)v
				   : 0;
		return err_set(err, -EBUSY, ERR_CONFLICT,
			"another weird (process %d) uses the run directory %s", (int)*ret_pid,
			d->path.run);
	}
	r = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)r, 0) != r)
		return err_sys(err, -errno, "write %s", d->path.lock);
	d->lock_fd = take_fd(fd);
	return 0;
}

int daemon_directories(struct daemon *d, struct err *err)
{
	const struct passwd *pw = getpwnam(d->cfg.daemon_user);
	const struct {
		const char *path;
		mode_t mode;
	} dirs[] = { { d->path.state, 0711 }, { d->path.images, 0755 }, { d->path.sandboxes, 0700 },
		{ d->path.state_api, 0700 } };

	if (!pw)
		return err_set(
			err, -ENOENT, ERR_INVALID, "there is no user \"%s\"", d->cfg.daemon_user);
	d->uid = pw->pw_uid;
	d->gid = pw->pw_gid;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		int r = path_mkdirs(dirs[i].path, dirs[i].mode);

		if (r < 0)
			return err_sys(err, r, "make the directory %s", dirs[i].path);
	}
	if (lchown(d->path.state_api, d->uid, d->gid) < 0)
		return err_sys(err, -errno, "give %s to %s", d->path.state_api, d->cfg.daemon_user);
	d->records_dir = open(d->path.sandboxes, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d->records_dir < 0 ? err_sys(err, -errno, "open %s", d->path.sandboxes) : 0;
}

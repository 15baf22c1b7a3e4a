/*
 * Putting and getting files, each in a child (worker.h).
 *
 * put: the bytes go to a file without a name, in the target's directory, which takes the target's
 * place in one step when END has come and everything was written: nothing is left of an upload that
 * ended before that, even by SIGKILL. Where a file system has no such files it is a temporary one
 * beside the target. A symbolic link is followed to the file it names, or would name.
 */
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "agent/file.h"
#include "base/fd.h"

#define LINKS_MAX 40

/* --- put --- */

/* Follow links at the end of the path by hand: the last one may name a file that is not there. */
static void links_follow(char *path, size_t size)
{
	char target[FRAME_PATH_MAX + 1], whole[FRAME_PATH_MAX + 1];

	for (int i = 0; i < LINKS_MAX; i++) {
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		size_t dir = 0;

		if (n < 0)
			return;
		target[n] = '\0';
		if (target[0] != '/')
			dir = (size_t)(strrchr(path, '/') - path) + 1;
		if ((size_t)snprintf(whole, sizeof(whole), "%.*s%s", (int)dir, path, target) >=
			MIN(sizeof(whole), size))
			worker_refuse(ENAMETOOLONG, "the path is too long");
		memcpy(path, whole, strlen(whole) + 1);
	}
	worker_refuse(ELOOP, "too many symbolic links");
}

static void target_check(const char *path, struct stat *st, bool *exists)
{
	const char *name = strrchr(path, '/') + 1;

	*exists = lstat(path, st) == 0;
	if ((*exists && S_ISDIR(st->st_mode)) || !*name || str_eq_c(STR("."), name) ||
		str_eq_c(STR(".."), name))
		worker_refuse(EISDIR, "the path is a directory");
	if (*exists && !S_ISREG(st->st_mode))
		worker_refuse(EINVAL, "the path is not a regular file");
	if (!*exists && errno == ENOTDIR)
		worker_refuse(ENOTDIR, "a part of the path is not a directory");
}

size_t file_without_slashes(char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		path[--n] = '\0';
	return n;
}

void file_parents(const char *path)
{
	char dir[FRAME_PATH_MAX + 1];
	size_t n = (size_t)(strrchr(path, '/') - path);
	int r;

	if (n == 0)
		return;
	memcpy(dir, path, n);
	dir[n] = '\0';
	r = path_mkdirs(dir, 0755);
	if (r == -ENOTDIR)
		worker_refuse(ENOTDIR, "a part of the path is not a directory");
	if (r < 0)
		worker_refuse(-r, "cannot create the parent directories: %s", strerror(-r));
}

/* A name beside the path that nobody else has. */
static void name_beside(const char *path, char *tmp, size_t size)
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		r = (uint64_t)getpid();
	if ((size_t)snprintf(tmp, size, "%.*s/" FILE_UPLOAD "%016" PRIx64,
		    (int)(strrchr(path, '/') - path), path, r) >= size)
		worker_refuse(ENAMETOOLONG, "the path is too long");
}

/* A file of no name, gone with this process however it ends. -EOPNOTSUPP where the file system has
 * none, or where nobody could name it later: the tenant may have unmounted /proc. */
static int nameless(const char *path, char fd_path[FD_PATH])
{
	char dir[FRAME_PATH_MAX + 1];
	int fd;

	snprintf(dir, sizeof(dir), "%.*s/", (int)(strrchr(path, '/') - path), path);
	fd = open(dir, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EISDIR ? -EOPNOTSUPP : -errno;
	snprintf(fd_path, FD_PATH, "/proc/self/fd/%d", fd);
	if (access(fd_path, F_OK) == 0)
		return fd;
	close(fd);
	return -EOPNOTSUPP;
}

int file_temporary(const char *path, char *tmp, size_t size, char fd_path[FD_PATH])
{
	int fd = nameless(path, fd_path);

	*tmp = '\0';
	if (fd == -EOPNOTSUPP) {
		name_beside(path, tmp, size);
		fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		fd = fd < 0 ? -errno : fd;
	}
	if (fd < 0)
		worker_refuse(-fd, "cannot create the file: %s", strerror(-fd));
	return fd;
}

void file_abort(const char *tmp, int error, const char *what)
{
	if (*tmp)
		unlink(tmp);
	if (error == 0) /* the peer left */
		_exit(0);
	worker_refuse(error, "cannot %s the file: %s", what, strerror(error));
}

static uint64_t receive_into(int fd, const char *tmp)
{
	uint64_t bytes = 0;
	struct frame f;
	size_t size;
	int r;

	while ((r = worker_frame(&f, &size)) > 0 && f.type == FRAME_DATA) {
		r = fd_write_all(fd, f.body.p, f.body.n);
		if (r < 0)
			file_abort(tmp, -r, "write");
		bytes += f.body.n;
		buf_consume(&worker_in, size);
	}
	if (r == 0)
		file_abort(tmp, 0, "receive");
	if (r < 0 || f.type != FRAME_END)
		file_abort(tmp, EBADMSG, "receive");
	return bytes;
}

/* All of it takes the place of what the path named. A link replaces nothing, which tells a new file from
 * another content to whoever looks at the directory (notify.c); a file that is there gets its successor beside
 * it first. */
static void put_in_place(const char *fd_path, char *tmp, size_t size, const char *path)
{
	if (*tmp) {
		if (linkat(AT_FDCWD, tmp, AT_FDCWD, path, 0) == 0) {
			unlink(tmp);
			return;
		}
	} else {
		if (linkat(AT_FDCWD, fd_path, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
			return;
		if (errno != EEXIST)
			file_abort(tmp, errno, "name");
		name_beside(path, tmp, size);
		if (linkat(AT_FDCWD, fd_path, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) < 0) {
			*tmp = '\0';
			file_abort(tmp, errno, "name");
		}
	}
	if (rename(tmp, path) < 0) /* or the file system has no links */
		file_abort(tmp, errno, "rename");
}

uint32_t file_id(struct str name, bool group)
{
	auto_free char *text = str_dup(name);
	const struct passwd *pw = text && !group ? getpwnam(text) : NULL;
	const struct group *gr = text && group ? getgrnam(text) : NULL;
	uint64_t n;

	if (pw)
		return pw->pw_uid;
	if (gr)
		return gr->gr_gid;
	if (str_u64(name, INT32_MAX, &n) < 0)
		worker_refuse(EINVAL, "the sandbox has no %s " STR_FMT, group ? "group" : "user",
			(int)MIN(name.n, (size_t)64), name.p);
	return (uint32_t)n;
}

void file_place(int fd, const char *fd_path, char *tmp, size_t size, const char *path,
	const struct file_mark *mark)
{
	unsigned int mode = mark->mode;

	/* Another owner's file must not become a set-id one. */
	if (fchown(fd, mark->uid, mark->gid) < 0) {
		if (mark->must)
			file_abort(tmp, errno, "change the owner of");
		mode &= 0777;
	}
	if (fchmod(fd, mode) < 0)
		file_abort(tmp, errno, "set the mode of");
	if (close(dup(fd)) < 0) /* what was only promised is written now, or fails */
		file_abort(tmp, errno, "write");
	put_in_place(fd_path, tmp, size, path);
	close(fd); /* before the answer: a program that is open for writing cannot be run */
}

static void mark_from(struct file_mark *mark, const union frame_body *m, const struct stat *st,
	bool exists)
{
	*mark = (struct file_mark){ .mode = m->put.mode ? m->put.mode : 0644,
		.must = m->put.owner.n || m->put.group.n };
	if (exists) {
		if (!m->put.exact)
			mark->mode = st->st_mode & 07777;
		mark->uid = st->st_uid;
		mark->gid = st->st_gid;
	}
	if (m->put.owner.n)
		mark->uid = file_id(m->put.owner, false);
	if (m->put.group.n)
		mark->gid = file_id(m->put.group, true);
}

_noreturn_ static void put_child(const union frame_body *m)
{
	char path[FRAME_PATH_MAX + 1], tmp[FRAME_PATH_MAX + 32], fd_path[FD_PATH];
	struct file_mark mark;
	struct stat st;
	uint64_t bytes;
	bool exists;
	int fd;

	worker_path(path, sizeof(path), m->put.path);
	links_follow(path, sizeof(path));
	target_check(path, &st, &exists);
	mark_from(&mark, m, &st, exists);
	file_parents(path);
	fd = file_temporary(path, tmp, sizeof(tmp), fd_path);
	FAULT("agent.put.opened");
	bytes = receive_into(fd, tmp);
	FAULT("agent.put.received");
	file_place(fd, fd_path, tmp, sizeof(tmp), path, &mark);
	FAULT("agent.put.renamed");
	worker_say(FRAME_OK, &(union frame_body){ .ok = { .bytes = bytes } });
	worker_leave();
}

/* --- get --- */

/* Up to n bytes of the file to the connection: 0 at the file's end, negative errno. The pages go by
 * reference; a file system that cannot lend its pages has them copied. */
static ssize_t pass_on(int fd, size_t n)
{
	ssize_t k = sendfile(WORKER_FD, fd, NULL, n);

	if (k >= 0 || (errno != EINVAL && errno != ENOSYS))
		return k < 0 ? -errno : k;
	k = read(fd, scratch, MIN(n, sizeof(scratch)));
	if (k < 0)
		return -errno;
	return fd_write_all(WORKER_FD, scratch, (size_t)k) < 0 ? -EPIPE : k;
}

/* One frame of the next n bytes. Its header promises them: where the file falls short of them,
 * zeroes keep the promise, so that the frame that tells of it can follow. */
static void send_piece(int fd, size_t n)
{
	uint8_t head[FRAME_HEADER];
	ssize_t k = 1;

	frame_header(head, FRAME_DATA, 0, (uint32_t)n);
	if (send(WORKER_FD, head, sizeof(head), MSG_MORE) != sizeof(head))
		_exit(1);
	while (n && (k > 0 || k == -EINTR)) {
		k = pass_on(fd, n);
		if (k > 0)
			n -= (size_t)k;
	}
	if (!n)
		return;
	memset(scratch, 0, n);
	if (fd_write_all(WORKER_FD, scratch, n) < 0)
		_exit(1);
	if (k == 0)
		worker_refuse(EIO, "the file became shorter while it was read");
	worker_refuse((int)-k, "cannot read the file: %s", strerror((int)-k));
}

_noreturn_ static void get_child(const union frame_body *m)
{
	uint64_t offset = m->get.offset, left;
	char path[FRAME_PATH_MAX + 1];
	struct stat st;
	int fd;

	worker_path(path, sizeof(path), m->get.path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO must not hold us */
	if (fd < 0 && errno == ENXIO)
		worker_refuse(EINVAL, "the path is not a regular file");
	if (fd < 0)
		worker_refuse(errno, "cannot open the file: %s", strerror(errno));
	if (fstat(fd, &st) < 0)
		worker_refuse(errno, "cannot read the file: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		worker_refuse(EISDIR, "the path is a directory");
	if (!S_ISREG(st.st_mode))
		worker_refuse(EINVAL, "the path is not a regular file");
	if (offset > (uint64_t)st.st_size || lseek(fd, (off_t)offset, SEEK_SET) < 0)
		worker_refuse(EINVAL, "the file has %llu bytes", (unsigned long long)st.st_size);
	left = (uint64_t)st.st_size - offset;
	if (m->get.length)
		left = MIN(left, m->get.length);
	worker_say(FRAME_OK, &(union frame_body){ .ok = { .bytes = left,
		.mode = st.st_mode & 07777, .size = (uint64_t)st.st_size } });
	FAULT("agent.get.opened");
	while (left) {
		size_t n = (size_t)MIN(left, (uint64_t)FRAME_MAX);

		send_piece(fd, n);
		left -= n;
	}
	worker_say(FRAME_END, &(union frame_body){ 0 });
	worker_leave();
}

void put_start(struct conn *c, const union frame_body *m)
{
	worker_start(c, m, put_child, "weir-put", &file_workers);
}

void get_start(struct conn *c, const union frame_body *m)
{
	worker_start(c, m, get_child, "weir-get", &file_workers);
}

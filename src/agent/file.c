/*
 * Putting and getting files, each in a child process that inherits the connection and does plain
 * blocking reads and writes. A hung network file system, a slow disk or a reader that stopped
 * holds up its own child and nothing else; if the peer leaves, the child notices by its next
 * read or write and ends.
 *
 * put: the bytes go to a file without a name, in the target's directory, which takes the target's
 * place in one step when END has come and everything was written: nothing is left of an upload that
 * ended before that, even by SIGKILL. Where a file system has no such files it is a temporary one
 * beside the target. A symbolic link is followed to the file it names, or would name.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include "agent/agent.h"
#include "base/fd.h"

#define CONN_FD	  3
#define LINKS_MAX 40
#define FD_PATH	  32 /* "/proc/self/fd/N" */

struct worker {
	struct child child;
};

static unsigned int n_workers;

/* --- in the child: frames over a blocking socket --- */

static struct buf in;

_noreturn_ static void leave(void)
{
	struct timeval limit = { .tv_sec = LINGER_MS / 1000 };
	unsigned int rounds = 0;

	/* As conn.c's linger: closing over unread bytes could overtake our last frame. An upload
	 * that failed is still being sent; take a little of it. */
	shutdown(CONN_FD, SHUT_WR);
	setsockopt(CONN_FD, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (recv(CONN_FD, scratch, sizeof(scratch), 0) > 0 && ++rounds < 65536)
		;
	_exit(0);
}

static void say(uint8_t type, const union frame_body *m)
{
	auto_buf struct buf out = BUF_MAX(FRAME_HEADER + FRAME_MAX);

	if (frame_encode(&out, type, m) < 0 || fd_write_all(CONN_FD, out.p, out.n) < 0)
		_exit(1);
}

_printf_(2, 3) _noreturn_ static void refuse(int error, const char *fmt, ...)
{
	char text[FRAME_SENTENCE_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say(FRAME_ERROR, &(union frame_body){ .error = { .code = (uint32_t)error,
							 .text = str_c(text) } });
	leave();
}

/* The frame at the front of `in`, which it stays in until frame_taken(). 0: the peer left. */
static int frame_wait(struct frame *f, size_t *size)
{
	for (;;) {
		struct str rest = buf_str(&in);
		int r = frame_next(&rest, f);
		ssize_t k;

		if (r) {
			*size = in.n - rest.n;
			return r;
		}
		if (buf_room(&in, in.max - in.n) < 0)
			return -ENOMEM;
		k = recv(CONN_FD, in.p + in.n, in.max - in.n, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return 0;
		in.n += (size_t)k;
	}
}

static void path_text(char *path, size_t size, struct str s)
{
	if (str_copy(path, size, s) < 0)
		refuse(ENAMETOOLONG, "the path is too long");
}

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
			refuse(ENAMETOOLONG, "the path is too long");
		memcpy(path, whole, strlen(whole) + 1);
	}
	refuse(ELOOP, "too many symbolic links");
}

static void target_check(const char *path, struct stat *st, bool *exists)
{
	const char *name = strrchr(path, '/') + 1;

	*exists = lstat(path, st) == 0;
	if ((*exists && S_ISDIR(st->st_mode)) || !*name || str_eq_c(STR("."), name) ||
		str_eq_c(STR(".."), name))
		refuse(EISDIR, "the path is a directory");
	if (*exists && !S_ISREG(st->st_mode))
		refuse(EINVAL, "the path is not a regular file");
	if (!*exists && errno == ENOTDIR)
		refuse(ENOTDIR, "a part of the path is not a directory");
}

static void parents_make(const char *path)
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
		refuse(ENOTDIR, "a part of the path is not a directory");
	if (r < 0)
		refuse(-r, "cannot create the parent directories: %s", strerror(-r));
}

/* A name beside the path that nobody else has. */
static void name_beside(const char *path, char *tmp, size_t size)
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		r = (uint64_t)getpid();
	if ((size_t)snprintf(tmp, size, "%.*s/.weir-put-%016" PRIx64,
		    (int)(strrchr(path, '/') - path), path, r) >= size)
		refuse(ENAMETOOLONG, "the path is too long");
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

/* What is received goes here: *tmp is its name, "" if it has none yet. */
static int temporary(const char *path, char *tmp, size_t size, char fd_path[FD_PATH])
{
	int fd = nameless(path, fd_path);

	*tmp = '\0';
	if (fd == -EOPNOTSUPP) {
		name_beside(path, tmp, size);
		fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		fd = fd < 0 ? -errno : fd;
	}
	if (fd < 0)
		refuse(-fd, "cannot create the file: %s", strerror(-fd));
	return fd;
}

_noreturn_ static void put_abort(const char *tmp, int error, const char *what)
{
	if (*tmp)
		unlink(tmp);
	if (error == 0) /* the peer left */
		_exit(0);
	refuse(error, "cannot %s the file: %s", what, strerror(error));
}

static uint64_t receive_into(int fd, const char *tmp)
{
	uint64_t bytes = 0;
	struct frame f;
	size_t size;
	int r;

	while ((r = frame_wait(&f, &size)) > 0 && f.type == FRAME_DATA) {
		r = fd_write_all(fd, f.body.p, f.body.n);
		if (r < 0)
			put_abort(tmp, -r, "write");
		bytes += f.body.n;
		buf_consume(&in, size);
	}
	if (r == 0)
		put_abort(tmp, 0, "receive");
	if (r < 0 || f.type != FRAME_END)
		put_abort(tmp, EBADMSG, "receive");
	return bytes;
}

/* All of it takes the place of what the path named. A link replaces nothing, so a file that is
 * there gets its successor beside it first. */
static void put_in_place(const char *fd_path, char *tmp, size_t size, const char *path)
{
	if (!*tmp) {
		if (linkat(AT_FDCWD, fd_path, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
			return;
		if (errno != EEXIST)
			put_abort(tmp, errno, "name");
		name_beside(path, tmp, size);
		if (linkat(AT_FDCWD, fd_path, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) < 0) {
			*tmp = '\0';
			put_abort(tmp, errno, "name");
		}
	}
	if (rename(tmp, path) < 0)
		put_abort(tmp, errno, "rename");
}

_noreturn_ static void put_child(const union frame_body *m)
{
	char path[FRAME_PATH_MAX + 1], tmp[FRAME_PATH_MAX + 32], fd_path[FD_PATH];
	unsigned int mode = m->put.mode ? m->put.mode : 0644;
	struct stat st;
	uint64_t bytes;
	bool exists;
	int fd;

	path_text(path, sizeof(path), m->put.path);
	links_follow(path, sizeof(path));
	target_check(path, &st, &exists);
	parents_make(path);
	fd = temporary(path, tmp, sizeof(tmp), fd_path);
	FAULT("agent.put.opened");
	bytes = receive_into(fd, tmp);
	FAULT("agent.put.received");
	if (exists) {
		mode = st.st_mode & 07777;
		if (fchown(fd, st.st_uid, st.st_gid) < 0)
			mode &= 0777; /* another owner's file must not become a set-id one */
	}
	if (fchmod(fd, mode) < 0)
		put_abort(tmp, errno, "set the mode of");
	if (close(dup(fd)) < 0) /* what was only promised is written now, or fails */
		put_abort(tmp, errno, "write");
	put_in_place(fd_path, tmp, sizeof(tmp), path);
	close(fd); /* before the answer: a program that is open for writing cannot be run */
	FAULT("agent.put.renamed");
	say(FRAME_OK, &(union frame_body){ .ok = { .bytes = bytes } });
	leave();
}

/* --- get --- */

/* Up to n bytes of the file to the connection: 0 at the file's end, negative errno. The pages go by
 * reference; a file system that cannot lend its pages has them copied. */
static ssize_t pass_on(int fd, size_t n)
{
	ssize_t k = sendfile(CONN_FD, fd, NULL, n);

	if (k >= 0 || (errno != EINVAL && errno != ENOSYS))
		return k < 0 ? -errno : k;
	k = read(fd, scratch, MIN(n, sizeof(scratch)));
	if (k < 0)
		return -errno;
	return fd_write_all(CONN_FD, scratch, (size_t)k) < 0 ? -EPIPE : k;
}

/* One frame of the next n bytes. Its header promises them: where the file falls short of them,
 * zeroes keep the promise, so that the frame that tells of it can follow. */
static void send_piece(int fd, size_t n)
{
	uint8_t head[FRAME_HEADER];
	ssize_t k = 1;

	frame_header(head, FRAME_DATA, 0, (uint32_t)n);
	if (send(CONN_FD, head, sizeof(head), MSG_MORE) != sizeof(head))
		_exit(1);
	while (n && (k > 0 || k == -EINTR)) {
		k = pass_on(fd, n);
		if (k > 0)
			n -= (size_t)k;
	}
	if (!n)
		return;
	memset(scratch, 0, n);
	if (fd_write_all(CONN_FD, scratch, n) < 0)
		_exit(1);
	if (k == 0)
		refuse(EIO, "the file became shorter while it was read");
	refuse((int)-k, "cannot read the file: %s", strerror((int)-k));
}

_noreturn_ static void get_child(const union frame_body *m)
{
	char path[FRAME_PATH_MAX + 1];
	struct stat st;
	uint64_t left;
	int fd;

	path_text(path, sizeof(path), m->get.path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO must not hold us */
	if (fd < 0 && errno == ENXIO)
		refuse(EINVAL, "the path is not a regular file");
	if (fd < 0)
		refuse(errno, "cannot open the file: %s", strerror(errno));
	if (fstat(fd, &st) < 0)
		refuse(errno, "cannot read the file: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		refuse(EISDIR, "the path is a directory");
	if (!S_ISREG(st.st_mode))
		refuse(EINVAL, "the path is not a regular file");
	say(FRAME_OK, &(union frame_body){ .ok = { .bytes = (uint64_t)st.st_size,
						   .mode = st.st_mode & 07777 } });
	FAULT("agent.get.opened");
	for (left = (uint64_t)st.st_size; left;) {
		size_t n = (size_t)MIN(left, (uint64_t)FRAME_MAX);

		send_piece(fd, n);
		left -= n;
	}
	say(FRAME_END, &(union frame_body){ 0 });
	leave();
}

/* --- in the agent --- */

static void on_worker(struct child *child, int status)
{
	n_workers--;
	free(container_of(child, struct worker, child));
}

/* The child keeps nothing but its connection: other connections and pipes must end when the agent
 * closes them. */
_noreturn_ static void become_worker(struct conn *c, const union frame_body *m,
	void (*body)(const union frame_body *m), const char *name)
{
	int fd = c->watch.fd;

	signals_reset();
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, name);
	in = c->in;
	in.max = FRAME_HEADER + FRAME_MAX;
	if (fd != CONN_FD)
		dup2(fd, CONN_FD);
	syscall(SYS_close_range, CONN_FD + 1, ~0u, 0);
	fd_nonblock(CONN_FD, false);
	body(m);
	_exit(1);
}

static void worker_start(struct conn *c, const union frame_body *m,
	void (*body)(const union frame_body *m), const char *name)
{
	struct worker *w;
	pid_t pid;

	if (n_workers >= WORKERS_MAX) {
		conn_fail(c, EBUSY, "too many file transfers at the same time");
		return;
	}
	w = calloc(1, sizeof(*w));
	pid = w ? fork() : -1;
	if (pid == 0)
		become_worker(c, m, body, name);
	if (pid < 0) {
		int error = w ? errno : ENOMEM;

		free(w);
		conn_fail(c, error, error == EAGAIN ?
			"the sandbox's limit of processes is reached" : "out of memory");
		return;
	}
	FAULT("agent.file.forked");
	n_workers++;
	child_add(&w->child, pid, on_worker);
	conn_close(c); /* the child has it */
}

void put_start(struct conn *c, const union frame_body *m)
{
	worker_start(c, m, put_child, "weir-put");
}

void get_start(struct conn *c, const union frame_body *m)
{
	worker_start(c, m, get_child, "weir-get");
}

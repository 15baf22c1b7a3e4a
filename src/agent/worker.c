/* A child that has a connection to itself: see the header. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include "agent/worker.h"
#include "base/fd.h"

struct worker {
	struct child child;
	struct workers *of;
};

struct workers file_workers = { .max = WORKERS_MAX,
	.full = "too many file transfers at the same time" };

/* --- in the child: frames over a blocking socket --- */

struct buf worker_in;

void worker_leave(void)
{
	struct timeval limit = { .tv_sec = LINGER_MS / 1000 };
	unsigned int rounds = 0;

	/* As conn.c's linger: closing over unread bytes could overtake our last frame. An upload
	 * that failed is still being sent; take a little of it. */
	shutdown(WORKER_FD, SHUT_WR);
	setsockopt(WORKER_FD, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (recv(WORKER_FD, scratch, sizeof(scratch), 0) > 0 && ++rounds < 65536)
		;
	_exit(0);
}

void worker_say(uint8_t type, const union frame_body *m)
{
	auto_buf struct buf out = BUF_MAX(FRAME_HEADER + FRAME_MAX);

	if (frame_encode(&out, type, m) < 0 || fd_write_all(WORKER_FD, out.p, out.n) < 0)
		_exit(1);
}

void worker_refuse(int error, const char *fmt, ...)
{
	char text[FRAME_SENTENCE_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	worker_say(FRAME_ERROR, &(union frame_body){ .error = { .code = (uint32_t)error,
							 .text = str_c(text) } });
	worker_leave();
}

int worker_frame(struct frame *f, size_t *size)
{
	for (;;) {
		struct str rest = buf_str(&worker_in);
		int r = frame_next(&rest, f);
		ssize_t k;

		if (r) {
			*size = worker_in.n - rest.n;
			return r;
		}
		if (buf_room(&worker_in, worker_in.max - worker_in.n) < 0)
			return -ENOMEM;
		k = recv(WORKER_FD, worker_in.p + worker_in.n, worker_in.max - worker_in.n, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return 0;
		worker_in.n += (size_t)k;
	}
}

void worker_path(char *path, size_t size, struct str s)
{
	if (str_copy(path, size, s) < 0)
		worker_refuse(ENAMETOOLONG, "the path is too long");
}

/* --- in the agent --- */

static void on_worker(struct child *child, int status)
{
	struct worker *w = container_of(child, struct worker, child);

	w->of->n--;
	free(w);
}

/* The child keeps nothing but its connection: other connections and pipes must end when the agent
 * closes them. */
_noreturn_ static void become(struct conn *c, const union frame_body *m,
	void (*body)(const union frame_body *m), const char *name)
{
	int fd = c->watch.fd;

	signals_reset();
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, name);
	worker_in = c->in;
	worker_in.max = FRAME_HEADER + FRAME_MAX;
	if (fd != WORKER_FD)
		dup2(fd, WORKER_FD);
	syscall(SYS_close_range, WORKER_FD + 1, ~0u, 0);
	fd_nonblock(WORKER_FD, false);
	body(m);
	_exit(1);
}

void worker_start(struct conn *c, const union frame_body *m,
	void (*body)(const union frame_body *m), const char *name, struct workers *of)
{
	struct worker *w;
	pid_t pid;

	if (of->n >= of->max) {
		conn_fail(c, EBUSY, "%s", of->full);
		return;
	}
	w = calloc(1, sizeof(*w));
	pid = w ? fork() : -1;
	if (pid == 0)
		become(c, m, body, name);
	if (pid < 0) {
		int error = w ? errno : ENOMEM;

		free(w);
		conn_fail(c, error, error == EAGAIN ?
			"the sandbox's limit of processes is reached" : "out of memory");
		return;
	}
	FAULT("agent.file.forked");
	w->of = of;
	of->n++;
	child_add(&w->child, pid, on_worker);
	conn_close(c); /* the child has it */
}

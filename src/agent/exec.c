/*
 * Commands.
 *
 * Life of an exec: fork; the status pipe closes (exec worked: STARTED) or carries a failure (EXIT
 * with a sentence). Then bytes flow until the direct child has ended *and* both its pipes are at
 * their end: EXIT. If others hold the pipes after the child's end, SILENCE_MS without output is
 * taken for the end; what they write later is read to nowhere ("drains"), so that they do not die
 * of SIGPIPE. They are left running.
 *
 * A lost connection closes stdin and sends the output to nowhere. With FRAME_EXEC_KILL the
 * process group then gets TERM and, KILL_GRACE_MS later, KILL; whoever made a session of its own
 * has left the group and stays.
 *
 * The struct lives until the connection is done with it (x->conn) and the child is reaped and
 * nothing more is to be killed.
 */
#include <signal.h>
#include <sys/wait.h>
#include "agent/agent.h"

struct exec {
	struct conn *conn; /* NULL: the peer has its EXIT, or left */
	struct child child;
	struct timer timer; /* silence while there is a conn, the KILL after it */
	struct watch in, out[2], status;
	struct buf pending; /* stdin that the pipe did not take; the connection is on hold */
	bool started, ended, killing;
	int wait_status;
	char name[64];
};

/* --- ends --- */

static void kill_group(const struct exec *x, int sig)
{
	/* Before its setsid() the child is no group yet. */
	if (kill(-x->child.pid, sig) < 0 && !x->ended)
		kill(x->child.pid, sig);
}

static bool group_left(const struct exec *x)
{
	return kill(-x->child.pid, 0) == 0 || errno == EPERM;
}

/* No connection any more: free unless the child or the KILL is still to come. */
static void exec_settle(struct exec *x)
{
	if (x->conn || !x->ended)
		return;
	if (x->killing && x->timer.armed && group_left(x))
		return;
	timer_stop(&x->timer);
	buf_done(&x->pending);
	free(x);
}

static void detach(struct exec *x)
{
	x->conn = NULL;
	timer_stop(&x->timer);
	watch_close(&x->in);
	watch_close(&x->status);
	drain_start(&x->out[0]);
	drain_start(&x->out[1]);
}

static void say_exit(struct exec *x, int code, int sig, const char *sentence)
{
	union frame_body m = { .exit = { .code = (uint32_t)code, .signal = (uint32_t)sig,
		.error = str_c(sentence) } };
	struct conn *c = x->conn;

	FAULT("agent.exec.ended");
	detach(x);
	if (conn_send(c, FRAME_EXIT, &m) < 0)
		conn_close(c);
	else
		conn_finish(c);
}

static void finish(struct exec *x)
{
	int s = x->wait_status;

	if (WIFSIGNALED(s))
		say_exit(x, 128 + WTERMSIG(s), WTERMSIG(s), "");
	else
		say_exit(x, WEXITSTATUS(s), 0, "");
	exec_settle(x);
}

static void on_silence(struct timer *t);

/* Something about the end may have changed. Frees x when all is over. */
static void check_end(struct exec *x)
{
	if (!x->conn) {
		exec_settle(x);
		return;
	}
	if (!x->ended || !x->started)
		return;
	if (x->out[0].fd < 0 && x->out[1].fd < 0)
		finish(x);
	else if (!x->timer.armed)
		timer_set(&x->timer, SILENCE_MS, on_silence);
}

static void on_silence(struct timer *t)
{
	struct exec *x = container_of(t, struct exec, timer);

	if (conn_busy(x->conn)) /* not silent: its reader is slow */
		timer_set(&x->timer, SILENCE_MS, on_silence);
	else
		finish(x);
}

static void on_child(struct child *child, int status)
{
	struct exec *x = container_of(child, struct exec, child);

	x->ended = true;
	x->wait_status = status;
	check_end(x);
}

static void on_kill_grace(struct timer *t)
{
	struct exec *x = container_of(t, struct exec, timer);

	kill_group(x, SIGKILL);
	exec_settle(x);
}

static void on_gone(struct conn *c)
{
	struct exec *x = c->op;

	detach(x);
	if (x->killing) { /* asked for at the start */
		kill_group(x, SIGTERM);
		timer_set(&x->timer, KILL_GRACE_MS, on_kill_grace);
	}
	exec_settle(x);
}

/* --- output --- */

static void outputs_want(struct exec *x)
{
	uint32_t events = x->started && !conn_busy(x->conn) ? EPOLLIN : 0;

	watch_set(&x->out[0], events);
	watch_set(&x->out[1], events);
}

static void on_output(struct exec *x, int which)
{
	struct watch *w = &x->out[which];
	ssize_t k;

	if (conn_busy(x->conn)) {
		outputs_want(x);
		return;
	}
	k = read(w->fd, scratch, sizeof(scratch));
	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (k <= 0) {
		watch_close(w);
		check_end(x);
		return;
	}
	if (conn_send_raw(x->conn, which ? FRAME_STDERR : FRAME_STDOUT, str_n(scratch, (size_t)k)) < 0) {
		struct conn *c = x->conn; /* no memory for one frame: better no output than a gap */

		conn_close(c);
		on_gone(c);
		return;
	}
	if (x->ended)
		timer_set(&x->timer, SILENCE_MS, on_silence);
	outputs_want(x);
}

static void on_stdout(struct watch *w, uint32_t events)
{
	on_output(container_of(w, struct exec, out[0]), 0);
}

static void on_stderr(struct watch *w, uint32_t events)
{
	on_output(container_of(w, struct exec, out[1]), 1);
}

static void on_drained(struct conn *c)
{
	outputs_want(c->op);
}

/* --- input --- */

static void stdin_close(struct exec *x)
{
	watch_close(&x->in);
	buf_done(&x->pending);
	conn_unhold(x->conn);
}

static void on_stdin_room(struct watch *w, uint32_t events)
{
	struct exec *x = container_of(w, struct exec, in);
	ssize_t k = write(w->fd, x->pending.p, x->pending.n);

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (k < 0) { /* the command closed its end: the rest goes nowhere */
		stdin_close(x);
		return;
	}
	buf_consume(&x->pending, (size_t)k);
	if (x->pending.n)
		return;
	buf_done(&x->pending);
	watch_set(w, 0);
	conn_unhold(x->conn);
}

static void stdin_data(struct exec *x, struct str data)
{
	ssize_t k;

	if (x->in.fd < 0)
		return;
	k = write(x->in.fd, data.p, data.n);
	if (k < 0 && errno != EAGAIN && errno != EINTR) {
		stdin_close(x);
		return;
	}
	data = str_skip(data, (size_t)MAX(k, (ssize_t)0));
	if (!data.n)
		return;
	if (buf_add_str(&x->pending, data) < 0) {
		stdin_close(x);
		return;
	}
	watch_set(&x->in, EPOLLOUT);
	conn_hold(x->conn);
}

static void on_frame(struct conn *c, const struct frame *f)
{
	struct exec *x = c->op;
	union frame_body m;

	if (f->type == FRAME_DATA) {
		stdin_data(x, f->body);
	} else if (f->type == FRAME_END) {
		stdin_close(x); /* frames wait while anything is pending, so nothing is */
	} else if (f->type == FRAME_KILL && frame_decode(FRAME_KILL, f->body, &m) == 0) {
		kill_group(x, (int)m.kill.signal);
	} else {
		conn_close(c);
		on_gone(c);
	}
}

static const struct conn_ops exec_ops = { .frame = on_frame, .drained = on_drained,
	.gone = on_gone };

/* --- start --- */

static void on_status(struct watch *w, uint32_t events)
{
	struct exec *x = container_of(w, struct exec, status);
	struct spawn_failure f;
	ssize_t k = read(w->fd, &f, sizeof(f));
	char text[FRAME_SENTENCE_MAX];
	int code;

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	watch_close(w);
	if (k == sizeof(f)) {
		code = spawn_sentence(&f, x->name, text, sizeof(text));
		say_exit(x, code, 0, text);
		exec_settle(x);
		return;
	}
	x->started = true;
	conn_send(x->conn, FRAME_STARTED,
		&(union frame_body){ .started = { .pid = (uint32_t)x->child.pid } });
	outputs_want(x);
	check_end(x);
}

static int exec_fork(struct exec *x, const union frame_body *m)
{
	struct spawn spawn = { .argv = &m->exec.argv, .env = &m->exec.env, .cwd = m->exec.cwd,
		.fds = { -EBADF, -EBADF, -EBADF, -EBADF } };
	int fds[3] = { -EBADF, -EBADF, -EBADF }, r = 0;

	x->in = (struct watch){ .fd = -EBADF, .fn = on_stdin_room };
	x->out[0] = (struct watch){ .fd = -EBADF, .fn = on_stdout };
	x->out[1] = (struct watch){ .fd = -EBADF, .fn = on_stderr };
	x->status = (struct watch){ .fd = -EBADF, .fn = on_status };
	for (int i = 0; r == 0 && i < 3; i++)
		r = spawn_pipe(&fds[i], &spawn.fds[i], i > 0);
	FAULT("agent.exec.asked");
	r = r < 0 ? r : spawn_run(&spawn, &x->status.fd);
	spawn_done(&spawn);
	x->in.fd = fds[0];
	x->out[0].fd = fds[1];
	x->out[1].fd = fds[2];
	FAULT("agent.exec.forked");
	if (r < 0) {
		watch_close(&x->in);
		watch_close(&x->out[0]);
		watch_close(&x->out[1]);
		return r;
	}
	child_add(&x->child, r, on_child);
	return 0;
}

/* Refused before there was a process. */
static void refuse(struct conn *c, int error)
{
	union frame_body m = { .exit = { .code = 126, .error = str_c(spawn_refusal(error)) } };

	conn_send(c, FRAME_EXIT, &m);
	conn_finish(c);
}

void exec_start(struct conn *c, const union frame_body *m)
{
	struct exec *x = calloc(1, sizeof(*x));
	struct str name = m->exec.argv.v[0];
	int r = x ? exec_fork(x, m) : -ENOMEM;

	if (r < 0) {
		free(x);
		refuse(c, -r);
		return;
	}
	snprintf(x->name, sizeof(x->name), STR_FMT, STR_ARG(name));
	x->pending = BUF_MAX(FRAME_MAX);
	x->killing = m->exec.flags & FRAME_EXEC_KILL;
	x->conn = c;
	c->op = x;
	c->ops = &exec_ops;
	watch_set(&x->status, EPOLLIN);
}

/*
 * The life of a process that outlives its connection.
 *
 *	WAITING   behind another of its label (FRAME_START_QUEUE); its message is kept
 *	STARTING  forked; the status pipe will tell
 *	RUNNING   until its direct child has ended and its output is at its end, or has been silent
 *	          for PROC_SILENCE_MS while processes it left behind hold the pipes
 *	ENDED     readers have their EXIT; it can be asked about for PROC_KEEP_MS, and what the ones
 *	          left behind write is still kept
 *
 * Output goes to the ring, in the order in which it is read; descriptor 3 is read when the others
 * are empty, so that a program which has written a line there knows that all it printed before
 * stands before it. Nobody is waited for, so the oldest bytes go when the ring is full; only while
 * a reader asks for it (FRAME_ATTACH_PACE) the pipes are not read past what it has not taken.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include "agent/proc.h"

static void input_write(struct proc *p);

static uint64_t wall_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- ends --- */

void proc_free(struct proc *p)
{
	procs_remove(p);
	timer_stop(&p->end);
	timer_stop(&p->limit);
	timer_stop(&p->idle);
	timer_stop(&p->grace);
	watch_close(&p->in);
	watch_close(&p->status);
	for (int i = 0; i < STREAMS; i++)
		drain_start(&p->out[i]);
	ring_done(&p->ring);
	buf_done(&p->input);
	buf_done(&p->ask);
	free(p->note);
	free(p);
}

/* Its child is known to the loop until it is reaped. */
bool proc_in_use(const struct proc *p)
{
	return proc_alive(p) || p->readers || (p->child.pid && !p->reaped);
}

bool proc_leave(struct proc *p)
{
	if (proc_in_use(p) || !(p->forget || !p->started_ms))
		return false;
	proc_free(p);
	return true;
}

static void on_kept(struct timer *t)
{
	struct proc *p = container_of(t, struct proc, end);

	p->forget = true;
	proc_leave(p);
}

static void starter_exit(struct proc *p)
{
	union frame_body m = { .exit = { .code = (uint32_t)p->code, .error = str_c(p->error) } };
	struct conn *c = take_ptr(p->starter);

	if (!c)
		return;
	conn_send(c, FRAME_EXIT, &m);
	conn_finish(c);
}

/* May free it. */
static void proc_ended(struct proc *p)
{
	char label[sizeof(p->label)];
	bool queued = p->flags & FRAME_START_QUEUE;

	FAULT("agent.proc.ended");
	memcpy(label, p->label, sizeof(label));
	p->state = PROC_ENDED;
	p->ended_ms = wall_ms();
	if (!p->started_ms)
		p->id[0] = '\0'; /* it never was: its id is free at once */
	timer_stop(&p->limit);
	timer_stop(&p->idle);
	watch_close(&p->status);
	watch_close(&p->in);
	buf_done(&p->input);
	buf_done(&p->ask);
	timer_set(&p->end, PROC_KEEP_MS, on_kept);
	starter_exit(p);
	proc_read_on(p);
	if (queued)
		procs_next(label);
}

void proc_never(struct proc *p, int error)
{
	p->code = 126;
	snprintf(p->error, sizeof(p->error), "%s", spawn_refusal(-error));
	proc_ended(p);
}

static void ended_by(struct proc *p, int status)
{
	if (WIFSIGNALED(status)) {
		p->signal = WTERMSIG(status);
		p->code = 128 + p->signal;
	} else {
		p->code = WEXITSTATUS(status);
	}
	if (p->timed_out)
		snprintf(p->error, sizeof(p->error), "killed after its time limit of %u ms",
			p->limit_ms);
	proc_ended(p);
}

static void on_silence(struct timer *t);

static bool open_outputs(const struct proc *p)
{
	bool open = false;

	for (int i = 0; i < STREAMS; i++)
		open = open || p->out[i].fd >= 0;
	return open;
}

/* True: it has ended now, and may be freed. */
static bool check_end(struct proc *p)
{
	if (p->state != PROC_RUNNING || !p->reaped)
		return false;
	if (open_outputs(p)) {
		if (!p->end.armed)
			timer_set(&p->end, PROC_SILENCE_MS, on_silence);
		return false;
	}
	ended_by(p, p->wait_status);
	return true;
}

static bool stalled(const struct proc *p)
{
	for (const struct reader *r = p->readers; r; r = r->next)
		if (r->pace && r->at < p->ring.end)
			return true;
	return false;
}

static void on_silence(struct timer *t)
{
	struct proc *p = container_of(t, struct proc, end);

	if (stalled(p)) /* not silent: whom it waits for is slow */
		timer_set(&p->end, PROC_SILENCE_MS, on_silence);
	else
		ended_by(p, p->wait_status);
}

static void on_child(struct child *child, int status)
{
	struct proc *p = container_of(child, struct proc, child);

	p->reaped = true;
	p->wait_status = status;
	timer_stop(&p->grace);
	if (!check_end(p))
		proc_leave(p);
}

void proc_signal(struct proc *p, int sig)
{
	if (p->state == PROC_WAITING) {
		p->signal = sig;
		p->code = 128 + sig;
		snprintf(p->error, sizeof(p->error), "ended before it was started");
		proc_ended(p);
		return;
	}
	/* Its number, when nothing of it is left, may be somebody else's. */
	if (p->reaped && !open_outputs(p))
		return;
	/* Before its setsid() the child is no group yet. */
	if (kill(-p->child.pid, sig) < 0 && !p->reaped && p->child.pid)
		kill(p->child.pid, sig);
}

static void on_limit(struct timer *t)
{
	struct proc *p = container_of(t, struct proc, limit);

	p->timed_out = true;
	proc_signal(p, SIGKILL);
}

static void on_idle(struct timer *t)
{
	struct proc *p = container_of(t, struct proc, idle);

	p->timed_out = true;
	p->limit_ms = p->idle_ms;
	proc_signal(p, SIGKILL);
}

static void on_grace(struct timer *t)
{
	struct proc *p = container_of(t, struct proc, grace);

	if (proc_alive(p))
		proc_signal(p, SIGKILL);
}

void proc_grace(struct proc *p, uint32_t ms)
{
	timer_set(&p->grace, ms, on_grace);
}

static void busy(struct proc *p)
{
	if (p->idle_ms && proc_alive(p))
		timer_set(&p->idle, p->idle_ms, on_idle);
}

/* --- output --- */

/* Bytes that may be read now: as many as fit, or as many as fit before a reader that is waited for. */
static size_t room(const struct proc *p)
{
	size_t n = sizeof(scratch);

	for (const struct reader *r = p->readers; r; r = r->next)
		if (r->pace)
			n = MIN(n, ring_room(&p->ring, r->at));
	return n;
}

static void outputs_want(struct proc *p)
{
	uint32_t events = p->state >= PROC_RUNNING && room(p) ? EPOLLIN : 0;

	for (int i = 0; i < STREAMS; i++)
		watch_set(&p->out[i], events);
}

/* Whether something was read. */
static bool take(struct proc *p, int stream)
{
	struct watch *w = &p->out[stream];
	size_t n = w->fd < 0 ? 0 : room(p);
	ssize_t k;

	if (!n)
		return false;
	k = read(w->fd, scratch, n);
	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (k <= 0) { /* EIO: nobody holds the terminal's other side */
		watch_close(w);
		return false;
	}
	ring_add(&p->ring, (uint8_t)stream, str_n(scratch, (size_t)k));
	busy(p);
	if (p->reaped && proc_alive(p))
		timer_set(&p->end, PROC_SILENCE_MS, on_silence);
	readers_pump(p);
	return true;
}

static void on_output(struct proc *p, int stream)
{
	/* What was printed before something was told is in the pipes by now. */
	while (stream == STREAM_SIDE && (take(p, STREAM_OUT) || take(p, STREAM_ERR)))
		;
	if (room(p))
		take(p, stream);
	outputs_want(p);
	if (!check_end(p))
		proc_read_on(p);
}

static void on_out(struct watch *w, uint32_t events)
{
	on_output(container_of(w, struct proc, out[STREAM_OUT]), STREAM_OUT);
}

static void on_err(struct watch *w, uint32_t events)
{
	on_output(container_of(w, struct proc, out[STREAM_ERR]), STREAM_ERR);
}

static void on_side(struct watch *w, uint32_t events)
{
	on_output(container_of(w, struct proc, out[STREAM_SIDE]), STREAM_SIDE);
}

void proc_read_on(struct proc *p)
{
	readers_pump(p);
	if (!proc_alive(p) && !p->readers && p->flags & FRAME_START_BRIEF) {
		ring_done(&p->ring);
		for (int i = 0; i < STREAMS; i++)
			drain_start(&p->out[i]);
	}
	if (!proc_leave(p))
		outputs_want(p);
}

/* --- input --- */

static void on_room(struct watch *w, uint32_t events)
{
	input_write(container_of(w, struct proc, in));
}

static void input_close(struct proc *p)
{
	watch_close(&p->in);
	buf_done(&p->input);
	readers_unhold(p);
}

static void input_write(struct proc *p)
{
	while (p->input.n) {
		ssize_t k = write(p->in.fd, p->input.p, p->input.n);

		if (k < 0 && (errno == EAGAIN || errno == EINTR)) {
			watch_set(&p->in, EPOLLOUT);
			return;
		}
		if (k < 0) { /* it closed its end: the rest goes nowhere */
			input_close(p);
			return;
		}
		buf_consume(&p->input, (size_t)k);
	}
	buf_done(&p->input);
	watch_set(&p->in, 0);
	if (p->closing)
		input_close(p);
	else
		readers_unhold(p);
}

int proc_input(struct proc *p, struct str data, bool end)
{
	int r;

	/* What waits for its turn takes input later: it is kept until then. */
	if (p->closing || !proc_alive(p) || !(p->flags & (FRAME_START_STDIN | FRAME_START_PTY)) ||
		(p->in.fd < 0 && p->state != PROC_WAITING))
		return -EPIPE;
	if (p->input.n + data.n > STDIN_MAX)
		return -EAGAIN;
	r = buf_add_str(&p->input, data);
	if (r == 0 && end && p->flags & FRAME_START_PTY)
		r = buf_add_c(&p->input, "\4"); /* a terminal's end of file */
	else if (r == 0 && end)
		p->closing = true;
	if (r < 0) {
		buf_done(&p->input);
		p->input = BUF_MAX(STDIN_MAX + 1);
		return r;
	}
	busy(p);
	if (p->state != PROC_WAITING && !p->in.events)
		input_write(p);
	return 0;
}

void proc_resize(struct proc *p, uint32_t size)
{
	struct winsize w = { .ws_row = (uint16_t)(size >> 16), .ws_col = (uint16_t)size };

	p->size = size;
	if (p->flags & FRAME_START_PTY && p->out[STREAM_OUT].fd >= 0)
		ioctl(p->out[STREAM_OUT].fd, TIOCSWINSZ, &w);
}

/* --- start --- */

static void say_started(struct proc *p, struct conn *c)
{
	union frame_body m = { .started = { .pid = (uint32_t)p->child.pid } };
	uint32_t how = FRAME_ATTACH_FOLLOW | (p->flags & FRAME_START_PACE ? FRAME_ATTACH_PACE : 0);

	conn_send(c, FRAME_STARTED, &m);
	if (!(p->flags & FRAME_START_ATTACH) || !reader_add(p, c, 0, how))
		conn_finish(c);
}

static void on_status(struct watch *w, uint32_t events)
{
	struct proc *p = container_of(w, struct proc, status);
	struct spawn_failure f;
	ssize_t k = read(w->fd, &f, sizeof(f));
	struct conn *c;

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	watch_close(w);
	if (k == sizeof(f)) {
		p->code = spawn_sentence(&f, p->name, p->error, sizeof(p->error));
		p->started_ms = 0;
		proc_ended(p);
		return;
	}
	p->state = PROC_RUNNING;
	FAULT("agent.proc.started");
	c = take_ptr(p->starter);
	if (c)
		say_started(p, c);
	if (p->input.n || p->closing)
		input_write(p);
	outputs_want(p);
	if (c)
		conn_unhold(c);
	check_end(p);
}

static int terminal_open(struct proc *p, struct spawn *s)
{
	char name[64];
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	p->out[STREAM_OUT].fd = fd;
	if (grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, name, sizeof(name)) != 0)
		return -ENXIO;
	for (int i = 0; i < 3; i++) {
		s->fds[i] = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (s->fds[i] < 0)
			return -errno;
	}
	s->tty = true;
	proc_resize(p, p->size ? p->size : 24u << 16 | 80);
	p->in.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* a descriptor is watched for one thing */
	return p->in.fd < 0 ? -errno : 0;
}

static int pipes_open(struct proc *p, struct spawn *s)
{
	int r;

	if (p->flags & FRAME_START_STDIN) {
		r = spawn_pipe(&p->in.fd, &s->fds[0], false);
	} else {
		s->fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		r = s->fds[0] < 0 ? -errno : 0;
	}
	for (int i = STREAM_OUT; r == 0 && i <= STREAM_ERR; i++)
		r = spawn_pipe(&p->out[i].fd, &s->fds[i + 1], true);
	return r;
}

void proc_fork(struct proc *p, const union frame_body *m)
{
	struct spawn s = { .argv = &m->start.argv, .env = &m->start.env, .cwd = m->start.cwd,
		.fds = { -EBADF, -EBADF, -EBADF, -EBADF },
		.uid = m->start.uid, .gid = m->start.gid,
		.group = m->start.flags & FRAME_START_GROUP };
	int r = p->flags & FRAME_START_PTY ? terminal_open(p, &s) : pipes_open(p, &s);

	if (r == 0 && p->flags & FRAME_START_SIDE)
		r = spawn_pipe(&p->out[STREAM_SIDE].fd, &s.fds[3], true);
	r = r < 0 ? r : spawn_run(&s, &p->status.fd);
	spawn_done(&s);
	if (r < 0) {
		watch_close(&p->in);
		for (int i = 0; i < STREAMS; i++)
			watch_close(&p->out[i]);
		proc_never(p, r);
		return;
	}
	FAULT("agent.proc.forked");
	child_add(&p->child, r, on_child);
	p->state = PROC_STARTING;
	p->started_ms = wall_ms();
	watch_set(&p->status, EPOLLIN);
	if (p->limit_ms)
		timer_set(&p->limit, p->limit_ms, on_limit);
	busy(p);
}

struct proc *proc_new(const union frame_body *m)
{
	static void (*const fns[STREAMS])(struct watch *, uint32_t) = { on_out, on_err, on_side };
	uint32_t keep = m->start.keep ? m->start.keep : PROC_KEEP;
	struct proc *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->note = str_dup(m->start.note);
	if (!p->note) {
		free(p);
		return NULL;
	}
	str_copy(p->id, sizeof(p->id), m->start.id);
	str_copy(p->label, sizeof(p->label), m->start.label);
	snprintf(p->name, sizeof(p->name), STR_FMT, STR_ARG(m->start.argv.v[0]));
	p->flags = m->start.flags;
	p->size = m->start.size;
	p->limit_ms = m->start.timeout_ms;
	p->idle_ms = m->start.idle_ms;
	p->ring = ring_new(MIN(keep, PROC_KEEP_MAX));
	p->input = BUF_MAX(STDIN_MAX + 1);
	p->in = (struct watch){ .fd = -EBADF, .fn = on_room };
	p->status = (struct watch){ .fd = -EBADF, .fn = on_status };
	for (int i = 0; i < STREAMS; i++)
		p->out[i] = (struct watch){ .fd = -EBADF, .fn = fns[i] };
	return p;
}

/*
 * The processes that are known: where they are found, how one of a label waits for the one before it,
 * which is forgotten when PROCS_MAX are known (that ended first), and what is told of them. What asks is
 * START, PROCS and CONTROL.
 */
#include <signal.h>
#include "agent/proc.h"

static struct proc *procs; /* oldest first */
static unsigned int n_procs;
static uint64_t numbers;

struct proc *proc_find(struct str id)
{
	for (struct proc *p = procs; p; p = p->next)
		if (str_eq_c(id, p->id))
			return p;
	return NULL;
}

static void add(struct proc *p)
{
	struct proc **at = &procs;

	while (*at)
		at = &(*at)->next;
	*at = p;
	n_procs++;
	p->number = ++numbers;
}

void procs_remove(struct proc *p)
{
	struct proc **at = &procs;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	n_procs--;
}

/* --- start --- */

/* The message of one that waited. */
static int ask_decode(const struct buf *ask, struct frame_join *j, union frame_body *ret)
{
	struct str rest = buf_str(ask);
	struct frame f;
	int r = 0;

	while (r == 0) {
		r = frame_next(&rest, &f);
		r = r > 0 ? frame_join(j, &f) : -EBADMSG;
	}
	return r < 0 ? r : frame_decode(FRAME_START, buf_str(&j->body), ret);
}

static bool in_queue(const struct proc *p, const char *label)
{
	return proc_alive(p) && p->flags & FRAME_START_QUEUE && strcmp(p->label, label) == 0;
}

/* Nothing of this label runs: the next begins. */
void procs_next(const char *label)
{
	struct frame_join j = FRAME_JOIN;
	union frame_body m;
	struct proc *p = procs;
	int r;

	while (p && !in_queue(p, label))
		p = p->next;
	if (!p || p->state != PROC_WAITING)
		return;
	r = ask_decode(&p->ask, &j, &m);
	buf_done(&p->ask);
	if (r == 0) {
		proc_fork(p, &m); /* which goes on with the next, should it fail */
		frame_body_done(FRAME_START, &m);
	} else {
		proc_never(p, r);
	}
	buf_done(&j.body);
}

/* Until it has heard STARTED, who starts a process is on hold, but may leave: then one that waits is
 * not started. */
static void on_starter_gone(struct conn *c)
{
	struct proc *p = c->op;

	p->starter = NULL;
	if (p->state == PROC_WAITING)
		proc_signal(p, SIGKILL);
}

static const struct conn_ops starter_ops = { .gone = on_starter_gone };

static void forget_oldest(void)
{
	for (struct proc *p = procs; p; p = p->next)
		if (!proc_in_use(p)) {
			proc_free(p);
			return;
		}
}

static bool must_wait(const union frame_body *m)
{
	char label[FRAME_ID_MAX + 1];

	if (!(m->start.flags & FRAME_START_QUEUE))
		return false;
	str_copy(label, sizeof(label), m->start.label);
	for (const struct proc *p = procs; p; p = p->next)
		if (in_queue(p, label))
			return true;
	return false;
}

void proc_start(struct conn *c, const union frame_body *m)
{
	bool wait = must_wait(m);
	struct proc *p;

	FAULT("agent.proc.asked");
	if (proc_find(m->start.id)) {
		conn_fail(c, EEXIST, "there is a process of this id");
		return;
	}
	if (n_procs >= PROCS_MAX)
		forget_oldest();
	if (n_procs >= PROCS_MAX) {
		conn_fail(c, EAGAIN, "more than %u processes run", PROCS_MAX);
		return;
	}
	p = proc_new(m);
	if (!p) {
		conn_fail(c, ENOMEM, "out of memory");
		return;
	}
	add(p);
	p->starter = c;
	c->op = p;
	c->ops = &starter_ops;
	conn_hold(c);
	if (!wait) {
		proc_fork(p, m);
		return;
	}
	p->ask = BUF_MAX(2 * FRAME_REQUEST_MAX);
	if (frame_encode(&p->ask, FRAME_START, m) < 0)
		proc_never(p, -ENOMEM);
}

/* --- what is known of them --- */

static int say_proc(struct conn *c, const struct proc *p)
{
	union frame_body m = { .proc = { .id = str_c(p->id), .label = str_c(p->label),
		.note = str_c(p->note),
		.flags = (p->state == PROC_WAITING ? FRAME_PROC_WAITING : 0) |
			(p->state == PROC_STARTING || p->state == PROC_RUNNING ?
				FRAME_PROC_RUNNING : 0) |
			(p->timed_out ? FRAME_PROC_TIMED_OUT : 0) |
			(p->flags & FRAME_START_PTY ? FRAME_PROC_PTY : 0),
		.pid = (uint32_t)p->child.pid, .size = p->size,
		.started_ms = p->started_ms, .ended_ms = p->ended_ms,
		.code = (uint32_t)p->code, .signal = (uint32_t)p->signal,
		.error = str_c(p->error), .oldest = p->ring.start, .newest = p->ring.end } };

	return conn_send(c, FRAME_PROC, &m);
}

struct telling {
	char id[FRAME_ID_MAX + 1], label[FRAME_ID_MAX + 1];
	uint64_t last; /* number of the one told last */
};

static const struct proc *next_told(const struct telling *t)
{
	const struct proc *p = procs;

	while (p && (!p->id[0] || p->number <= t->last || (t->id[0] && strcmp(p->id, t->id) != 0) ||
			   (t->label[0] && strcmp(p->label, t->label) != 0)))
		p = p->next;
	return p;
}

static void on_telling_drained(struct conn *c)
{
	struct telling *t = c->op;
	const struct proc *p = next_told(t);

	while (p && !conn_busy(c)) {
		if (say_proc(c, p) < 0) {
			free(t);
			conn_fail(c, ENOMEM, "out of memory");
			return;
		}
		t->last = p->number;
		p = next_told(t);
	}
	if (p)
		return;
	free(t);
	conn_send(c, FRAME_END, NULL);
	conn_finish(c);
}

static void on_telling_frame(struct conn *c, const struct frame *f)
{
	free(c->op);
	conn_close(c);
}

static void on_telling_gone(struct conn *c)
{
	free(c->op);
}

static const struct conn_ops telling_ops = { .frame = on_telling_frame,
	.drained = on_telling_drained, .gone = on_telling_gone };

void procs_start(struct conn *c, const union frame_body *m)
{
	struct telling *t = calloc(1, sizeof(*t));

	if (!t) {
		conn_fail(c, ENOMEM, "out of memory");
		return;
	}
	str_copy(t->id, sizeof(t->id), m->procs.id);
	str_copy(t->label, sizeof(t->label), m->procs.label);
	c->op = t;
	c->ops = &telling_ops;
	on_telling_drained(c);
}

void control_start(struct conn *c, const union frame_body *m)
{
	struct proc *p = proc_find(m->control.id);
	uint32_t sig = m->control.signal;

	if (!p) {
		conn_fail(c, ENOENT, "no such process");
		return;
	}
	if (m->control.size)
		proc_resize(p, m->control.size);
	if (m->control.flags & FRAME_CONTROL_CLOSE)
		proc_input(p, STR_NONE, true);
	if (m->control.grace_ms && proc_alive(p) && p->state != PROC_WAITING)
		proc_grace(p, m->control.grace_ms);
	say_proc(c, p);
	conn_finish(c);
	/* Whoever forgets one that runs is told of its last state before. */
	p->forget = p->forget || m->control.flags & FRAME_CONTROL_FORGET;
	/* Its end is certain, and may take a while: for everybody else it is gone already. */
	if (m->control.flags & FRAME_CONTROL_FORGET && (sig == SIGKILL || m->control.grace_ms))
		p->id[0] = '\0';
	if (p->state == PROC_WAITING && sig) {
		proc_signal(p, (int)sig); /* the end of it */
		return;
	}
	if (sig)
		proc_signal(p, (int)sig);
	proc_leave(p);
}

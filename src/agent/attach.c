/*
 * Readers of a process, and who writes to it: any number, each from an offset of its own.
 *
 * A reader is sent SEEK and then bytes; another SEEK where bytes between have been overwritten; EXIT
 * behind the last byte of a process that has ended. It is sent more when its connection has taken
 * what it was sent, so a slow one costs two frames.
 */
#include "agent/proc.h"

#define INPUT_HIGH 65536u /* of input not taken yet: those who send more are not read */

static void reader_free(struct reader *r)
{
	struct reader **at = &r->proc->readers;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	free(r);
}

static void reader_end(struct reader *r, uint8_t type, const union frame_body *m)
{
	struct conn *c = r->conn;

	reader_free(r);
	if (conn_send(c, type, m) < 0)
		conn_close(c);
	else
		conn_finish(c);
}

/* --- output --- */

static int say_where(struct reader *r, uint64_t at)
{
	union frame_body m = { .seek = { .offset = at } };

	if (r->told && at == r->at)
		return 0;
	r->told = true;
	r->at = at;
	return conn_send(r->conn, FRAME_SEEK, &m);
}

/* More of the ring, as much as one frame holds. 0: there is no more. */
static int say_more(struct reader *r)
{
	static const uint8_t types[STREAMS] = { FRAME_STDOUT, FRAME_STDERR, FRAME_SIDE };
	uint64_t at = r->at;
	uint8_t stream;
	struct str s = ring_read(&r->proc->ring, &at, &stream);
	int k = say_where(r, at);

	if (k < 0 || !s.n)
		return k;
	s.n = MIN(s.n, (size_t)FRAME_MAX);
	k = conn_send_raw(r->conn, types[stream], s);
	r->at += s.n;
	return k < 0 ? k : 1;
}

/* True: the reader is no more. */
static bool pump(struct reader *r)
{
	const struct proc *p = r->proc;
	int k = 1;

	while (k > 0 && !conn_busy(r->conn))
		k = say_more(r);
	if (k < 0) { /* no memory for one frame: better no output than a gap */
		struct conn *c = r->conn;

		reader_free(r);
		conn_close(c);
		return true;
	}
	if (k > 0)
		return false;
	if (p->state == PROC_ENDED) {
		union frame_body m = { .exit = { .code = (uint32_t)p->code,
			.signal = (uint32_t)p->signal, .error = str_c(p->error) } };

		reader_end(r, FRAME_EXIT, &m);
		return true;
	}
	if (!r->follow) {
		reader_end(r, FRAME_END, NULL);
		return true;
	}
	return false;
}

void readers_pump(struct proc *p)
{
	for (struct reader *r = p->readers, *next; r; r = next) {
		next = r->next;
		pump(r);
	}
}

static void on_drained(struct conn *c)
{
	struct reader *r = c->op;
	struct proc *p = r->proc;

	pump(r);
	proc_read_on(p);
}

/* --- input --- */

void readers_unhold(struct proc *p)
{
	struct reader *r = p->readers;

	/* Each may say so much that the rest waits on, or leave. */
	while (r && p->input.n <= INPUT_HIGH) {
		if (r->held) {
			r->held = false;
			conn_unhold(r->conn);
			r = p->readers;
		} else {
			r = r->next;
		}
	}
}

static void on_input(struct reader *r, struct str data, bool end)
{
	int k = proc_input(r->proc, data, end);

	if (k < 0 && k != -EPIPE) { /* what a closed stdin is sent goes nowhere */
		struct conn *c = r->conn;

		reader_free(r);
		conn_fail(c, -k, "the process does not read its input");
	} else if (r->proc->input.n > INPUT_HIGH) {
		r->held = true;
		conn_hold(r->conn);
	}
}

static void on_gone(struct conn *c)
{
	struct reader *r = c->op;
	struct proc *p = r->proc;

	reader_free(r);
	proc_read_on(p);
}

static void on_frame(struct conn *c, const struct frame *f)
{
	struct reader *r = c->op;
	union frame_body m;

	if (f->type == FRAME_DATA) {
		on_input(r, f->body, false);
	} else if (f->type == FRAME_END) {
		on_input(r, STR_NONE, true);
	} else if (f->type == FRAME_KILL && frame_decode(FRAME_KILL, f->body, &m) == 0) {
		proc_signal(r->proc, (int)m.kill.signal);
	} else if (f->type == FRAME_RESIZE && frame_decode(FRAME_RESIZE, f->body, &m) == 0) {
		proc_resize(r->proc, m.resize.size);
	} else {
		conn_close(c);
		on_gone(c);
	}
}

static const struct conn_ops reader_ops = { .frame = on_frame, .drained = on_drained,
	.gone = on_gone };

struct reader *reader_add(struct proc *p, struct conn *c, uint64_t from, uint32_t flags)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->proc = p;
	r->conn = c;
	r->at = flags & FRAME_ATTACH_END ? p->ring.end : MIN(from, p->ring.end);
	r->follow = flags & FRAME_ATTACH_FOLLOW;
	r->pace = flags & FRAME_ATTACH_PACE;
	r->next = p->readers;
	p->readers = r;
	c->op = r;
	c->ops = &reader_ops;
	return r;
}

void attach_start(struct conn *c, const union frame_body *m)
{
	struct proc *p = proc_find(m->attach.id);
	bool end = m->attach.flags & FRAME_ATTACH_CLOSE;
	uint64_t newest;
	int r = 0;

	if (!p) {
		conn_fail(c, ENOENT, "no such process");
		return;
	}
	newest = p->ring.end; /* what the input leads to comes behind it */
	if (m->attach.input.n || end)
		r = proc_input(p, m->attach.input, end);
	if (r < 0) {
		conn_fail(c, -r, "%s", r == -EPIPE ? "the process takes no input" :
			r == -EAGAIN ? "the process does not read its input" : "out of memory");
		return;
	}
	if (!reader_add(p, c, m->attach.flags & FRAME_ATTACH_END ? newest : m->attach.from,
		    m->attach.flags & ~(uint32_t)FRAME_ATTACH_END)) {
		conn_fail(c, ENOMEM, "out of memory");
		return;
	}
	proc_read_on(p);
}

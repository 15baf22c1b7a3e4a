/*
 * Bytes on a connection to the agent, in pieces that the first byte chooses: frames are cut, joined
 * and decoded, an operation starts once with a request that is within the bounds, and everything
 * ends. Operations are played; the gateway alone may connect, but an api role that was taken over
 * speaks through it.
 */
#include "../fuzz.h"
#include "agent/conn.c"
#include "loop.h"

static unsigned int started, frames;

void timer_set(struct timer *t, unsigned int ms, void (*fn)(struct timer *t))
{
	t->armed = true;
}

void timer_stop(struct timer *t)
{
	t->armed = false;
}

static void on_frame(struct conn *c, const struct frame *f)
{
	CHECK(f->body.n <= FRAME_MAX);
	if (++frames % 3 == 0)
		conn_hold(c);
	if (frames == 7)
		conn_fail(c, EIO, "enough");
	else
		conn_send_raw(c, FRAME_DATA, STR("heard"));
}

static void start(struct conn *c, const union frame_body *m)
{
	static const struct conn_ops ops = { .frame = on_frame };

	started++;
	c->ops = &ops;
}

void exec_start(struct conn *c, const union frame_body *m)
{
	CHECK(m->exec.argv.n > 0);
	start(c, m);
}

void put_start(struct conn *c, const union frame_body *m)
{
	start(c, m);
}

void get_start(struct conn *c, const union frame_body *m)
{
	conn_finish(c);
	started++;
}

void wake_start(struct conn *c, const union frame_body *m)
{
	conn_fail(c, EINVAL, "no");
	started++;
}

void sleep_start(struct conn *c, const union frame_body *m)
{
	conn_fail(c, EINVAL, "no");
	started++;
}

void go_start(struct conn *c, const union frame_body *m)
{
	conn_fail(c, EINVAL, "no");
	started++;
}

void watch_start(struct conn *c, const union frame_body *m)
{
	start(c, m);
}

void tunnel_start(struct conn *c, const union frame_body *m)
{
	start(c, m);
}

void proc_start(struct conn *c, const union frame_body *m)
{
	CHECK(m->start.argv.n > 0 && m->start.id.n > 0 && m->start.id.n <= FRAME_ID_MAX);
	start(c, m);
}

void attach_start(struct conn *c, const union frame_body *m)
{
	CHECK(m->attach.id.n > 0 && m->attach.input.n <= FRAME_REQUEST_MAX);
	start(c, m);
}

void procs_start(struct conn *c, const union frame_body *m)
{
	start(c, m);
}

void control_start(struct conn *c, const union frame_body *m)
{
	conn_finish(c);
	started++;
}

void tree_start(struct conn *c, const union frame_body *m)
{
	CHECK(m->tree.op && m->tree.path.n && m->tree.path.p[0] == '/');
	conn_finish(c);
	started++;
}

void notify_start(struct conn *c, const union frame_body *m)
{
	CHECK(m->notify.path.n && m->notify.path.p[0] == '/');
	start(c, m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = str_n(data, size);
	struct conn *c;
	char heard[65536];
	int p[2];

	if (size < 1 || size > 200000)
		return 0;
	bytes = str_skip(bytes, 1);
	started = frames = 0;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) == 0);
	CHECK(conn_new(p[0]) == 0);
	c = conns;
	while (bytes.n && c->state == CONN_OPEN) {
		size_t n = MIN(bytes.n, data[0] & 1 ? (size_t)1 + data[0] : (size_t)30000);
		ssize_t k = write(p[1], bytes.p, n);

		if (k > 0)
			bytes = str_skip(bytes, (size_t)k);
		on_conn(&c->watch, EPOLLIN | EPOLLOUT);
		if (c->hold)
			conn_unhold(c);
		while (read(p[1], heard, sizeof(heard)) > 0)
			;
	}
	CHECK(started <= 1 && (started || !frames));
	close(p[1]);
	for (int i = 0; i < 4 && c->state != CONN_DEAD; i++) {
		c->hold = false;
		on_conn(&c->watch, EPOLLIN | EPOLLOUT | EPOLLHUP);
	}
	CHECK(c->state == CONN_DEAD && !conns && n_conns == 0);
	on_burial(NULL);
	return 0;
}

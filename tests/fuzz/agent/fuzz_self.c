/*
 * What any process of a sandbox says to the agent, its process 1: bytes for the self-signal
 * endpoint, whole and in pieces, or for the FIFO. It is answered once, the answer does not depend
 * on the pieces, and what becomes a signal is a frame that the api role accepts.
 */
#include "../fuzz.h"
#include "agent/self.c"
#include "loop.h"

static struct conn gateway;
static unsigned int signals;

void timer_set(struct timer *t, unsigned int ms, void (*fn)(struct timer *t))
{
	t->fn = fn;
	if (fn == on_due) /* time flies */
		fn(t);
}

void timer_stop(struct timer *t) {}
void conn_close(struct conn *c) {}

int conn_send(struct conn *c, uint8_t type, const union frame_body *msg)
{
	struct buf out = BUF_MAX(2 * FRAME_MAX);
	union frame_body back;
	struct frame f;
	struct str rest;
	unsigned int chars = 0;

	CHECK(type == FRAME_SIGNAL && frame_encode(&out, type, msg) == 0);
	rest = buf_str(&out);
	CHECK(frame_next(&rest, &f) == 1 && f.type == type && !rest.n);
	CHECK(frame_decode(type, f.body, &back) == 0 && str_eq(back.signal.reason, msg->signal.reason));
	for (size_t i = 0; i < back.signal.reason.n; i++) {
		unsigned char b = (unsigned char)back.signal.reason.p[i];

		CHECK(b >= ' ' && b != 0x7f);
		chars += (b & 0xc0) != 0x80;
	}
	CHECK(chars <= REASON_CHARS);
	frame_body_done(type, &back);
	buf_done(&out);
	signals++;
	return 0;
}

/* The status line's number; 0: still waiting for more. */
static int ask(struct str bytes, size_t piece)
{
	struct request *q = calloc(1, sizeof(*q));
	char text[256] = "";
	int p[2], status = 0;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) == 0);
	q->watch = (struct watch){ .fd = p[0], .fn = on_request };
	n_requests++;
	while (bytes.n && !q->answered) {
		struct str now = str_n(bytes.p, MIN(bytes.n, piece));

		CHECK(write(p[1], now.p, now.n) == (ssize_t)now.n);
		bytes = str_skip(bytes, now.n);
		on_request(&q->watch, EPOLLIN);
	}
	if (q->answered) {
		CHECK(read(p[1], text, sizeof(text) - 1) > 0 && strncmp(text, "HTTP/1.1 ", 9) == 0);
		status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + text[11] - '0';
		CHECK(strstr(text, "\r\n\r\n") && status >= 202 && status <= 503);
		CHECK(read(p[1], text, sizeof(text)) == 0); /* once */
	}
	request_free(q);
	close(p[1]);
	CHECK(n_requests == 0 && n_pending == 0);
	return status;
}

static void tell(struct str bytes)
{
	int p[2];

	CHECK(pipe2(p, O_NONBLOCK | O_CLOEXEC) == 0);
	fifo = (struct watch){ .fd = p[0], .fn = on_fifo };
	for (; bytes.n; bytes = str_skip(bytes, MIN(bytes.n, (size_t)4096))) {
		CHECK(write(p[1], bytes.p, MIN(bytes.n, (size_t)4096)) > 0);
		for (int i = 0; i < 8; i++)
			on_fifo(&fifo, EPOLLIN);
	}
	close(p[0]);
	close(p[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = str_n(data, size);
	int whole;

	if (size < 1 || size > 65536)
		return 0;
	bytes = str_skip(bytes, 1);
	watcher = &gateway;
	if (data[0] == 255) {
		tell(bytes);
		return 0;
	}
	signals = 0;
	whole = ask(bytes, SELF_HEAD_MAX);
	CHECK(signals == (whole == 202));
	CHECK(ask(bytes, 1u + data[0] % 64u) == whole);
	watcher = NULL;
	if (whole == 202)
		CHECK(ask(bytes, SELF_HEAD_MAX) == 503);
	return 0;
}

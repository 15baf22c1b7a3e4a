/*
 * A request under way, from the moment its upstream is chosen.
 *
 * Bytes go from one socket to the other within the callback that brought them; only what the other
 * socket does not take is kept, and then nothing more is read. An answer that cannot be finished
 * ends the client's connection by a reset, so that nobody takes half of it for the whole.
 *
 * A kept connection may have been closed by the service just as it was used again. A request
 * without a body that may be repeated (RFC 9110 9.2.2) is then sent once more, over a new one.
 */
#include "base/fault.h"
#include "edge/ingress/proxy.h"
#include "event/headpass.h"

/* --- beginning and end --- */

static void box_enter(struct client *c, struct box *b)
{
	c->box = b;
	LIST_INSERT_HEAD(&b->clients, c, of_box);
	b->seen.open++;
	box_touch(c->in, b);
}

static void box_leave(struct client *c)
{
	struct box *b = take_ptr(c->box);

	if (!b)
		return;
	LIST_REMOVE(c, of_box);
	b->seen.open--;
	box_touch(c->in, b);
}

void exchange_end(struct client *c, bool reusable)
{
	struct up *u = c->up;

	if (c->state == C_TUNNEL)
		c->in->counters.tunnels--;
	if (u && reusable && u->state == U_READY && c->body.body.done && !end_pending(&u->end))
		up_rest(u);
	else if (u)
		up_close(u, !reusable);
	box_leave(c);
}

static void failed_count(struct client *c)
{
	c->in->counters.failed++;
	if (c->box)
		c->box->seen.failed++;
}

void exchange_cut(struct client *c)
{
	struct err err;

	if (c->started || c->state == C_TUNNEL) {
		client_close(c, true);
		return;
	}
	exchange_end(c, false);
	err_set(&err, -ENOENT, ERR_NOT_FOUND, "the sandbox is gone, or its ingress was switched off");
	client_refuse(c, 404, &err);
	client_pump(c, STR_NONE); /* what it sent behind it is answered as if it came now */
	if (c->state != C_CLOSED)
		client_watch(c);
}

static int dial_again(struct client *c)
{
	struct err err;

	if (c->up)
		up_close(c->up, true);
	c->state = C_DIAL;
	client_wait(c, c->in->conf.connect_ms);
	return up_get(c, true, &err);
}

void exchange_failed(struct client *c, int status, const char *text)
{
	struct err err;

	if (c->up && c->up->reused && c->idempotent && c->state == C_BUSY && !c->started &&
		c->head.n && dial_again(c) == 0)
		return;
	failed_count(c);
	if (c->started || c->state == C_TUNNEL) {
		client_close(c, true);
		return;
	}
	exchange_end(c, false);
	err_set(&err, -ECONNREFUSED, ERR_UPSTREAM, "%s", text);
	client_refuse(c, status, &err);
}

/* OpenSandbox's gateway has a status of its own for a WebSocket. */
void exchange_unreachable(struct client *c, const char *text)
{
	exchange_failed(c, c->target.gateway && c->upgrade ? 503 : 502, text);
}

/* --- towards the sandbox --- */

static struct iovec piece(struct str s)
{
	return (struct iovec){ (char *)s.p, s.n };
}

/* Without empty ones at the end; the first is sent in any case. */
static int pieces(const struct iovec *iov, int n)
{
	while (n > 1 && !iov[n - 1].iov_len)
		n--;
	return n;
}

static void count_in(struct client *c, size_t n)
{
	c->box->seen.bytes_in += n;
	box_touch(c->in, c->box);
}

/* What the upstream does not take is told by what can be read from it: an answer, or its end. */
static void send_up(struct client *c, const struct iovec *iov, int n)
{
	struct up *u = c->up;

	if (!u->broken && up_write(u, iov, n) < 0) {
		u->broken = true;
		buf_reset(&u->end.out);
	}
	up_watch(u);
}

/* The body's part of the view, taken off. False: the framing was broken, and the request is over. */
static bool take_body(struct client *c, struct str *ret, struct str *ret_tail)
{
	struct err err = { 0 };

	if (span_take(&c->body, &c->view, ret, ret_tail, &err) == 0)
		return true;
	c->keep = false;
	c->in->counters.malformed++;
	if (c->started) {
		client_close(c, true);
		return false;
	}
	exchange_end(c, false);
	client_refuse(c, 400, &err);
	return false;
}

/* Head and what is there of the body, in one write. */
static void send_head(struct client *c, struct str head)
{
	struct str body, tail;
	struct iovec iov[3];

	c->state = C_BUSY;
	exchange_moved(c);
	if (!take_body(c, &body, &tail))
		return;
	iov[0] = piece(head);
	iov[1] = piece(body);
	iov[2] = piece(tail);
	count_in(c, body.n + tail.n);
	send_up(c, iov, pieces(iov, 3));
}

void exchange_begin(struct client *c, struct box *b)
{
	struct ingress *in = c->in;
	struct err err;
	int r;

	FAULT("edge.visit.routed");
	box_enter(c, b);
	c->answer = A_HEAD;
	c->started = c->until_close = c->decode = false;
	c->state = C_DIAL;
	client_wait(c, in->conf.connect_ms);
	buf_reset(&c->head);
	r = up_get(c, false, &err);
	if (r) {
		failed_count(c);
		exchange_end(c, false);
		client_refuse(c, r, &err);
		return;
	}
	if (c->up->state != U_READY || (c->up->reused && c->idempotent))
		buf_add_str(&c->head, buf_str(&in->head));
	if (buf_failed(&c->head)) {
		exchange_end(c, false);
		err_set(&err, -ENOMEM, ERR_CAPACITY, "out of memory");
		client_refuse(c, 503, &err);
		return;
	}
	if (c->up->state == U_READY)
		send_head(c, buf_str(&in->head));
}

void exchange_connected(struct client *c)
{
	struct iovec head = { c->head.p, c->head.n };

	FAULT("edge.visit.connected");
	c->state = C_BUSY;
	exchange_moved(c);
	send_up(c, &head, 1);
	buf_reset(&c->head);
	client_pump(c, STR_NONE);
}

void exchange_moved(struct client *c)
{
	bool waits = c->state == C_BUSY && c->answer == A_HEAD;

	client_wait(c, waits ? c->in->conf.answer_ms : c->in->conf.silence_ms);
}

/* A client may have ended before its tunnel began; what it sent ahead goes first. */
static void pass_end(struct client *c)
{
	if (c->end.eof && up_shut(c->up) < 0)
		c->up->broken = true;
}

bool exchange_upload(struct client *c)
{
	struct str data = c->view, tail = STR_NONE;
	struct up *u = c->up;
	struct iovec iov[2];

	if (u->broken || end_pending(&u->end) || !c->view.n)
		return false;
	if (c->state == C_TUNNEL) {
		c->view = STR_NONE;
	} else {
		if (c->body.body.done)
			return false;
		if (!take_body(c, &data, &tail))
			return true;
	}
	exchange_moved(c);
	count_in(c, data.n + tail.n);
	iov[0] = piece(data);
	iov[1] = piece(tail);
	send_up(c, iov, pieces(iov, 2));
	if (c->state == C_TUNNEL)
		pass_end(c);
	return true;
}

/* Both directions of a tunnel have ended. */
static void tunnel_over(struct client *c)
{
	c->keep = false;
	exchange_end(c, true);
	client_next(c);
}

void exchange_client_eof(struct client *c)
{
	end_probe(&c->end);
	c->deadline = MIN(c->until, now_ms(c->in) + c->in->conf.half_ms);
	c->keep = c->keep && c->got.n; /* requests sent ahead are answered too */
	if (c->state == C_TUNNEL) {
		if (c->up->end.eof || c->up->frame_eof)
			tunnel_over(c);
		else if (up_shut(c->up) < 0)
			client_close(c, true);
		else
			up_watch(c->up);
	} else if (c->state == C_BUSY) {
		client_pump(c, STR_NONE); /* which ends a request that is not whole */
	}
}

/* --- towards the client --- */

static bool send_client(struct client *c, const struct iovec *iov, int n)
{
	if (end_write(&c->end, iov, n) == 0)
		return true;
	client_close(c, true);
	return false;
}

static bool has_body(const struct client *c, int status)
{
	return !c->head_only && status != 204 && status != 304;
}

/* How the answer's body ends, and whether the client's connection outlives it. */
static void frame_answer(struct client *c, const struct http_head *h)
{
	bool has = has_body(c, h->status), chunked = has && h->chunked;

	c->up->last = h->close;
	c->decode = chunked && c->http10;
	c->until_close = has && !chunked && h->length < 0;
	span_begin(&c->answer_body, body_from(chunked, !has ? 0 : c->until_close ? INT64_MAX : h->length),
		c->decode, pass_names_fields(h));
	/* A request that was not read to its end may be followed by anything. */
	c->keep = c->keep && c->body.body.done && !c->until_close && !c->decode;
	c->up->last |= c->until_close;
}

static bool bad_answer(struct client *c, const char *why)
{
	char text[sizeof(((struct err *)0)->text) + 60];

	snprintf(text, sizeof(text), "the sandbox's answer is malformed: %s", why);
	c->up->reused = false; /* asking again would not help */
	exchange_failed(c, 502, text);
	return false;
}

/* A whole head of the view is answered on. False: nothing more is to be done with the view. */
static bool pass_head(struct client *c, struct str *view)
{
	struct ingress *in = c->in;
	struct up *u = c->up;
	struct rewrite w = { .target = &c->target, .tls = c->end.tls, .http10 = c->http10,
		.cookie = str_skip(buf_str(&c->kept), c->kept_prefix) };
	struct str head = str_n(view->p, u->scan.at), body = STR_NONE, tail = STR_NONE;
	struct iovec iov[3];
	struct http_head h;
	struct err err;

	if (head_read_answer(head, in->fields, ARRAY_SIZE(in->fields), &h, &err))
		return bad_answer(c, err.text);
	FAULT("edge.visit.answered");
	*view = str_skip(*view, u->scan.at);
	u->scan = (struct head_scan){ .answer = true, .max = in->conf.head_max };
	if (h.status == 101 && !c->upgrade)
		return bad_answer(c, "a change of protocol that nobody asked for");
	if (h.status < 200 && h.status != 101 && c->http10)
		return true; /* HTTP/1.0 knows no interim answers */
	if (h.status >= 200)
		frame_answer(c, &h);
	c->target.prefix = str_n(c->kept.p, c->kept_prefix);
	buf_reset(&in->head);
	if (rewrite_answer(&in->head, &h, &w, c->keep, c->decode) < 0)
		return bad_answer(c, "its head is too long");
	if (h.status >= 200) {
		c->answer = A_BODY;
		if (span_take(&c->answer_body, view, &body, &tail, &err) < 0)
			return bad_answer(c, err.text);
		c->box->seen.bytes_out += body.n + tail.n;
		c->started = true;
	} else if (h.status == 101) {
		c->started = u->last = true;
		c->state = C_TUNNEL;
		in->counters.tunnels++;
		if (!c->got.n)
			pass_end(c);
	}
	iov[0] = piece(buf_str(&in->head));
	iov[1] = piece(body);
	iov[2] = piece(tail);
	return send_client(c, iov, pieces(iov, 3));
}

/* One step with the view. False: more must come first, or the exchange is over. */
static bool answer_step(struct client *c, struct str *view)
{
	struct up *u = c->up;
	struct str data = *view, tail;
	struct iovec iov[2];
	struct err err;
	int r;

	if (c->state == C_TUNNEL) {
		*view = STR_NONE;
		if (!data.n)
			return false;
		c->box->seen.bytes_out += data.n;
		return send_client(c, &(struct iovec){ (char *)data.p, data.n }, 1);
	}
	switch (c->answer) {
	case A_HEAD:
		if (!u->scan.at)
			u->scan = (struct head_scan){ .answer = true, .max = c->in->conf.head_max };
		r = head_scan(&u->scan, *view, &err);
		if (r > 1)
			return bad_answer(c, err.text);
		return r == 1 && pass_head(c, view);
	case A_BODY:
		if (c->answer_body.body.done) {
			c->answer = A_DONE;
			return true;
		}
		if (!data.n)
			return false;
		if (span_take(&c->answer_body, view, &data, &tail, &err) < 0) {
			exchange_failed(c, 502, err.text);
			return false;
		}
		c->box->seen.bytes_out += data.n + tail.n;
		iov[0] = piece(data);
		iov[1] = piece(tail);
		return send_client(c, iov, pieces(iov, 2));
	case A_DONE:
		break;
	}
	/* Whoever says more than the answer is not asked again: it would be the next one's answer. */
	exchange_end(c, !view->n && !u->last);
	client_next(c);
	return false;
}

void exchange_answer(struct client *c, struct str data)
{
	struct up *u = c->up;
	bool joined = u->got.n > 0;
	struct str view = data;

	client_wait(c, c->in->conf.silence_ms);
	box_touch(c->in, c->box);
	if (joined) {
		if (buf_add_str(&u->got, data) < 0) {
			exchange_failed(c, 503, "out of memory");
			return;
		}
		view = buf_str(&u->got);
	}
	while (answer_step(c, &view))
		;
	if (u->client != c)
		return;
	/* Only a head that is not whole yet is left. */
	if (joined)
		buf_consume(&u->got, u->got.n - view.n);
	else if (view.n && buf_add_str(&u->got, view) < 0)
		exchange_failed(c, 503, "out of memory");
}

void exchange_eof(struct client *c)
{
	if (c->state == C_TUNNEL) {
		client_wait(c, c->in->conf.silence_ms);
		if (c->end.eof)
			tunnel_over(c);
		else if (end_shut(&c->end) < 0)
			client_close(c, true);
		return;
	}
	if (c->answer == A_BODY && c->until_close) {
		exchange_end(c, false);
		client_next(c);
		return;
	}
	exchange_failed(c, 502, "the sandbox closed the connection without an answer");
}

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
#include "edge/ingress/span.h"

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
	if (u && reusable && u->state == U_READY && c->body.done && !end_pending(&u->end))
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
	bool gateway = c->target.by == BY_HEADER || c->target.by == BY_PATH;

	exchange_failed(c, gateway && c->upgrade ? 503 : 502, text);
}

/* --- towards the sandbox --- */

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
static bool take_body(struct client *c, struct str *ret)
{
	struct err err = { 0 };

	if (span_take(&c->body, &c->view, false, ret, &err) == 0)
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
	struct str body;
	struct iovec iov[2];

	c->state = C_BUSY;
	exchange_moved(c);
	if (!take_body(c, &body))
		return;
	iov[0] = (struct iovec){ (char *)head.p, head.n };
	iov[1] = (struct iovec){ (char *)body.p, body.n };
	count_in(c, body.n);
	send_up(c, iov, body.n ? 2 : 1);
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
	struct str data = c->view;
	struct up *u = c->up;

	if (u->broken || end_pending(&u->end) || !c->view.n)
		return false;
	if (c->state == C_TUNNEL) {
		c->view = STR_NONE;
	} else {
		if (c->body.done)
			return false;
		if (!take_body(c, &data))
			return true;
	}
	exchange_moved(c);
	count_in(c, data.n);
	send_up(c, &(struct iovec){ (char *)data.p, data.n }, 1);
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
	c->up->last = h->close;
	c->until_close = false;
	if (!has_body(c, h->status)) {
		c->answer_body = body_from(false, 0);
	} else if (h->chunked) {
		c->answer_body = body_from(true, -1);
		c->decode = c->http10;
	} else if (h->length >= 0) {
		c->answer_body = body_from(false, h->length);
	} else {
		c->answer_body = body_from(false, INT64_MAX);
		c->until_close = true;
	}
	/* A request that was not read to its end may be followed by anything. */
	c->keep = c->keep && c->body.done && !c->until_close && !c->decode;
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
	struct str head = str_n(view->p, u->scan.at), body = STR_NONE;
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
		if (span_take(&c->answer_body, view, c->decode, &body, &err) < 0)
			return bad_answer(c, err.text);
		c->box->seen.bytes_out += body.n;
		c->started = true;
	} else if (h.status == 101) {
		c->started = u->last = true;
		c->state = C_TUNNEL;
		in->counters.tunnels++;
		if (!c->got.n)
			pass_end(c);
	}
	return send_client(c, (struct iovec[]){ { in->head.p, in->head.n },
		{ (char *)body.p, body.n } }, body.n ? 2 : 1);
}

/* One step with the view. False: more must come first, or the exchange is over. */
static bool answer_step(struct client *c, struct str *view)
{
	struct up *u = c->up;
	struct str data = *view;
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
		if (c->answer_body.done) {
			c->answer = A_DONE;
			return true;
		}
		if (!data.n)
			return false;
		if (span_take(&c->answer_body, view, c->decode, &data, &err) < 0) {
			exchange_failed(c, 502, err.text);
			return false;
		}
		c->box->seen.bytes_out += data.n;
		return send_client(c, &(struct iovec){ (char *)data.p, data.n }, 1);
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

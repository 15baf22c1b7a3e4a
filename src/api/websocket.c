/*
 * A WebSocket: see the header.
 *
 *	open -- websocket_close(), the peer's Close, or a breach --> closing -- both sides closed, or
 *	CLOSE_MS --> gone
 *
 * Closing, nothing is delivered any more; the owner is let go at once (with on_gone where it did not
 * ask for it). The struct goes when its handles are closed.
 */
#include <openssl/evp.h>
#include "api/websocket.h"
#include "base/fd.h"
#include "wire/ws.h"

#define GUID	 "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define PING_MS	 30000u
#define CLOSE_MS 5000u
#define READ_MAX 65536u

enum ws_state { OPEN, CLOSING, GONE };

struct websocket {
	LIST_ENTRY(websocket) all; /* of the api role's, until GONE */
	uv_stream_t *stream;
	uv_timer_t timer; /* pings; closing: the limit */
	uv_timer_t kick;  /* from the loop: what was read with the head, or before a pause; the end */
	const struct websocket_ops *ops;
	void *arg; /* ops NULL: nobody is told any more */
	struct keyring *keys;
	struct principal who;
	struct buf in, message; /* message: its frames so far */
	size_t queued;
	unsigned int handles;
	enum ws_state state;
	bool in_message, paused, was_high, pinged, lost;
	bool heard; /* the peer's Close: the connection is ours to end */
};

/* --- ends --- */

static void handle_gone(struct websocket *w)
{
	if (--w->handles)
		return;
	buf_done(&w->in);
	buf_done(&w->message);
	free(w);
}

static void on_timer_closed(uv_handle_t *h)
{
	handle_gone(h->data);
}

static void on_stream_closed(uv_handle_t *h)
{
	struct websocket *w = h->data;

	free(h); /* the server's, handed over with it */
	handle_gone(w);
}

static void end(struct websocket *w)
{
	if (w->state == GONE)
		return;
	w->state = GONE;
	LIST_REMOVE(w, all);
	keyring_leave(w->keys, &w->who);
	uv_close((uv_handle_t *)w->stream, on_stream_closed);
	uv_close((uv_handle_t *)&w->timer, on_timer_closed);
	uv_close((uv_handle_t *)&w->kick, on_timer_closed);
}

static void let_go(struct websocket *w)
{
	const struct websocket_ops *ops = w->ops;

	w->ops = NULL;
	if (ops)
		ops->on_gone(w, w->arg);
}

/* The peer is gone or is to be cut: tell, and close. */
static void lose(struct websocket *w)
{
	end(w);
	let_go(w);
}

static void on_limit(uv_timer_t *t)
{
	lose(t->data);
}

/* --- sending --- */

struct sending {
	uv_write_t req;
	struct websocket *w;
	struct buf bytes;
};

static void on_kick(uv_timer_t *t);

static void on_written(uv_write_t *req, int status)
{
	struct sending *s = container_of(req, struct sending, req);
	struct websocket *w = s->w;

	w->queued -= s->bytes.n;
	buf_done(&s->bytes);
	free(s);
	if (status < 0 || w->state == GONE)
		return; /* reading tells of it */
	if (w->heard && !w->queued) {
		end(w);
		return;
	}
	if (w->was_high && w->queued < WEBSOCKET_QUEUE_HIGH) {
		w->was_high = false;
		if (w->ops && w->ops->on_drain)
			w->ops->on_drain(w, w->arg);
	}
}

/* Takes the bytes. A failure ends the socket, from the loop. */
static int put(struct websocket *w, struct buf *bytes)
{
	struct sending *s = NULL;
	int r = w->state == GONE || w->lost ? -EPIPE : buf_failed(bytes);
	uv_buf_t b;

	if (r == 0 && w->queued + bytes->n > WEBSOCKET_QUEUE_MAX)
		r = -ENOBUFS;
	if (r == 0) {
		s = calloc(1, sizeof(*s));
		r = s ? 0 : -ENOMEM;
	}
	if (r == 0) {
		s->w = w;
		s->bytes = *bytes;
		b = uv_buf_init(s->bytes.p, (unsigned int)s->bytes.n);
		r = uv_write(&s->req, w->stream, &b, 1, on_written);
	}
	if (r < 0) {
		free(s);
		buf_done(bytes);
		if (w->state != GONE && !w->lost) {
			w->lost = true;
			uv_timer_start(&w->kick, on_kick, 0, 0);
		}
		return r;
	}
	w->queued += s->bytes.n;
	w->was_high = w->was_high || w->queued >= WEBSOCKET_QUEUE_HIGH;
	return !w->was_high;
}

static int message(struct websocket *w, enum ws_op op, struct str body)
{
	struct buf out = BUF_MAX(body.n + 16);

	if (w->state != OPEN)
		return -EPIPE;
	ws_add(&out, op, body);
	return put(w, &out);
}

int websocket_send(struct websocket *w, struct str text)
{
	return message(w, WS_TEXT, text);
}

int websocket_send_binary(struct websocket *w, struct str bytes)
{
	return message(w, WS_BINARY, bytes);
}

static void say_close(struct websocket *w, uint16_t code, const char *reason)
{
	struct buf out = BUF_MAX(WS_CONTROL_MAX + 16);

	if (w->state != OPEN)
		return;
	ws_add_close(&out, code, str_c(reason));
	w->state = CLOSING;
	uv_timer_start(&w->timer, on_limit, CLOSE_MS, 0);
	put(w, &out);
}

void websocket_close(struct websocket *w, uint16_t code, const char *reason)
{
	w->ops = NULL;
	say_close(w, code, reason);
	if (w->paused)
		websocket_pause(w, false); /* to see the peer's Close */
}

static void on_ping(uv_timer_t *t)
{
	struct websocket *w = t->data;
	struct buf out = BUF_MAX(16);

	if (w->pinged && !w->paused) { /* paused, its answer may wait unread */
		lose(w);
		return;
	}
	w->pinged = true;
	ws_add(&out, WS_PING, STR_NONE);
	put(w, &out);
}

/* --- receiving --- */

static void breach(struct websocket *w, uint16_t code, const char *reason)
{
	say_close(w, code, reason);
	let_go(w);
}

void websockets_stop(struct api *a)
{
	struct websocket *w, *next;

	for (w = LIST_FIRST(&a->websockets); w; w = next) {
		next = LIST_NEXT(w, all);
		breach(w, 1001, "the daemon stops");
	}
}

static void on_control(struct websocket *w, const struct ws_frame *f)
{
	struct buf out = BUF_MAX(WS_CONTROL_MAX + 16);

	if (f->op == WS_PING) {
		ws_add(&out, WS_PONG, f->body);
		put(w, &out);
	} else if (f->op == WS_CLOSE) {
		if (w->state == CLOSING) { /* both have said it */
			lose(w);
			return;
		}
		w->heard = true;
		breach(w, 1000, "");
	}
}

static void on_data(struct websocket *w, const struct ws_frame *f)
{
	if ((f->op == WS_MORE) != w->in_message) {
		breach(w, 1002, "a frame out of turn");
		return;
	}
	w->in_message = !f->last;
	if (buf_add_str(&w->message, f->body) < 0) {
		breach(w, 1009, "the message is too large");
		return;
	}
	if (!f->last)
		return;
	if (w->ops)
		w->ops->on_message(w, buf_str(&w->message), w->arg);
	buf_reset(&w->message);
}

static void deliver(struct websocket *w)
{
	size_t taken = 0, at = 0;
	int r = 0;

	while (at < w->in.n && w->state != GONE && (!w->paused || w->state == CLOSING)) {
		struct ws_frame f;

		r = ws_next(w->in.p + at, w->in.n - at, WEBSOCKET_MESSAGE_MAX, &f, &taken);
		if (r <= 0)
			break;
		at += taken;
		w->pinged = false;
		if (f.op >= WS_CLOSE)
			on_control(w, &f);
		else if (w->state == OPEN)
			on_data(w, &f);
	}
	buf_consume(&w->in, at);
	if (r < 0 && w->state == OPEN)
		breach(w, r == -EFBIG ? 1009 : 1002, "malformed frame");
	else if (r < 0)
		lose(w);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
	struct websocket *w = h->data;
	size_t room = MIN(w->in.max - w->in.n, (size_t)READ_MAX);

	if (!room || buf_room(&w->in, room) < 0)
		*ret = uv_buf_init(NULL, 0);
	else
		*ret = uv_buf_init(w->in.p + w->in.n, (unsigned int)room);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct websocket *w = s->data;

	if (n < 0) {
		lose(w);
		return;
	}
	w->in.n += (size_t)n;
	deliver(w);
}

static void on_kick(uv_timer_t *t)
{
	struct websocket *w = t->data;

	if (w->lost) {
		lose(w);
		return;
	}
	deliver(w);
	if (w->state != GONE && !w->paused)
		uv_read_start(w->stream, on_alloc, on_read);
}

void websocket_pause(struct websocket *w, bool paused)
{
	if (w->state == GONE || w->paused == paused)
		return;
	w->paused = paused;
	if (paused)
		uv_read_stop(w->stream);
	else
		uv_timer_start(&w->kick, on_kick, 0, 0);
}

/* --- the beginning --- */

/* Is word among the header's, which commas part? */
static bool names(struct str header, struct str word)
{
	while (header.n)
		if (str_caseeq(str_trim(str_cut(&header, ',')), word))
			return true;
	return false;
}

int websocket_asked(const struct req *q, struct err *err)
{
	if (!names(http_header(q->h, "upgrade"), STR("websocket")) ||
		!names(http_header(q->h, "connection"), STR("upgrade")))
		return err_set(err, -EINVAL, ERR_INVALID, "expected a WebSocket upgrade");
	if (!str_eq_c(http_header(q->h, "sec-websocket-version"), "13"))
		return err_field(err, -EINVAL, ERR_INVALID, "Sec-WebSocket-Version", "expected 13");
	if (http_header(q->h, "sec-websocket-key").n != 24)
		return err_field(err, -EINVAL, ERR_INVALID, "Sec-WebSocket-Key",
			"expected 16 bytes in base64");
	return 0;
}

static int accept_header(struct str key, char *ret, size_t size)
{
	uint8_t hash[20];
	char text[24 + sizeof(GUID)], base64[32];
	unsigned int n = 0;

	snprintf(text, sizeof(text), STR_FMT "%s", STR_ARG(key), GUID);
	if (EVP_Digest(text, strlen(text), hash, &n, EVP_sha1(), NULL) != 1 || n != sizeof(hash))
		return -EIO;
	EVP_EncodeBlock((unsigned char *)base64, hash, sizeof(hash));
	snprintf(ret, size, "Sec-WebSocket-Accept: %s\r\n", base64);
	return 0;
}

static struct websocket *websocket_new(const struct req *q, const struct websocket_ops *ops, void *arg)
{
	struct websocket *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->ops = ops;
	w->arg = arg;
	w->keys = q->api->keys;
	w->who = q->who;
	w->who.counted = false;
	w->in = BUF_MAX(WEBSOCKET_MESSAGE_MAX + 16);
	w->message = BUF_MAX(WEBSOCKET_MESSAGE_MAX);
	/* The request's own place, handed on; one that needed no key has none. */
	if (q->who.counted && keyring_enter(w->keys, &w->who, UINT32_MAX) < 0) {
		free(w);
		return NULL;
	}
	return w;
}

int websocket_accept(struct req *q, const struct websocket_ops *ops, void *arg,
	struct websocket **ret)
{
	struct websocket *w = websocket_new(q, ops, arg);
	struct api *api = q->api;
	struct http *h = q->h;
	struct err err;
	struct str rest;
	char header[64];
	int r = w ? accept_header(http_header(h, "sec-websocket-key"), header, sizeof(header)) : -ENOMEM;

	if (r < 0) {
		if (w)
			keyring_leave(w->keys, &w->who);
		free(w);
		err_set(&err, r, ERR_INTERNAL, "cannot accept a WebSocket");
		reply_err(q, &err);
		return r;
	}
	req_release(q);
	r = http_upgrade(h, "websocket", str_c(header), &w->stream, &rest);
	if (r < 0) {
		keyring_leave(w->keys, &w->who);
		free(w);
		http_abort(h);
		return r;
	}
	w->stream->data = w;
	uv_timer_init(api->loop, &w->timer);
	uv_timer_init(api->loop, &w->kick);
	w->timer.data = w->kick.data = w;
	w->handles = 3;
	LIST_INSERT_HEAD(&api->websockets, w, all);
	if (buf_add_str(&w->in, rest) < 0)
		w->lost = true;
	uv_timer_start(&w->timer, on_ping, PING_MS, PING_MS);
	uv_timer_start(&w->kick, on_kick, 0, 0);
	*ret = w;
	return 0;
}

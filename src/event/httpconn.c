/*
 * A connection: what is read and when, how a request begins and ends, and the ways to its own end.
 * httpconn.h has the states.
 *
 * Nothing tells that a peer has hung up while reading is stopped (a paused upload, a client that
 * pipelines far ahead); so the look that time takes at each connection asks the socket for that.
 */
#include <poll.h>
#include "event/httpconn.h"

static uint64_t now_ms(const struct conn *c)
{
	return uv_now(c->d->loop);
}

/* --- the end of a connection --- */

void conn_free(struct conn *c)
{
	buf_done(&c->in);
	free(c);
}

static void conn_forget(struct conn *c)
{
	struct httpd *d = c->d;

	c->state = C_CLOSED;
	turn_leave(&d->turns, &c->turn);
	peers_leave(&c->d->peers, take_ptr(c->peer));
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	if (--d->n == 0 && !d->freed) {
		uv_timer_stop(&d->sweep);
		if (d->stopping)
			httpd_wake(d);
	}
}

/* In the queue of runnable connections it must stay in memory until its turn. */
static void conn_dead(struct conn *c)
{
	c->dead = true;
	if (!c->queued || c->d->freed)
		conn_free(c);
}

static void on_conn_closed(uv_handle_t *handle)
{
	struct conn *c = handle->data;
	struct httpd *d = c->d;

	free(handle);
	c->tcp = NULL;
	conn_dead(c);
	httpd_unref(d);
}

void conn_close(struct conn *c)
{
	if (c->state == C_CLOSED)
		return;
	conn_forget(c);
	uv_close((uv_handle_t *)c->tcp, on_conn_closed);
}

void conn_hand_over(struct conn *c)
{
	uv_read_stop((uv_stream_t *)c->tcp);
	c->tcp->data = NULL;
	c->tcp = NULL;
	conn_forget(c);
	c->d->handles--; /* the sweep and idle handles hold the server */
	c->dead = true;
	if (!c->queued) {
		c->queued = true;
		c->next_runnable = c->d->runnable;
		c->d->runnable = c;
		httpd_wake(c->d);
	}
}

/* The handler hears of it; the pointer it holds is dead after that. */
static void request_gone(struct conn *c)
{
	struct http *h = c->h;

	c->h = NULL;
	if (h && h->on_gone)
		h->on_gone(h, h->gone_arg);
	http_free(h);
}

void conn_lost(struct conn *c)
{
	request_gone(c);
	conn_close(c);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
	struct conn *c = container_of(req, struct conn, shutdown);

	if (c->state == C_CLOSED)
		return;
	c->shutdown_done = true;
	c->since = now_ms(c);
	if (status < 0 || c->eof)
		conn_close(c);
}

void conn_linger(struct conn *c)
{
	c->state = C_LINGER;
	turn_leave(&c->d->turns, &c->turn);
	c->since = c->lingers = now_ms(c);
	c->dropped = 0;
	if (uv_shutdown(&c->shutdown, (uv_stream_t *)c->tcp, on_shutdown) < 0) {
		c->broken = true;
		conn_later(c);
	}
}

void conn_refuse(struct conn *c, int status, enum err_kind kind,
	const char *fmt, ...)
{
	struct err err;
	va_list ap;

	if (c->h && c->h->started) {
		conn_lost(c);
		return;
	}
	err = (struct err){ .code = -EBADMSG, .kind = kind };
	va_start(ap, fmt);
	vsnprintf(err.text, sizeof(err.text), fmt, ap);
	va_end(ap);
	conn_answer_refusal(c, status, &err);
	request_gone(c);
	conn_linger(c);
}

/* --- the connection at work --- */

void conn_await_head(struct conn *c)
{
	c->state = C_HEAD;
	c->scan = (struct head_scan){ 0 };
	c->since = now_ms(c);
	if (c->d->stopping)
		conn_linger(c);
}

void conn_request_end(struct conn *c)
{
	struct http *h = take_ptr(c->h);
	bool skip = !c->body.done && !h->head.chunked && !h->head.expect &&
		c->body.left <= DRAIN_MAX;

	http_free(h);
	if (c->close_after || (!c->body.done && !skip)) {
		conn_linger(c);
	} else if (skip) {
		c->state = C_DRAIN;
		c->since = now_ms(c);
		c->dropped = 0;
	} else {
		conn_await_head(c);
	}
	conn_later(c);
}

static void request_begin(struct conn *c)
{
	struct str head = str_n(c->view.p + c->scan.start, c->scan.at - c->scan.start);
	struct http *h = calloc(1, sizeof(*h));
	size_t n = c->scan.lines - 1;
	struct http_field *fields;
	struct err err;
	int status;

	c->view = str_skip(c->view, c->scan.at);
	if (!h) {
		conn_refuse(c, 503, ERR_CAPACITY, "out of memory");
		return;
	}
	h->c = c;
	h->extra = BUF_MAX(EXTRA_HEAD_MAX);
	http_new_id(h->id);
	c->h = h;
	head = http_alloc_str(h, head);
	fields = http_alloc(h, n * sizeof(*fields));
	if (!head.p || !fields) {
		conn_refuse(c, 503, ERR_CAPACITY, "out of memory");
		return;
	}
	status = head_read(head, fields, n, &h->head, &err);
	if (status) {
		conn_refuse(c, status, err.kind, "%s", err.text);
		return;
	}
	c->state = C_ACTIVE;
	c->since = now_ms(c);
	c->body = body_from(h->head.chunked, h->head.length);
	c->d->ops->on_request(h, c->d->arg);
}

static bool step_head(struct conn *c)
{
	struct err err;
	int r;

	/* A client that asks on but does not read its answers is not served further. */
	if (!c->view.n || conn_unsent(c) >= HTTPD_WRITE_HIGH)
		return false;
	if (!turn_take(&c->d->turns, &c->peer->line, &c->turn, c->behind)) {
		httpd_wake(c->d);
		return false;
	}
	if (!c->scan.at)
		c->since = now_ms(c);
	r = head_scan(&c->scan, c->view, &err);
	if (r == 0)
		return false;
	c->behind = true;
	if (r == 1)
		request_begin(c);
	else
		conn_refuse(c, r, err.kind, "%s", err.text);
	return true;
}

static void body_complete(struct http *h)
{
	enum body_mode mode = h->mode;

	h->mode = BODY_GIVEN;
	if (mode == BODY_WHOLE)
		h->on_body(h, buf_str(&h->whole), h->body_arg);
	else
		h->on_data(h, STR(""), true, h->body_arg);
}

/* One more piece of a whole body. The less is left for all bodies, the less one may take: clients
 * that begin large bodies and do not end them leave room for the small ones of others. */
static void body_keep(struct conn *c, struct str data)
{
	struct http *h = c->h;
	uint64_t all = MAX((uint64_t)BODIES_MAX, UINT64_C(8) * h->whole_max);
	uint64_t share = (all - MIN(all, c->d->bodies)) / 4;
	size_t before = h->whole.cap;
	int r = h->whole.n + data.n > MAX(share, (uint64_t)BODY_SURE) ? -ENOMEM : 0;

	if (h->whole.n + data.n > h->whole_max)
		r = -EFBIG;
	if (r == 0)
		r = buf_add_str(&h->whole, data);
	c->d->bodies += h->whole.cap - before;
	if (r == -EFBIG)
		conn_refuse(c, 413, ERR_TOO_LARGE, "the body is larger than %zu bytes",
			h->whole_max);
	else if (r < 0)
		conn_refuse(c, 503, ERR_CAPACITY, "out of memory");
}

static bool step_body(struct conn *c)
{
	struct http *h = c->h;
	struct str data;
	struct err err;
	int r;

	if (c->broken || h->mode == BODY_UNASKED || h->mode == BODY_GIVEN || h->paused)
		return false;
	if (h->mode == BODY_WHOLE && h->head.length > 0 && (uint64_t)h->head.length > h->whole_max) {
		conn_refuse(c, 413, ERR_TOO_LARGE, "the body is larger than %zu bytes",
			h->whole_max);
		return true;
	}
	r = body_next(&c->body, &c->view, &data, &err);
	if (r == 0)
		return false;
	c->since = now_ms(c);
	if (h->relayed && !c->up.bytes)
		c->up.since = c->since; /* it may have waited to be told to go on */
	c->up.bytes += r > 0 ? data.n : 0;
	if (r == -ENODATA) {
		body_complete(h);
	} else if (r < 0) {
		conn_refuse(c, 400, ERR_INVALID, "%s", err.text);
	} else if (h->mode == BODY_STREAM) {
		h->on_data(h, data, false, h->body_arg);
	} else {
		body_keep(c, data);
	}
	return true;
}

static bool step_drain(struct conn *c)
{
	struct str data;
	int r;

	r = body_next(&c->body, &c->view, &data, NULL);
	if (r == 0)
		return false;
	if (r == 1)
		return true;
	if (r == -ENODATA)
		conn_await_head(c);
	else
		conn_linger(c);
	return true;
}

/* Consume something of the view. false: nothing to do until more comes or changes. */
static bool conn_step(struct conn *c)
{
	switch (c->state) {
	case C_HEAD:
		return step_head(c);
	case C_ACTIVE:
		return step_body(c);
	case C_DRAIN:
		return step_drain(c);
	case C_LINGER:
		if (c->view.n)
			c->since = now_ms(c);
		c->dropped += c->view.n;
		c->view = STR_NONE;
		return false;
	case C_CLOSED:
		break;
	}
	return false;
}

static bool wants_reading(const struct conn *c)
{
	if (c->eof)
		return false;
	switch (c->state) {
	case C_HEAD:
		return conn_unsent(c) < HTTPD_WRITE_HIGH && !turn_waits(&c->turn);
	case C_ACTIVE:
		if (!c->body.done && c->h->mode != BODY_UNASKED)
			return !c->h->paused;
		return c->in.n < PIPELINE_MAX; /* to see the end, if it comes */
	case C_DRAIN:
		return true;
	case C_LINGER:
		return c->dropped < LINGER_MAX;
	case C_CLOSED:
		break;
	}
	return false;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct conn *c = handle->data;

	*buf = uv_buf_init(c->d->scratch, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct conn *c = stream->data;

	if (n > 0) {
		if (c->state == C_HEAD && !c->in.n)
			c->behind = false;
		conn_pump(c, str_n(buf->base, (size_t)n));
		return;
	}
	if (n == 0)
		return;
	c->reading = false;
	c->eof = true;
	if (n != UV_EOF || c->state == C_ACTIVE || c->broken ||
		(c->state == C_HEAD && !conn_unsent(c)) || c->shutdown_done)
		conn_lost(c);
	else if (c->state != C_LINGER)
		conn_linger(c);
}

/* After anything that may have changed what the connection waits for. */
void conn_settle(struct conn *c)
{
	bool want;

	if (c->state == C_CLOSED)
		return;
	if (c->broken || buf_failed(&c->in)) {
		conn_lost(c);
		return;
	}
	want = wants_reading(c);
	if (want == c->reading)
		return;
	c->reading = want;
	if (!want)
		uv_read_stop((uv_stream_t *)c->tcp);
	else if (uv_read_start((uv_stream_t *)c->tcp, on_alloc, on_read) < 0)
		conn_lost(c);
}

/* fresh: what was just read, in the server's scratch buffer; what stays is copied. */
void conn_pump(struct conn *c, struct str fresh)
{
	bool held = c->in.n > 0;
	size_t n;

	if (held)
		buf_add_str(&c->in, fresh);
	c->view = held ? buf_str(&c->in) : fresh;
	n = c->view.n;
	c->pumping = true;
	while (conn_step(c))
		;
	c->pumping = false;
	if (c->state == C_CLOSED)
		return;
	if (held)
		buf_consume(&c->in, n - c->view.n);
	else
		buf_add_str(&c->in, c->view);
	if (!c->in.n && !buf_failed(&c->in))
		buf_done(&c->in);
	c->view = STR_NONE;
	conn_settle(c);
}

void conn_later(struct conn *c)
{
	if (c->pumping || c->queued || c->state == C_CLOSED)
		return;
	c->queued = true;
	c->next_runnable = c->d->runnable;
	c->d->runnable = c;
	httpd_wake(c->d);
}

/* --- time --- */

/* Nothing is read from this connection now: has the peer gone nevertheless? */
static bool hung_up(const struct conn *c)
{
	struct pollfd p = { .events = POLLRDHUP };
	uv_os_fd_t fd;

	if (uv_fileno((uv_handle_t *)c->tcp, &fd) < 0)
		return true;
	p.fd = fd;
	if (poll(&p, 1, 0) <= 0)
		return false;
	/* Behind unread bytes of a body, the end of sending is not the end of the client. */
	return (p.revents & (POLLHUP | POLLERR)) || ((p.revents & POLLRDHUP) && c->body.done);
}

/* Is it the client's turn to send of its body? Not while it was told neither to go on nor to leave. */
static bool body_due(const struct conn *c)
{
	const struct http *h = c->h;

	return c->reading && !c->body.done && h->mode != BODY_UNASKED &&
		!(h->relayed && h->head.expect && !c->up.bytes);
}

/* Slower than any honest link, for longer than any honest hitch. */
static bool too_slow(const struct httpd *d, const struct pace *p, size_t unsent, uint64_t now)
{
	uint64_t ms = p->since && now > p->since ? now - p->since : 0;

	return ms > d->idle_ms / SLOW_PART && p->bytes - unsent < ms * HTTPD_RATE_MIN / 1000;
}

void conn_check(struct conn *c, uint64_t now)
{
	const struct httpd *d = c->d;
	uint64_t age = now - c->since;
	size_t unsent = conn_unsent(c);

	if (unsent != c->unsent)
		c->wrote = now;
	c->unsent = unsent;
	if (unsent && (now - c->wrote > d->idle_ms || too_slow(d, &c->down, unsent, now))) {
		conn_lost(c);
		return;
	}
	switch (c->state) {
	case C_HEAD:
		if (unsent || turn_waits(&c->turn))
			break;
		if (c->in.n && age > d->head_ms)
			conn_refuse(c, 408, ERR_TIMEOUT, "the request head took too long");
		else if (!c->in.n && age > d->idle_ms)
			conn_close(c);
		break;
	case C_ACTIVE:
		if (!c->reading && hung_up(c))
			conn_lost(c);
		else if (body_due(c) && (age > d->idle_ms || too_slow(d, &c->up, 0, now)))
			conn_refuse(c, 408, ERR_TIMEOUT, "the request body took too long");
		break;
	case C_DRAIN:
		if (age > d->head_ms)
			conn_close(c);
		break;
	case C_LINGER:
		if (!unsent && (age > MIN(LINGER_MS, d->head_ms) || now - c->lingers > LINGER_ALL_MS ||
				       c->dropped >= LINGER_MAX))
			conn_close(c);
		break;
	case C_CLOSED:
		break;
	}
	conn_settle(c);
}

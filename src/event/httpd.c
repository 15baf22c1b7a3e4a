/*
 * The server: listeners, connections, and time. httpconn.h has the states.
 *
 * Time is one timer for all connections, once a second while there are any: it looks at how
 * long each has waited for what it waits for. Where reading is stopped (a paused upload, a
 * client that pipelines far ahead) it also asks the socket whether the peer has hung up,
 * because nothing else would tell.
 */
#include <poll.h>
#include "event/httpconn.h"

struct listener {
	uv_tcp_t tcp;
	struct httpd *d;
	struct listener *next;
	int tag;
	bool waiting; /* a connection could not be taken for want of memory: try again */
};

static void httpd_unref(struct httpd *d)
{
	if (--d->handles == 0)
		free(d);
}

static void on_idle(uv_idle_t *idle);

/* There is work for the next turn of the loop. */
static void httpd_wake(struct httpd *d)
{
	if (!d->freed)
		uv_idle_start(&d->idle, on_idle);
}

static uint64_t now_ms(const struct conn *c)
{
	return uv_now(c->d->loop);
}

/* --- addresses --- */

static int peer_join(struct conn *c)
{
	struct sockaddr_storage from = { 0 };
	int n = sizeof(from);

	if (uv_tcp_getpeername(c->tcp, (struct sockaddr *)&from, &n) < 0)
		from.ss_family = AF_UNSPEC;
	c->peer = peers_join(&c->d->peers, (struct sockaddr *)&from);
	return c->peer ? 0 : -ENOMEM;
}

/* --- the end of a connection --- */

static void conn_free(struct conn *c)
{
	buf_done(&c->in);
	free(c);
}

static void conn_forget(struct conn *c)
{
	struct httpd *d = c->d;

	c->state = C_CLOSED;
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

static void conn_lost(struct conn *c)
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

static void conn_linger(struct conn *c)
{
	c->state = C_LINGER;
	c->since = c->lingers = now_ms(c);
	c->dropped = 0;
	if (uv_shutdown(&c->shutdown, (uv_stream_t *)c->tcp, on_shutdown) < 0) {
		c->broken = true;
		conn_later(c);
	}
}

/* The server answers by itself, whether or not a handler has the request. */
static _printf_(4, 5) void conn_refuse(struct conn *c, int status, enum err_kind kind,
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

static void conn_await_head(struct conn *c)
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
	if (!c->view.n || conn_unsent(c) >= HTTPD_WRITE_HIGH || c->begun >= TURN_MAX)
		return false;
	if (!c->scan.at)
		c->since = now_ms(c);
	r = head_scan(&c->scan, c->view, &err);
	if (r == 0)
		return false;
	c->begun++;
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
		return conn_unsent(c) < HTTPD_WRITE_HIGH && c->begun < TURN_MAX;
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

static void conn_pump(struct conn *c, struct str fresh);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct conn *c = stream->data;

	if (n > 0) {
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
static void conn_settle(struct conn *c)
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
static void conn_pump(struct conn *c, struct str fresh)
{
	bool held = c->in.n > 0;
	size_t n;

	if (held)
		buf_add_str(&c->in, fresh);
	c->view = held ? buf_str(&c->in) : fresh;
	n = c->view.n;
	c->pumping = true;
	c->begun = 0;
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
	if (c->state == C_HEAD && c->begun >= TURN_MAX)
		conn_later(c); /* others first */
	conn_settle(c);
}

/* --- work put off to the next turn --- */

void conn_later(struct conn *c)
{
	if (c->pumping || c->queued || c->state == C_CLOSED)
		return;
	c->queued = true;
	c->next_runnable = c->d->runnable;
	c->d->runnable = c;
	httpd_wake(c->d);
}

static void on_idle(uv_idle_t *idle)
{
	struct httpd *d = idle->data;
	struct conn *list = take_ptr(d->runnable);

	uv_idle_stop(idle);
	while (list) {
		struct conn *c = list;

		list = c->next_runnable;
		c->queued = false;
		if (c->dead)
			conn_free(c);
		else if (c->state != C_CLOSED)
			conn_pump(c, STR_NONE);
	}
	if (d->stopping && !d->n && d->on_stopped) {
		void (*done)(void *arg) = take_ptr(d->on_stopped);

		done(d->stopped_arg);
	}
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

/* Slower than any honest link, for longer than any honest hitch. */
static bool too_slow(const struct httpd *d, const struct pace *p, size_t unsent, uint64_t now)
{
	uint64_t ms = p->since && now > p->since ? now - p->since : 0;

	return ms > d->idle_ms / SLOW_PART && p->bytes - unsent < ms * HTTPD_RATE_MIN / 1000;
}

static void conn_check(struct conn *c, uint64_t now)
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
		if (unsent)
			break;
		if (c->in.n && age > d->head_ms)
			conn_refuse(c, 408, ERR_TIMEOUT, "the request head took too long");
		else if (!c->in.n && age > d->idle_ms)
			conn_close(c);
		break;
	case C_ACTIVE:
		if (!c->reading && hung_up(c))
			conn_lost(c);
		else if (c->reading && !c->body.done && c->h->mode != BODY_UNASKED &&
			(age > d->idle_ms || too_slow(d, &c->up, 0, now)))
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

static void on_connection(uv_stream_t *stream, int status);

static void on_sweep(uv_timer_t *timer)
{
	struct httpd *d = timer->data;
	uint64_t now = uv_now(d->loop);

	for (struct listener *l = d->listeners; l; l = l->next)
		if (l->waiting) {
			l->waiting = false;
			on_connection((uv_stream_t *)&l->tcp, 0);
		}
	for (struct conn *c = d->conns, *next; c; c = next) {
		next = c->next;
		conn_check(c, now);
	}
}

static void sweep_start(struct httpd *d)
{
	uint64_t tick = MIN(d->idle_ms, d->head_ms) / 4;

	tick = MAX(MIN(tick, (uint64_t)1000), (uint64_t)5);
	if (!uv_is_active((uv_handle_t *)&d->sweep))
		uv_timer_start(&d->sweep, on_sweep, tick, tick);
}

/* --- accepting --- */

static struct conn *conn_new(struct httpd *d, int tag)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->tcp = malloc(sizeof(*c->tcp));
	if (!c->tcp || uv_tcp_init(d->loop, c->tcp) < 0) {
		free(c->tcp);
		free(c);
		return NULL;
	}
	c->tcp->data = c;
	c->d = d;
	c->tag = tag;
	c->in = BUF_MAX(READ_SIZE + HTTPD_HEAD_MAX + PIPELINE_MAX);
	c->next = d->conns;
	c->pprev = &d->conns;
	if (c->next)
		c->next->pprev = &c->next;
	d->conns = c;
	d->n++;
	d->handles++;
	return c;
}

/* At the limit the connection that has waited longest for a request makes room, if it has waited
 * for a while: whoever opens connections and asks nothing needs no key to do it. peer NULL: anyone's. */
static void make_room(struct httpd *d, const struct peer *peer)
{
	uint64_t now = uv_now(d->loop), least = d->idle_ms / SPARE_PART;
	struct conn *oldest = NULL;

	for (struct conn *c = d->conns; c; c = c->next)
		if (c->state == C_HEAD && !conn_unsent(c) && now - c->since >= least &&
			(!peer || c->peer == peer) && (!oldest || c->since < oldest->since))
			oldest = c;
	if (oldest)
		conn_close(oldest);
}

static void conn_open(struct conn *c)
{
	struct httpd *d = c->d;
	bool counted;

	sweep_start(d);
	if (d->n > d->max + REFUSED_EXTRA || peer_join(c) < 0) {
		d->refused.all++;
		conn_close(c);
		return;
	}
	/* One that was adopted from another role has no address: it was counted there. */
	counted = d->per_address && c->peer->ip.family;
	if (counted && c->peer->n > d->per_address + REFUSED_EXTRA) {
		d->refused.per_address++;
		conn_close(c);
		return;
	}
	/* Failures of these two cost speed at most. */
	uv_tcp_nodelay(c->tcp, 1);
	uv_tcp_keepalive(c->tcp, 1, 60);
	c->wrote = now_ms(c);
	conn_await_head(c);
	if (counted && c->peer->n > d->per_address)
		make_room(d, c->peer);
	else if (d->n > d->max)
		make_room(d, NULL);
	if (d->n > d->max) {
		d->refused.all++;
		conn_refuse(c, 503, ERR_CAPACITY,
			"no capacity: the limit of %u connections is reached", d->max);
	} else if (counted && c->peer->n > d->per_address) {
		d->refused.per_address++;
		conn_refuse(c, 503, ERR_CAPACITY,
			"no capacity: the limit of %u connections per address is reached",
			d->per_address);
	}
	conn_settle(c);
}

/* Out of descriptors, libuv accepts with a spare one and closes: the queue empties, the peers
 * see a reset, and we get here with the error, about which nothing else can be done. */
static void on_connection(uv_stream_t *stream, int status)
{
	struct listener *l = container_of((uv_tcp_t *)stream, struct listener, tcp);
	struct conn *c;

	if (status < 0)
		return;
	c = conn_new(l->d, l->tag);
	if (!c) {
		l->waiting = true;
		sweep_start(l->d);
		return;
	}
	if (uv_accept(stream, (uv_stream_t *)c->tcp) < 0)
		conn_close(c);
	else
		conn_open(c);
}

int httpd_adopt(struct httpd *d, int fd, int tag)
{
	struct conn *c = conn_new(d, tag);
	int r;

	if (!c)
		return -ENOMEM;
	r = uv_tcp_open(c->tcp, fd);
	if (r < 0)
		conn_close(c);
	else
		conn_open(c);
	return r;
}

/* --- the server --- */

int httpd_new(uv_loop_t *loop, const struct httpd_ops *ops, void *arg, uint32_t connections_max,
	struct httpd **ret)
{
	struct httpd *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->loop = loop;
	d->ops = ops;
	d->arg = arg;
	d->max = connections_max;
	d->queued_max = ANSWERS_MAX;
	d->idle_ms = HTTPD_IDLE_S * 1000;
	d->head_ms = HTTPD_HEADER_S * 1000;
	uv_idle_init(loop, &d->idle);
	uv_timer_init(loop, &d->sweep);
	d->idle.data = d->sweep.data = d;
	d->handles = 2;
	*ret = d;
	return 0;
}

void httpd_timeouts(struct httpd *d, uint64_t idle_ms, uint64_t head_ms)
{
	d->idle_ms = idle_ms;
	d->head_ms = head_ms;
}

void httpd_per_address(struct httpd *d, uint32_t max)
{
	d->per_address = max;
}

void httpd_answers_max(struct httpd *d, uint64_t bytes)
{
	d->queued_max = bytes;
}

void httpd_refused(const struct httpd *d, struct httpd_refused *ret)
{
	*ret = d->refused;
}

uint32_t httpd_connections(const struct httpd *d)
{
	return d->n;
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *l = container_of((uv_tcp_t *)handle, struct listener, tcp);
	struct httpd *d = l->d;

	free(l);
	httpd_unref(d);
}

int httpd_listen(struct httpd *d, int fd, int tag)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->d = d;
	l->tag = tag;
	r = uv_tcp_init(d->loop, &l->tcp);
	if (r < 0) {
		free(l);
		return r;
	}
	d->handles++;
	r = uv_tcp_open(&l->tcp, fd);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&l->tcp, 4096, on_connection);
	if (r < 0) {
		uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
		return r;
	}
	l->next = d->listeners;
	d->listeners = l;
	return 0;
}

static void listeners_close(struct httpd *d)
{
	while (d->listeners) {
		struct listener *l = d->listeners;

		d->listeners = l->next;
		uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
	}
}

void httpd_shutdown(struct httpd *d, void (*done)(void *arg), void *arg)
{
	d->stopping = true;
	d->on_stopped = done;
	d->stopped_arg = arg;
	listeners_close(d);
	for (struct conn *c = d->conns, *next; c; c = next) {
		next = c->next;
		if (c->state != C_HEAD)
			continue;
		if (conn_unsent(c))
			conn_linger(c);
		else
			conn_close(c);
	}
	httpd_wake(d);
}

static void on_part_closed(uv_handle_t *handle)
{
	httpd_unref(handle->data);
}

void httpd_free(struct httpd *d)
{
	if (!d)
		return;
	d->freed = true;
	listeners_close(d);
	for (struct conn *c = d->runnable, *next; c; c = next) {
		next = c->next_runnable;
		if (c->dead)
			conn_free(c);
	}
	while (d->conns)
		conn_lost(d->conns);
	uv_close((uv_handle_t *)&d->idle, on_part_closed);
	uv_close((uv_handle_t *)&d->sweep, on_part_closed);
}

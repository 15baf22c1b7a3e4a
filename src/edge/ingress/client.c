/*
 * A client's connection: what it is (TLS or not), its requests' heads, and whom they are for.
 *
 * A request's bytes stay where they were read until they are consumed, so a head that came in one
 * piece is never copied. A request that is held leaves its head in place and is read again, and
 * judged again, when the sandbox is back.
 */
#include <openssl/err.h>
#include <sys/socket.h>
#include <time.h>
#include "edge/ingress/proxy.h"
#include "event/headpass.h"

#define KEEP_CAP 4096u

static void on_ready(uv_poll_t *poll, int status, int events);

/* --- the connection --- */

static void idle_leave(struct client *c)
{
	if (!c->is_idle)
		return;
	c->is_idle = false;
	TAILQ_REMOVE(&c->in->idle_clients, c, idle);
}

static void idle_enter(struct client *c)
{
	c->is_idle = true;
	c->idle_since = now_ms(c->in);
	c->deadline = c->idle_since + c->in->conf.idle_ms;
	TAILQ_INSERT_TAIL(&c->in->idle_clients, c, idle);
}

struct client *client_new(struct listener *l, int fd, const struct sockaddr *from)
{
	struct ingress *in = l->in;
	struct client *c = calloc(1, sizeof(*c));

	if (c)
		c->peer = peers_join(&in->peers, from);
	if (!c || !c->peer) {
		free(c);
		fd_close(fd);
		return NULL;
	}
	c->in = in;
	if (end_open(&c->end, in->loop, fd, 2 * INGRESS_PIECE + 2 * in->conf.head_max + REWRITE_ROOM,
		    on_ready) < 0) {
		peers_leave(&in->peers, c->peer);
		free(c);
		return NULL;
	}
	ingress_ref(in);
	c->kind = l->kind;
	c->own = l->box;
	c->address = ip_text(ip_sockaddr(from));
	c->got = BUF_MAX(2 * INGRESS_PIECE + in->conf.head_max);
	c->head = BUF_MAX(in->conf.head_max + REWRITE_ROOM);
	c->kept = BUF_MAX(2 * in->conf.head_max);
	c->scan.max = in->conf.head_max;
	c->state = c->kind == INGRESS_GATEWAY ? C_HELLO : C_HEAD;
	LIST_INSERT_HEAD(&in->clients, c, all);
	in->counters.clients++;
	idle_enter(c);
	client_watch(c);
	return c;
}

static void on_closed(uv_handle_t *handle)
{
	struct client *c = container_of((uv_poll_t *)handle, struct client, end.poll);
	struct ingress *in = c->in;

	span_done(&c->body);
	span_done(&c->answer_body);
	buf_done(&c->got);
	buf_done(&c->head);
	buf_done(&c->kept);
	free(c);
	ingress_unref(in);
}

void client_close(struct client *c, bool abort)
{
	if (c->state == C_CLOSED)
		return;
	idle_leave(c);
	if (c->state == C_HELD)
		box_unhold(c);
	else
		exchange_end(c, false);
	c->state = C_CLOSED;
	LIST_REMOVE(c, all);
	c->in->counters.clients--;
	peers_leave(&c->in->peers, take_ptr(c->peer));
	end_close(&c->end, abort, on_closed);
}

static bool wants_read(const struct client *c)
{
	switch (c->state) {
	case C_HELLO:
	case C_TLS:
	case C_LINGER:
		return true;
	case C_HEAD:
		return !end_pending(&c->end);
	case C_HELD:
	case C_DIAL:
		return c->got.n < AHEAD_MAX;
	case C_BUSY:
		if (!c->body.body.done)
			return !c->got.n && !c->up->broken && !end_pending(&c->up->end);
		return c->got.n < AHEAD_MAX; /* to see the end, if it comes */
	case C_TUNNEL:
		return !c->up->broken && !end_pending(&c->up->end);
	case C_CLOSED:
		break;
	}
	return false;
}

void client_watch(struct client *c)
{
	if (c->state != C_CLOSED)
		end_watch(&c->end, wants_read(c));
}

void client_wait(struct client *c, uint32_t ms)
{
	uint64_t now = now_ms(c->in);

	c->until = now + ms;
	c->deadline = c->end.eof ? MIN(c->until, now + c->in->conf.half_ms) : c->until;
}

/* Bytes went out, or can go out: the time until the next ones begins. */
static void client_moved(struct client *c)
{
	const struct ingress_conf *conf = &c->in->conf;

	if (c->state == C_LINGER && !end_pending(&c->end))
		c->deadline = now_ms(c->in) + LINGER_MS;
	else if (c->state == C_LINGER || c->state == C_TUNNEL || c->state == C_BUSY)
		client_wait(c, conf->silence_ms);
}

/* Nothing more is answered here. */
static void client_last(struct client *c)
{
	c->state = C_LINGER;
	client_moved(c);
	if (end_shut(&c->end) < 0)
		client_close(c, true);
	else if (c->end.eof && !end_pending(&c->end))
		client_close(c, false);
}

void client_next(struct client *c)
{
	bool more = c->pumping ? c->view.n : c->got.n;

	idle_leave(c);
	c->counted = false;
	buf_reset(&c->kept);
	span_done(&c->body);
	span_done(&c->answer_body);
	if (!c->keep || (c->end.eof && !more)) {
		client_last(c);
		return;
	}
	c->state = C_HEAD;
	c->scan = (struct head_scan){ .max = c->in->conf.head_max };
	if (more) {
		c->deadline = now_ms(c->in) + c->in->conf.head_ms;
		return;
	}
	end_rest(&c->end);
	if (c->got.cap > KEEP_CAP)
		buf_done(&c->got);
	if (c->head.cap > KEEP_CAP)
		buf_done(&c->head);
	idle_enter(c);
}

/* --- the proxy's own answers --- */

static void say(struct client *c, const struct page *page)
{
	struct ingress *in = c->in;

	buf_reset(&in->head);
	if (page_add(&in->head, page) < 0 ||
		end_write(&c->end, &(struct iovec){ in->head.p, in->head.n }, 1) < 0)
		client_close(c, true);
	else
		client_next(c);
}

void client_refuse(struct client *c, int status, const struct err *err)
{
	struct page page = { .status = status, .text = str_c(err->text), .form = c->form,
		.by = c->target.by, .gateway = c->target.gateway, .head = c->head_only,
		.retry = status == 503 || status == 429 ? RETRY_AFTER_S : 0 };

	if (c->state == C_CLOSED)
		return;
	page.keep = c->keep = c->keep && c->body.body.done && !c->http10;
	say(c, &page);
}

/* --- a request's head --- */

static int refused(struct client *c, struct box *b, int status)
{
	c->in->counters.refused++;
	if (b) {
		b->seen.refused++;
		box_touch(c->in, b);
	}
	return status;
}

static int refuse(struct err *err, int status, enum err_kind kind, const char *text)
{
	err_set(err, -EACCES, kind, "%s", text);
	return status;
}

static bool is_idempotent(const struct http_head *h)
{
	return h->m == HTTP_M_GET || h->m == HTTP_M_HEAD || h->m == HTTP_M_OPTIONS ||
		h->m == HTTP_M_PUT || h->m == HTTP_M_DELETE;
}

static struct str field(const struct http_head *h, struct str name)
{
	for (size_t i = 0; i < h->n_fields; i++)
		if (str_caseeq(h->fields[i].name, name))
			return h->fields[i].value;
	return STR_NONE;
}

/* What the answer will need to know, when the request's bytes are gone. */
static void note(struct client *c, const struct http_head *h)
{
	c->http10 = h->http10;
	c->keep = h->http10 ? h->keep : !h->close;
	c->head_only = h->m == HTTP_M_HEAD;
	span_begin(&c->body, body_from(h->chunked, h->length), false, pass_names_fields(h));
	c->idempotent = is_idempotent(h) && c->body.body.done;
	c->upgrade = rewrite_upgrade(h);
	c->form = page_form(field(h, STR("accept")));
	c->target = (struct target){ .by = BY_HOST };
	buf_reset(&c->kept);
	c->kept_prefix = 0;
}

static int find_target(struct client *c, const struct http_head *h, struct err *err)
{
	switch (c->kind) {
	case INGRESS_GATEWAY:
		return target_gateway(h, str_c(c->in->conf.domain), c->in->conf.gateway_names, &c->target,
			err);
	case INGRESS_PROXY:
		return target_proxy(h, &c->target, err);
	case INGRESS_DIRECT:
		target_direct(h, INGRESS_PORT_DIRECT, &c->target);
		break;
	}
	return 0;
}

/* May this request go to this sandbox, now? 0 or a status. */
static int admit(struct client *c, struct box *b, const struct http_head *h, struct err *err)
{
	struct ingress *in = c->in;
	struct access_rule rule = box_rule(in, b);
	const struct ipc_ingress_route *route = box_route(b, c->target.port);
	struct access_shown shown;
	bool by_query = false;
	int r;

	if (!c->own && !box_open(b, c->target.port))
		return refuse(err, 404, ERR_NOT_FOUND, "ingress is off for this sandbox");
	if (target_reserved(c->target.port))
		return refuse(err, 403, ERR_FORBIDDEN, "this port is reserved");
	/* Where it turns out that nothing is secured, what looked like a signature is path. */
	if (c->target.by == BY_PATH && c->target.sig.p && rule.secret.n)
		c->target.path = c->target.signed_path;
	access_read(h, c->target.path, &shown);
	r = route ? access_route(route, h, err) :
		    access_check(&rule, &shown, &c->target, (uint64_t)time(NULL), &by_query, err);
	if (r)
		return r;
	if (c->target.by == BY_SERVER || by_query) {
		buf_add_str(&c->kept, c->target.prefix);
		c->kept_prefix = c->kept.n;
		if (by_query)
			buf_add_str(&c->kept, shown.query);
		if (buf_failed(&c->kept))
			return refuse(err, 503, ERR_CAPACITY, "out of memory");
	}
	if (b->seen.open >= in->conf.per_sandbox)
		return refuse(err, 429, ERR_RATE,
			"too many requests are under way for this sandbox: its limit is reached");
	return 0;
}

static int write_head(struct client *c, const struct box *b, const struct http_head *h,
	struct err *err)
{
	const struct ipc_ingress_route *route = box_route(b, c->target.port);
	uint16_t port = c->target.port, leads = up_port(c, b);
	char service[IPC_ID_LEN + 60];
	int n;
	struct rewrite w = { .target = &c->target, .client = str_c(c->address.s),
		.host = field(h, STR("host")), .tls = c->end.tls, .upgrade = c->upgrade,
		.http10 = c->http10, .secret = route ? access_route_header(route) : STR_NONE };

	if (up_is_service(b, leads)) {
		n = snprintf(service, sizeof(service), "/sandboxes/%s/proxy/%u", b->told.id, leads);
		if (leads != port)
			snprintf(service + n, sizeof(service) - (size_t)n, "/proxy/%u", port);
		w.service = str_c(service);
		/* admit() let it in by its signature, which that role does not see. */
		if (!route && c->target.sig.p)
			w.secure = str_c(b->told.secret);
	}
	buf_reset(&c->in->head);
	if (rewrite_request(&c->in->head, h, &w) == 0)
		return 0;
	return refuse(err, 431, ERR_TOO_LARGE, "the headers are too long");
}

static struct box *box_of(struct client *c)
{
	return c->own ? c->own : box_find(c->in, &c->target.id);
}

/* The head is whole and good. 0: the request is on its way, or waits; a status otherwise. */
static int request_route(struct client *c, const struct http_head *h, struct err *err)
{
	struct ingress *in = c->in;
	struct box *b;
	bool running; /* or whoever answers in its stead does */
	int r = find_target(c, h, err);

	if (r == -ENOENT) {
		struct page ok = { .status = 200, .text = STR("OK"), .keep = c->keep && c->body.body.done,
			.head = c->head_only };

		c->keep = ok.keep;
		say(c, &ok);
		return 0;
	}
	if (r)
		return refused(c, NULL, r);
	b = box_of(c);
	if (!b)
		return refused(c, NULL, refuse(err, 404, ERR_NOT_FOUND, "no such sandbox"));
	if (!c->counted) {
		c->counted = true;
		in->counters.requests++;
		b->seen.requests++;
		box_touch(in, b);
	}
	r = admit(c, b, h, err);
	if (r)
		return refused(c, b, r);
	running = b->told.state == IPC_INGRESS_RUNNING || up_is_service(b, c->target.port);
	if (!running && b->told.state == IPC_INGRESS_PAUSED && box_holds(b, c->target.port)) {
		c->box = b;
		r = box_hold(c, err);
		if (r) {
			c->box = NULL;
			refused(c, b, r);
		}
		return r;
	}
	if (!running)
		return refused(c, b, refuse(err, 503, ERR_CAPACITY,
			b->told.state == IPC_INGRESS_PAUSED   ? "the sandbox is paused" :
			b->told.state == IPC_INGRESS_STARTING ? "the sandbox is starting" :
								"the sandbox does not run"));
	r = write_head(c, b, h, err);
	if (r == 0)
		exchange_begin(c, b);
	return r;
}

static void request_begin(struct client *c)
{
	struct ingress *in = c->in;
	struct str head = str_n(c->view.p + c->scan.start, c->scan.at - c->scan.start);
	struct str whole = c->view;
	struct http_head h;
	struct err err;
	int status = head_read(head, in->fields, ARRAY_SIZE(in->fields), &h, &err);

	c->view = str_skip(c->view, c->scan.at);
	c->scan = (struct head_scan){ .max = in->conf.head_max };
	if (status == 0) {
		note(c, &h);
		status = request_route(c, &h, &err);
	} else {
		in->counters.malformed++;
		c->keep = false;
	}
	if (status)
		client_refuse(c, status, &err);
	else if (c->state == C_HELD)
		c->view = whole; /* read again when the sandbox is back */
}

/* --- consuming --- */

static bool step_head(struct client *c)
{
	struct err err;
	int r;

	if (!c->view.n || end_pending(&c->end))
		return false;
	if (c->is_idle) {
		idle_leave(c);
		c->deadline = now_ms(c->in) + c->in->conf.head_ms;
	}
	r = head_scan(&c->scan, c->view, &err);
	if (r == 0)
		return false;
	if (r == 1) {
		request_begin(c);
		return c->state != C_HELD;
	}
	c->in->counters.malformed++;
	c->keep = c->head_only = false;
	c->target = (struct target){ .by = BY_HOST };
	c->view = STR_NONE;
	client_refuse(c, r, &err);
	return true;
}

static bool client_step(struct client *c)
{
	switch (c->state) {
	case C_HEAD:
		return step_head(c);
	case C_BUSY:
	case C_TUNNEL:
		return exchange_upload(c);
	case C_LINGER:
		c->view = STR_NONE;
		return false;
	case C_HELLO:
	case C_TLS:
	case C_HELD:
	case C_DIAL:
	case C_CLOSED:
		break;
	}
	return false;
}

void client_pump(struct client *c, struct str fresh)
{
	bool joined = c->got.n > 0;

	if (c->pumping || c->state == C_CLOSED)
		return; /* the loop that runs goes on with what has changed */
	if (joined && fresh.n && buf_add_str(&c->got, fresh) < 0) {
		client_close(c, true);
		return;
	}
	c->view = joined ? buf_str(&c->got) : fresh;
	c->pumping = true;
	while (client_step(c))
		;
	c->pumping = false;
	if (c->state == C_CLOSED)
		return;
	/* The rest of a request will not come. A reset could overtake the answers before it. */
	if (c->state == C_BUSY && c->end.eof && !c->body.body.done && !c->view.n) {
		client_close(c, c->started);
		return;
	}
	if (c->state == C_HEAD && c->end.eof && !end_pending(&c->end)) {
		client_last(c);
		return;
	}
	if (joined)
		buf_consume(&c->got, c->got.n - c->view.n);
	else if (c->view.n && buf_add_str(&c->got, c->view) < 0)
		client_close(c, true);
	c->view = STR_NONE;
}

/* --- readiness --- */

static void handshake(struct client *c)
{
	int r;

	ERR_clear_error();
	r = SSL_accept(c->end.tls);
	c->end.wants_write = false;
	if (r == 1) {
		c->in->counters.handshakes++;
		c->state = C_HEAD;
		idle_leave(c);
		idle_enter(c);
		return;
	}
	r = SSL_get_error(c->end.tls, r);
	if (r == SSL_ERROR_WANT_WRITE)
		c->end.wants_write = true;
	else if (r != SSL_ERROR_WANT_READ) {
		c->in->counters.handshakes_failed++;
		client_close(c, false);
	}
}

/* The first byte of a TLS client is the type of a handshake record; no method begins with it. */
static void hello(struct client *c)
{
	unsigned char first;
	ssize_t n = recv(c->end.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_close(c, false);
		return;
	}
	c->state = C_HEAD;
	if (first != 0x16)
		return;
	idle_leave(c);
	c->deadline = now_ms(c->in) + c->in->conf.head_ms;
	c->state = C_TLS;
	c->end.tls = tls_accept(&c->in->tls, c->end.fd);
	if (!c->end.tls)
		client_close(c, true);
}

static void client_eof(struct client *c)
{
	switch (c->state) {
	case C_HELD:
	case C_DIAL:
	case C_BUSY:
	case C_TUNNEL:
		exchange_client_eof(c);
		return;
	case C_HELLO:
	case C_TLS:
	case C_HEAD:
	case C_LINGER:
	case C_CLOSED:
		break;
	}
	client_close(c, false);
}

static void readable(struct client *c)
{
	struct ingress *in = c->in;
	ssize_t n;

	if (c->state == C_HELLO)
		hello(c);
	if (c->state == C_TLS)
		handshake(c);
	if (c->state == C_HELLO || c->state == C_TLS || c->state == C_CLOSED)
		return;
	n = end_read(&c->end, in->scratch, sizeof(in->scratch));
	if (n > 0)
		client_pump(c, str_n(in->scratch, (size_t)n));
	else if (n == 0)
		client_eof(c);
	else if (n != -EAGAIN)
		client_close(c, true);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct client *c = container_of(poll, struct client, end.poll);
	struct up *u;

	if (status < 0) { /* an error is pending; the watcher has been stopped */
		c->end.events = 0;
		events = UV_READABLE | UV_WRITABLE;
	}
	if (events & UV_WRITABLE && end_pending(&c->end)) {
		int r = end_flush(&c->end);

		if (r < 0)
			client_close(c, true);
		else
			client_moved(c);
		if (r == 1 && c->state == C_HEAD)
			client_pump(c, STR_NONE);
		else if (r == 1 && c->state == C_LINGER && c->end.eof)
			client_close(c, false);
	}
	if ((events & UV_READABLE && wants_read(c)) || c->end.wants_write)
		readable(c);
	/* Whoever feeds it may go on. */
	u = c->up;
	if (u)
		up_watch(u);
	client_watch(c);
}

/* A request goes on without the client's side. True: it may, for now. */
static bool look_after(struct client *c)
{
	uint64_t now = now_ms(c->in);
	bool under_way = c->state == C_HELD || c->state == C_DIAL || c->state == C_BUSY ||
		c->state == C_TUNNEL;

	if (!c->end.eof || !under_way || now >= c->until)
		return false;
	if (end_gone(&c->end))
		client_close(c, true);
	else
		c->deadline = MIN(c->until, now + c->in->conf.half_ms);
	return true;
}

void client_overdue(struct client *c)
{
	struct err err;

	if (look_after(c))
		return;
	c->deadline = 0;
	if (c->state == C_HELD) {
		box_unhold(c);
		c->state = C_HEAD;
		c->keep = false;
		err_set(&err, -ETIMEDOUT, ERR_TIMEOUT, "the sandbox was not resumed in time");
		client_refuse(c, 504, &err);
	} else if (c->state == C_DIAL) {
		exchange_failed(c, 504, "the sandbox could not be reached in time");
	} else if (c->state == C_BUSY && c->answer == A_HEAD && c->body.body.done) {
		c->idempotent = false; /* once is enough */
		exchange_failed(c, 504, "the sandbox did not answer in time");
	} else if ((c->state == C_HEAD && !c->is_idle && !end_pending(&c->end)) ||
		(c->state == C_BUSY && !c->started)) {
		exchange_end(c, false);
		c->keep = false;
		err_set(&err, -ETIMEDOUT, ERR_TIMEOUT, "the request was not complete in time");
		client_refuse(c, 408, &err);
	} else {
		client_close(c, c->state == C_BUSY || c->state == C_TUNNEL);
	}
	if (c->state == C_HEAD && c->got.n)
		client_pump(c, STR_NONE); /* what was sent ahead is not late */
	client_watch(c);
}

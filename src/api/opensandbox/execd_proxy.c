/*
 * execd's /proxy/{port}/{rest}, and the server's own proxy, which is the same with less of a
 * browser's headers and with redirections that stay below it: HTTP to a service on the sandbox's
 * loopback, through its agent, one connection for each request. Bodies stream both ways, each read
 * as fast as the other side takes it; an answer's pieces leave as they come, so events do. Trailers
 * follow their bodies where these go in chunks, BODY_EXTRA_MAX bytes of them; `Expect:
 * 100-continue` is the service's to answer. A change of protocol that the service agrees to ties
 * the two connections together (api/relay.h).
 *
 *	asked --on_open--> head sent, body follows --answer's head--> started --its end--> freed
 *	                                  \--101--> upgraded, the request is over --both ended--> freed
 *
 * Until the answer has started a failure is a 502; from then on the client's connection is broken,
 * so that half an answer is never taken for all of it. /proxy/44772/… and /proxy/18080/… do not come
 * here: they are execd's and the egress API's own paths (execd_fold()).
 *
 * Who asks the server's proxy for a WebSocket hears of a failure by one that is accepted and closed at
 * once, as that contract has it: 1011 if the service cannot be had, 1008 if it does not want to.
 */
#include "api/opensandbox/execd.h"
#include "api/opensandbox/forward.h"
#include "event/headpass.h"
#include "api/opensandbox/opensandbox.h"
#include "api/relay.h"
#include "api/websocket.h"
#include "event/httpbody.h"

#define CLOSE_UNREACHABLE 1011
#define CLOSE_UNWANTED	  1008

struct pass {
	struct use use;
	struct relay relay;
	struct req *q;	 /* NULL: upgraded */
	struct buf head; /* the request's, until it is sent */
	struct buf got;	 /* of an answer's head, so far */
	struct head_scan scan;
	struct body body; /* the answer's */
	struct buf trailers; /* and what stands behind it */
	bool server;	  /* the server's proxy, not execd's */
	bool upgrade;	  /* asked for */
	bool uploads;	  /* the request's body is being passed */
	bool chunked;	  /* it goes on in chunks */
	bool started, until_end;
};

static struct http_field fields[HTTPD_HEADERS_MAX + 2]; /* one loop, one thread: for one call */

/* What of the target stands behind the pattern's last segment, as it was sent. */
static struct str rest_of(const struct req *q)
{
	struct str pattern = str_c(q->route->pattern + 1), at = http_target(q->h);
	unsigned int segs = q->segs.folded;

	while (pattern.p && !str_eq_c(str_cut(&pattern, '/'), "{*}"))
		segs++;
	if (str_starts(at, STR("//")))
		at = str_skip(at, 1);
	while (segs--) {
		size_t n = 1;

		while (n < at.n && at.p[n] != '/' && at.p[n] != '?')
			n++;
		at = str_skip(at, n);
	}
	return at;
}

/* --- ends --- */

static void pass_end(struct pass *p)
{
	box_unuse(&p->use);
	buf_done(&p->head);
	buf_done(&p->got);
	buf_done(&p->trailers);
	relay_end(&p->relay, p);
}

static void pass_gone(struct req *q)
{
	pass_end(q->state);
}

static void pass_broken(struct relay *r)
{
	pass_end(container_of(r, struct pass, relay));
}

static struct req *pass_over(struct pass *p)
{
	struct req *q = p->q;

	q->on_gone = NULL;
	pass_end(p);
	return q;
}

/* --- a WebSocket that comes to nothing --- */

static bool wants_websocket(const struct req *q)
{
	return str_caseeq(http_header(q->h, "upgrade"), STR("websocket"));
}

static bool close_websocket(struct req *q, uint16_t code, const char *why)
{
	static const struct websocket_ops deaf; /* it is closed before it can say anything */
	struct websocket *w;
	struct err err;

	if (!wants_websocket(q) || websocket_asked(q, &err) < 0)
		return false;
	if (websocket_accept(q, &deaf, NULL, &w) == 0)
		websocket_close(w, code, why);
	return true;
}

bool opensandbox_proxy_refuse(struct req *q, const struct err *err)
{
	return q->route && q->route->handler == opensandbox_proxy && err->kind != ERR_UNAUTHORIZED &&
		close_websocket(q, CLOSE_UNREACHABLE, err->text);
}

/* There is no answer, or no more of it. */
static void pass_fail(struct pass *p, const char *why)
{
	bool started = p->started, open = p->q, server = p->server;
	struct req *q;

	if (!open) {
		pass_end(p);
		return;
	}
	q = pass_over(p);
	if (started)
		req_abort(q);
	else if (!server || !close_websocket(q, CLOSE_UNREACHABLE, why))
		execd_fail(q, 502, "BACKEND_CONNECTION_FAILED", "%s", why);
}

static void pass_bounce(struct use *u, const struct err *err)
{
	struct pass *p = container_of(u, struct pass, use);

	bool server = p->server;
	struct req *q;

	if (p->q && !p->started) {
		q = pass_over(p);
		if (!server || !close_websocket(q, CLOSE_UNREACHABLE, err->text))
			reply_err(q, err);
	} else
{
		pass_fail(p, err->text);
	}
}

/* --- towards the service --- */

static void on_body(struct http *h, struct str data, bool end, void *arg)
{
	struct pass *p = arg;
	auto_buf struct buf out = BUF_MAX(data.n + 64 + 2 * BODY_EXTRA_MAX);
	int r;

	if (p->chunked && data.n)
		buf_fmt(&out, "%zx\r\n", data.n);
	buf_add_str(&out, data);
	if (p->chunked && data.n)
		buf_add_c(&out, "\r\n");
	if (p->chunked && end) {
		buf_add_c(&out, "0\r\n");
		forward_trailers(&out, http_trailers(h));
		buf_add_c(&out, "\r\n");
	}
	if (end)
		p->uploads = false;
	r = buf_failed(&out) ? -ENOMEM : agent_tunnel_write(p->relay.agent, buf_str(&out));
	if (r == -ENOMEM)
		pass_fail(p, "out of memory");
	else if (r == 0 && !end)
		http_body_pause(h, true);
}

static void on_open(struct agent_tunnel *x, void *arg)
{
	struct pass *p = arg;
	const struct http_head *h = http_head(p->q->h);

	if (agent_tunnel_write(x, buf_str(&p->head)) < 0)
		return; /* its end follows */
	buf_done(&p->head);
	p->chunked = h->chunked;
	p->uploads = h->chunked || h->length > 0;
	if (p->uploads)
		http_body_relay(p->q->h, on_body, p);
}

static void on_drain(struct agent_tunnel *x, void *arg)
{
	struct pass *p = arg;

	if (!p->q)
		relay_drain(&p->relay);
	else if (p->uploads)
		http_body_pause(p->q->h, false);
}

/* --- towards the client --- */

static void on_client_drain(struct http *h, void *arg)
{
	agent_tunnel_pause(((struct pass *)arg)->relay.agent, false);
}

static void upgrade(struct pass *p, const struct http_head *answer, struct str rest)
{
	auto_buf struct buf lines = BUF_MAX(FORWARD_ANSWER_MAX);
	struct http *h = p->q->h;
	char protocol[64] = "";
	struct req *q;

	for (size_t i = 0; i < answer->n_fields; i++) {
		struct str name = answer->fields[i].name, value = answer->fields[i].value;

		if (str_caseeq(name, STR("upgrade")))
			str_copy(protocol, sizeof(protocol), value);
		else if (forward_answers(answer, name))
			buf_fmt(&lines, STR_FMT ": " STR_FMT "\r\n", STR_ARG(name), STR_ARG(value));
	}
	if (!p->upgrade || !protocol[0] || buf_failed(&lines)) {
		pass_fail(p, "the service changes to a protocol that nobody asked for");
		return;
	}
	q = take_ptr(p->q);
	q->on_gone = NULL;
	req_release(q);
	if (relay_upgrade(&p->relay, h, protocol, buf_str(&lines)) < 0) {
		http_abort(h);
		pass_end(p);
	} else if (rest.n) {
		relay_data(&p->relay, rest);
	}
}

/* The framing of the answer's body, and its length for ours: -1 where it has none to tell. */
static int64_t frame_body(struct pass *p, const struct http_head *h)
{
	bool none = http_method(p->q->h) == HTTP_M_HEAD || h->status == 204 || h->status == 304;

	p->until_end = !none && !h->chunked && h->length < 0;
	p->trailers = BUF_MAX(2 * BODY_EXTRA_MAX); /* and their line ends */
	p->body = none ? body_from(false, 0) :
			 body_from(h->chunked, p->until_end ? INT64_MAX : h->length);
	p->body.trailers = &p->trailers;
	return h->chunked ? -1 : h->length;
}

/* "Location: /login" of a service that does not know where it is mounted. */
static int add_header(struct pass *p, const char *name, struct str value)
{
	struct http *to = p->q->h;
	struct str target = http_target(to), rest = rest_of(p->q);
	auto_buf struct buf at = BUF_MAX(FORWARD_ANSWER_MAX);

	if (!p->server || strcasecmp(name, "location") != 0 || !str_starts(value, STR("/")) ||
		str_starts(value, STR("//")))
		return http_add_header(to, name, value);
	buf_add(&at, target.p, (size_t)(rest.p - target.p));
	buf_add_str(&at, value);
	return buf_failed(&at) ? buf_failed(&at) : http_add_header(to, name, buf_str(&at));
}

static bool start(struct pass *p, const struct http_head *h)
{
	struct http *to = p->q->h;
	int64_t length = frame_body(p, h);

	if (p->server && wants_websocket(p->q)) {
		close_websocket(pass_over(p), CLOSE_UNWANTED, "the service refused the upgrade");
		return false;
	}
	for (size_t i = 0; i < h->n_fields; i++) {
		char name[256];

		if (!forward_answers(h, h->fields[i].name))
			continue;
		if (str_copy(name, sizeof(name), h->fields[i].name) < 0 ||
			add_header(p, name, h->fields[i].value) < 0) {
			pass_fail(p, "a header of the service's answer cannot be passed on");
			return false;
		}
	}
	p->started = true;
	http_on_drain(to, on_client_drain, p);
	return http_start(to, h->status, NULL, length) >= 0; /* lost: pass_gone() follows */
}

enum head { HEAD_MORE, HEAD_STARTED, HEAD_OVER };

/* Of the answer, with the interim ones before it. HEAD_OVER: nothing more is to be done with *in; p may
 * be gone. */
static enum head take_head(struct pass *p, struct str *in)
{
	struct http_head h;
	struct err err;
	char why[sizeof(err.text) + 64];
	int r;

	while ((r = head_scan(&p->scan, *in, &err)) == 1) {
		r = head_read_answer(str_n(in->p, p->scan.at), fields, ARRAY_SIZE(fields), &h, &err);
		if (r)
			break;
		*in = str_skip(*in, p->scan.at);
		p->scan = (struct head_scan){ .answer = true, .max = FORWARD_ANSWER_MAX };
		if (h.status == 101) {
			upgrade(p, &h, *in);
			return HEAD_OVER;
		}
		if (h.status == 100)
			http_continue(p->q->h);
		if (h.status >= 200)
			return start(p, &h) ? HEAD_STARTED : HEAD_OVER;
	}
	if (r == 0)
		return HEAD_MORE;
	snprintf(why, sizeof(why), "the service's answer is malformed: %s", err.text);
	pass_fail(p, why);
	return HEAD_OVER;
}

/* All of the answer is here. */
static void finish(struct pass *p)
{
	auto_buf struct buf trailers = BUF_MAX(2 * BODY_EXTRA_MAX);

	if (forward_trailers(&trailers, buf_str(&p->trailers)) < 0)
		pass_fail(p, "out of memory");
	else
		req_end_with(pass_over(p), buf_str(&trailers));
}

static void take_body(struct pass *p, struct str in)
{
	struct str piece;
	struct err err;
	int r;

	while ((r = body_next(&p->body, &in, &piece, &err)) == 1) {
		int w = http_write(p->q->h, piece);

		if (w < 0)
			return; /* pass_gone() follows */
		if (w == 0)
			agent_tunnel_pause(p->relay.agent, true);
	}
	if (r == -ENODATA)
		finish(p);
	else if (r < 0)
		pass_fail(p, err.text);
}

static void on_data(struct agent_tunnel *x, struct str data, void *arg)
{
	struct pass *p = arg;
	struct buf got;
	struct str in;

	if (!p->q) {
		relay_data(&p->relay, data);
		return;
	}
	if (p->started) {
		take_body(p, data);
		return;
	}
	got = p->got; /* p may be gone before it */
	p->got = BUF_MAX(0);
	got.max = FORWARD_ANSWER_MAX + data.n;
	if (buf_add_str(&got, data) < 0) {
		buf_done(&got);
		pass_fail(p, "out of memory");
		return;
	}
	in = buf_str(&got);
	switch (take_head(p, &in)) {
	case HEAD_MORE:
		buf_consume(&got, got.n - in.n);
		p->got = got;
		return;
	case HEAD_STARTED:
		take_body(p, in);
		break;
	case HEAD_OVER:
		break;
	}
	buf_done(&got);
}

static void on_half(struct agent_tunnel *x, void *arg)
{
	struct pass *p = arg;

	if (!p->q)
		relay_half(&p->relay);
	else if (p->started && p->until_end)
		req_end(pass_over(p));
	else
		pass_fail(p, "the service closed the connection without an answer");
}

static void on_end(struct agent_tunnel *x, const struct err *err, void *arg)
{
	pass_fail(arg, err ? err->text : "the service closed the connection");
}

static const struct agent_tunnel_ops ops = { .on_open = on_open, .on_data = on_data,
	.on_half = on_half, .on_drain = on_drain, .on_end = on_end };

/* --- asked --- */

static int dial(struct pass *p, struct req *q, uint16_t port, struct err *err)
{
	const struct http_head *h = http_head(q->h);
	struct forward f = { .port = port, .path = rest_of(q), .client = http_peer(q->h),
		.server = p->server, .host = http_header(q->h, "host") };
	struct str protocol;
	int r;

	p->head = BUF_MAX(FORWARD_REQUEST_MAX);
	p->scan = (struct head_scan){ .answer = true, .max = FORWARD_ANSWER_MAX };
	p->upgrade = f.upgrade = pass_upgrade(h, &protocol);
	r = forward_request(&p->head, h, &f);
	if (r < 0)
		return err_set(err, r, ERR_TOO_LARGE, "the headers are too long");
	return relay_dial(&p->relay, q->box, port, &ops, p, err);
}

static void proxy(struct req *q, bool server)
{
	struct pass *p;
	struct err err;
	uint16_t port;

	if (relay_port(req_param(q, "port"), &port, &err) < 0) {
		execd_bad(q, "port: %s", err.text);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return;
	}
	box_use(q->box, &p->use, pass_bounce);
	p->relay.broken = pass_broken;
	p->server = server;
	p->q = q;
	if (dial(p, q, port, &err) < 0) {
		pass_bounce(&p->use, &err);
		return;
	}
	q->state = p;
	q->on_gone = pass_gone;
}

void execd_proxy(struct req *q)
{
	proxy(q, false);
}

void opensandbox_proxy(struct req *q)
{
	struct str port = req_param(q, "port");
	struct err err;

	if (str_eq_c(port, "44772"))
		execd_nothing(q);
	else if (str_eq_c(port, "18080"))
		opensandbox_egress_nothing(q);
	else if (wants_websocket(q) && (websocket_asked(q, &err) < 0 || http_method(q->h) != HTTP_M_GET))
		execd_bad(q, "a WebSocket begins with GET, Connection: upgrade, Sec-WebSocket-Version: 13 and "
			"Sec-WebSocket-Key");
	else
		proxy(q, true);
}

/* --- execd's own paths, asked for through itself --- */

static void cut_out(struct route_segs *s, unsigned int at, unsigned int n)
{
	memmove(&s->seg[at], &s->seg[at + n], (s->n - at - n) * sizeof(s->seg[0]));
	s->n -= n;
	s->folded += n;
}

void execd_fold(struct route_segs *s)
{
	unsigned int at = s->n && str_eq_c(s->seg[0], "v1");

	/* sandboxes {id} proxy 44772 proxy 44772|18080 */
	while (s->n >= at + 6 && str_eq_c(s->seg[at], "sandboxes") &&
		str_eq_c(s->seg[at + 2], "proxy") && str_eq_c(s->seg[at + 3], "44772") &&
		str_eq_c(s->seg[at + 4], "proxy") &&
		(str_eq_c(s->seg[at + 5], "44772") || str_eq_c(s->seg[at + 5], "18080")))
		cut_out(s, at + 3, 2);
}

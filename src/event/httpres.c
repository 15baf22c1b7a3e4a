/*
 * What is written: response heads, bodies, chunks, refusals.
 *
 * A write first tries the socket; only what it does not take is copied and queued. The queue
 * is bounded by contract (http_write() says 0) and, where the contract is ignored, by WRITE_MAX.
 */
#include "base/clock.h"
#include "event/httpconn.h"

/* --- bytes --- */

struct pending {
	uv_write_t req;
	struct conn *c;
	size_t n;
	char bytes[];
};

static void on_written(uv_write_t *req, int status)
{
	struct pending *p = container_of(req, struct pending, req);
	struct conn *c = p->c;
	struct http *h = c->h;

	c->d->queued -= p->n;
	free(p);
	if (c->state == C_CLOSED)
		return;
	c->wrote = uv_now(c->d->loop);
	if (!conn_unsent(c))
		c->down.since = 0;
	if (status < 0) {
		c->broken = true;
		conn_later(c);
		return;
	}
	if (h && h->want_drain && conn_unsent(c) <= WRITE_LOW) {
		h->want_drain = false;
		if (h->on_drain)
			h->on_drain(h, h->drain_arg);
	}
	if (!conn_unsent(c))
		conn_later(c); /* a connection that waits to answer the next request, or to end */
}

int conn_write(struct conn *c, const uv_buf_t *bufs, unsigned int n)
{
	size_t total = 0, sent = 0, at = 0;
	struct pending *p;
	uv_buf_t rest;
	int r;

	if (c->broken || c->state == C_CLOSED)
		return -EPIPE;
	for (unsigned int i = 0; i < n; i++)
		total += bufs[i].len;
	if (!total)
		return 0;
	if (!conn_unsent(c)) {
		r = uv_try_write((uv_stream_t *)c->tcp, bufs, n);
		if (r < 0 && r != UV_EAGAIN)
			goto broken;
		sent = r > 0 ? (size_t)r : 0;
		c->wrote = uv_now(c->d->loop);
	}
	if (sent == total)
		return 0;
	p = malloc(sizeof(*p) + total - sent);
	r = -ENOMEM;
	if (!p)
		goto broken;
	p->c = c;
	p->n = 0;
	for (unsigned int i = 0; i < n; at += bufs[i].len, i++) {
		size_t skip = sent > at ? MIN(sent - at, bufs[i].len) : 0;

		if (bufs[i].len > skip)
			memcpy(p->bytes + p->n, bufs[i].base + skip, bufs[i].len - skip);
		p->n += bufs[i].len - skip;
	}
	rest = uv_buf_init(p->bytes, (unsigned int)p->n);
	rest.len = p->n;
	r = uv_write(&p->req, (uv_stream_t *)c->tcp, &rest, 1, on_written);
	if (r == 0) {
		c->d->queued += p->n;
		if (!c->down.since)
			c->down = (struct pace){ .since = uv_now(c->d->loop) };
		c->down.bytes += p->n;
		return 0;
	}
	free(p);
broken:
	c->broken = true;
	conn_later(c);
	return r;
}

/* --- heads --- */

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} table[] = {
		{ 101, "Switching Protocols" }, { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" },
		{ 204, "No Content" }, { 206, "Partial Content" }, { 301, "Moved Permanently" },
		{ 302, "Found" }, { 304, "Not Modified" }, { 307, "Temporary Redirect" },
		{ 400, "Bad Request" }, { 401, "Unauthorized" }, { 402, "Payment Required" },
		{ 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" },
		{ 408, "Request Timeout" }, { 409, "Conflict" }, { 410, "Gone" },
		{ 411, "Length Required" }, { 413, "Content Too Large" }, { 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" }, { 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" }, { 422, "Unprocessable Content" },
		{ 426, "Upgrade Required" }, { 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" },
		{ 501, "Not Implemented" }, { 502, "Bad Gateway" }, { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].status == status)
			return table[i].text;
	return "Status";
}

static const char *date_now(struct httpd *d)
{
	time_t now = (time_t)(clock_wall_ns() / NS_PER_SEC);

	if (now != d->date_at) {
		static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
		static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul",
			"Aug", "Sep", "Oct", "Nov", "Dec" };
		struct tm tm;

		gmtime_r(&now, &tm);
		snprintf(d->date, sizeof(d->date), "%s, %02d %s %d %02d:%02d:%02d GMT",
			days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
			tm.tm_min, tm.tm_sec);
		d->date_at = now;
	}
	return d->date;
}

static struct str told_id(const struct http *h)
{
	return h->told_id.n ? h->told_id : str_c(h->id);
}

/* length: -1 for a response whose end is not a number of bytes; -2 for one that has no body. */
static void put_head(struct buf *out, struct conn *c, int status, const char *type, int64_t length,
	bool chunked, struct str id)
{
	buf_fmt(out, "HTTP/1.1 %d %s\r\nDate: %s\r\nX-Request-Id: " STR_FMT "\r\n", status,
		reason(status), date_now(c->d), STR_ARG(id));
	if (type)
		buf_fmt(out, "Content-Type: %s\r\n", type);
	if (chunked)
		buf_add_c(out, "Transfer-Encoding: chunked\r\n");
	else if (length >= 0)
		buf_fmt(out, "Content-Length: %" PRId64 "\r\n", length);
	/* A little less than we keep it, so that the client's clock ends first. */
	if (c->close_after)
		buf_add_c(out, "Connection: close\r\n");
	else
		buf_fmt(out, "Connection: keep-alive\r\nKeep-Alive: timeout=%u\r\n",
			HTTPD_IDLE_S - 5);
}

void conn_answer_refusal(struct conn *c, int status, const struct err *err)
{
	struct buf body = BUF_MAX(65536), head = BUF_MAX(4096);
	const char *type = "text/plain; charset=utf-8";
	uv_buf_t bufs[2];
	char id[32];

	c->close_after = true;
	c->d->ops->on_refuse(c->h, status, err, &body, &type, c->d->arg);
	if (!c->h)
		http_new_id(id);
	put_head(&head, c, status, type, (int64_t)body.n, false, c->h ? told_id(c->h) : str_c(id));
	if (status == 503)
		buf_add_c(&head, "Retry-After: 1\r\n");
	buf_add_c(&head, "\r\n");
	bufs[0] = uv_buf_init(head.p, (unsigned int)head.n);
	bufs[1] = uv_buf_init(body.p, (unsigned int)body.n);
	/* The body of an answer to HEAD is not sent, if we know that it was one. */
	if (!buf_failed(&head) && !buf_failed(&body))
		conn_write(c, bufs, c->h && c->h->head.m == HTTP_M_HEAD ? 1 : 2);
	buf_done(&head);
	buf_done(&body);
}

static bool token(const char *s)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";

	if (!*s)
		return false;
	for (; *s; s++)
		if (!(*s >= '0' && *s <= '9') && !((*s | 0x20) >= 'a' && (*s | 0x20) <= 'z') &&
			!strchr(marks, *s))
			return false;
	return true;
}

int http_add_header(struct http *h, const char *name, struct str value)
{
	if (h->started || !token(name))
		return -EINVAL;
	for (size_t i = 0; i < value.n; i++)
		if (((unsigned char)value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 0x7f)
			return -EINVAL;
	buf_add_c(&h->extra, name);
	buf_add(&h->extra, ": ", 2);
	buf_add_str(&h->extra, value);
	return buf_add(&h->extra, "\r\n", 2);
}

/* Will the connection serve another request? What the client has not sent yet of its body must
 * be little and certain to come. */
static bool can_continue(const struct http *h)
{
	const struct conn *c = h->c;

	if (h->head.close || c->close_after || c->d->stopping)
		return false;
	return c->body.done || (!h->head.chunked && !h->head.expect && c->body.left <= DRAIN_MAX);
}

static int begin(struct http *h, int status, const char *type, int64_t length, struct buf *head)
{
	struct conn *c = h->c;

	if (h->started)
		return -EALREADY;
	h->started = true;
	h->bodyless = h->head.m == HTTP_M_HEAD || status == 204 || status == 304;
	h->chunked = length < 0 && !h->head.http10 && status != 204 && status != 304;
	h->left = h->chunked || length < 0 ? -1 : length;
	if (!can_continue(h) || (length < 0 && h->head.http10))
		c->close_after = true;
	put_head(head, c, status, type, status == 204 || status == 304 ? -2 : length, h->chunked,
		told_id(h));
	buf_add_str(head, buf_str(&h->extra));
	buf_add(head, "\r\n", 2);
	return buf_failed(head);
}

/* The less is left for all answers, the less one may take: clients that ask for large ones and do
 * not read them leave room for the small ones of others. */
static bool may_queue(const struct httpd *d, size_t n)
{
	uint64_t share = (d->queued_max - MIN(d->queued_max, d->queued)) / 4;

	return n <= MAX(share, (uint64_t)ANSWER_SURE);
}

int http_reply(struct http *h, int status, const char *content_type, struct str body)
{
	auto_buf struct buf head = BUF_MAX(EXTRA_HEAD_MAX + 4096), refusal = BUF_MAX(65536);
	struct conn *c = h->c;
	uv_buf_t bufs[2];
	struct err err;
	int r;

	if (!may_queue(c->d, body.n) && !h->started) {
		err_set(&err, -ENOMEM, ERR_CAPACITY, "too many answers wait to be read");
		status = 503;
		content_type = "text/plain; charset=utf-8";
		c->d->ops->on_refuse(h, status, &err, &refusal, &content_type, c->d->arg);
		body = buf_str(&refusal);
		http_add_header(h, "Retry-After", STR("1"));
	}
	r = begin(h, status, content_type, (int64_t)body.n, &head);
	if (r == 0) {
		bufs[0] = uv_buf_init(head.p, (unsigned int)head.n);
		bufs[1] = uv_buf_init((char *)body.p, 0);
		bufs[1].len = body.n;
		r = conn_write(c, bufs, h->bodyless ? 1 : 2);
	} else {
		c->broken = true;
	}
	conn_request_end(c);
	return r;
}

int http_start(struct http *h, int status, const char *content_type, int64_t length)
{
	auto_buf struct buf head = BUF_MAX(EXTRA_HEAD_MAX + 4096);
	uv_buf_t b;
	int r;

	r = begin(h, status, content_type, length < 0 ? -1 : length, &head);
	if (r < 0)
		return r;
	b = uv_buf_init(head.p, (unsigned int)head.n);
	return conn_write(h->c, &b, 1);
}

int http_write(struct http *h, struct str data)
{
	struct conn *c = h->c;
	char size[24];
	uv_buf_t bufs[3];
	int r;

	if (!h->started)
		return -EINVAL;
	if (h->left >= 0) {
		if (data.n > (uint64_t)h->left)
			return -EINVAL;
		h->left -= (int64_t)data.n;
	}
	if (!data.n || h->bodyless)
		return c->broken ? -EPIPE : 1;
	if (conn_unsent(c) > WRITE_MAX) {
		c->broken = true;
		conn_later(c);
		return -ENOBUFS;
	}
	bufs[0] = uv_buf_init(size, 0);
	if (h->chunked)
		bufs[0].len = (size_t)snprintf(size, sizeof(size), "%zx\r\n", data.n);
	bufs[1] = uv_buf_init((char *)data.p, 0);
	bufs[1].len = data.n;
	bufs[2] = uv_buf_init((char *)"\r\n", h->chunked ? 2 : 0);
	r = h->chunked ? conn_write(c, bufs, 3) : conn_write(c, bufs + 1, 1);
	if (r < 0)
		return r;
	if (conn_unsent(c) < HTTPD_WRITE_HIGH)
		return 1;
	h->want_drain = true;
	return 0;
}

void http_on_drain(struct http *h, void (*on_drain)(struct http *h, void *arg), void *arg)
{
	h->on_drain = on_drain;
	h->drain_arg = arg;
}

int http_end(struct http *h)
{
	return http_end_with(h, STR(""));
}

int http_end_with(struct http *h, struct str trailers)
{
	struct conn *c = h->c;
	int r = 0;

	if (!h->started)
		return -EINVAL;
	if (h->chunked && !h->bodyless) {
		uv_buf_t bufs[] = { uv_buf_init((char *)"0\r\n", 3),
			uv_buf_init((char *)trailers.p, (unsigned int)trailers.n),
			uv_buf_init((char *)"\r\n", 2) };

		r = conn_write(c, bufs, ARRAY_SIZE(bufs));
	} else if (h->left > 0 && !h->bodyless) {
		c->broken = true; /* fewer bytes than announced: the client must see it */
		r = -EPROTO;
	}
	conn_request_end(c);
	return r;
}

void http_abort(struct http *h)
{
	struct conn *c = h->c;

	c->h = NULL;
	http_free(h);
	conn_close(c);
}

int http_upgrade(struct http *h, const char *protocol, struct str headers, uv_stream_t **ret,
	struct str *rest)
{
	auto_buf struct buf head = BUF_MAX(EXTRA_HEAD_MAX);
	struct conn *c = h->c;
	uv_buf_t b;
	int r;

	if (h->started || !c->body.done || h->mode != BODY_UNASKED || c->eof)
		return -EINVAL;
	buf_fmt(&head, "HTTP/1.1 101 Switching Protocols\r\nX-Request-Id: " STR_FMT "\r\n"
		       "Connection: Upgrade\r\nUpgrade: %s\r\n", STR_ARG(told_id(h)), protocol);
	buf_add_str(&head, headers);
	buf_add(&head, "\r\n", 2);
	if (buf_failed(&head))
		return buf_failed(&head);
	b = uv_buf_init(head.p, (unsigned int)head.n);
	r = conn_write(c, &b, 1);
	if (r == 0 && conn_unsent(c))
		r = -EAGAIN; /* a socket that does not take 300 bytes at its first answer */
	if (r < 0) {
		c->broken = true;
		conn_later(c);
		return r;
	}
	if (c->pumping && !c->in.n)
		buf_add_str(&c->in, c->view);
	else if (c->pumping)
		buf_consume(&c->in, c->in.n - c->view.n);
	if (buf_failed(&c->in)) {
		c->broken = true;
		conn_later(c);
		return buf_failed(&c->in);
	}
	*ret = (uv_stream_t *)c->tcp;
	*rest = buf_str(&c->in);
	c->h = NULL;
	http_free(h);
	conn_hand_over(c);
	return 0;
}

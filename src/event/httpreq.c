/* What a handler asks of a request: its texts, its memory, its body. */
#include "base/clock.h"
#include "base/ulid.h"
#include "event/httpconn.h"

enum http_method http_method(const struct http *h)
{
	return h->head.m;
}

struct str http_method_text(const struct http *h)
{
	return h->head.method;
}

struct str http_target(const struct http *h)
{
	return h->head.target;
}

struct str http_path(const struct http *h)
{
	struct str rest = h->head.target;

	return str_cut(&rest, '?');
}

struct str http_query(const struct http *h)
{
	struct str rest = h->head.target;

	str_cut(&rest, '?');
	return rest;
}

struct str http_header(const struct http *h, const char *name)
{
	struct str wanted = str_c(name);

	for (size_t i = 0; i < h->head.n_fields; i++)
		if (str_caseeq(h->head.fields[i].name, wanted))
			return h->head.fields[i].value;
	return STR_NONE;
}

const struct http_head *http_head(const struct http *h)
{
	return &h->head;
}

struct ip http_peer(const struct http *h)
{
	struct sockaddr_storage ss = { 0 };
	int n = sizeof(ss);

	if (uv_tcp_getpeername(h->c->tcp, (struct sockaddr *)&ss, &n) < 0)
		ss.ss_family = AF_UNSPEC;
	return ip_sockaddr((struct sockaddr *)&ss);
}

int http_tag(const struct http *h)
{
	return h->c->tag;
}

const char *http_id(const struct http *h)
{
	return h->id;
}

void http_new_id(char id[32])
{
	struct ulid u = ulid_new(clock_wall_ns());

	snprintf(id, 32, "req-%s", u.s);
}

void http_echo_id(struct http *h)
{
	struct str id = http_header(h, "x-request-id");

	for (size_t i = 0; i < id.n; i++)
		if (id.p[i] <= ' ' || id.p[i] > '~')
			return;
	if (id.n && id.n <= 128)
		h->told_id = id;
}

void http_on_gone(struct http *h, void (*on_gone)(struct http *h, void *arg), void *arg)
{
	h->on_gone = on_gone;
	h->gone_arg = arg;
}

/* --- memory --- */

void *http_alloc(struct http *h, size_t n)
{
	struct arena_chunk *a = h->arena;
	size_t need = (n + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
	void *p;

	if (n > HTTPD_ARENA_MAX || need > HTTPD_ARENA_MAX - h->arena_n)
		return NULL;
	if (!a || a->cap - a->n < need) {
		size_t cap = MAX(need, (size_t)2048);

		a = malloc(sizeof(*a) + cap);
		if (!a)
			return NULL;
		*a = (struct arena_chunk){ .next = h->arena, .cap = cap };
		h->arena = a;
	}
	p = (char *)a->mem + a->n;
	a->n += need;
	h->arena_n += need;
	return memset(p, 0, need);
}

struct str http_alloc_str(struct http *h, struct str s)
{
	char *p = http_alloc(h, s.n + 1);

	if (!p)
		return STR_NONE;
	if (s.n)
		memcpy(p, s.p, s.n);
	return str_n(p, s.n);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (h->arena) {
		struct arena_chunk *a = h->arena;

		h->arena = a->next;
		free(a);
	}
	h->c->d->bodies -= h->whole.cap;
	if (h->c->body.trailers == &h->trailers)
		h->c->body.trailers = NULL;
	buf_done(&h->trailers);
	buf_done(&h->whole);
	buf_done(&h->extra);
	free(h);
}

/* --- the body --- */

static void ask(struct http *h, enum body_mode mode)
{
	struct conn *c = h->c;

	if (h->mode != BODY_UNASKED)
		return;
	h->mode = mode;
	c->since = uv_now(c->d->loop);
	c->up = (struct pace){ .since = c->since };
	if (!h->relayed && !c->in.n && !(c->pumping && c->view.n) &&
		!(mode == BODY_WHOLE && h->head.length > 0 &&
			(uint64_t)h->head.length > h->whole_max))
		http_continue(h);
	conn_later(c);
}

void http_continue(struct http *h)
{
	static char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	uv_buf_t b = uv_buf_init(go_on, sizeof(go_on) - 1);
	struct conn *c = h->c;

	if (!h->head.expect || h->started || c->body.done)
		return;
	h->head.expect = false;
	c->since = uv_now(c->d->loop);
	c->up.since = c->since;
	conn_write(c, &b, 1);
}

void http_body_whole(struct http *h, size_t max,
	void (*on_body)(struct http *h, struct str body, void *arg), void *arg)
{
	h->on_body = on_body;
	h->body_arg = arg;
	h->whole_max = max;
	h->whole = BUF_MAX(max);
	ask(h, BODY_WHOLE);
}

void http_body_stream(struct http *h,
	void (*on_data)(struct http *h, struct str data, bool end, void *arg), void *arg)
{
	h->on_data = on_data;
	h->body_arg = arg;
	ask(h, BODY_STREAM);
}

void http_body_relay(struct http *h,
	void (*on_data)(struct http *h, struct str data, bool end, void *arg), void *arg)
{
	if (h->mode == BODY_UNASKED) {
		h->relayed = true;
		h->trailers = BUF_MAX(2 * BODY_EXTRA_MAX); /* and their line ends */
		h->c->body.trailers = &h->trailers;
	}
	http_body_stream(h, on_data, arg);
}

struct str http_trailers(const struct http *h)
{
	return buf_str(&h->trailers);
}

void http_body_pause(struct http *h, bool paused)
{
	struct conn *c = h->c;
	uint64_t now = uv_now(c->d->loop);

	if (paused && !h->paused)
		c->paused_at = now;
	else if (!paused && h->paused)
		c->up.since += now - c->paused_at; /* the client did not make us wait */
	h->paused = paused;
	c->since = now;
	conn_later(c);
}

/* --- decoding --- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int http_decode(struct http *h, struct str in, bool form, struct str *ret)
{
	char *out = http_alloc(h, in.n + 1);
	size_t n = 0;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < in.n; i++) {
		char c = in.p[i];

		if (c == '%') {
			int hi, lo;

			if (in.n - i < 3)
				return -EINVAL;
			hi = hex_value(in.p[i + 1]);
			lo = hex_value(in.p[i + 2]);
			if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
				return -EINVAL;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (form && c == '+') {
			c = ' ';
		}
		out[n++] = c;
	}
	*ret = str_n(out, n);
	return 0;
}

int http_query_get(struct http *h, const char *name, struct str *ret)
{
	struct str query = http_query(h);

	while (query.p) {
		struct str value = str_cut(&query, '&'), key = str_cut(&value, '='), plain;

		/* A name that is not escaped, as every client sends ours, needs no memory. */
		plain = key;
		if ((str_find(key, '%') >= 0 || str_find(key, '+') >= 0) &&
			http_decode(h, key, true, &plain) < 0)
			return -EINVAL;
		if (str_eq_c(plain, name))
			return http_decode(h, value.p ? value : STR(""), true, ret);
	}
	return -ENOENT;
}

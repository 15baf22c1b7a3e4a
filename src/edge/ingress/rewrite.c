/* Heads as they go on: see the header. */
#include "edge/ingress/ingress.h"
#include "edge/ingress/rewrite.h"
#include "event/headpass.h"

static void line(struct buf *out, struct str name, struct str value)
{
	buf_add_str(out, name);
	buf_add(out, ": ", 2);
	buf_add_str(out, value);
	buf_add(out, "\r\n", 2);
}

static void framing(struct buf *out, const struct http_head *h)
{
	if (h->chunked) {
		buf_add_c(out, "Transfer-Encoding: chunked\r\n");
	} else if (h->length >= 0) {
		buf_add_c(out, "Content-Length: ");
		buf_decimal(out, (uint64_t)h->length);
		buf_add(out, "\r\n", 2);
	}
}

/* Take our cookie out of the list; nothing is written if no other is left. */
static void cookies(struct buf *out, struct str name, struct str list)
{
	bool first = true;

	while (list.p) {
		struct str one = str_trim(str_cut(&list, ';')), rest = one, key = str_cut(&rest, '=');

		if (!one.n || str_eq(str_trim(key), STR(INGRESS_TOKEN_COOKIE)))
			continue;
		buf_add_str(out, first ? name : STR("; "));
		if (first)
			buf_add(out, ": ", 2);
		buf_add_str(out, one);
		first = false;
	}
	if (!first)
		buf_add(out, "\r\n", 2);
}

/* The target without the token in its query. */
static void add_path(struct buf *out, struct str path)
{
	struct str query = path, plain = str_cut(&query, '?');
	char mark = '?';

	if (!plain.n)
		buf_add(out, "/", 1);
	buf_add_str(out, plain);
	if (query.p && !query.n)
		buf_add(out, "?", 1);
	while (query.n) {
		struct str one = str_cut(&query, '&'), rest = one;

		if (str_eq(str_cut(&rest, '='), STR(INGRESS_TOKEN_QUERY)))
			continue;
		buf_add(out, &mark, 1);
		buf_add_str(out, one);
		mark = '&';
		if (query.p && !query.n)
			buf_add(out, "&", 1);
	}
}

bool rewrite_upgrade(const struct http_head *h)
{
	struct str wanted;

	return pass_upgrade(h, &wanted);
}

static void request_fields(struct buf *out, const struct http_head *h, const struct rewrite *w)
{
	bool named = pass_names_fields(h), server = w->target->by == BY_SERVER;

	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, value = h->fields[i].value;
		enum head_pass rule = pass_request(name);

		if (named && rule == PASS_ON && pass_is_named(h, name))
			continue;
		if (w->secret.n && str_caseeq(name, w->secret))
			continue;
		if (w->secure.n && str_caseeq(name, STR(INGRESS_SECURE_HEADER)))
			continue;
		if (w->upgrade && rule == PASS_DROP && str_caseeq(name, STR("upgrade"))) {
			buf_add_c(out, "Connection: Upgrade\r\n");
			line(out, name, value);
		}
		if (rule == PASS_DROP || (rule == PASS_SERVICE && !w->service.n) ||
			(rule == PASS_SECRET && (server || pass_platform_key(value))))
			continue;
		if (rule == PASS_COOKIES) {
			if (!server)
				cookies(out, name, value);
			continue;
		}
		line(out, name, value);
	}
}

int rewrite_request(struct buf *out, const struct http_head *h, const struct rewrite *w)
{
	buf_add_str(out, h->method);
	buf_add(out, " ", 1);
	if (str_eq_c(h->target, "*") && !w->service.n)
		buf_add(out, "*", 1);
	buf_add_str(out, w->service);
	if (!str_eq_c(h->target, "*"))
		add_path(out, w->target->path);
	buf_add_c(out, " HTTP/1.1\r\nHost: localhost:");
	buf_decimal(out, w->target->port);
	buf_add(out, "\r\n", 2);
	request_fields(out, h, w);
	framing(out, h);
	if (w->secure.n)
		line(out, STR(INGRESS_SECURE_HEADER), w->secure);
	line(out, STR("X-Forwarded-For"), w->client);
	line(out, STR("X-Forwarded-Proto"), w->tls ? STR("https") : STR("http"));
	if (w->host.n)
		line(out, STR("X-Forwarded-Host"), w->host);
	return buf_add(out, "\r\n", 2);
}

static void location(struct buf *out, const struct rewrite *w, struct str name, struct str value)
{
	bool rooted = value.n && value.p[0] == '/' && !(value.n > 1 && value.p[1] == '/');

	buf_add_str(out, name);
	buf_add(out, ": ", 2);
	if (rooted && w->target->by == BY_SERVER)
		buf_add_str(out, w->target->prefix);
	buf_add_str(out, value);
	buf_add(out, "\r\n", 2);
}

int rewrite_answer(struct buf *out, const struct http_head *h, const struct rewrite *w, bool keep,
	bool decode)
{
	bool named = pass_names_fields(h), interim = h->status < 200;

	buf_add_c(out, "HTTP/1.1 ");
	buf_decimal(out, (uint64_t)h->status);
	buf_add(out, " ", 1);
	buf_add_str(out, h->reason);
	buf_add(out, "\r\n", 2);
	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, value = h->fields[i].value;
		enum head_pass rule = pass_answer(name);

		if (named && rule == PASS_ON && pass_is_named(h, name))
			continue;
		if (h->status == 101 && str_caseeq(name, STR("upgrade"))) {
			buf_add_c(out, "Connection: Upgrade\r\n");
			line(out, name, value);
		} else if (rule == PASS_PLACE) {
			location(out, w, name, value);
		} else if (rule == PASS_ON) {
			line(out, name, value);
		}
	}
	if (!interim) {
		if (h->status != 204 && !(decode && h->chunked))
			framing(out, h);
		if (!keep)
			buf_add_c(out, "Connection: close\r\n");
		else if (w->http10)
			buf_add_c(out, "Connection: keep-alive\r\n");
		if (w->target->gateway)
			buf_add_c(out, "Reverse-Proxy-Server-PowerBy: OpenSandbox-ingress\r\n");
		if (w->cookie.n)
			buf_fmt(out, "Set-Cookie: " INGRESS_TOKEN_COOKIE "=" STR_FMT "; Path=" STR_FMT
				     "/; HttpOnly; SameSite=Lax%s\r\n",
				STR_ARG(w->cookie), STR_ARG(w->target->prefix),
				w->tls ? "; Secure" : "");
	}
	return buf_add(out, "\r\n", 2);
}

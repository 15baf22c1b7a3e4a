/* Heads as they go on: see the header. */
#include "edge/ingress/ingress.h"
#include "edge/ingress/rewrite.h"

enum rule {
	PASS,
	DROP,	 /* of one hop, written anew, or never for the sandbox */
	COOKIES, /* passes without the token */
	SECRET,	 /* Authorization: dropped where it carries a platform key */
	SERVICE, /* for a port that the api role serves, never for a sandbox */
	PLACE,	 /* Location */
};

#define IS(lit, rule)                                                                              \
	do {                                                                                       \
		if (str_caseeq(name, STR(lit)))                                                    \
			return rule;                                                               \
	} while (0)

static enum rule request_rule(struct str name)
{
	switch (name.n) {
	case 2:
		IS("te", DROP);
		break;
	case 4:
		IS("host", DROP);
		break;
	case 6:
		IS("cookie", COOKIES);
		break;
	case 7:
		IS("upgrade", DROP);
		break;
	case 9:
		IS("x-api-key", SERVICE);
		IS("forwarded", DROP);
		IS("x-real-ip", DROP);
		break;
	case 10:
		IS("connection", DROP);
		IS("keep-alive", DROP);
		break;
	case 13:
		IS("authorization", SECRET);
		break;
	case 14:
		IS("content-length", DROP);
		IS("http2-settings", DROP);
		break;
	case 15:
		IS("x-forwarded-for", DROP);
		break;
	case 16:
		IS("x-forwarded-host", DROP);
		IS("x-forwarded-port", DROP);
		IS("proxy-connection", DROP);
		break;
	case 17:
		IS("transfer-encoding", DROP);
		IS("x-forwarded-proto", DROP);
		break;
	case 18:
		IS("proxy-authenticate", DROP);
		break;
	case 19:
		IS("proxy-authorization", DROP);
		break;
	case 20:
		IS("open-sandbox-api-key", SERVICE);
		IS("x-execd-access-token", SERVICE);
		IS("open-sandbox-ingress", DROP);
		IS(INGRESS_TOKEN_HEADER, DROP);
		break;
	case 22:
		IS("opensandbox-ingress-to", DROP);
		break;
	case 23:
		IS("opensandbox-egress-auth", SERVICE);
		break;
	case 25:
		IS("opensandbox-secure-access", SERVICE);
		break;
	default:
		break;
	}
	return PASS;
}

static enum rule answer_rule(struct str name)
{
	switch (name.n) {
	case 7:
		IS("upgrade", DROP);
		break;
	case 8:
		IS("location", PLACE);
		break;
	case 10:
		IS("connection", DROP);
		IS("keep-alive", DROP);
		break;
	case 14:
		IS("content-length", DROP);
		break;
	case 16:
		IS("proxy-connection", DROP);
		break;
	case 17:
		IS("transfer-encoding", DROP);
		break;
	default:
		break;
	}
	return PASS;
}

/* Does Connection name anything beside the words that every client says? */
static bool names_fields(const struct http_head *h)
{
	for (size_t i = 0; i < h->n_fields; i++) {
		struct str list = h->fields[i].value;

		if (!str_caseeq(h->fields[i].name, STR("connection")))
			continue;
		while (list.p) {
			struct str word = str_trim(str_cut(&list, ','));

			if (!str_caseeq(word, STR("keep-alive")) && !str_caseeq(word, STR("close")) &&
				!str_caseeq(word, STR("upgrade")))
				return true;
		}
	}
	return false;
}

static bool is_named(const struct http_head *h, struct str name)
{
	for (size_t i = 0; i < h->n_fields; i++)
		if (str_caseeq(h->fields[i].name, STR("connection")) &&
			head_list_has(h->fields[i].value, name))
			return true;
	return false;
}

static void line(struct buf *out, struct str name, struct str value)
{
	buf_add_str(out, name);
	buf_add(out, ": ", 2);
	buf_add_str(out, value);
	buf_add(out, "\r\n", 2);
}

static void framing(struct buf *out, const struct http_head *h)
{
	if (h->chunked)
		buf_add_c(out, "Transfer-Encoding: chunked\r\n");
	else if (h->length >= 0)
		buf_fmt(out, "Content-Length: %" PRId64 "\r\n", h->length);
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

/* "Bearer weir_" and 64 digits is a key of the platform's, which no sandbox may learn. */
static bool is_platform_key(struct str value)
{
	struct str scheme = str_cut(&value, ' ');

	value = str_trim(value);
	return str_caseeq(scheme, STR("bearer")) && str_starts(value, STR("weir_"));
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
	struct str wanted = STR_NONE;
	bool said = false;

	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, value = h->fields[i].value;

		if (str_caseeq(name, STR("upgrade"))) {
			if (wanted.p)
				return false;
			wanted = value;
		} else if (str_caseeq(name, STR("connection"))) {
			said |= head_list_has(value, STR("upgrade"));
		}
	}
	/* HTTP/2 on the same port would be heads that nobody here has read. */
	return said && wanted.n && !h->http10 && !h->chunked && h->length <= 0 &&
		!head_list_has(wanted, STR("h2c")) && !head_list_has(wanted, STR("h2"));
}

static void request_fields(struct buf *out, const struct http_head *h, const struct rewrite *w)
{
	bool named = names_fields(h), server = w->target->by == BY_SERVER;

	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, value = h->fields[i].value;
		enum rule rule = request_rule(name);

		if (named && rule == PASS && is_named(h, name))
			continue;
		if (w->secret.n && str_caseeq(name, w->secret))
			continue;
		if (w->upgrade && rule == DROP && str_caseeq(name, STR("upgrade"))) {
			buf_add_c(out, "Connection: Upgrade\r\n");
			line(out, name, value);
		}
		if (rule == DROP || (rule == SERVICE && !w->service.n) ||
			(rule == SECRET && (server || is_platform_key(value))))
			continue;
		if (rule == COOKIES) {
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
	buf_fmt(out, " HTTP/1.1\r\nHost: localhost:%u\r\n", w->target->port);
	request_fields(out, h, w);
	framing(out, h);
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
	bool named = names_fields(h), interim = h->status < 200;

	buf_fmt(out, "HTTP/1.1 %d ", h->status);
	buf_add_str(out, h->reason);
	buf_add(out, "\r\n", 2);
	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, value = h->fields[i].value;
		enum rule rule = answer_rule(name);

		if (named && rule == PASS && is_named(h, name))
			continue;
		if (h->status == 101 && str_caseeq(name, STR("upgrade"))) {
			buf_add_c(out, "Connection: Upgrade\r\n");
			line(out, name, value);
		} else if (rule == PLACE) {
			location(out, w, name, value);
		} else if (rule == PASS) {
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
		if (w->target->by == BY_HEADER || w->target->by == BY_PATH)
			buf_add_c(out, "Reverse-Proxy-Server-PowerBy: OpenSandbox-ingress\r\n");
		if (w->cookie.n)
			buf_fmt(out, "Set-Cookie: " INGRESS_TOKEN_COOKIE "=" STR_FMT "; Path=" STR_FMT
				     "/; HttpOnly; SameSite=Lax%s\r\n",
				STR_ARG(w->cookie), STR_ARG(w->target->prefix),
				w->tls ? "; Secure" : "");
	}
	return buf_add(out, "\r\n", 2);
}

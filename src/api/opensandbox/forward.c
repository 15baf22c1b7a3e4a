/* Heads on their way through: see the header. */
#include "api/opensandbox/forward.h"

/* Of one hop, or written anew. */
static const char *const hop[] = { "connection", "keep-alive", "proxy-connection",
	"proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
	"http2-settings", "content-length", NULL };
/* Of requests: said anew, or nobody's business in a sandbox. */
static const char *const ours[] = { "host", "expect", "x-forwarded-for", "x-forwarded-proto",
	"x-forwarded-host", "x-api-key", "open-sandbox-api-key", "opensandbox-egress-auth",
	"opensandbox-secure-access", "x-execd-access-token", "x-weir-ingress-token", NULL };
/* Of requests through the server's proxy, beside them. */
static const char *const browser[] = { "authorization", "cookie", NULL };
/* Of answers: our server has its own. */
static const char *const server[] = { "date", "x-request-id", NULL };

static bool is_one(const char *const *list, struct str name)
{
	for (; *list; list++)
		if (str_caseeq(name, str_c(*list)))
			return true;
	return false;
}

/* Does some Connection line say the word? */
static bool connection_says(const struct http_head *h, struct str word)
{
	for (size_t i = 0; i < h->n_fields; i++)
		if (str_caseeq(h->fields[i].name, STR("connection")) &&
			head_list_has(h->fields[i].value, word))
			return true;
	return false;
}

static struct str field(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_fields; i++)
		if (str_caseeq(h->fields[i].name, str_c(name)))
			return h->fields[i].value;
	return STR_NONE;
}

/* "Bearer weir_…" is a key of the platform's, which no sandbox may learn. */
static bool is_platform_key(struct str name, struct str value)
{
	struct str scheme = str_cut(&value, ' ');

	return str_caseeq(name, STR("authorization")) && str_caseeq(scheme, STR("bearer")) &&
		str_starts(str_trim(value), STR("weir_"));
}

/* HTTP/2 on the same port would be heads that nobody here has read. */
bool forward_upgrade(const struct http_head *h, struct str *ret)
{
	*ret = field(h, "upgrade");
	return ret->n && connection_says(h, STR("upgrade")) && !h->http10 && !h->chunked &&
		h->length <= 0 && !head_list_has(*ret, STR("h2c")) && !head_list_has(*ret, STR("h2"));
}

static void line(struct buf *out, const char *name, struct str value)
{
	buf_fmt(out, "%s: " STR_FMT "\r\n", name, STR_ARG(value));
}

int forward_request(struct buf *out, const struct http_head *h, const struct forward *f)
{
	struct str before = f->server ? STR_NONE : field(h, "x-forwarded-for");

	buf_fmt(out, STR_FMT " %s" STR_FMT " HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n", STR_ARG(h->method),
		f->path.n && f->path.p[0] == '/' ? "" : "/", STR_ARG(f->path), f->port);
	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, value = h->fields[i].value;

		if (!is_one(hop, name) && !is_one(ours, name) && !connection_says(h, name) &&
			!(f->server && is_one(browser, name)) && !is_platform_key(name, value))
			buf_fmt(out, STR_FMT ": " STR_FMT "\r\n", STR_ARG(name), STR_ARG(value));
	}
	if (f->upgrade) {
		buf_add_c(out, "Connection: Upgrade\r\n");
		line(out, "Upgrade", field(h, "upgrade"));
	} else {
		buf_add_c(out, "Connection: close\r\n");
	}
	if (h->chunked)
		buf_add_c(out, "Transfer-Encoding: chunked\r\n");
	else if (h->length >= 0)
		buf_fmt(out, "Content-Length: %" PRId64 "\r\n", h->length);
	if (f->server && f->host.n)
		line(out, "X-Forwarded-Host", f->host);
	buf_fmt(out, "X-Forwarded-For: " STR_FMT "%s%s\r\nX-Forwarded-Proto: http\r\n\r\n",
		STR_ARG(before), before.n ? ", " : "",
		f->client.family ? ip_text(f->client).s : "unknown");
	return buf_failed(out);
}

bool forward_answers(const struct http_head *h, struct str name)
{
	return !is_one(hop, name) && !is_one(server, name) && !connection_says(h, name);
}

/* Heads on their way through: see the header. */
#include "api/opensandbox/forward.h"
#include "event/headpass.h"

/* Beside what never passes: of a request what is said below, */
static const char *const of_request[] = { "expect", NULL };
/* and of an answer that our server frames and dates. */
static const char *const of_answer[] = { "date", "x-request-id", "proxy-authenticate",
	"proxy-authorization", "te", "http2-settings", NULL };

static bool is_one(const char *const *list, struct str name)
{
	for (; *list; list++)
		if (str_caseeq(name, str_c(*list)))
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

/* Cookies carry no token here; the server's proxy passes none, and no Authorization. Trailers go on
 * through both, but by that one's contract without being announced. */
static bool request_passes(const struct http_head *h, const struct http_field *f, bool server)
{
	switch (pass_request(f->name)) {
	case PASS_ON:
		return !is_one(of_request, f->name) && !pass_is_named(h, f->name) &&
			!(server && str_caseeq(f->name, STR("trailer")));
	case PASS_COOKIES:
		return !server && !pass_is_named(h, f->name);
	case PASS_SECRET:
		return !server && !pass_is_named(h, f->name) && !pass_platform_key(f->value);
	case PASS_DROP:
	case PASS_SERVICE:
	case PASS_PLACE: /* of answers */
		break;
	}
	return false;
}

static void line(struct buf *out, const char *name, struct str value)
{
	buf_fmt(out, "%s: " STR_FMT "\r\n", name, STR_ARG(value));
}

int forward_request(struct buf *out, const struct http_head *h, const struct forward *f)
{
	struct str before = f->server ? STR_NONE : field(h, "x-forwarded-for");
	struct ip_text client = ip_text(f->client);
	const char *peer = f->client.family ? client.s : before.n ? "" : "unknown";

	buf_fmt(out, STR_FMT " %s" STR_FMT " HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n", STR_ARG(h->method),
		f->path.n && f->path.p[0] == '/' ? "" : "/", STR_ARG(f->path), f->port);
	for (size_t i = 0; i < h->n_fields; i++) {
		const struct http_field *one = &h->fields[i];

		if (request_passes(h, one, f->server))
			buf_fmt(out, STR_FMT ": " STR_FMT "\r\n", STR_ARG(one->name), STR_ARG(one->value));
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
	if (h->expect && (h->chunked || h->length > 0))
		buf_add_c(out, "Expect: 100-continue\r\n");
	if (f->server && f->host.n)
		line(out, "X-Forwarded-Host", f->host);
	buf_fmt(out, "X-Forwarded-For: " STR_FMT "%s%s\r\nX-Forwarded-Proto: http\r\n\r\n",
		STR_ARG(before), before.n && *peer ? ", " : "", peer);
	return buf_failed(out);
}

bool forward_answers(const struct http_head *h, struct str name)
{
	enum head_pass rule = pass_answer(name);

	return (rule == PASS_ON || rule == PASS_PLACE) && !is_one(of_answer, name) &&
		!pass_is_named(h, name);
}

int forward_trailers(struct buf *out, struct str lines)
{
	size_t before = out->n;

	if (lines.n && buf_add_str(out, lines) == 0)
		out->n = before + pass_trailers(out->p + before, lines.n);
	return buf_failed(out);
}

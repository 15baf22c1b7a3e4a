/* The proxy's own answers: see the header. */
#include "edge/ingress/page.h"

/* What a status is called: on the status line, and as a code in OpenSandbox's object. */
static const struct name {
	int status;
	const char *reason, *code;
} names[] = {
	{ 200, "OK", "OK" },
	{ 400, "Bad Request", "INVALID_REQUEST" },
	{ 401, "Unauthorized", "MISSING_OR_INVALID_SECURE_ACCESS" },
	{ 403, "Forbidden", "PORT_RESERVED" },
	{ 404, "Not Found", "SANDBOX_NOT_FOUND" },
	{ 408, "Request Timeout", "REQUEST_TIMEOUT" },
	{ 414, "URI Too Long", "INVALID_REQUEST" },
	{ 417, "Expectation Failed", "INVALID_REQUEST" },
	{ 429, "Too Many Requests", "TOO_MANY_REQUESTS" },
	{ 431, "Request Header Fields Too Large", "INVALID_REQUEST" },
	{ 501, "Not Implemented", "NOT_IMPLEMENTED" },
	{ 502, "Bad Gateway", "BACKEND_CONNECTION_FAILED" },
	{ 503, "Service Unavailable", "SANDBOX_NOT_READY" },
	{ 504, "Gateway Timeout", "BACKEND_TIMEOUT" },
	{ 505, "HTTP Version Not Supported", "INVALID_REQUEST" },
};

static const struct name *name_of(int status)
{
	static const struct name other = { 0, "Error", "ERROR" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].status == status)
			return &names[i];
	return &other;
}

enum page_form page_form(struct str accept)
{
	enum page_form form = PAGE_ANY;

	while (accept.p) {
		struct str one = str_cut(&accept, ','), type = str_trim(str_cut(&one, ';'));

		if (str_caseeq(type, STR("application/json")))
			return PAGE_JSON;
		if (str_caseeq(type, STR("text/html")))
			form = PAGE_HTML;
	}
	return form;
}

/* Texts are ours, or an error's of the api role: printable, but quotes and angles may be in them. */
static void add_escaped(struct buf *out, struct str text, bool html)
{
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c < ' ' || c == 0x7f)
			buf_add(out, " ", 1);
		else if (html && (c == '<' || c == '>' || c == '&'))
			buf_fmt(out, "&#%u;", c);
		else if (!html && (c == '"' || c == '\\'))
			buf_fmt(out, "\\%c", c);
		else
			buf_add(out, &text.p[i], 1);
	}
}

/* Returns the content type. */
static const char *body(struct buf *out, const struct page *p)
{
	const struct name *name = name_of(p->status);

	if (p->status < 400) {
		buf_add_str(out, p->text);
		return "text/plain; charset=utf-8";
	}
	if (p->form == PAGE_HTML) {
		buf_fmt(out, "<!doctype html>\n<title>%d %s</title>\n<h1>%d %s</h1>\n<p>",
			p->status, name->reason, p->status, name->reason);
		add_escaped(out, p->text, true);
		buf_add_c(out, "</p>\n");
		return "text/html; charset=utf-8";
	}
	if (p->form != PAGE_JSON && p->gateway) {
		buf_add_c(out, "OpenSandbox Ingress: ");
		buf_add_str(out, p->text);
		buf_add(out, "\n", 1);
		return "text/plain; charset=utf-8";
	}
	if (p->gateway || (p->by != BY_HOST && p->by != BY_DIRECT)) {
		buf_fmt(out, "{\"code\":\"%s\",\"message\":\"", name->code);
		add_escaped(out, p->text, false);
		buf_add_c(out, "\"}\n");
	} else if (p->status < 500) {
		buf_add_c(out, "{\"status\":\"fail\",\"data\":{\"ingress\":\"");
		add_escaped(out, p->text, false);
		buf_add_c(out, "\"}}\n");
	} else {
		buf_add_c(out, "{\"status\":\"error\",\"message\":\"");
		add_escaped(out, p->text, false);
		buf_fmt(out, "\",\"code\":%d}\n", p->status);
	}
	return "application/json";
}

int page_add(struct buf *out, const struct page *p)
{
	auto_buf struct buf b = BUF_MAX(8192);
	const char *type = body(&b, p);

	if (buf_failed(&b))
		return buf_failed(&b);
	buf_fmt(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
		     "Cache-Control: no-store\r\n",
		p->status, name_of(p->status)->reason, type, b.n);
	if (p->status == 401)
		buf_add_c(out, "WWW-Authenticate: Weir-Ingress-Token\r\n");
	if (p->retry)
		buf_fmt(out, "Retry-After: %u\r\n", p->retry);
	buf_add_c(out, p->keep ? "\r\n" : "Connection: close\r\n\r\n");
	if (!p->head)
		buf_add_str(out, buf_str(&b));
	return buf_failed(out);
}

/* Request heads: see the header. First finding, then reading, then what llhttp lets pass. */
#include <llhttp.h>
#include "event/httphead.h"

#define METHOD_MAX 32u
#define TARGET_MAX 16384u
#define HOST_MAX   263u /* a name of 255, a colon, a port, brackets */

static int refuse(struct err *err, int status, const char *text)
{
	enum err_kind kind = ERR_INVALID;

	if (status == 414 || status == 431)
		kind = ERR_TOO_LARGE;
	else if (status == 501 || status == 505)
		kind = ERR_UNSUPPORTED;
	err_set(err, -EBADMSG, kind, "%s", text);
	return status;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* --- finding the end --- */

/* "METHOD target HTTP/1.1", checked as soon as the line is there: its first fault must not wait
 * for headers, and llhttp forgives some of them. */
static int check_request_line(struct str line, struct err *err)
{
	struct str rest = line, method = str_cut(&rest, ' '), target;

	if (!rest.p)
		return refuse(err, 400, "the request line is not \"METHOD target HTTP/1.1\"");
	target = str_cut(&rest, ' ');
	if (!rest.p)
		return refuse(err, 505, "HTTP/0.9 is not spoken here: use HTTP/1.1");
	if (!method.n || method.n > METHOD_MAX)
		return refuse(err, 501, "unknown method");
	if (!target.n)
		return refuse(err, 400, "more than one space in the request line");
	if (target.n > TARGET_MAX)
		return refuse(err, 414, "the request target is longer than 16 KiB");
	if (str_eq(rest, STR("HTTP/2.0")))
		return refuse(err, 505, "HTTP/2 is not spoken here: use HTTP/1.1");
	if (rest.n == 8 && str_starts(rest, STR("HTTP/")) && is_digit(rest.p[5]) &&
		rest.p[6] == '.' && is_digit(rest.p[7])) {
		if (rest.p[5] != '1' || rest.p[7] > '1')
			return refuse(err, 505, "unknown HTTP version: use HTTP/1.1");
	} else {
		return refuse(err, 400, "the request line does not end with \"HTTP/1.1\"");
	}
	for (size_t i = 0; i < target.n; i++)
		if (target.p[i] <= ' ' || target.p[i] > '~' || target.p[i] == '#')
			return refuse(err, 400,
				"the request target has a byte that must be percent-encoded");
	/* The absolute form could name another host than the Host header does. */
	if (target.p[0] != '/' && !(str_eq_c(target, "*") && str_eq_c(method, "OPTIONS")))
		return refuse(err, 400, "the request target must start with '/'");
	return 0;
}

/* "HTTP/1.1 200 reason"; the reason and the space before it may be missing. */
static int check_status_line(struct str line, struct err *err)
{
	struct str version = str_n(line.p, MIN(line.n, 9u)), rest = str_skip(line, 9);

	if (!str_eq_c(version, "HTTP/1.1 ") && !str_eq_c(version, "HTTP/1.0 "))
		return refuse(err, 505, "the status line does not begin with \"HTTP/1.1 \"");
	if (rest.n < 3 || rest.p[0] < '1' || rest.p[0] > '9' || !is_digit(rest.p[1]) ||
		!is_digit(rest.p[2]) || (rest.n > 3 && rest.p[3] != ' '))
		return refuse(err, 400, "the status is no number of three digits");
	return 0;
}

/* A line has ended at the LF at s->at. 1: it was the last one. */
static int end_line(struct head_scan *s, struct str in, struct err *err)
{
	struct str line = str_n(in.p + s->line, s->at - 1 - s->line);

	s->line = s->at + 1;
	if (s->lines == 0) {
		if (!line.n && s->start == 0 && !s->answer) {
			s->start = s->line;
			return 0;
		}
		s->lines = 1;
		return s->answer ? check_status_line(line, err) : check_request_line(line, err);
	}
	if (!line.n)
		return 1;
	if (s->lines++ > HTTPD_HEADERS_MAX)
		return refuse(err, 431, "too many headers");
	return 0;
}

int head_scan(struct head_scan *s, struct str in, struct err *err)
{
	size_t max = s->max ? s->max : HTTPD_HEAD_MAX;

	for (; s->at < in.n; s->at++) {
		unsigned char c = (unsigned char)in.p[s->at];
		int r;

		if (s->at >= max)
			return s->lines || s->answer ? refuse(err, 431, "the headers are too long") :
						       refuse(err, 414, "the request line is too long");
		if (c == '\n') {
			if (!s->cr)
				return refuse(err, 400, "a line ends with LF alone");
			s->cr = false;
			r = end_line(s, in, err);
			if (r == 1)
				s->at++;
			if (r)
				return r;
			continue;
		}
		if (s->cr)
			return refuse(err, 400, "a CR that no LF follows");
		if (c == '\r')
			s->cr = true;
		else if ((c < ' ' && c != '\t') || c == 0x7f)
			return refuse(err, 400, "a control byte in the head");
		else if (s->at == s->line && (c == ' ' || c == '\t'))
			return refuse(err, 400, "a line starts with white space");
	}
	return 0;
}

/* --- reading --- */

struct reader {
	llhttp_t parser;
	struct http_head *head;
	size_t room;
	bool complete;
};

static int on_url(llhttp_t *p, const char *at, size_t n)
{
	((struct reader *)p->data)->head->target = str_n(at, n);
	return 0;
}

static int on_status(llhttp_t *p, const char *at, size_t n)
{
	((struct reader *)p->data)->head->reason = str_n(at, n);
	return 0;
}

/* A text comes in one piece, because the head does; two calls would mean it does not. */
static int on_field(llhttp_t *p, const char *at, size_t n)
{
	struct reader *rd = p->data;
	struct http_head *h = rd->head;

	if (h->n_fields == rd->room)
		return HPE_USER;
	h->fields[h->n_fields] = (struct http_field){ .name = str_n(at, n) };
	return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
	struct http_head *h = ((struct reader *)p->data)->head;

	h->fields[h->n_fields].value = str_trim(str_n(at, n));
	return 0;
}

static int on_value_end(llhttp_t *p)
{
	((struct reader *)p->data)->head->n_fields++;
	return 0;
}

static int on_end(llhttp_t *p)
{
	((struct reader *)p->data)->complete = true;
	return HPE_PAUSED; /* the body is not llhttp's business: httpbody.c */
}

static const llhttp_settings_t settings = {
	.on_url = on_url,
	.on_status = on_status,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_end,
	.on_headers_complete = on_end,
};

static enum http_method method_from(struct str text)
{
	static const char *const names[] = { [HTTP_M_GET] = "GET", [HTTP_M_HEAD] = "HEAD",
		[HTTP_M_POST] = "POST", [HTTP_M_PUT] = "PUT", [HTTP_M_PATCH] = "PATCH",
		[HTTP_M_DELETE] = "DELETE", [HTTP_M_OPTIONS] = "OPTIONS" };

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq_c(text, names[i]))
			return (enum http_method)i;
	return HTTP_M_OTHER;
}

/* --- what llhttp lets pass --- */

/* A registered name or IPv4 address, or an IPv6 address in brackets; then perhaps a port. */
static bool host_ok(struct str v)
{
	struct str port;
	size_t n = 0;

	if (!v.n || v.n > HOST_MAX)
		return false;
	if (v.p[0] == '[') {
		ssize_t end = str_find(v, ']');
		struct ip ip;

		if (end < 0 || ip_from(str_n(v.p + 1, (size_t)end - 1), &ip) < 0 ||
			!memchr(v.p, ':', (size_t)end))
			return false;
		n = (size_t)end + 1;
	} else {
		while (n < v.n && (is_alnum(v.p[n]) || strchr("-._", v.p[n])))
			n++;
		if (!n)
			return false;
	}
	port = str_skip(v, n);
	if (port.n) {
		uint64_t number;

		return port.p[0] == ':' && str_u64(str_skip(port, 1), 65535, &number) == 0;
	}
	return true;
}

bool head_list_has(struct str list, struct str word)
{
	while (list.p)
		if (str_caseeq(str_trim(str_cut(&list, ',')), word))
			return true;
	return false;
}

static int check_fields(struct http_head *h, bool answer, struct err *err)
{
	unsigned int hosts = 0, lengths = 0, codings = 0;

	for (size_t i = 0; i < h->n_fields; i++) {
		struct str name = h->fields[i].name, v = h->fields[i].value;
		uint64_t n;

		if (!name.n)
			return refuse(err, 400, "a header without a name");
		if (str_caseeq(name, STR("host")) && !answer) {
			if (hosts++)
				return refuse(err, 400, "more than one Host header");
			if (!host_ok(v))
				return refuse(err, 400, "malformed Host header");
		} else if (str_caseeq(name, STR("content-length"))) {
			if (lengths++)
				return refuse(err, 400, "more than one Content-Length header");
			if (str_u64(v, INT64_MAX, &n) < 0)
				return refuse(err, 400, "malformed Content-Length header");
			h->length = (int64_t)n;
		} else if (str_caseeq(name, STR("transfer-encoding"))) {
			if (codings++)
				return refuse(err, 400, "more than one Transfer-Encoding header");
			if (!str_caseeq(v, STR("chunked")))
				return refuse(err, 501, "unknown transfer coding: only chunked is known");
			h->chunked = true;
		} else if (str_caseeq(name, STR("connection"))) {
			h->close |= head_list_has(v, STR("close"));
			h->keep |= head_list_has(v, STR("keep-alive"));
		} else if (str_caseeq(name, STR("expect")) && !answer) {
			if (!str_caseeq(v, STR("100-continue")))
				return refuse(err, 417, "unknown expectation: only 100-continue is known");
			h->expect = !h->http10;
		}
	}
	if (!hosts && !h->http10 && !answer)
		return refuse(err, 400, "no Host header");
	if (h->chunked && h->length >= 0)
		return refuse(err, 400, "both Content-Length and Transfer-Encoding");
	if (h->chunked && h->http10)
		return refuse(err, 400, "Transfer-Encoding in HTTP/1.0");
	return 0;
}

static int read_with(llhttp_type_t type, struct str head, struct http_field *fields, size_t n,
	struct http_head *ret, struct err *err)
{
	struct reader rd = { .head = ret, .room = n };
	llhttp_errno_t e;

	*ret = (struct http_head){ .fields = fields, .length = -1 };
	llhttp_init(&rd.parser, type, &settings);
	rd.parser.data = &rd;
	e = llhttp_execute(&rd.parser, head.p, head.n);
	if (!rd.complete) {
		char text[120];

		if (e == HPE_INVALID_METHOD)
			return refuse(err, 501, "unknown method");
		snprintf(text, sizeof(text), "malformed head: %s",
			e == HPE_OK ? "incomplete" : llhttp_get_error_reason(&rd.parser));
		return refuse(err, 400, text);
	}
	ret->http10 = rd.parser.http_minor == 0;
	ret->close = ret->http10;
	ret->status = rd.parser.status_code;
	return check_fields(ret, type == HTTP_RESPONSE, err);
}

int head_read(struct str head, struct http_field *fields, size_t n, struct http_head *ret,
	struct err *err)
{
	struct str rest = head;
	int r = read_with(HTTP_REQUEST, head, fields, n, ret, err);

	ret->method = str_cut(&rest, ' ');
	ret->m = method_from(ret->method);
	return r;
}

int head_read_answer(struct str head, struct http_field *fields, size_t n, struct http_head *ret,
	struct err *err)
{
	return read_with(HTTP_RESPONSE, head, fields, n, ret, err);
}

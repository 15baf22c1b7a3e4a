/* What of a head goes on: see the header. */
#include "event/headpass.h"

#define IS(lit, rule)                                                                              \
	do {                                                                                       \
		if (str_caseeq(name, STR(lit)))                                                    \
			return rule;                                                               \
	} while (0)

enum head_pass pass_request(struct str name)
{
	switch (name.n) {
	case 2:
		IS("te", PASS_DROP);
		break;
	case 4:
		IS("host", PASS_DROP);
		break;
	case 6:
		IS("cookie", PASS_COOKIES);
		break;
	case 7:
		IS("upgrade", PASS_DROP);
		break;
	case 9:
		IS("x-api-key", PASS_SERVICE);
		IS("forwarded", PASS_DROP);
		IS("x-real-ip", PASS_DROP);
		break;
	case 10:
		IS("connection", PASS_DROP);
		IS("keep-alive", PASS_DROP);
		break;
	case 13:
		IS("authorization", PASS_SECRET);
		break;
	case 14:
		IS("content-length", PASS_DROP);
		IS("http2-settings", PASS_DROP);
		break;
	case 15:
		IS("x-forwarded-for", PASS_DROP);
		break;
	case 16:
		IS("x-forwarded-host", PASS_DROP);
		IS("x-forwarded-port", PASS_DROP);
		IS("proxy-connection", PASS_DROP);
		break;
	case 17:
		IS("transfer-encoding", PASS_DROP);
		IS("x-forwarded-proto", PASS_DROP);
		break;
	case 18:
		IS("proxy-authenticate", PASS_DROP);
		break;
	case 19:
		IS("proxy-authorization", PASS_DROP);
		break;
	case 20:
		IS("open-sandbox-api-key", PASS_SERVICE);
		IS("x-execd-access-token", PASS_SERVICE);
		IS("open-sandbox-ingress", PASS_DROP);
		IS("x-weir-ingress-token", PASS_DROP);
		break;
	case 22:
		IS("opensandbox-ingress-to", PASS_DROP);
		break;
	case 23:
		IS("opensandbox-egress-auth", PASS_SERVICE);
		break;
	case 25:
		IS("opensandbox-secure-access", PASS_SERVICE);
		break;
	default:
		break;
	}
	return PASS_ON;
}

enum head_pass pass_answer(struct str name)
{
	switch (name.n) {
	case 7:
		IS("upgrade", PASS_DROP);
		break;
	case 8:
		IS("location", PASS_PLACE);
		break;
	case 10:
		IS("connection", PASS_DROP);
		IS("keep-alive", PASS_DROP);
		break;
	case 14:
		IS("content-length", PASS_DROP);
		break;
	case 16:
		IS("proxy-connection", PASS_DROP);
		break;
	case 17:
		IS("transfer-encoding", PASS_DROP);
		break;
	default:
		break;
	}
	return PASS_ON;
}

bool pass_trailer(struct str name)
{
	static const char *const never[] = { "trailer", "expect", "cache-control", "max-forwards", "pragma",
		"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
		"if-range", "www-authenticate", "authentication-info", "proxy-authentication-info",
		"set-cookie", "age", "date", "expires", "retry-after", "vary", "warning",
		"content-encoding", "content-type", "content-range", "x-request-id" };

	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		if (str_caseeq(name, str_c(never[i])))
			return false;
	return pass_request(name) == PASS_ON && pass_answer(name) == PASS_ON;
}

size_t pass_trailers(char *lines, size_t n)
{
	struct str rest = str_n(lines, n);
	size_t kept = 0;

	while (rest.n) {
		struct str one = str_cut(&rest, '\n'), value = one;

		if (!pass_trailer(str_cut(&value, ':')))
			continue;
		memmove(lines + kept, one.p, one.n + 1);
		kept += one.n + 1;
	}
	return kept;
}

bool pass_names_fields(const struct http_head *h)
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

bool pass_is_named(const struct http_head *h, struct str name)
{
	for (size_t i = 0; i < h->n_fields; i++)
		if (str_caseeq(h->fields[i].name, STR("connection")) &&
			head_list_has(h->fields[i].value, name))
			return true;
	return false;
}

bool pass_platform_key(struct str value)
{
	struct str scheme = str_cut(&value, ' ');

	value = str_trim(value);
	return str_caseeq(scheme, STR("bearer")) && str_starts(value, STR("weir_"));
}

bool pass_upgrade(const struct http_head *h, struct str *ret)
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
	*ret = wanted;
	return said && wanted.n && !h->http10 && !h->chunked && h->length <= 0 &&
		!head_list_has(wanted, STR("h2c")) && !head_list_has(wanted, STR("h2"));
}

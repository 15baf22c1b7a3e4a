/* Heads on their way through execd's proxy. */
#include "api/opensandbox/forward.h"
#include "event/headpass.h"
#include "../unit.h"

static struct http_field fields[HTTPD_HEADERS_MAX + 2];

static struct http_head read_head(const char *text)
{
	struct head_scan scan = { 0 };
	struct http_head h;
	struct err err;

	assert_int_equal(head_scan(&scan, str_c(text), &err), 1);
	assert_int_equal(head_read(str_c(text), fields, ARRAY_SIZE(fields), &h, &err), 0);
	return h;
}

static char *forwarded(const char *text, const char *path)
{
	static char out[8192];
	struct http_head h = read_head(text);
	struct forward f = { .port = 8000, .path = str_c(path), .client = ip_v4(0x0a000001) };
	auto_buf struct buf b = BUF_MAX(FORWARD_REQUEST_MAX);
	struct str protocol;

	f.upgrade = pass_upgrade(&h, &protocol);
	assert_int_equal(forward_request(&b, &h, &f), 0);
	assert_int_equal(str_copy(out, sizeof(out), buf_str(&b)), 0);
	return out;
}

static void plain(void **state)
{
	assert_string_equal(forwarded("GET /x HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n", "/p%2Fq?a=b"),
		"GET /p%2Fq?a=b HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: */*\r\nConnection: close\r\n"
		"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n");
	assert_non_null(strstr(forwarded("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "?a=b"), "GET /?a=b HTTP"));
	assert_non_null(strstr(forwarded("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", ""), "GET / HTTP"));
}

static void framing(void **state)
{
	char *s = forwarded("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "/");

	assert_non_null(strstr(s, "Content-Length: 5\r\n"));
	s = forwarded("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "/");
	assert_non_null(strstr(s, "Transfer-Encoding: chunked\r\n"));
	assert_null(strstr(s, "Content-Length"));
}

/* Each is there in the request and must not be in what is sent on. */
static void what_stays_behind(void **state)
{
	static const char *const lines[] = { "Connection: x-mine, close", "X-Mine: 1", "Keep-Alive: 5",
		"TE: trailers", "Proxy-Authorization: x", "Proxy-Connection: x", "Upgrade: h2c",
		"Expect: 100-continue", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https",
		"X-Api-Key: weir_1", "OPEN-SANDBOX-API-KEY: weir_1", "OPENSANDBOX-EGRESS-AUTH: t",
		"OpenSandbox-Secure-Access: t", "X-EXECD-ACCESS-TOKEN: t", "X-Weir-Ingress-Token: t", "Authorization: Bearer weir_1",
		"authorization: bEARER   weir_1", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4",
		"X-Forwarded-Port: 1", "OpenSandbox-Ingress-To: x-1" };
	char head[2048];

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(head, sizeof(head),
			"GET /x HTTP/1.1\r\nHost: a\r\n%s\r\nConnection: x-mine\r\nX-Stays: 1\r\n\r\n",
			lines[i]);
		assert_null(strstr(forwarded(head, "/"), lines[i]));
		assert_non_null(strstr(forwarded(head, "/"), "X-Stays: 1\r\n"));
	}
}

/* With a body only, and from a client that may hear the answer. */
static void expect(void **state)
{
#define POST(version, lines) "POST /x HTTP/" version "\r\nHost: a\r\n" lines "\r\n\r\n"
	static const struct {
		const char *head;
		bool passes;
	} rows[] = { { POST("1.1", "Expect: 100-Continue\r\nContent-Length: 1"), true },
		{ POST("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked"), true },
		{ POST("1.1", "Expect: 100-continue\r\nContent-Length: 0"), false },
		{ POST("1.0", "Expect: 100-continue\r\nContent-Length: 1"), false },
		{ POST("1.1", "Content-Length: 1"), false } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(!!strstr(forwarded(rows[i].head, "/"), "\r\nExpect: 100-continue\r\n"),
			rows[i].passes);
}

static void behind_the_body(void **state)
{
	static const char *const stays[] = { "Content-Length: 1", "transfer-encoding: chunked", "Host: x",
		"Trailer: x", "Authorization: x", "Cookie: x", "Set-Cookie: x", "X-Api-Key: x",
		"X-Forwarded-For: 1.2.3.4", "Content-Type: x", "If-Match: x", "Location: /", "Connection: x" };
	static const char *const passes[] = { "X-Sum: 1", "grpc-status: 0", "Digest:",
		"Server-Timing: a:b\tc" };
	char lines[256];

	for (size_t i = 0; i < ARRAY_SIZE(stays) + ARRAY_SIZE(passes); i++) {
		bool stay = i < ARRAY_SIZE(stays);
		const char *one = stay ? stays[i] : passes[i - ARRAY_SIZE(stays)];
		auto_buf struct buf out = BUF_MAX(512);

		snprintf(lines, sizeof(lines), "A: b\r\n%s\r\nC: d\r\n", one);
		assert_int_equal(forward_trailers(&out, str_c(lines)), 0);
		assert_true(str_eq_c(buf_str(&out), stay ? "A: b\r\nC: d\r\n" : lines));
	}
}

static void what_passes(void **state)
{
	static const char *const lines[] = { "Authorization: Bearer mine", "Authorization: Basic weir_",
		"Cookie: a=b", "Range: bytes=1-2", "Origin: http://x",
		"Trailer: X-Sum" };
	char head[2048];

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(head, sizeof(head), "GET /x HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", lines[i]);
		assert_non_null(strstr(forwarded(head, "/"), lines[i]));
	}
	assert_non_null(strstr(forwarded("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", "/"),
		"X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\n"));
}

static void upgrades(void **state)
{
	char *s = forwarded("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, UPGRADE\r\n"
			    "Upgrade: WebSocket\r\nSec-WebSocket-Protocol: x\r\n\r\n", "/");
	struct http_head h;
	struct str protocol;

	assert_non_null(strstr(s, "Connection: Upgrade\r\nUpgrade: WebSocket\r\n"));
	assert_non_null(strstr(s, "Sec-WebSocket-Protocol: x\r\n"));
	assert_null(strstr(s, "Connection: close"));
	h = read_head("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n");
	assert_false(pass_upgrade(&h, &protocol));
	h = read_head("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
	assert_false(pass_upgrade(&h, &protocol));
}

static void answers(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nDate: x\r\n"
				   "Set-Cookie: a\r\n\r\n";
	struct head_scan scan = { .answer = true };
	struct http_head h;
	struct err err;

	assert_int_equal(head_scan(&scan, str_c(text), &err), 1);
	assert_int_equal(head_read_answer(str_c(text), fields, ARRAY_SIZE(fields), &h, &err), 0);
	assert_true(forward_answers(&h, STR("Set-Cookie")));
	assert_true(forward_answers(&h, STR("Content-Type")));
	assert_false(forward_answers(&h, STR("x-hop")));
	assert_false(forward_answers(&h, STR("date")));
	assert_false(forward_answers(&h, STR("transfer-encoding")));
	assert_false(forward_answers(&h, STR("Content-Length")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(framing),
		cmocka_unit_test(what_stays_behind),
		cmocka_unit_test(expect),
		cmocka_unit_test(behind_the_body),
		cmocka_unit_test(what_passes),
		cmocka_unit_test(upgrades),
		cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}

/*
 * Heads through execd's proxy: a request's head is written anew, and what is written must read as
 * strictly as what came, with the same method and framing, no credential of the platform's, and nothing
 * that could end it early.
 */
#include "../fuzz.h"
#include "api/opensandbox/forward.h"
#include "event/headpass.h"

static struct http_field fields[HTTPD_HEADERS_MAX + 2], again_fields[HTTPD_HEADERS_MAX + 16];

static bool is_secret(struct str name)
{
	return str_caseeq(name, STR("x-api-key")) || str_caseeq(name, STR("open-sandbox-api-key")) ||
		str_caseeq(name, STR("opensandbox-egress-auth"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_n(data, size), protocol, sent;
	struct head_scan scan = { 0 }, again_scan = { .max = FORWARD_REQUEST_MAX };
	auto_buf struct buf out = BUF_MAX(FORWARD_REQUEST_MAX);
	struct forward f = { .port = 80, .client = ip_v4(0x7f000001) };
	struct http_head h, again;
	struct err err;

	if (head_scan(&scan, in, &err) != 1 ||
		head_read(str_n(in.p + scan.start, scan.at - scan.start), fields, ARRAY_SIZE(fields), &h,
			&err))
		return 0;
	f.path = h.target;
	f.upgrade = pass_upgrade(&h, &protocol);
	if (forward_request(&out, &h, &f) < 0)
		return 0;
	sent = buf_str(&out);
	/* Our own lines may be one too many for a reader as strict as we are. */
	if (h.n_fields + 6 > HTTPD_HEADERS_MAX)
		return 0;
	must(head_scan(&again_scan, sent, &err) == 1 && again_scan.at == sent.n, "one whole head");
	must(head_read(sent, again_fields, ARRAY_SIZE(again_fields), &again, &err) == 0, "it reads");
	CHECK(str_eq(h.method, again.method) && h.chunked == again.chunked && h.length == again.length);
	CHECK(!again.http10 && again.target.p[0] == '/');
	for (size_t i = 0; i < again.n_fields; i++)
		CHECK(!is_secret(again.fields[i].name));
	for (size_t i = 0; i < h.n_fields; i++)
		forward_answers(&h, h.fields[i].name);
	return 0;
}

/*
 * The policy of a private network: what is accepted compiles within its bound or says that it does
 * not, is told again as it reads again, and the kernel's keys judge every call between the members it
 * names as the list does.
 */
#include "../fuzz.h"
#include "api/calls.h"

static void check_told_again(const struct net_rules *r)
{
	auto_buf struct buf text = BUF_MAX(1 << 20), again_text = BUF_MAX(1 << 20);
	struct jw w = JW(&text), again_w = JW(&again_text);
	auto_json json_t *body = NULL;
	auto_free struct net_rules *again = NULL;
	struct err err;

	jw_obj(&w, NULL);
	net_rules_write(r, &w);
	jw_end(&w);
	CHECK(json_parse(buf_str(&text), &body, &err) == 0);
	CHECK(net_rules_from(body, &again, &err) == 0 && !again == !r);
	jw_obj(&again_w, NULL);
	net_rules_write(again, &again_w);
	jw_end(&again_w);
	CHECK(str_eq(buf_str(&text), buf_str(&again_text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_json json_t *body = NULL;
	auto_free struct net_rules *r = NULL;
	struct calls_image img = { 0 };
	struct err err;

	if (json_parse(str_n(data, size), &body, &err) < 0)
		return 0;
	if (net_rules_from(body, &r, &err) < 0) {
		CHECK(err.text[0] && str_utf8(str_c(err.text)));
		return 0;
	}
	check_told_again(r);
	if (!r)
		return 0;
	net_rules_number_ends(r);
	CHECK(calls_valid(&r->calls) && !calls_open(&r->calls));
	for (uint32_t i = 0; i < r->calls.n; i++) {
		auto_buf struct buf text = BUF_MAX(4096);

		net_rule_text(r, i, &text);
		CHECK(text.n && !buf_failed(&text));
	}
	if (calls_compile(&r->calls, 1, &img, &err) < 0)
		CHECK(err.code == -E2BIG && err.text[0]);
	else
		CHECK(img.n <= CALLS_KEYS_MAX);
	calls_image_done(&img);
	return 0;
}

/* policy: whatever allocation fails, rules are read, carried, compiled, pinned and told, or not. */
#include "base/buf.h"
#include "policy/createos.h"
#include "policy/explain.h"
#include "../nth.h"

static const struct policy_knobs knobs;
static struct policy_floor floor_of;

static int read_rules(struct policy **ret)
{
	struct str rules[64];
	static char text[64][40];
	struct err err = { 0 };
	int r;

	for (unsigned int i = 0; i < ARRAY_SIZE(rules); i++) {
		const char *form = i % 4 == 0 ? "h%u.test:443" : i % 4 == 1 ? "*.w%u.test" :
			i % 4 == 2 ? "198.51.%u.0/24:8080" : "2001:db8:%u::/48";

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		rules[i] = str_n(text[i], (size_t)snprintf(text[i], sizeof(text[i]), form, i));
#pragma GCC diagnostic pop
	}
	r = createos_policy(rules, ARRAY_SIZE(rules), &floor_of, ret, &err);
	return r < 0 && !err.text[0] ? 1 : r;
}

static int whole_life(void *arg)
{
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX), text = BUF_MAX(4096);
	auto_policy struct policy *p = NULL, *copy = NULL;
	struct policy_pin_image pin = { 0 };
	struct policy_image img = { 0 };
	struct err err = { 0 };
	struct name name;
	int r = read_rules(&p);

	if (r == 0)
		r = policy_encode(p, &blob);
	if (r == 0)
		r = policy_decode(buf_str(&blob), &copy, &err);
	if (r == 0)
		r = policy_compile(copy, &knobs, &img, &err);
	if (r == 0)
		policy_image_done(&img);
	if (r == 0)
		r = name_from(STR("h0.test"), &name, &(const char *){ NULL });
	if (r == 0)
		r = policy_pin(copy, &knobs, ip_v4(0xc6336401), &name, 1, 7, &pin);
	if (r == 0)
		policy_pin_image_done(&pin);
	if (r == 0)
		r = policy_rule_text(copy, 0, &text);
	return MIN(r, 0);
}

static void a_whole_life(void **state)
{
	struct policy_floor_spec spec = { 0 };
	struct err err;

	assert_int_equal(policy_floor_build(&spec, &floor_of, &err), 0);
	nth_each("policy", whole_life, NULL, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_whole_life) };

	return cmocka_run_group_tests_name("policy/nth", tests, NULL, NULL);
}

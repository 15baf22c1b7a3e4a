/* policy/policy: what is added is there, within limits; what is encoded comes back, and only that. */
#include "policy/policy.h"
#include "../unit.h"

static struct name_pattern pattern(const char *text)
{
	struct name_pattern p;

	assert_int_equal(name_pattern_from(str_c(text), true, &p, NULL), 0);
	return p;
}

static struct prefix prefix(const char *text)
{
	struct prefix p;

	assert_int_equal(prefix_from(str_c(text), true, &p), 0);
	return p;
}

static struct policy *sample(void)
{
	struct policy *p = policy_new(POLICY_SANDBOX0, WEIR_ALLOW);

	assert_int_equal(policy_add_rule(p, WEIR_DENY), 0);
	assert_int_equal(policy_add_name(p, pattern("*.a.test")), 0);
	assert_int_equal(policy_add_name(p, pattern("b.test")), 0);
	assert_int_equal(policy_add_prefix(p, prefix("10.0.0.0/8")), 0);
	assert_int_equal(policy_add_rule(p, WEIR_ALLOW), 0);
	assert_int_equal(policy_add_prefix(p, prefix("2001:db8::/32")), 0);
	assert_int_equal(policy_add_prefix(p, prefix("1.1.1.1")), 0);
	assert_int_equal(policy_add_port(p, POLICY_TCP, 443, 443), 0);
	assert_int_equal(policy_add_port(p, POLICY_TCP_UDP, 1000, 2000), 0);
	assert_int_equal(policy_add_rule(p, WEIR_DENY), 0);
	return p;
}

static void adding(void **state)
{
	auto_policy struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);
	struct prefix host_bits = { .ip = ip_v4(0x0a000001), .len = 8 };
	int r = 0;

	assert_int_equal(policy_add_name(p, pattern("a.test")), -EINVAL);
	assert_int_equal(policy_add_prefix(p, prefix("10.0.0.0/8")), -EINVAL);
	assert_int_equal(policy_add_port(p, POLICY_TCP, 1, 1), -EINVAL);
	assert_int_equal(policy_add_rule(p, WEIR_ALLOW), 0);
	assert_int_equal(policy_add_prefix(p, host_bits), -EINVAL);
	assert_int_equal(policy_add_prefix(p, (struct prefix){ .ip.family = 5 }), -EINVAL);
	assert_int_equal(policy_add_port(p, POLICY_TCP, 2, 1), -EINVAL);
	assert_int_equal(policy_add_port(p, 0, 1, 1), -EINVAL);
	assert_int_equal(policy_add_port(p, 4, 1, 1), -EINVAL);
	for (uint32_t i = 1; i < POLICY_RULES_MAX; i++)
		r |= policy_add_rule(p, WEIR_ALLOW);
	assert_int_equal(r, 0);
	assert_int_equal(policy_add_rule(p, WEIR_ALLOW), -E2BIG);
	for (uint32_t i = 0; i < POLICY_PORTS_MAX; i++)
		r |= policy_add_port(p, POLICY_TCP, 1, 1);
	assert_int_equal(r, 0);
	assert_int_equal(policy_add_port(p, POLICY_TCP, 1, 1), -E2BIG);
}

static void round_trip(void **state)
{
	auto_policy struct policy *p = sample();
	auto_policy struct policy *q = NULL;
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX), again = BUF_MAX(POLICY_BLOB_MAX);
	struct err err;

	assert_int_equal(policy_encode(p, &blob), 0);
	assert_int_equal(policy_decode(buf_str(&blob), &q, &err), 0);
	assert_true(policy_equal(p, q));
	assert_int_equal(policy_encode(q, &again), 0);
	assert_true(str_eq(buf_str(&blob), buf_str(&again)));
	q->ports[0].hi++;
	assert_false(policy_equal(p, q));
}

/* Every truncation and every single changed byte either fails or is again a valid policy. */
static void damage(void **state)
{
	auto_policy struct policy *p = sample();
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	struct policy *q = NULL;
	struct err err;

	assert_int_equal(policy_encode(p, &blob), 0);
	for (size_t n = 0; n < blob.n; n++)
		assert_int_equal(policy_decode(str_n(blob.p, n), &q, &err), -EBADMSG);
	for (size_t i = 0; i < blob.n * 255; i++) {
		char keep = blob.p[i / 255];

		blob.p[i / 255] = (char)(keep + 1 + (char)(i % 255));
		if (policy_decode(buf_str(&blob), &q, &err) == 0) {
			auto_buf struct buf again = BUF_MAX(POLICY_BLOB_MAX);

			assert_int_equal(policy_encode(q, &again), 0);
			assert_true(str_eq(buf_str(&blob), buf_str(&again)));
			q = policy_free(q);
		}
		blob.p[i / 255] = keep;
	}
	buf_u8(&blob, 0);
	assert_int_equal(policy_decode(buf_str(&blob), &q, &err), -EBADMSG);
}

static void text(void **state)
{
	static const char *const lines[] = { "deny a.test, *.a.test, b.test at 10.0.0.0/8",
		"allow 2001:db8::/32, 1.1.1.1 ports tcp/443, 1000-2000", "deny everything" };
	auto_policy struct policy *p = sample();

	for (uint32_t i = 0; i < ARRAY_SIZE(lines); i++) {
		auto_buf struct buf out = BUF_MAX(1000);

		assert_int_equal(policy_rule_text(p, i, &out), 0);
		assert_string_equal(buf_cstr(&out), lines[i]);
	}
	assert_int_equal(policy_rule_text(p, 3, &(struct buf){ .max = 10 }), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(adding), cmocka_unit_test(round_trip),
		cmocka_unit_test(damage), cmocka_unit_test(text) };

	return cmocka_run_group_tests_name("policy/policy", tests, NULL, NULL);
}

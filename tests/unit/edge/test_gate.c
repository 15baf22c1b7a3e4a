/* The gate says of every name what policy_name() says: on chosen lists, and on a thousand drawn. */
#include "edge/gate.h"
#include "edge/hash.h"
#include "play.h"

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % below;
}

/* Few labels, so that patterns and names meet often, at every depth. */
static struct name drawn_name(void)
{
	static const char *const labels[] = { "a", "b", "ab", "x-1", "test" };
	char text[64] = "";
	struct name name;
	size_t n = 0;

	for (uint32_t i = draw(4) + 1; i; i--)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? "." : "",
			labels[draw(ARRAY_SIZE(labels))]);
	assert_int_equal(name_from(str_c(text), &name, NULL), 0);
	return name;
}

static struct policy *drawn_policy(void)
{
	struct policy *p = policy_new(POLICY_NATIVE, draw(2) ? WEIR_ALLOW : WEIR_DENY);

	for (uint32_t rules = draw(12); rules; rules--) {
		assert_int_equal(policy_add_rule(p, draw(2) ? WEIR_ALLOW : WEIR_DENY), 0);
		for (uint32_t names = draw(4); names; names--) {
			struct name_pattern pattern = { .scope = (uint8_t)draw(3),
				.name = drawn_name() };

			assert_int_equal(policy_add_name(p, pattern), 0);
		}
		if (draw(3) == 0)
			assert_int_equal(policy_add_port(p, POLICY_TCP, 443, 443), 0);
		if (draw(4) == 0)
			assert_int_equal(policy_add_prefix(p, (struct prefix){ { 4, { 10 } }, 8 }),
				0);
	}
	return p;
}

static enum policy_name_verdict same(const struct policy *p, const struct gate *g,
	const struct name *name)
{
	uint16_t rule = 7, expected_rule = 8;
	enum policy_name_verdict expected = policy_name(p, name, &expected_rule);

	assert_int_equal(gate_ask(g, name, &rule), expected);
	assert_int_equal(rule, expected_rule);
	return expected;
}

static void drawn(void **unused)
{
	unsigned int seen[3] = { 0 };

	for (int i = 0; i < 1000; i++) {
		auto_policy struct policy *p = drawn_policy();
		struct gate *g = gate_new(p);

		for (int k = 0; k < 50; k++) {
			struct name name = drawn_name();

			seen[same(p, g, &name)]++;
		}
		gate_free(g);
	}
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++) /* no verdict is rare */
		assert_true(seen[i] > 2500);
}

/* Of the longest lists and names that there may be. */
static void extremes(void **unused)
{
	auto_policy struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);
	struct name_pattern pattern = { .scope = NAME_BELOW };
	char text[NAME_MAX_LEN + 1];
	struct name name, deep;
	struct gate *g;

	for (int i = 0; i < NAME_MAX_LEN; i++)
		text[i] = i % 2 ? '.' : 'a';
	assert_int_equal(name_from(str_n(text, NAME_MAX_LEN), &deep, NULL), 0);
	assert_int_equal(policy_add_rule(p, WEIR_ALLOW), 0);
	pattern.name = deep;
	for (uint32_t i = 0; i < POLICY_NAMES_MAX; i++) {
		if (i) {
			int n = snprintf(text, sizeof(text), "n%u.test", i);

			assert_int_equal(name_from(str_n(text, (size_t)n), &pattern.name, NULL), 0);
		}
		assert_int_equal(policy_add_name(p, pattern), 0);
	}
	g = gate_new(p);
	assert_int_equal(same(p, g, &deep), POLICY_NAME_DENIED); /* itself is not below */
	assert_int_equal(name_from(STR("x.n16383.test"), &name, NULL), 0);
	assert_int_equal(same(p, g, &name), POLICY_NAME_ALLOWED);
	assert_int_equal(name_from(STR("n16383.test"), &name, NULL), 0);
	assert_int_equal(same(p, g, &name), POLICY_NAME_DENIED);
	assert_int_equal(name_from(STR("xn16383.test"), &name, NULL), 0);
	assert_int_equal(same(p, g, &name), POLICY_NAME_DENIED);
	gate_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drawn),
		cmocka_unit_test(extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

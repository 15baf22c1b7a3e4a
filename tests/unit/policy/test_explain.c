/* policy/explain and policy/reason: every reason has words; the sentence names what decides. */
#include <netinet/in.h>
#include "policy/createos.h"
#include "policy/explain.h"
#include "../unit.h"

static void words(void **state)
{
	for (unsigned int i = 0; i < WEIR_R_MAX; i++) {
		assert_non_null(policy_reason_name(i));
		assert_non_null(policy_reason_text(i, WEIR_FLOOR_NONE));
		for (unsigned int k = 0; k < i; k++)
			assert_string_not_equal(policy_reason_name(i), policy_reason_name(k));
	}
	for (unsigned int i = 0; i < WEIR_FLOOR_MAX; i++) {
		assert_non_null(policy_floor_name(i));
		assert_non_null(policy_floor_text(i));
		assert_non_null(policy_reason_text(WEIR_R_FLOOR, i));
	}
	assert_string_equal(policy_reason_name(200), "unknown");
	assert_string_equal(policy_reason_text(200, 0), "unknown");
	assert_string_equal(policy_floor_name(200), "unknown");
}

static void explains(void **state)
{
	static const struct {
		const char *host, *addr;
		uint16_t port;
		uint8_t verdict;
		enum weir_reason reason;
		const char *text;
	} cases[] = {
		{ "a.test", NULL, 443, WEIR_ALLOW, WEIR_R_RULE,
			"a.test tcp/443 is allowed: rule 0, \"allow a.test port 443\"" },
		{ "a.test", NULL, 80, WEIR_DENY, WEIR_R_DEFAULT,
			"a.test tcp/80 is refused: no rule matches, so the policy's default decides "
			"(deny); a rule about addresses may decide otherwise once the name is "
			"resolved" },
		{ "b.test", NULL, 443, WEIR_DENY, WEIR_R_NAME,
			"b.test tcp/443 is refused: no rule allows the name" },
		{ NULL, "203.0.113.9", 443, WEIR_DENY, WEIR_R_DEFAULT,
			"203.0.113.9 tcp/443 is refused: no rule matches, so the policy's default "
			"decides (deny)" },
		{ NULL, "198.51.100.7", 25, WEIR_DENY, WEIR_R_SMTP,
			"198.51.100.7 tcp/25 is refused: rule 1, \"allow 198.51.100.0/24\"; TCP port "
			"25 needs a rule that names the port" },
		{ NULL, "169.254.169.254", 80, WEIR_DENY, WEIR_R_FLOOR,
			"169.254.169.254 tcp/80 is refused: the address is link-local or serves "
			"metadata; the floor cannot be opened by a rule" },
		{ "a.test", "203.0.113.9", 443, WEIR_ALLOW, WEIR_R_RULE,
			"a.test (203.0.113.9) tcp/443 is allowed: rule 0, \"allow a.test port 443\"" },
	};
	struct str rules[] = { STR("a.test:443"), STR("198.51.100.0/24") };
	auto_policy struct policy *p = NULL;
	struct policy_floor_spec spec = { 0 };
	struct policy_knobs knobs = { 0 };
	static struct policy_floor f;

	policy_floor_build(&spec, &f, NULL);
	assert_int_equal(createos_policy(rules, 2, &f, &p, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_question q = { .proto = IPPROTO_TCP, .port = cases[i].port };
		struct policy_answer a;
		struct name host;

		if (cases[i].host) {
			name_from(str_c(cases[i].host), &host, NULL);
			q.host = &host;
		}
		if (cases[i].addr)
			ip_from(str_c(cases[i].addr), &q.addr);
		policy_explain(p, &knobs, &f, &q, &a);
		assert_string_equal(a.text, cases[i].text);
		assert_int_equal(a.verdict, cases[i].verdict);
		assert_int_equal(a.reason, cases[i].reason);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(words), cmocka_unit_test(explains) };

	return cmocka_run_group_tests_name("policy/explain", tests, NULL, NULL);
}

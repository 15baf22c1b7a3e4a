/* policy/createos: each form of the grammar, and each refusal with its sentence. */
#include "policy/createos.h"
#include "daemon_floor.h"

static void forms(void **state)
{
	static const struct {
		const char *rule, *text;
	} cases[] = {
		{ "API.example.com", "allow api.example.com" },
		{ " example.com:443 ", "allow example.com port 443" },
		{ "*.example.com", "allow *.example.com" },
		{ "*.example.com:8443", "allow *.example.com port 8443" },
		{ "1.1.1.1", "allow 1.1.1.1" },
		{ "1.1.1.1:53", "allow 1.1.1.1 port 53" },
		{ "10.9.0.0/16", "allow 10.9.0.0/16" },
		{ "192.168.1.77/24:8080", "allow 192.168.1.0/24 port 8080" },
		{ "0.0.0.0/0:443", "allow 0.0.0.0/0 port 443" },
		{ "2001:db8::1", "allow 2001:db8::1" },
		{ "[2001:db8::1]:443", "allow 2001:db8::1 port 443" },
		{ "[2001:db8::1]", "allow 2001:db8::1" },
		{ "2001:DB8::7/32", "allow 2001:db8::/32" },
		{ "[2001:db8::/32]:443", "allow 2001:db8::/32 port 443" },
		{ "::ffff:1.1.1.1", "allow 1.1.1.1" },
		{ "localhost:80", "allow localhost port 80" },
		{ "::/0", "allow ::/0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str rule = str_c(cases[i].rule);
		auto_policy struct policy *p = NULL;
		auto_buf struct buf out = BUF_MAX(1000);
		struct err err = { 0 };

		if (createos_policy(&rule, 1, daemon_floor(), &p, &err) < 0)
			fail_msg("%s: %s", cases[i].rule, err.text);
		assert_int_equal(p->fallback, WEIR_DENY);
		assert_int_equal(p->n_rules, 1);
		policy_rule_text(p, 0, &out);
		assert_string_equal(buf_cstr(&out), cases[i].text);
	}
}

static void refusals(void **state)
{
	static const struct {
		const char *rule, *text;
	} cases[] = {
		{ "", "egress[1] \"\": the rule is empty" },
		{ "foo:99999", "egress[1] \"foo:99999\": port must be 1 to 65535" },
		{ "foo:0", "egress[1] \"foo:0\": port must be 1 to 65535" },
		{ "foo:", "egress[1] \"foo:\": port must be 1 to 65535" },
		{ "foo:8o", "egress[1] \"foo:8o\": port must be 1 to 65535" },
		{ ":443", "egress[1] \":443\": the name is empty" },
		{ "a..b", "egress[1] \"a..b\": a label of the name is empty" },
		{ "*:443", "egress[1] \"*:443\": \"*\" may stand only for the first label, as in "
			   "\"*.example.com\"" },
		{ "a.*.b", "egress[1] \"a.*.b\": \"*\" may stand only for the first label, as in "
			   "\"*.example.com\"" },
		{ "https://x", "egress[1] \"https://x\": expected a host name, not a URL" },
		{ "10.0.0.0/33", "egress[1] \"10.0.0.0/33\": expected a network such as 10.0.0.0/8 "
				 "or 2001:db8::/32, or an address" },
		{ "300.1.1.1", "egress[1] \"300.1.1.1\": the name ends in a number, so clients would "
			       "read it as an address" },
		{ "127.1", "egress[1] \"127.1\": the name ends in a number, so clients would read it "
			   "as an address" },
		{ "[1.1.1.1]:53", "egress[1] \"[1.1.1.1]:53\": only IPv6 addresses stand in brackets" },
		{ "[2001:db8::1", "egress[1] \"[2001:db8::1\": the \"[\" is not closed" },
		{ "[2001:db8::]/32", "egress[1] \"[2001:db8::]/32\": after \"]\" only \":port\" may "
				     "follow" },
		{ "169.254.169.254", "egress[1] \"169.254.169.254\" cannot be opened by a rule: the "
				     "address is link-local or serves metadata" },
		{ "10.60.3.0/24:80", "egress[1] \"10.60.3.0/24:80\" cannot be opened by a rule: the "
				     "address belongs to the sandboxes' own range" },
		{ "-x.test", "egress[1] \"-x.test\": a label must not begin or end with a hyphen" },
		{ "*.x-.test", "egress[1] \"*.x-.test\": a label must not begin or end with a hyphen" },
		{ "a\nb", "egress[1] \"a?b\": names consist of letters, digits, hyphens, underscores "
			  "and dots" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str rules[] = { STR("ok.example"), str_c(cases[i].rule) };
		struct policy *p = NULL;
		struct err err = { 0 };

		assert_true(createos_policy(rules, 2, daemon_floor(), &p, &err) < 0);
		assert_string_equal(err.text, cases[i].text);
		assert_string_equal(err.field, "egress");
		assert_int_equal(err.kind, ERR_INVALID);
	}
}

static void lists(void **state)
{
	struct str many[CREATEOS_RULES_MAX + 1], star[] = { STR("a.test"), STR("*") };
	auto_policy struct policy *none = NULL, *all = NULL, *most = NULL;
	struct policy *p = NULL;
	struct err err;

	assert_int_equal(createos_policy(NULL, 0, daemon_floor(), &none, &err), 0);
	assert_int_equal(none->fallback, WEIR_ALLOW);
	assert_int_equal(createos_policy(star, 2, daemon_floor(), &all, &err), 0);
	assert_true(policy_equal(none, all));
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = STR("a.test:443");
	assert_int_equal(createos_policy(many, 256, daemon_floor(), &most, &err), 0);
	assert_int_equal(createos_policy(many, 257, daemon_floor(), &p, &err), -E2BIG);
	assert_string_equal(err.text, "egress: expected at most 256 rules, got 257");
	star[0] = STR("bad name");
	assert_int_equal(createos_policy(star, 2, daemon_floor(), &p, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(forms), cmocka_unit_test(refusals),
		cmocka_unit_test(lists) };

	return cmocka_run_group_tests_name("policy/createos", tests, NULL, NULL);
}

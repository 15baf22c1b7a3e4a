/* policy/opensandbox and policy/sandbox0: what is refused, with its sentence. What is accepted, and
 * what it then means, is in decisions.table. */
#include "policy/opensandbox.h"
#include "policy/sandbox0.h"
#include "daemon_floor.h"

static void opensandbox_targets(void **state)
{
	static const struct {
		const char *target, *text; /* NULL: accepted */
	} cases[] = {
		{ "a.test", NULL },
		{ "A.test.", NULL },
		{ "*.a.test", NULL },
		{ "10.9.9.9/8", NULL },
		{ "2001:db8::1", NULL },
		{ " ", "egress[1].target \" \": the target is empty" },
		{ "*", "egress[1].target \"*\": \"*\" may stand only for the first label, as in "
		       "\"*.example.com\"" },
		{ "a.test:443", "egress[1].target \"a.test:443\": expected a network such as "
				"10.0.0.0/8 or 2001:db8::/32, or an address" },
		{ "169.254.169.254", "egress[1].target \"169.254.169.254\" cannot be opened by a "
				     "rule: the address is link-local or serves metadata" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct opensandbox_rule rules[] = { { true, STR("ok.test") },
			{ true, str_c(cases[i].target) } };
		auto_policy struct policy *p = NULL;
		struct err err = { 0 };
		int r = opensandbox_policy(false, rules, 2, NULL, daemon_floor(), &p, &err);

		if ((r == 0) != !cases[i].text)
			fail_msg("%s: %d %s", cases[i].target, r, err.text);
		if (cases[i].text) {
			assert_string_equal(err.text, cases[i].text);
			assert_string_equal(err.field, "networkPolicy");
			assert_null(p);
		}
	}
}

/* Denying what is closed anyway is no mistake. */
static void opensandbox_denies_the_floor(void **state)
{
	struct opensandbox_rule rule = { false, STR("169.254.0.0/16") };
	struct str link = STR("169.254.169.254");
	struct opensandbox_always always = { .allow = &link, .n_allow = 1 };
	auto_policy struct policy *p = NULL;

	assert_int_equal(opensandbox_policy(true, &rule, 1, &always, daemon_floor(), &p, NULL), 0);
	assert_int_equal(p->n_rules, 3);
}

static void opensandbox_limit(void **state)
{
	static struct opensandbox_rule rules[OPENSANDBOX_RULES_MAX + 1];
	auto_policy struct policy *p = NULL;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		rules[i] = (struct opensandbox_rule){ true, STR("a.test") };
	assert_int_equal(opensandbox_policy(false, rules, OPENSANDBOX_RULES_MAX, NULL,
				 daemon_floor(), &p, NULL), 0);
	p = policy_free(p);
	assert_int_equal(opensandbox_policy(false, rules, OPENSANDBOX_RULES_MAX + 1, NULL,
				 daemon_floor(), &p, &err), -E2BIG);
	assert_int_equal(err.kind, ERR_TOO_LARGE);
}

static void opensandbox_always_lines(void **state)
{
	const char *why = NULL;
	struct str target;

	assert_int_equal(opensandbox_always_line(STR("  *.a.test. "), &target, &why), 0);
	assert_true(str_eq_c(target, "*.a.test."));
	assert_int_equal(opensandbox_always_line(STR("# a.test"), &target, &why), 0);
	assert_null(target.p);
	assert_int_equal(opensandbox_always_line(STR(" \t"), &target, &why), 0);
	assert_null(target.p);
	assert_int_equal(opensandbox_always_line(STR("10.0.0.0/33"), &target, &why), -EINVAL);
	assert_non_null(why);
	assert_int_equal(opensandbox_always_line(STR("a b"), &target, &why), -EINVAL);
}

static int ask(const struct sandbox0_ask *a, struct err *err)
{
	struct policy *p = NULL;
	int r = sandbox0_policy(a, daemon_floor(), &p, err);

	assert_true((r == 0) == (p != NULL));
	policy_free(p);
	return r;
}

#define LIST(l, ...) .l = (struct str[]){ __VA_ARGS__ }, \
	.n_##l = sizeof((struct str[]){ __VA_ARGS__ }) / sizeof(struct str)
#define PORT(p, e, proto) .ports = &(struct sandbox0_port){ p, e, STR(proto) }, .n_ports = 1

/* Every fault is named by its path, also in the half that the mode leaves idle. */
static void sandbox0_faults(void **state)
{
	const struct {
		struct sandbox0_ask ask;
		const char *text;
	} cases[] = {
		{ { .block_all = true, .allowed = { LIST(cidrs, STR("1.2.3.4/32"), STR("1.2.3.4")) } },
			"egress.allowedCidrs[1] \"1.2.3.4\": expected a network with its length, "
			"such as 10.0.0.0/8" },
		{ { .block_all = true, .denied = { LIST(cidrs, STR("1.2.3.4/33")) } },
			"egress.deniedCidrs[0] \"1.2.3.4/33\": expected a network such as "
			"10.0.0.0/8 or 2001:db8::/32, or an address" },
		{ { .allowed = { LIST(domains, STR("*.")) } },
			"egress.allowedDomains[0] \"*.\": the name is empty" },
		{ { .denied = { LIST(domains, STR("*"), STR("*.")) } },
			"egress.deniedDomains[1] \"*.\": the name is empty" },
		{ { .block_all = true, .allowed = { LIST(domains, STR("*")), PORT(0, 0, "") } },
			"egress.allowedPorts[0] \"0\": port must be 1 to 65535" },
		{ { .block_all = true, .allowed = { LIST(domains, STR(" ")), PORT(443, 0, "") } },
			"egress.allowedDomains[0] \" \": all entries are blank" },
		{ { .allowed = { PORT(0, 0, "") } },
			"egress.allowedPorts[0] \"0\": port must be 1 to 65535" },
		{ { .denied = { PORT(1, 65536, "") } },
			"egress.deniedPorts[0] \"1\": port must be 1 to 65535" },
		{ { .denied = { PORT(80, 79, "") } },
			"egress.deniedPorts[0] \"80\": endPort must not be below port" },
		{ { .denied = { PORT(80, 0, "icmp") } },
			"egress.deniedPorts[0] \"80\": protocol must be tcp or udp" },
		{ { .block_all = true, .allowed = { LIST(cidrs, STR("169.254.169.254/32")) } },
			"egress.allowedCidrs[0] \"169.254.169.254/32\" cannot be opened by a rule: "
			"the address is link-local or serves metadata" },
		{ { .rules = &(struct sandbox0_rule){ .allow = true }, .n_rules = 1 },
			"invalid network policy: egress.trafficRules[0]: needs cidrs, domains or "
			"ports" },
		{ { .rules = &(struct sandbox0_rule){ true, { PORT(70000, 0, "") } }, .n_rules = 1 },
			"egress.trafficRules[0].ports[0] \"70000\": port must be 1 to 65535" },
		{ { .rules = &(struct sandbox0_rule){ true, { PORT(80, 0, "") } }, .n_rules = 1,
			  .denied = { PORT(25, 0, "") } },
			"invalid network policy: egress.trafficRules cannot be combined with the "
			"allowed and denied lists" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { 0 };

		if (ask(&cases[i].ask, &err) >= 0)
			fail_msg("accepted: %s", cases[i].text);
		assert_string_equal(err.text, cases[i].text);
		assert_string_equal(err.field, "network");
	}
}

static void sandbox0_limits(void **state)
{
	static struct str domains[SANDBOX0_LIST_MAX + 1];
	static struct sandbox0_rule rules[SANDBOX0_RULES_MAX + 1];
	struct sandbox0_ask lists = { .allowed = { .domains = domains } }, ordered = { .rules = rules };
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(domains); i++)
		domains[i] = STR("a.test");
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		rules[i] = (struct sandbox0_rule){ false, { .domains = domains, .n_domains = 1 } };
	lists.allowed.n_domains = SANDBOX0_LIST_MAX;
	assert_int_equal(ask(&lists, &err), 0);
	lists.allowed.n_domains++;
	assert_int_equal(ask(&lists, &err), -E2BIG);
	ordered.n_rules = SANDBOX0_RULES_MAX;
	assert_int_equal(ask(&ordered, &err), 0);
	ordered.n_rules++;
	assert_int_equal(ask(&ordered, &err), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(opensandbox_targets),
		cmocka_unit_test(opensandbox_denies_the_floor), cmocka_unit_test(opensandbox_limit),
		cmocka_unit_test(opensandbox_always_lines), cmocka_unit_test(sandbox0_faults),
		cmocka_unit_test(sandbox0_limits) };

	return cmocka_run_group_tests_name("policy/dialects", tests, NULL, NULL);
}

/* policy/compile and policy/ports: sizes, sharing, limits. That the result is right is for the
 * decision table and the property test to say. */
#include "model.h"
#include "../unit.h"

static const struct policy_knobs no_knobs;

static void add_prefix(struct policy *p, const char *text)
{
	struct prefix prefix;

	assert_int_equal(prefix_from(str_c(text), true, &prefix), 0);
	assert_int_equal(policy_add_prefix(p, prefix), 0);
}

static void header(void **state)
{
	auto_policy struct policy *allow = policy_new(POLICY_NATIVE, WEIR_ALLOW);
	auto_policy struct policy *deny = policy_new(POLICY_NATIVE, WEIR_DENY);
	struct policy_knobs knobs = { .smtp = true, .other_protocols = true, .reject = true };
	struct policy_image img;

	assert_int_equal(policy_compile(allow, &knobs, &img, NULL), 0);
	assert_int_equal(img.header.fallback.verdict, WEIR_ALLOW);
	assert_int_equal(img.header.fallback.rule, WEIR_RULE_NONE);
	assert_int_equal(img.header.fallback.ports, 0);
	assert_int_equal(img.header.smtp + img.header.reject + img.header.other_protocols, 3);
	assert_int_equal(img.header.restrictive, 0);
	assert_int_equal(img.n_ports + img.n_prefixes, 0);
	policy_image_done(&img);
	assert_int_equal(policy_compile(deny, &knobs, &img, NULL), 0);
	assert_int_equal(img.header.restrictive, 1);
	assert_int_equal(img.header.other_protocols, 0); /* only under default allow */
	policy_image_done(&img);
}

/* One rule with one range is told by the decision itself, exactly; with all of both it is no more
 * than the rule's action. */
static void a_range_needs_no_table(void **state)
{
	static const enum policy_proto protos[] = { POLICY_TCP, POLICY_UDP, POLICY_TCP_UDP };

	for (unsigned int i = 0; i < 3 * 4; i++) {
		enum weir_verdict fallback = i & 1, action = i >> 1 & 1;
		auto_policy struct policy *p = policy_new(POLICY_NATIVE, fallback);
		const struct weir_decision *d;
		struct policy_image img;
		struct ip addr;

		ip_from(STR("1.1.1.1"), &addr);
		policy_add_rule(p, action);
		add_prefix(p, "1.1.1.1");
		policy_add_port(p, protos[i / 4], 20, 8080);
		assert_int_equal(policy_compile(p, &no_knobs, &img, NULL), 0);
		assert_int_equal(img.n_ports, 0);
		d = &img.prefixes[0].decision;
		assert_true(d->ports & WEIR_PORTS_RANGE);
		assert_int_equal(d->verdict, action && fallback);
		for (uint32_t port = 0; port < 65536; port++) {
			struct policy_verdict want =
				policy_reference(p, addr, IPPROTO_TCP, (uint16_t)port, NULL, 0);
			struct model_verdict got =
				model_lookup(&img, NULL, addr, IPPROTO_TCP, (uint16_t)port);

			if (got.verdict != want.verdict || got.rule != want.rule)
				fail_msg("case %u: wrong at %u", i, port);
		}
		policy_image_done(&img);
	}
}

static void all_ports_by_name(void **state)
{
	auto_policy struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);
	struct policy_image img;

	policy_add_rule(p, WEIR_ALLOW);
	add_prefix(p, "1.1.1.1");
	policy_add_port(p, POLICY_TCP_UDP, 0, 65535);
	assert_int_equal(policy_compile(p, &no_knobs, &img, NULL), 0);
	assert_int_equal(img.prefixes[0].decision.verdict, WEIR_ALLOW); /* echo passes */
	policy_image_done(&img);
}

/* A rule over a thousand prefixes has one port table; a port needs one key beside the bases. */
static void tables_are_shared(void **state)
{
	auto_policy struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);
	struct policy_image img;

	policy_add_rule(p, WEIR_ALLOW);
	for (uint32_t i = 0; i < 1000; i++)
		policy_add_prefix(p, prefix_of(ip_v4(0x0b000000 + i * 256), 24));
	policy_add_port(p, POLICY_TCP, 443, 443);
	policy_add_port(p, POLICY_TCP, 8443, 8443);
	assert_int_equal(policy_compile(p, &no_knobs, &img, NULL), 0);
	assert_int_equal(img.n_prefixes, 1000);
	assert_int_equal(img.n_ports, 4);
	for (size_t i = 0; i < img.n_prefixes; i++)
		assert_int_equal(img.prefixes[i].decision.table, 1);
	policy_image_done(&img);
}

/* A range of ports is at most 30 keys, and covers exactly itself. */
static void ranges(void **state)
{
	for (uint32_t lo = 1; lo < 65536; lo = lo * 3 + 1) {
		auto_policy struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);
		uint16_t hi = (uint16_t)(65535 - lo / 2);
		struct policy_image img;

		if (lo > hi)
			break;
		policy_add_rule(p, WEIR_ALLOW);
		add_prefix(p, "1.1.1.1");
		policy_add_port(p, POLICY_UDP, (uint16_t)lo, hi);
		policy_add_port(p, POLICY_TCP, 443, 443); /* two need a table */
		assert_int_equal(policy_compile(p, &no_knobs, &img, NULL), 0);
		assert_in_range(img.n_ports, 3, 33);
		for (uint32_t port = 0; port < 65536; port++) {
			const struct policy_port_entry *e =
				model_port(img.ports, img.n_ports, 1, IPPROTO_UDP, (uint16_t)port);

			if (!e || e->value.verdict != (port >= lo && port <= hi))
				fail_msg("%u-%u: wrong at %u", lo, hi, port);
		}
		policy_image_done(&img);
	}
}

static void limits(void **state)
{
	auto_policy struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);
	struct policy_image img;
	struct err err = { 0 };
	int r = 0;

	/* thousands of single ports, anywhere: 16,384 keys and some */
	policy_add_rule(p, WEIR_ALLOW);
	for (uint32_t i = 0; i < POLICY_PORTS_MAX; i++)
		r |= policy_add_port(p, POLICY_TCP, (uint16_t)(4 * i), (uint16_t)(4 * i));
	assert_int_equal(r, 0);
	assert_int_equal(policy_compile(p, &no_knobs, &img, &err), 0);
	assert_in_range(img.n_ports, 16384, 16390);
	policy_image_done(&img);
	/* five prefixes, each with a table like that: more than one policy may have */
	for (uint32_t i = 0; i < 5; i++) {
		policy_add_rule(p, WEIR_DENY);
		policy_add_prefix(p, prefix_of(ip_v4(0x0b000000 + i), 32));
	}
	assert_int_equal(policy_compile(p, &no_knobs, &img, &err), -E2BIG);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_non_null(strstr(err.text, "65536"));
}

static void nesting(void **state)
{
	auto_policy struct policy *p = policy_new(POLICY_NATIVE, WEIR_ALLOW);
	struct policy_image img;
	struct ip addr;

	/* 129 prefixes around one IPv6 address, each rule its own port */
	ip_from(STR("2001:db8::1"), &addr);
	for (uint8_t len = 0; len <= 128; len++) {
		policy_add_rule(p, WEIR_DENY);
		policy_add_prefix(p, prefix_of(addr, len));
		policy_add_port(p, POLICY_TCP, (uint16_t)(1000 + len), (uint16_t)(1000 + len));
	}
	assert_int_equal(policy_compile(p, &no_knobs, &img, NULL), 0);
	assert_int_equal(img.n_prefixes, 129);
	for (uint16_t port = 999; port <= 1129; port++)
		assert_int_equal(model_lookup(&img, NULL, addr, IPPROTO_TCP, port).verdict,
			port < 1000 || port > 1128);
	policy_image_done(&img);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(header),
		cmocka_unit_test(a_range_needs_no_table), cmocka_unit_test(all_ports_by_name),
		cmocka_unit_test(tables_are_shared), cmocka_unit_test(ranges),
		cmocka_unit_test(limits), cmocka_unit_test(nesting) };

	return cmocka_run_group_tests_name("policy/compile", tests, NULL, NULL);
}

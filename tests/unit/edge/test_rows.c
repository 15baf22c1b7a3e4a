/*
 * Rows 3 to 11, 16 and 25 of the decision table as far as DNS decides them, and the order of its
 * DNS paragraph. H is h.test at 192.0.2.1; TCP 443 stands for "the web".
 */
#include <netinet/in.h>
#include "play.h"

#define TCP IPPROTO_TCP
#define UDP IPPROTO_UDP

static struct play *world(const char *policy)
{
	struct play *p = play_new(NULL);

	assert_int_equal(play_set(p, 1, 11, policy), 0);
	return p;
}

static void resolve(struct play *p, const char *name, const char *address)
{
	char record[128];
	size_t before = p->n_sent;

	snprintf(record, sizeof(record), "%s A 60 %s", name, address);
	play_ask(p, 1, name, DNS_A);
	assert_int_equal(p->n_sent, before + 1);
	play_answer(p, before, DNS_NOERROR, record);
}

static void row1_default_allow(void **state)
{
	struct play *p = world("allow:");

	resolve(p, "h.test", "192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 443), -1); /* not needed */
	play_free(p);
}

static void row3_name_allows_every_port(void **state)
{
	struct play *p = world("deny: allow h.test");

	resolve(p, "h.test", "192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 443), WEIR_ALLOW);
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 8443), WEIR_ALLOW);
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", UDP, 9), WEIR_ALLOW);
	play_free(p);
}

static void row4_below_is_another_name(void **state)
{
	struct play *p = world("deny: allow h.test");

	play_ask(p, 1, "sub.h.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(play_reply_ede(p), DNS_EDE_BLOCKED);
	assert_int_equal(p->n_sent, 0);
	assert_int_equal(p->event.reason, WEIR_R_NAME);
	assert_int_equal(p->event.rule, WEIR_RULE_NONE);
	assert_string_equal(p->event.name, "sub.h.test");
	play_free(p);
}

static void row5_one_port(void **state)
{
	struct play *p = world("deny: allow h.test 443");

	resolve(p, "h.test", "192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 443), WEIR_ALLOW);
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 80), WEIR_DENY);
	play_free(p);
}

static void row6_wildcard(void **state)
{
	struct play *p = world("deny: allow *.h.test");

	resolve(p, "a.b.h.test", "192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR a.b.h.test A 60 192.0.2.1");
	play_ask(p, 1, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_ask(p, 1, "evilh.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_free(p);
}

static void row7_never_resolved_here(void **state)
{
	struct play *p = world("deny: allow h.test");

	assert_int_equal(play_set(p, 2, 12, "deny: allow h.test"), 0);
	resolve(p, "h.test", "192.0.2.1");
	assert_non_null(play_pin(p, 11, "192.0.2.1"));
	assert_null(play_pin(p, 12, "192.0.2.1"));
	play_ask(p, 2, "h.test", DNS_A); /* the control: from the cache, and pinned for the asker */
	assert_int_equal(p->n_sent, 1);
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_non_null(play_pin(p, 12, "192.0.2.1"));
	play_free(p);
}

static void row8_other_name(void **state)
{
	struct play *p = world("deny: allow h.test");

	resolve(p, "h.test", "192.0.2.1");
	play_ask(p, 1, "other.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->n_sent, 1);
	play_free(p);
}

static void row9_explicit_resolver(void **state)
{
	struct play *p = world("deny: allow pypi.test; allow 1.1.1.1 53");

	play_ask_at(p, 1, "1.1.1.1", "anything.example", DNS_A);
	assert_int_equal(p->n_sent, 1);
	assert_string_equal(ip_text(p->sent[0].server.ip).s, "1.1.1.1");
	play_answer(p, 0, DNS_NOERROR, "anything.example A 60 192.0.2.9");
	assert_string_equal(play_reply(p), "NOERROR anything.example A 60 192.0.2.9");
	assert_null(play_pin(p, 11, "192.0.2.9"));
	/* A name with a rule, asked there, is pinned. */
	play_ask_at(p, 1, "1.1.1.1", "pypi.test", DNS_A);
	assert_string_equal(ip_text(p->sent[1].server.ip).s, "1.1.1.1");
	play_answer(p, 1, DNS_NOERROR, "pypi.test A 60 192.0.2.8");
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.8", TCP, 443), WEIR_ALLOW);
	/* Asked of anybody else, the name without a rule goes nowhere. */
	play_ask_at(p, 1, "8.8.8.8", "anything.example", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_ask(p, 1, "anything.example", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	/* Its answers are not shared: the next asker's question goes out again. */
	play_ask_at(p, 1, "1.1.1.1", "pypi.test", DNS_A);
	assert_int_equal(p->n_sent, 3);
	play_free(p);
}

static void row11_single_address_is_a_resolver(void **state)
{
	struct play *p = world("deny: allow 1.1.1.1");

	play_ask_at(p, 1, "1.1.1.1", "x.example", DNS_A);
	assert_int_equal(p->n_sent, 1);
	play_free(p);
	p = world("deny: allow 1.1.1.0/24"); /* a wider prefix is no resolver */
	play_ask_at(p, 1, "1.1.1.1", "x.example", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->n_sent, 0);
	play_free(p);
}

static void row10_floor_is_no_resolver(void **state)
{
	struct play *p =
		world("deny: allow 169.254.169.254 53; allow 10.60.0.9; allow 169.254.77.1");

	play_ask_at(p, 1, "169.254.169.254", "x.example", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_ask_at(p, 1, "10.60.0.9", "x.example", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_ask_at(p, 1, "169.254.77.1", "x.example", DNS_A); /* the gateway is always ours */
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->n_sent, 0);
	play_free(p);
}

static void row16_denied_names(void **state)
{
	struct play *p = world("allow: deny h.test");

	play_ask(p, 1, "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->event.rule, 0);
	assert_int_equal(p->n_sent, 0);
	resolve(p, "other.test", "192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR other.test A 60 192.0.2.1");
	/* A denied name does not pass by way of another resolver either. */
	play_ask_at(p, 1, "8.8.8.8", "h.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->n_sent, 1);
	play_free(p);
}

static void row20_first_name_match(void **state)
{
	struct play *p = world("deny: deny *.c.test; allow www.c.test");

	play_ask(p, 1, "www.c.test", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->event.rule, 0);
	play_free(p);
}

static void row21_denied_address_resolves(void **state)
{
	struct play *p = world("deny: deny 192.0.2.0/24; allow h.test");

	resolve(p, "h.test", "192.0.2.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 192.0.2.1");
	assert_int_equal(play_pin_verdict(p, 11, "192.0.2.1", TCP, 443), WEIR_DENY);
	play_free(p);
}

static void row22_address_is_not_name(void **state)
{
	struct play *p = world("deny: allow 10.0.0.5");

	play_ask(p, 1, "svc.local", DNS_A);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	play_free(p);
	p = world("deny: allow 10.0.0.5; allow svc.local"); /* the control */
	resolve(p, "svc.local", "10.0.0.5");
	assert_string_equal(play_reply(p), "NOERROR svc.local A 60 10.0.0.5");
	play_free(p);
}

/* D11, row 25: every disguise of an address that a public name has no business with. */
static void row25_rebinding(void **state)
{
	static const char *const v4[] = { "127.0.0.1", "127.9.9.9", "10.1.1.1", "172.16.0.1",
		"192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
		"255.255.255.255", "10.60.0.7", "10.42.0.5" };
	static const char *const v6[] = { "::1", "::", "::ffff:10.0.0.1", "::ffff:192.0.2.77",
		"fc00::1", "fd12:3456::1", "fe80::1", "ff02::1", "64:ff9b::a9fe:a9fe",
		"64:ff9b::a00:1", "2002:a00:1::1", "::10.0.0.1", "fd77:6569:7200::9" };
	struct play *p = world("deny: allow h.test");
	char record[160];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(v4); i++, n++) {
		play_ask(p, 1, "h.test", DNS_A);
		assert_int_equal(p->n_sent, n + 1);
		snprintf(record, sizeof(record), "h.test A 0 %s, h.test A 0 192.0.2.1", v4[i]);
		play_answer(p, n, DNS_NOERROR, record);
		assert_string_equal(play_reply(p), "NOERROR h.test A 0 192.0.2.1");
		assert_int_equal(play_reply_ede(p), DNS_EDE_FILTERED);
		assert_null(play_pin(p, 11, v4[i]));
		assert_int_equal(p->event.reason, WEIR_R_REBIND);
		assert_string_equal(ip_text(p->event.addr).s, v4[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(v6); i++, n++) {
		play_ask(p, 1, "h.test", DNS_AAAA);
		assert_int_equal(p->n_sent, n + 1);
		snprintf(record, sizeof(record), "h.test AAAA 0 %s, h.test AAAA 0 2001:db8::1",
			v6[i]);
		play_answer(p, n, DNS_NOERROR, record);
		assert_string_equal(play_reply(p), "NOERROR h.test AAAA 0 2001:db8::1");
		assert_null(play_pin(p, 11, v6[i]));
	}
	assert_int_equal(p->n_pins, 2);
	play_free(p);
}

static void row25_private_when_a_rule_says_so(void **state)
{
	struct play *p = world("deny: allow h.test; allow 10.0.0.0/8 8080");

	resolve(p, "h.test", "10.1.1.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 10.1.1.1");
	play_free(p);
	p = world("allow:");
	resolve(p, "h.test", "10.1.1.1");
	assert_string_equal(play_reply(p), "NOERROR h.test A 60 10.1.1.1");
	play_free(p);
}

/* Under default allow the resolver that was asked is asked, if the policy lets its address pass. */
static void default_allow_asks_who_was_asked(void **state)
{
	struct play *p = world("allow: deny 8.8.8.8; allow special.test; deny *.special.test");

	play_ask_at(p, 1, "1.1.1.1", "x.example", DNS_A);
	assert_string_equal(ip_text(p->sent[0].server.ip).s, "1.1.1.1");
	play_ask_at(p, 1, "8.8.8.8", "y.example", DNS_A);
	assert_string_equal(ip_text(p->sent[1].server.ip).s, "9.9.9.9");
	play_ask_at(p, 1, "169.254.169.254", "z.example", DNS_A);
	assert_string_equal(ip_text(p->sent[2].server.ip).s, "9.9.9.9");
	/* What a rule about names opens, only ours is believed about. */
	play_ask_at(p, 1, "1.1.1.1", "special.test", DNS_A);
	assert_string_equal(ip_text(p->sent[3].server.ip).s, "9.9.9.9");
	play_free(p);
}

static void no_ipv6_on_the_link(void **state)
{
	struct play *p = play_new(NULL);
	struct ipc_edge_set set = { .id = "sb-1", .slot = 1, .ifindex = 101, .policy = 11 };
	auto_policy struct policy *policy = play_policy("deny: allow h.test");
	auto_buf struct buf blob = BUF_MAX(65536);

	policy_encode(policy, &blob);
	assert_int_equal(resolver_set(p->r, &set, buf_str(&blob), NULL), 0);
	play_ask(p, 1, "h.test", DNS_AAAA);
	assert_string_equal(play_reply(p), "NOERROR");
	play_ask(p, 1, "other.test", DNS_AAAA);
	assert_string_equal(play_reply(p), "NXDOMAIN");
	assert_int_equal(p->n_sent, 0);
	play_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(row1_default_allow),
		cmocka_unit_test(row3_name_allows_every_port),
		cmocka_unit_test(row4_below_is_another_name),
		cmocka_unit_test(row5_one_port),
		cmocka_unit_test(row6_wildcard),
		cmocka_unit_test(row7_never_resolved_here),
		cmocka_unit_test(row8_other_name),
		cmocka_unit_test(row9_explicit_resolver),
		cmocka_unit_test(row10_floor_is_no_resolver),
		cmocka_unit_test(row11_single_address_is_a_resolver),
		cmocka_unit_test(row16_denied_names),
		cmocka_unit_test(row20_first_name_match),
		cmocka_unit_test(row21_denied_address_resolves),
		cmocka_unit_test(row22_address_is_not_name),
		cmocka_unit_test(row25_rebinding),
		cmocka_unit_test(row25_private_when_a_rule_says_so),
		cmocka_unit_test(default_allow_asks_who_was_asked),
		cmocka_unit_test(no_ipv6_on_the_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

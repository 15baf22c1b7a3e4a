/* policy/floor: what is closed, what the operator opens, and what a prefix lies in. */
#include "policy/floor.h"
#include "policy/policy.h"
#include "../unit.h"

static struct prefix prefix(const char *text)
{
	struct prefix p;

	assert_int_equal(prefix_from(str_c(text), true, &p), 0);
	return p;
}

static struct ip ip(const char *text)
{
	struct ip ip;

	assert_int_equal(ip_from(str_c(text), &ip), 0);
	return ip;
}

static struct policy_floor floor_of(const char *deny, const char *allow)
{
	struct prefix d, a, host = prefix("192.168.7.1");
	struct policy_floor_spec spec = { .range4 = prefix("10.60.0.0/16"),
		.range6 = prefix("fd77:6569:7200::/64"), .overlay4 = prefix("10.42.0.0/16"),
		.host = &host, .n_host = 1 };
	static struct policy_floor f;

	if (deny) {
		d = prefix(deny);
		spec.deny = &d;
		spec.n_deny = 1;
	}
	if (allow) {
		a = prefix(allow);
		spec.allow = &a;
		spec.n_allow = 1;
	}
	assert_int_equal(policy_floor_build(&spec, &f, NULL), 0);
	return f;
}

static void kinds(void **state)
{
	static const struct {
		const char *addr;
		enum weir_floor floor;
	} cases[] = {
		{ "1.1.1.1", WEIR_FLOOR_NONE }, { "10.0.0.1", WEIR_FLOOR_NONE },
		{ "10.60.0.5", WEIR_FLOOR_SANDBOX }, { "10.42.0.5", WEIR_FLOOR_OVERLAY },
		{ "fd77:6569:7200::5", WEIR_FLOOR_SANDBOX }, { "192.168.7.1", WEIR_FLOOR_HOST },
		{ "192.168.7.2", WEIR_FLOOR_NONE }, { "169.254.169.254", WEIR_FLOOR_LINKLOCAL },
		{ "169.254.170.2", WEIR_FLOOR_LINKLOCAL }, { "fe80::1", WEIR_FLOOR_LINKLOCAL },
		{ "fd00:ec2::254", WEIR_FLOOR_LINKLOCAL }, { "127.0.0.53", WEIR_FLOOR_LOOPBACK },
		{ "::1", WEIR_FLOOR_LOOPBACK }, { "0.0.0.0", WEIR_FLOOR_ZERO },
		{ "::", WEIR_FLOOR_ZERO }, { "255.255.255.255", WEIR_FLOOR_MULTICAST },
		{ "224.0.0.251", WEIR_FLOOR_MULTICAST }, { "ff02::1", WEIR_FLOOR_MULTICAST },
		{ "::10.1.2.3", WEIR_FLOOR_EMBEDDED }, { "2002:a00:1::", WEIR_FLOOR_EMBEDDED },
		{ "2001:0:1::", WEIR_FLOOR_EMBEDDED }, { "64:ff9b::1.1.1.1", WEIR_FLOOR_EMBEDDED },
		{ "64:ff9b::169.254.169.254", WEIR_FLOOR_LINKLOCAL },
		{ "2001:db8::1", WEIR_FLOOR_NONE }, { "::ffff:127.0.0.1", WEIR_FLOOR_LOOPBACK },
	};
	struct policy_floor f = floor_of(NULL, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (policy_floor_find(&f, ip(cases[i].addr)) != cases[i].floor)
			fail_msg("%s is %s", cases[i].addr,
				policy_floor_name(policy_floor_find(&f, ip(cases[i].addr))));
}

static void operators_lists(void **state)
{
	struct policy_floor f = floor_of("198.51.100.0/24", NULL);

	assert_int_equal(policy_floor_find(&f, ip("198.51.100.1")), WEIR_FLOOR_OPERATOR);
	f = floor_of(NULL, "169.254.169.123");
	assert_int_equal(policy_floor_find(&f, ip("169.254.169.123")), WEIR_FLOOR_NONE);
	assert_int_equal(policy_floor_find(&f, ip("169.254.169.254")), WEIR_FLOOR_LINKLOCAL);
	f = floor_of("198.51.100.0/24", "198.51.100.0/24"); /* allow wins */
	assert_int_equal(policy_floor_find(&f, ip("198.51.100.1")), WEIR_FLOOR_NONE);
	f = floor_of(NULL, "192.168.0.0/16"); /* the host's own address stays closed */
	assert_int_equal(policy_floor_find(&f, ip("192.168.7.1")), WEIR_FLOOR_HOST);
	f = floor_of(NULL, "64:ff9b::/96"); /* NAT64 opened: the IPv4 floor still counts */
	assert_int_equal(policy_floor_find(&f, ip("64:ff9b::1.1.1.1")), WEIR_FLOOR_NONE);
	assert_int_equal(policy_floor_find(&f, ip("64:ff9b::169.254.169.254")), WEIR_FLOOR_LINKLOCAL);
	assert_int_equal(policy_floor_find(&f, ip("64:ff9b::10.60.0.1")), WEIR_FLOOR_SANDBOX);
}

static void covers(void **state)
{
	struct policy_floor f = floor_of(NULL, "169.254.169.123");

	assert_int_equal(policy_floor_covers(&f, prefix("10.60.0.0/16")), WEIR_FLOOR_SANDBOX);
	assert_int_equal(policy_floor_covers(&f, prefix("10.60.7.0/24")), WEIR_FLOOR_SANDBOX);
	assert_int_equal(policy_floor_covers(&f, prefix("10.0.0.0/8")), WEIR_FLOOR_NONE);
	assert_int_equal(policy_floor_covers(&f, prefix("0.0.0.0/0")), WEIR_FLOOR_NONE);
	assert_int_equal(policy_floor_covers(&f, prefix("169.254.0.0/16")), WEIR_FLOOR_NONE);
	assert_int_equal(policy_floor_covers(&f, prefix("169.254.0.0/17")), WEIR_FLOOR_LINKLOCAL);
	assert_int_equal(policy_floor_covers(&f, prefix("169.254.169.123/32")), WEIR_FLOOR_NONE);
	assert_int_equal(policy_floor_covers(&f, prefix("fe80::/64")), WEIR_FLOOR_LINKLOCAL);
}

static void private_addresses(void **state)
{
	static const char *const yes[] = { "10.1.1.1", "172.31.255.255", "192.168.0.1", "100.64.0.1",
		"fd12::1", "64:ff9b::10.0.0.1", "::ffff:10.0.0.1", "198.19.0.1" };
	static const char *const no[] = { "1.1.1.1", "172.32.0.0", "100.128.0.0", "2001:db8::1",
		"64:ff9b::1.1.1.1" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		assert_true(policy_is_private(ip(yes[i])));
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		assert_false(policy_is_private(ip(no[i])));
}

static void full(void **state)
{
	static struct policy_floor f;
	int r = 0;

	f.n = 0;
	for (uint32_t i = 0; r == 0 && i < POLICY_FLOOR_MAX; i++)
		r = policy_floor_add(&f, prefix_of(ip_v4(i), 32), WEIR_FLOOR_HOST);
	assert_int_equal(r, 0);
	assert_int_equal(policy_floor_add(&f, prefix_of(ip_v4(5), 32), WEIR_FLOOR_NONE), 0);
	assert_int_equal(policy_floor_add(&f, prefix("9.9.9.9"), WEIR_FLOOR_HOST), -E2BIG);
	assert_int_equal(policy_floor_find(&f, ip_v4(5)), WEIR_FLOOR_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(kinds),
		cmocka_unit_test(operators_lists), cmocka_unit_test(covers),
		cmocka_unit_test(private_addresses), cmocka_unit_test(full) };

	return cmocka_run_group_tests_name("policy/floor", tests, NULL, NULL);
}

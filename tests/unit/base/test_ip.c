/* base/ip: one spelling per address, strict text, prefixes contain what they should. */
#include "base/ip.h"
#include "../unit.h"

static void text(void **state)
{
	static const char *const bad[] = { "", "1", "127.1", "0177.0.0.1", "01.2.3.4", "0x7f000001",
		"2130706433", "1.2.3.4.", " 1.2.3.4", "1.2.3.4/8", "fe80::1%eth0", "1:2", ":::" };
	struct ip ip;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(ip_from(str_c(bad[i]), &ip), -EINVAL);
	assert_int_equal(ip_from(STR("::ffff:10.1.2.3"), &ip), 0);
	assert_int_equal(ip.family, 4);
	assert_string_equal(ip_text(ip).s, "10.1.2.3");
	assert_int_equal(ip_from(STR("2001:DB8::1"), &ip), 0);
	assert_string_equal(ip_text(ip).s, "2001:db8::1");
	assert_string_equal(ip_text(ip_plus(ip, 0x10000)).s, "2001:db8::1:1");
}

static void prefixes(void **state)
{
	struct prefix a, b;
	struct ip ip;

	assert_int_equal(prefix_from(STR("10.0.0.0/8"), true, &a), 0);
	assert_int_equal(prefix_from(STR("10.0.0.1/8"), true, &b), -EINVAL);
	assert_int_equal(prefix_from(STR("10.9.0.1/16"), false, &b), 0);
	assert_string_equal(prefix_text(b).s, "10.9.0.0/16");
	assert_true(prefix_covers(a, b));
	assert_false(prefix_covers(b, a));
	assert_int_equal(prefix_from(STR("0.0.0.0/0"), true, &a), 0);
	assert_int_equal(ip_from(STR("255.255.255.255"), &ip), 0);
	assert_true(prefix_has(a, ip));
	assert_int_equal(ip_from(STR("::1"), &ip), 0);
	assert_false(prefix_has(a, ip));
	assert_int_equal(prefix_from(STR("10.0.0.0/33"), true, &a), -EINVAL);
	assert_int_equal(prefix_from(STR("10.0.0.0/"), true, &a), -EINVAL);
	assert_int_equal(prefix_from(STR("::ffff:10.0.0.0/104"), true, &a), 0);
	assert_string_equal(prefix_text(a).s, "10.0.0.0/8");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(text), cmocka_unit_test(prefixes) };

	return cmocka_run_group_tests_name("base/ip", tests, NULL, NULL);
}

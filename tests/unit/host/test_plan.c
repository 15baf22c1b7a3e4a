/* The pure parts: address plan of the uplink, resolvers, differences of address lists. */
#include "host/addrs.h"
#include "host/resolv.h"
#include "host/uplink.h"
#include "../unit.h"

static struct ip ip(const char *s)
{
	struct ip a;

	assert_int_equal(ip_from(str_c(s), &a), 0);
	return a;
}

static void test_uplink(void **state)
{
	struct prefix four = prefix_of(ip("10.60.0.0"), 16), six = prefix_of(ip("fd77:6569:7200::"), 64);
	struct uplink u;
	struct err err;

	assert_int_equal(uplink_plan("weir", four, six, &u, &err), 0);
	assert_string_equal(u.name, "weir0");
	assert_string_equal(ip_text(u.host4).s, "10.60.255.253");
	assert_string_equal(ip_text(u.router4).s, "10.60.255.254");
	assert_string_equal(ip_text(u.probe4).s, "10.60.255.249");
	assert_string_equal(ip_text(u.router6).s, "fd77:6569:7200:0:ffff:ffff:ffff:fffe");
	/* No slot may reach into the probe's /30. */
	assert_true(ip_cmp(ip_plus(four.ip, u.slots), ip("10.60.255.248")) < 0);

	assert_int_equal(uplink_plan("weir", prefix_of(ip("192.168.7.0"), 24), six, &u, &err), 0);
	assert_string_equal(ip_text(u.router4).s, "192.168.7.254");
	assert_int_equal(u.slots, 247);
	assert_int_equal(uplink_plan("weir", prefix_of(ip("192.168.7.0"), 25), six, &u, &err), -EINVAL);
	assert_string_equal(err.field, "net.range4");
}

static void test_resolv(void **state)
{
	struct resolv r = { .n = 0 };
	auto_buf struct buf b = BUF_MAX(1024);

	resolv_parse(STR("# a comment\n"
			 "search example.com\n"
			 "nameserver 127.0.0.53\r\n"
			 "  nameserver\t10.0.0.1 # why not\n"
			 "nameserver 10.0.0.1\n"
			 "nameserver fe80::1%eth0\n"
			 "nameservers 1.1.1.1\n"
			 "nameserver 2001:db8::53"),
		53, &r);
	assert_int_equal(r.n, 3);
	r.r[0].in_host = true;
	assert_int_equal(resolv_text(&r, &b), 0);
	assert_string_equal(buf_cstr(&b), "nameserver 127.0.0.53 53 host\n"
					  "nameserver 10.0.0.1 53\n"
					  "nameserver 2001:db8::53 53\n");
}

static int tell(struct ip a, bool added, void *arg)
{
	return buf_fmt(arg, "%c%s ", added ? '+' : '-', ip_text(a).s);
}

static void test_diff(void **state)
{
	struct addrs old = { 3, { ip("10.0.0.1"), ip("10.0.0.3"), ip("fd00::1") } };
	struct addrs now = { 3, { ip("10.0.0.2"), ip("10.0.0.3"), ip("fd00::2") } };
	auto_buf struct buf b = BUF_MAX(1024);

	assert_int_equal(addrs_diff(&old, &now, tell, &b), 0);
	assert_string_equal(buf_cstr(&b), "-10.0.0.1 +10.0.0.2 -fd00::1 +fd00::2 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uplink),
		cmocka_unit_test(test_resolv),
		cmocka_unit_test(test_diff),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

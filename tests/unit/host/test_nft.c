/* The nft script, and finding foreign chains that drop. */
#include "host/nft.h"
#include "../unit.h"

static struct prefix prefix(const char *s)
{
	struct prefix p;

	assert_int_equal(prefix_from(str_c(s), true, &p), 0);
	return p;
}

static void test_script(void **state)
{
	static const char want[] = "table inet weir\n"
				   "delete table inet weir\n"
				   "table inet weir {\n"
				   "\tchain postrouting {\n"
				   "\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
				   "\t\tip saddr 10.60.0.0/16 oifname != \"weir0\" masquerade\n"
				   "\t\tip6 saddr fd77::/64 oifname != \"weir0\" masquerade\n"
				   "\t}\n"
				   "\tct timeout tcp-ip {\n"
				   "\t\tprotocol tcp; l3proto ip;\n"
				   "\t\tpolicy = { established: 8100, time_wait: 30 };\n"
				   "\t}\n"
				   "\tct timeout tcp-ip6 {\n"
				   "\t\tprotocol tcp; l3proto ip6;\n"
				   "\t\tpolicy = { established: 8100, time_wait: 30 };\n"
				   "\t}\n"
				   "\tchain forward {\n"
				   "\t\ttype filter hook forward priority filter; policy accept;\n"
				   "\t\tiifname \"weir0\" meta nfproto ipv4 meta l4proto tcp "
				   "ct timeout set \"tcp-ip\"\n"
				   "\t\tiifname \"weir0\" meta nfproto ipv6 meta l4proto tcp "
				   "ct timeout set \"tcp-ip6\"\n"
				   "\t\tiifname \"weir0\" accept\n"
				   "\t\toifname \"weir0\" ct state established,related accept\n"
				   "\t\toifname \"weir0\" drop\n"
				   "\t}\n"
				   "\tchain input {\n"
				   "\t\ttype filter hook input priority filter; policy accept;\n"
				   "\t\tiifname != \"weir0\" accept\n"
				   "\t\tct state established,related accept\n"
				   "\t\tmeta l4proto { 1, 58 } accept\n"
				   "\t\tdrop\n"
				   "\t}\n"
				   "}\n";
	auto_buf struct buf b = BUF_MAX(8192);

	assert_int_equal(nft_script("weir", "weir0", prefix("10.60.0.0/16"), prefix("fd77::/64"), NULL, 0,
				 &b),
		0);
	assert_string_equal(buf_cstr(&b), want);
}

static void test_foreign(void **state)
{
	static const char listing[] = "table ip filter {\n"
				      "\tchain INPUT {\n"
				      "\t\ttype filter hook input priority filter; policy drop;\n"
				      "\t}\n"
				      "\tchain FORWARD {\n"
				      "\t\ttype filter hook forward priority filter; policy drop;\n"
				      "\t}\n"
				      "\tchain DOCKER {\n"
				      "\t}\n"
				      "}\n"
				      "table inet weir {\n"
				      "\tchain forward {\n"
				      "\t\ttype filter hook forward priority filter; policy drop;\n"
				      "\t}\n"
				      "}\n"
				      "table inet other {\n"
				      "\tchain fwd {\n"
				      "\t\ttype filter hook forward priority filter; policy accept;\n"
				      "\t}\n"
				      "}\n";
	auto_buf struct buf b = BUF_MAX(1024);

	assert_int_equal(nft_foreign_drops(str_c(listing), "weir", &b), 0);
	assert_string_equal(buf_cstr(&b), "table ip filter chain FORWARD\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_script),
		cmocka_unit_test(test_foreign),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

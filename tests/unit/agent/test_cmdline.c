/* The kernel's command line, as the host writes it and as it must not be. */
#include "../unit.h"
#include "agent/cmdline.c"

static void everything(void **state)
{
	const struct str text = STR("quiet panic=-1 weir.ip4=10.60.0.5 weir.ip6=fd00::5 weir.mtu=1400 "
				    "weir.overlay=10.42.0.5 weir.overlays=10.42.0.0/16 "
				    "weir.host=brave-otter tsc_early_khz=2250000\n");
	struct cmdline line;

	assert_int_equal(cmdline_read(text, &line, NULL), 0);
	assert_string_equal(ip_text(line.link.ip4).s, "10.60.0.5");
	assert_string_equal(ip_text(line.link.ip6).s, "fd00::5");
	assert_string_equal(ip_text(line.link.overlay).s, "10.42.0.5");
	assert_string_equal(prefix_text(line.link.overlays).s, "10.42.0.0/16");
	assert_int_equal(line.mtu, 1400);
	assert_string_equal(line.host, "brave-otter");
}

static void nothing(void **state)
{
	struct cmdline line = { .mtu = 7 };

	assert_int_equal(cmdline_read(STR("quiet weirdo=1  noapic\n"), &line, NULL), 0);
	assert_true(!line.link.ip4.family && !line.link.ip6.family && !line.link.overlay.family);
	assert_true(line.mtu == 0 && !*line.host);
}

static void refused(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "weir.ip4=10.60.0", "weir.ip4=10.60.0: expected an IPv4 address" },
		{ "weir.ip4=fd00::5", "weir.ip4=fd00::5: expected an IPv4 address" },
		{ "weir.ip6=10.60.0.5", "weir.ip6=10.60.0.5: expected an IPv6 address" },
		{ "weir.ip6", "weir.ip6=: expected an IPv6 address" },
		{ "weir.overlays=10.42.0.1/16", "weir.overlays=10.42.0.1/16: expected an IPv4 prefix" },
		{ "weir.mtu=1279", "weir.mtu=1279: expected a number from 1280 to 65535" },
		{ "weir.mtu=65536", "weir.mtu=65536: expected a number from 1280 to 65535" },
		{ "weir.host=", "weir.host=: expected a host name of at most 63 characters" },
		{ "weir.host=a\tb", "weir.host=a\tb: expected a host name of at most 63 characters" },
		{ "weir.gw=10.0.0.1", "weir.gw is no word of ours" },
		{ "quiet weir.mtu=1500 weir.mtu=1500", "weir.mtu is said twice" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct cmdline line = { .mtu = 7 };
		struct err err = { 0 };

		assert_int_equal(cmdline_read(str_c(bad[i].text), &line, &err), -EINVAL);
		assert_string_equal(err.text, bad[i].why);
		assert_int_equal(line.mtu, 7); /* written on success only */
	}
}

static void long_name(void **state)
{
	char text[128];
	struct cmdline line;

	snprintf(text, sizeof(text), "weir.host=%.*s", 63, "abcdefghijklmnopqrstuvwxyz"
		"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
	assert_int_equal(cmdline_read(str_c(text), &line, NULL), 0);
	assert_int_equal(strlen(line.host), 63);
	snprintf(text, sizeof(text), "weir.host=%.*s", 64, "abcdefghijklmnopqrstuvwxyz"
		"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
	assert_true(cmdline_read(str_c(text), &line, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything),
		cmocka_unit_test(nothing),
		cmocka_unit_test(refused),
		cmocka_unit_test(long_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

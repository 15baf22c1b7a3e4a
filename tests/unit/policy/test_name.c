/* policy/name: canonical or refused; patterns match whole labels. */
#include "policy/name.h"
#include "../unit.h"

static void canonical(void **state)
{
	struct name name, other;

	assert_int_equal(name_from(STR("API.Example.COM."), &name, NULL), 0);
	assert_string_equal(name.s, "api.example.com");
	assert_int_equal(name.n, 15);
	assert_int_equal(name_from(STR("_dmarc.xn--bcher-kva.example"), &other, NULL), 0);
	assert_false(name_eq(&name, &other));
	assert_int_equal(name_from(STR("1e100.net"), &name, NULL), 0);
	assert_int_equal(name_from(STR("0xyz"), &name, NULL), 0);
	assert_int_equal(name_from(STR("localhost"), &name, NULL), 0);
}

static void refused(void **state)
{
	static const char *const bad[] = { "", ".", "..", ".a", "a..b", "a b", "a/b", "a@b", "a:1",
		("b\xc3\xbc" "cher.example"), "*", "*.a", "a.*", "2130706433", "0x7f000001", "127.1",
		"0177.0.0.1", "a.1", "a.0x", "a.0xff.", "1.2.3.4", "a\rb", "a%00b" };
	const char *why = NULL;
	struct name name;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		why = NULL;
		assert_int_equal(name_from(str_c(bad[i]), &name, &why), -EINVAL);
		assert_non_null(why);
	}
	assert_int_equal(name_from(str_n("evil\0.example.com", 17), &name, &why), -EINVAL);
}

static void limits(void **state)
{
	char text[260];
	struct name name;

	memset(text, 'a', sizeof(text));
	assert_int_equal(name_from(str_n(text, 63), &name, NULL), 0);
	assert_int_equal(name_from(str_n(text, 64), &name, NULL), -EINVAL);
	for (size_t i = 63; i < sizeof(text); i += 64)
		text[i] = '.';
	assert_int_equal(name_from(str_n(text, 253), &name, NULL), 0);
	assert_int_equal(name.n, 253);
	assert_int_equal(name_from(str_n(text, 254), &name, NULL), -EINVAL);
	text[253] = '.';
	assert_int_equal(name_from(str_n(text, 254), &name, NULL), 0);
}

static bool matches(const char *pattern, bool apex_too, const char *text)
{
	struct name_pattern p;
	struct name name;

	assert_int_equal(name_pattern_from(str_c(pattern), apex_too, &p, NULL), 0);
	assert_int_equal(name_from(str_c(text), &name, NULL), 0);
	return name_match(&p, &name);
}

static void patterns(void **state)
{
	static const char *const bad[] = { "*", "*.", "**.a", "a.*.b", "*a.b", "*.*.a", "" };
	struct name_pattern p;

	assert_true(matches("example.com", false, "EXAMPLE.com."));
	assert_false(matches("example.com", false, "a.example.com"));
	assert_true(matches("*.example.com", false, "a.b.example.com"));
	assert_false(matches("*.example.com", false, "example.com"));
	assert_true(matches("*.example.com", true, "example.com"));
	assert_true(matches("*.example.com", true, "a.example.com"));
	assert_false(matches("*.example.com", true, "evilexample.com"));
	assert_false(matches("*.example.com", false, "evilexample.com"));
	assert_false(matches("*.example.com", false, "example.com.evil.com"));
	assert_true(matches("*.com", false, "example.com"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(name_pattern_from(str_c(bad[i]), false, &p, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(canonical), cmocka_unit_test(refused),
		cmocka_unit_test(limits), cmocka_unit_test(patterns) };

	return cmocka_run_group_tests_name("policy/name", tests, NULL, NULL);
}

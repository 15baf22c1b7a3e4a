/* base/str: numbers are whole or refused, cuts tell "no separator" from "empty". */
#include "base/str.h"
#include "../unit.h"

static void numbers(void **state)
{
	uint64_t v = 7;

	assert_int_equal(str_u64(STR("0"), 10, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(str_u64(STR("18446744073709551615"), UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(str_u64(STR("18446744073709551616"), UINT64_MAX, &v), -ERANGE);
	assert_int_equal(str_u64(STR("11"), 10, &v), -ERANGE);
	assert_int_equal(str_u64(STR(""), 10, &v), -EINVAL);
	assert_int_equal(str_u64(STR("1 "), 10, &v), -EINVAL);
	assert_int_equal(str_u64(STR("+1"), 10, &v), -EINVAL);
	assert_int_equal(str_u64(STR("0x1"), 10, &v), -EINVAL);
}

static void cuts(void **state)
{
	struct str s = STR("a::b");

	assert_true(str_eq_c(str_cut(&s, ':'), "a"));
	assert_true(str_eq_c(str_cut(&s, ':'), ""));
	assert_non_null(s.p);
	assert_true(str_eq_c(str_cut(&s, ':'), "b"));
	assert_null(s.p);
}

static void copies(void **state)
{
	char four[4];

	assert_int_equal(str_copy(four, sizeof(four), STR("abc")), 0);
	assert_string_equal(four, "abc");
	assert_int_equal(str_copy(four, sizeof(four), STR("abcd")), -ENAMETOOLONG);
	assert_int_equal(str_copy(four, sizeof(four), str_n("a\0b", 3)), -EINVAL);
}

static void utf8(void **state)
{
	assert_true(str_utf8(STR("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8a")));
	assert_false(str_utf8(STR("\xc3")));
	assert_false(str_utf8(STR("\xc0\xaf")));	 /* overlong */
	assert_false(str_utf8(STR("\xed\xa0\x80")));	 /* surrogate */
	assert_false(str_utf8(STR("\xf4\x90\x80\x80"))); /* past U+10FFFF */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(numbers), cmocka_unit_test(cuts),
		cmocka_unit_test(copies), cmocka_unit_test(utf8) };

	return cmocka_run_group_tests_name("base/str", tests, NULL, NULL);
}

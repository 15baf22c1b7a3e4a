/* base/err: context goes in front, kind and code stay. */
#include "base/err.h"
#include "base/str.h"
#include "../unit.h"

static void wraps(void **state)
{
	struct err err = { 0 };

	assert_int_equal(err_field(&err, -EINVAL, ERR_INVALID, "name", "too long: %d", 23), -EINVAL);
	assert_int_equal(err_wrap(&err, -EINVAL, "create %s", "x"), -EINVAL);
	assert_string_equal(err.text, "create x: too long: 23");
	assert_string_equal(err.field, "name");
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(err_set(NULL, -EIO, ERR_INTERNAL, "nobody listens"), -EIO);
}

/* A character that a limit cut in two is not left as half a one, wherever the cut is. */
static void stays_utf8(void **state)
{
	static const char wide[] = "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac";
	char longer[512];
	struct err err = { 0 };

	for (size_t at = 0; at < 4; at++) {
		err_set(&err, -EINVAL, ERR_INVALID, "no \"%.*s\"", (int)(3 + at), wide);
		assert_true(str_utf8(str_c(err.text)));
		memset(longer, 'x', sizeof(longer));
		memcpy(longer + sizeof(err.text) - 5 + at, wide, sizeof(wide));
		err_set(&err, -EINVAL, ERR_INVALID, "%s", longer);
		assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
		assert_true(str_utf8(str_c(err.text)));
		memcpy(longer + 190 - 3 + at, wide, sizeof(wide));
		err_wrap(&err, -EINVAL, "%s", longer);
		assert_true(str_utf8(str_c(err.text)));
	}
	err_set(&err, -EINVAL, ERR_INVALID, "no \"%s\"", wide);
	assert_string_equal(err.text, "no \"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(wraps), cmocka_unit_test(stays_utf8) };

	return cmocka_run_group_tests_name("base/err", tests, NULL, NULL);
}

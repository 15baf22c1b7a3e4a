/* base/err: context goes in front, kind and code stay. */
#include "base/err.h"
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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(wraps) };

	return cmocka_run_group_tests_name("base/err", tests, NULL, NULL);
}

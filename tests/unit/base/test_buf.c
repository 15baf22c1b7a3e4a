/* base/buf and base/rd: maxima hold, the first failure sticks, cursors never pass the end. */
#include "base/buf.h"
#include "base/rd.h"
#include "../unit.h"

static void maximum(void **state)
{
	auto_buf struct buf b = BUF_MAX(4);

	assert_int_equal(buf_add(&b, "abcd", 4), 0);
	assert_int_equal(buf_u8(&b, 1), -EFBIG);
	assert_int_equal(buf_add(&b, "", 0), -EFBIG); /* sticks */
	buf_reset(&b);
	assert_int_equal(buf_be32(&b, 0x01020304), 0);
	assert_memory_equal(b.p, "\1\2\3\4", 4);
}

static void formats(void **state)
{
	auto_buf struct buf b = BUF_MAX(64);

	assert_int_equal(buf_fmt(&b, "%s-%d", "x", 42), 0);
	assert_string_equal(buf_cstr(&b), "x-42");
	buf_consume(&b, 2);
	assert_true(str_eq_c(buf_str(&b), "42"));
	while (b.n < 63) /* whether there is room or some must be made */
		assert_int_equal(buf_fmt(&b, "%c", 'a' + (int)(b.n % 26)), 0);
	for (size_t i = 2; i < b.n; i++)
		assert_int_equal(b.p[i], 'a' + (int)(i % 26));
	assert_int_equal(buf_fmt(&b, "%d", 7), -EFBIG); /* vsnprintf's NUL wants a place, too */
	assert_int_equal(b.n, 63);
	assert_int_equal(buf_fmt(&b, "%s", ""), -EFBIG); /* sticks */
}

static void decimals(void **state)
{
	auto_buf struct buf b = BUF_MAX(64);

	buf_decimal(&b, 0);
	buf_u8(&b, ' ');
	buf_decimal(&b, 1234567890);
	buf_u8(&b, ' ');
	assert_int_equal(buf_decimal(&b, UINT64_MAX), 0);
	assert_string_equal(buf_cstr(&b), "0 1234567890 18446744073709551615");
}

static void cursor(void **state)
{
	struct rd rd = rd_from(STR("\1\2\3\4\5"));

	assert_int_equal(rd_be16(&rd), 0x0102);
	assert_int_equal(rd_left(&rd), 3);
	assert_int_equal(rd_be32(&rd), 0);
	assert_true(rd_failed(&rd));
	assert_int_equal(rd_u8(&rd), 0); /* nothing after a failure, although bytes are left */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(maximum), cmocka_unit_test(formats),
		cmocka_unit_test(decimals),
		cmocka_unit_test(cursor) };

	return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}

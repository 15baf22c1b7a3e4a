/* base64: RFC 4648's vectors, every byte, and what is none. */
#include "base/base64.h"
#include "../unit.h"

static void assert_decodes(const char *text, struct str want)
{
	auto_buf struct buf out = BUF_MAX(1024);

	assert_int_equal(base64_decode(str_c(text), &out), 0);
	assert_int_equal(out.n, want.n);
	assert_true(want.n == 0 || memcmp(out.p, want.p, want.n) == 0);
}

static void vectors(void **state)
{
	assert_decodes("", STR(""));
	assert_decodes("Zg==", STR("f"));
	assert_decodes("Zm8=", STR("fo"));
	assert_decodes("Zm9v", STR("foo"));
	assert_decodes("Zm9vYg==", STR("foob"));
	assert_decodes("Zm9vYmE=", STR("fooba"));
	assert_decodes("Zm9vYmFy", STR("foobar"));
	assert_decodes("AAECAwT7/P3+/w==", str_n("\x00\x01\x02\x03\x04\xfb\xfc\xfd\xfe\xff", 10));
}

static void what_is_none(void **state)
{
	static const char *const wrong[] = { "Z", "Zg", "Zg=", "Zm9", "Z===", "====", "Zm9vY===", "Zm 9v",
		"Zm9v\n", "Zm9_", "Zm9-", "Zg==Zm9v", "Zm9v====", "Zm=v" };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		auto_buf struct buf out = BUF_MAX(1024);

		if (base64_decode(str_c(wrong[i]), &out) != -EINVAL)
			fail_msg("\"%s\" was taken", wrong[i]);
	}
}

static void no_more_than_there_is_room_for(void **state)
{
	auto_buf struct buf out = BUF_MAX(2);

	assert_int_equal(base64_decode(STR("Zm9v"), &out), -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(vectors), cmocka_unit_test(what_is_none),
		cmocka_unit_test(no_more_than_there_is_room_for) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* hex: what is spelled reads back; what is no digit, or of another length, changes nothing. */
#include "base/hex.h"
#include "../unit.h"

static void every_byte_comes_back(void **state)
{
	uint8_t in[256], out[256];
	char text[2 * sizeof(in) + 1];

	for (unsigned int i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)i;
	hex_spell(text, in, sizeof(in));
	assert_memory_equal(text, "000102", 6);
	assert_string_equal(text + 2 * 250, "fafbfcfdfeff");
	assert_int_equal(hex_read(str_c(text), out, sizeof(out)), 0);
	assert_memory_equal(in, out, sizeof(in));
}

static void capitals_are_digits(void **state)
{
	uint8_t out[2];

	assert_int_equal(hex_read(STR("aBFf"), out, 2), 0);
	assert_int_equal(out[0], 0xab);
	assert_int_equal(out[1], 0xff);
}

static void what_is_no_digit_changes_nothing(void **state)
{
	static const char *const wrong[] = { "", "0", "000", "00000", "000g", "00 0", "0x00", "+000",
		"00-1", "00@0", "00`0", "00/0", "00:0" };
	uint8_t out[2] = { 7, 7 };
	char c[5] = "00";

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(hex_read(str_c(wrong[i]), out, 2), -EINVAL);
		assert_true(out[0] == 7 && out[1] == 7);
	}
	/* By exhaustion: 22 characters are digits, and no other. */
	for (unsigned int i = 0, digits = 0; i < 256; i++) {
		c[2] = '1';
		c[3] = (char)i;
		digits += hex_read(str_n(c, 4), out, 2) == 0;
		if (i == 255)
			assert_int_equal(digits, 22);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(capitals_are_digits),
		cmocka_unit_test(what_is_no_digit_changes_nothing) };

	return cmocka_run_group_tests_name("base/hex", tests, NULL, NULL);
}

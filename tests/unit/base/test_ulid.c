/* base/ulid: time sorts, both cases read, nothing else does. */
#include "base/clock.h"
#include "base/ulid.h"
#include "../unit.h"

static void sorts(void **state)
{
	struct ulid a = ulid_new(1000 * NS_PER_SEC), b = ulid_new(1001 * NS_PER_SEC), c;

	assert_true(strcmp(a.s, b.s) < 0);
	assert_int_equal(ulid_from(str_c(a.s), &c), 0);
	assert_string_equal(a.s, c.s);
}

static void reads(void **state)
{
	struct ulid u;

	assert_int_equal(ulid_from(STR("01ARZ3NDEKTSV4RRFFQ69G5FAV"), &u), 0);
	assert_string_equal(u.s, "01arz3ndektsv4rrffq69g5fav");
	assert_int_equal(ulid_from(STR("81ARZ3NDEKTSV4RRFFQ69G5FAV"), &u), -EINVAL);
	assert_int_equal(ulid_from(STR("01ARZ3NDEKTSV4RRFFQ69G5FAI"), &u), -EINVAL);
	assert_int_equal(ulid_from(str_n("01ARZ3NDEKTSV4RRFFQ69G5FA\0", 26), &u), -EINVAL);
	assert_int_equal(ulid_from(STR("01ARZ"), &u), -EINVAL);
	/* The known time of this well-known example: 1469922850259 ms. */
	assert_true(strncmp(ulid_new(UINT64_C(1469922850259) * NS_PER_MS).s, "01arz3nden", 9) == 0);
}

/* As many bits as letters carry, in order: the time is what a ULID begins with. */
static void has_128_bits(void **state)
{
	static const uint8_t all[16] = { [0 ... 15] = 0xff };
	struct ulid u;
	uint8_t raw[16];

	ulid_raw(&(struct ulid){ "7zzzzzzzzzzzzzzzzzzzzzzzzz" }, raw);
	assert_memory_equal(raw, all, 16);
	ulid_raw(&(struct ulid){ "01arz3ndek0000000000000001" }, raw);
	assert_memory_equal(raw, ((uint8_t[16]){ 0x01, 0x56, 0x3e, 0x3a, 0xb5, 0xd3, [15] = 1 }), 16);
	u = ulid_new(1000 * NS_PER_SEC);
	ulid_raw(&u, raw);
	assert_int_equal(raw[2] << 24 | raw[3] << 16 | raw[4] << 8 | raw[5], 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(sorts), cmocka_unit_test(reads),
		cmocka_unit_test(has_128_bits) };

	return cmocka_run_group_tests_name("base/ulid", tests, NULL, NULL);
}

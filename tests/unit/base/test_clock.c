/* RFC 3339: what we print we read; other zones and fractions; what is no time. */
#include "base/clock.h"
#include "../unit.h"

static uint64_t ms_of(const char *text)
{
	uint64_t ms = UINT64_MAX;

	return rfc3339_ms(str_c(text), &ms) == 0 ? ms : UINT64_MAX;
}

static void test_printed_is_read(void **state)
{
	/* Every 1,234,567 seconds from 1970 into the year 9999: leap days, turns of centuries. */
	for (uint64_t s = 0; s < UINT64_C(253402300799); s += 1234567) {
		uint64_t ms = s * 1000 + s % 1000;

		if (s > UINT64_C(18446744073)) /* past what nanoseconds can say */
			break;
		assert_int_equal(ms_of(rfc3339_from(ms * NS_PER_MS).s), ms);
	}
}

static void test_zones_and_fractions(void **state)
{
	uint64_t at = ms_of("2026-02-28T23:30:00Z");

	assert_int_equal(at, UINT64_C(1772321400000));
	assert_int_equal(ms_of("2026-03-01T05:00:00+05:30"), at);
	assert_int_equal(ms_of("2026-02-28T18:30:00-05:00"), at);
	assert_int_equal(ms_of("2026-02-28t23:30:00.5z"), at + 500);
	assert_int_equal(ms_of("2026-02-28 23:30:00.1239999Z"), at + 123);
	assert_int_equal(ms_of("2024-02-29T00:00:00Z"), UINT64_C(1709164800000));
	assert_int_equal(ms_of("9999-12-31T23:59:59Z"), UINT64_C(253402300799000));
}

static void test_what_is_no_time(void **state)
{
	static const char *const bad[] = { "", "2026", "2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-04-31T00:00:00Z",
		"2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z",
		"2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+24:00",
		"2026-01-01T00:00:00+0100", "2026-01-01T00:00:00Zx", " 2026-01-01T00:00:00Z",
		"1969-12-31T23:59:59Z", "1970-01-01T00:00:00+01:00", "10000-01-01T00:00:00Z",
		"+026-01-01T00:00:00Z", "2026-1-01T00:00:00Z" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (ms_of(bad[i]) != UINT64_MAX)
			fail_msg("was read: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_printed_is_read),
		cmocka_unit_test(test_zones_and_fractions),
		cmocka_unit_test(test_what_is_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Signed routes: vectors computed elsewhere (the first is the contract's), times that come back as they
 * were spelled, and what is no time and no signature. */
#include "wire/signed.h"
#include "../unit.h"

#define ID "sb-01arz3ndektsv4rrffq69g5fav"

static struct ipc_ingress_key key_of(char id, const void *secret, uint32_t n)
{
	struct ipc_ingress_key key = { .id = id, .len = n };

	memcpy(key.secret, secret, n);
	return key;
}

static void vectors(void **state)
{
	static const char text[] = "0123456789abcdef0123456789abcdef";
	uint8_t upwards[64];
	struct {
		struct ipc_ingress_key key;
		const char *id;
		uint16_t port;
		uint64_t at;
		const char *time, *sig;
	} v[] = {
		{ key_of('k', text, 32), "demo-sandbox", 8080, 1900000000, "vf7lds", "b542694dk" },
		{ key_of('0', text, 32), ID, 1, 1, "1", "46ae423e0" },
		{ key_of('z', "AAAAAAAAAAAAAAAA", 16), ID, 65535, UINT64_MAX, "3w5e11264sgsf", "cf73c592z" },
		{ key_of('9', text, 32), ID, 443, 0, "0", "55ed854f9" },
	};

	for (unsigned int i = 0; i < sizeof(upwards); i++)
		upwards[i] = (uint8_t)i;
	v[3].key = key_of('9', upwards, sizeof(upwards));
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		char time[SIGNED_TIME_MAX + 1], sig[SIGNED_LEN + 1];

		signed_time(v[i].at, time);
		assert_string_equal(time, v[i].time);
		assert_int_equal(signed_make(&v[i].key, str_c(v[i].id), v[i].port, str_c(time), sig), 0);
		assert_string_equal(sig, v[i].sig);
		assert_true(signed_is_time(str_c(time)) && signed_is_sig(str_c(sig)));
	}
}

static void each_part_counts(void **state)
{
	struct ipc_ingress_key key = key_of('k', "0123456789abcdef", 16), other = key;
	char sig[SIGNED_LEN + 1], changed[SIGNED_LEN + 1];

	assert_int_equal(signed_make(&key, STR(ID), 80, STR("1"), sig), 0);
	assert_int_equal(signed_make(&key, STR(ID), 81, STR("1"), changed), 0);
	assert_string_not_equal(sig, changed);
	assert_int_equal(signed_make(&key, STR(ID), 80, STR("2"), changed), 0);
	assert_string_not_equal(sig, changed);
	assert_int_equal(signed_make(&key, str_skip(STR(ID), 1), 80, STR("1"), changed), 0);
	assert_string_not_equal(sig, changed);
	other.secret[15] ^= 1;
	assert_int_equal(signed_make(&other, STR(ID), 80, STR("1"), changed), 0);
	assert_string_not_equal(sig, changed);
	other = key;
	other.len = 15;
	assert_int_equal(signed_make(&other, STR(ID), 80, STR("1"), changed), 0);
	assert_string_not_equal(sig, changed);
	assert_int_equal(signed_make(&key, STR(ID), 80, STR("1"), changed), 0); /* the control */
	assert_string_equal(sig, changed);
}

static void times(void **state)
{
	static const uint64_t some[] = { 0, 1, 35, 36, 1295, 1296, 1900000000, UINT32_MAX, UINT64_MAX - 1,
		UINT64_MAX };
	static const char *const wrong[] = { "", "00", "01", "A", "1A", "-1", "1.", " 1", "3w5e11264sgsg",
		"zzzzzzzzzzzzz", "00000000000001", "11111111111111" };
	uint64_t back = 7;

	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		char text[SIGNED_TIME_MAX + 1];

		signed_time(some[i], text);
		assert_true(signed_time_from(str_c(text), &back));
		assert_true(back == some[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		if (signed_time_from(str_c(wrong[i]), &back))
			fail_msg("\"%s\" was taken", wrong[i]);
}

static void signatures(void **state)
{
	static const char *const wrong[] = { "", "b542694d", "b542694dkk", "B542694dk", "b542694dK", "g542694dk",
		"b542694d-", "b542694d.", "b54269 dk" };

	assert_true(signed_is_sig(STR("b542694dk")) && signed_is_sig(STR("000000000")));
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		if (signed_is_sig(str_c(wrong[i])))
			fail_msg("\"%s\" was taken", wrong[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(vectors), cmocka_unit_test(each_part_counts),
		cmocka_unit_test(times), cmocka_unit_test(signatures) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

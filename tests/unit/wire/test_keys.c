/* The file of signing keys: what reads, what is complained about and where, and that no complaint says
 * what a key is. */
#include "wire/keys.h"
#include "../unit.h"

#define A24 "QUFBQUFBQUFBQUFBQUFBQQ==" /* 16 bytes of "A" */
#define S32 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

static struct ipc_ingress_keys keys_of(const char *text)
{
	struct ipc_ingress_keys keys = { 0 };
	struct err err;

	if (keys_read("f", str_c(text), &keys, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(keys_ok(&keys));
	return keys;
}

static void what_reads(void **state)
{
	struct ipc_ingress_keys keys = keys_of("# signs\n k = " S32 " \r\n\n0=" A24 "\n#j = x\nz\t=\t" A24);

	assert_int_equal(keys.n, 3);
	assert_int_equal(keys.key[0].id, 'k');
	assert_int_equal(keys.key[0].len, 32);
	assert_memory_equal(keys.key[0].secret, "0123456789abcdef0123456789abcdef", 32);
	assert_int_equal(keys.key[1].id, '0');
	assert_int_equal(keys.key[1].len, 16);
	assert_int_equal(keys.key[2].id, 'z');
	assert_int_equal(keys_of("").n, 0);
	assert_int_equal(keys_of("\n# none\n").n, 0);
	assert_int_equal(keys_of("a=" A24 "\nb=" A24 "\nc=" A24 "\nd=" A24 "\ne=" A24 "\nf=" A24 "\ng=" A24
			"\nh=" A24).n, IPC_INGRESS_KEYS_MAX);
}

static void what_is_complained_about(void **state)
{
	static const struct {
		const char *text, *says;
	} wrong[] = {
		{ "k " S32, "f:1: expected one of 0-9 and a-z" },
		{ "\n\nkk = " S32, "f:3: expected one of" },
		{ "K = " S32, "f:1: expected one of" },
		{ "- = " S32, "f:1: expected one of" },
		{ "= " S32, "f:1: expected one of" },
		{ "\xc3\xa9 = " S32, "f:1: expected one of" },
		{ "k = " S32 "\nk = " A24, "f:2: this id has a key already" },
		{ "k = ", "f:1: a key has 16 to 64 bytes" },
		{ "k = QUFBQUFBQUFBQUFBQUFB", "f:1: a key has 16 to 64 bytes" },
		{ "k = " S32 "=", "f:1: the key is not base64" },
		{ "k = 0123456789abcdef0123456789abcdef!", "f:1: the key is not base64" },
		{ "k = " A24 " # a comment", "f:1: the key is not base64" },
		{ "k = QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB",
			"f:1: a key has 16 to 64 bytes" },
		{ "a=" A24 "\nb=" A24 "\nc=" A24 "\nd=" A24 "\ne=" A24 "\nf=" A24 "\ng=" A24 "\nh=" A24
		  "\ni=" A24, "f:9: more than 8 keys" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct ipc_ingress_keys keys = { .n = 7 };
		struct err err;

		assert_int_equal(keys_read("f", str_c(wrong[i].text), &keys, &err), -EINVAL);
		if (!str_starts(str_c(err.text), str_c(wrong[i].says)))
			fail_msg("%zu: %s", i, err.text);
		assert_null(strstr(err.text, "MDEy"));
		assert_null(strstr(err.text, "QUFB"));
		assert_int_equal(keys.n, 7); /* it changes nothing */
	}
}

static void what_no_message_may_hold(void **state)
{
	struct ipc_ingress_keys good = keys_of("k = " S32 "\nj = " A24), bad = good;

	bad.n = IPC_INGRESS_KEYS_MAX + 1;
	assert_false(keys_ok(&bad));
	bad = good;
	bad.key[1].id = 'k';
	assert_false(keys_ok(&bad));
	bad.key[1].id = 'J';
	assert_false(keys_ok(&bad));
	bad = good;
	bad.key[0].len = 15;
	assert_false(keys_ok(&bad));
	bad.key[0].len = 65;
	assert_false(keys_ok(&bad));
	assert_true(keys_ok(&good));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(what_reads),
		cmocka_unit_test(what_is_complained_about), cmocka_unit_test(what_no_message_may_hold) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

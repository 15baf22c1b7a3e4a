/* Limits of the machine: where the advice begins, what it says, and that it is no refusal. */
#include "host/headroom.h"
#include "../unit.h"

static void test_pids(void **state)
{
	const uint64_t want = HEADROOM_PIDS_BASE + 4000 * HEADROOM_PIDS_EACH;
	struct err err = { 0 };

	assert_int_equal(headroom_pids(want, 4000, &err), 0);
	assert_int_equal(headroom_pids(want - 1, 4000, &err), -ERANGE);
	assert_non_null(strstr(err.text, "kernel.pid_max"));
	assert_non_null(strstr(err.text, "4000 sandboxes"));
	assert_int_equal(headroom_pids(4194304, UINT16_MAX, &err), 0);
	assert_int_equal(headroom_pids(4194304, UINT32_MAX, &err), -ERANGE); /* and no overflow */
}

static void test_loops(void **state)
{
	struct err err = { 0 };

	/* Without partitions there are 2^20, with up to 7 an eighth, with 255 just 4096. */
	assert_int_equal(headroom_loops(0, 0, 1u << 20, &err), 0);
	assert_int_equal(headroom_loops(0, 1, 1u << 20, &err), -ERANGE);
	assert_int_equal(headroom_loops(7, 0, 1u << 17, &err), 0);
	assert_int_equal(headroom_loops(7, 0, (1u << 17) + 1, &err), -ERANGE);
	assert_int_equal(headroom_loops(255, 96, 4000, &err), 0);
	assert_int_equal(headroom_loops(255, 97, 4000, &err), -ERANGE);
	assert_non_null(strstr(err.text, "of 4096 loop devices 97 are taken"));
	assert_int_equal(headroom_loops(255, 5000, 1, &err), -ERANGE);
	assert_int_equal(headroom_loops(UINT64_MAX, 0, 1, &err), 0); /* whatever /sys may say */
}

static void test_only_advice(void **state)
{
	struct probe_env env = { .sandboxes_max = UINT32_MAX, .loops = true };
	auto_buf struct buf out = BUF_MAX(8192);
	struct err err = { 0 };

	assert_int_equal(probe_run(headroom_checks, headroom_n_checks, &env, &out, &err), 0);
	assert_non_null(strstr(buf_cstr(&out), "note  process numbers: kernel.pid_max is "));

	env.sandboxes_max = 1;
	env.loops = false;
	buf_reset(&out);
	assert_int_equal(probe_run(headroom_checks, headroom_n_checks, &env, &out, &err), 0);
	assert_string_equal(buf_cstr(&out), "ok    process numbers\nok    loop devices\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pids),
		cmocka_unit_test(test_loops),
		cmocka_unit_test(test_only_advice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

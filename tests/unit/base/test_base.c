/* base.h: MIN and MAX choose as ever, and each side happens once, whoever else defines them. */
#include "base/base.h"
#include <sys/param.h>
#include "../unit.h"

static int calls;
static int called(int n)
{
	calls++;
	return n;
}

#define TWICE(a, b) ((a) < (b) ? (a) : (b)) /* as <sys/param.h> has it */

static void each_side_is_evaluated_once(void **state)
{
	calls = 0;
	assert_int_equal(MIN(called(1), called(2)), 1);
	assert_int_equal(MAX(called(1), called(2)), 2);
	assert_int_equal(calls, 4);
	assert_int_equal(MAX(MIN(called(3), 5), MAX(called(1), 2)), 3);
	assert_int_equal(calls, 6);
	calls = 0;
	assert_int_equal(TWICE(called(1), called(2)), 1); /* the control */
	assert_int_equal(calls, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_side_is_evaluated_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

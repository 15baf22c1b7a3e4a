/* life: the two tables, held against the properties that the rest relies on. */
#include "api/life.h"
#include "../unit.h"

static void every_state_can_be_left_towards_the_end(void **state)
{
	for (int s = LIFE_NONE + 1; s < LIFE_DESTROYED; s++)
		if (s != LIFE_DESTROYING)
			assert_int_equal(life_next((enum life_state)s, LIFE_DELETE), LIFE_DESTROYING);
	assert_int_equal(life_next(LIFE_DESTROYING, LIFE_RECLAIMED), LIFE_DESTROYED);
	for (int e = 0; e < LIFE_EVENTS; e++) {
		assert_int_equal(life_next(LIFE_DESTROYED, (enum life_event)e), LIFE_NONE);
		assert_int_equal(life_next(LIFE_NONE, (enum life_event)e), LIFE_NONE);
	}
}

static void paths(void **state)
{
	static const struct {
		enum life_state from;
		enum life_event event;
		enum life_state to;
	} table[] = {
		{ LIFE_CREATING, LIFE_READY, LIFE_RUNNING }, { LIFE_CREATING, LIFE_UNBORN, LIFE_FAILED },
		{ LIFE_RUNNING, LIFE_PAUSE, LIFE_PAUSING }, { LIFE_PAUSING, LIFE_FROZEN, LIFE_PAUSED },
		{ LIFE_PAUSING, LIFE_UNFROZEN, LIFE_RUNNING }, { LIFE_PAUSED, LIFE_RESUME, LIFE_RESUMING },
		{ LIFE_RESUMING, LIFE_THAWED, LIFE_RUNNING }, { LIFE_RESUMING, LIFE_LOST, LIFE_ERROR },
		{ LIFE_ERROR, LIFE_RESUME, LIFE_RESUMING }, { LIFE_RUNNING, LIFE_LOST, LIFE_ERROR },
		/* refused */
		{ LIFE_RUNNING, LIFE_RESUME, LIFE_NONE }, { LIFE_PAUSED, LIFE_PAUSE, LIFE_NONE },
		{ LIFE_CREATING, LIFE_PAUSE, LIFE_NONE }, { LIFE_FAILED, LIFE_RESUME, LIFE_NONE },
		{ LIFE_DESTROYING, LIFE_READY, LIFE_NONE }, { LIFE_DESTROYING, LIFE_FROZEN, LIFE_NONE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(life_next(table[i].from, table[i].event), table[i].to);
}

static void only_what_settles_is_waited_for(void **state)
{
	for (int s = LIFE_NONE + 1; s < LIFE_STATES; s++)
		for (int o = 0; o < LIFE_OPS; o++)
			if (life_may((enum life_state)s, (enum life_op)o) == LIFE_HOLD)
				assert_true(life_transitional((enum life_state)s));
}

static void ends_refuse_changes(void **state)
{
	for (int o = LIFE_OP_DATA; o < LIFE_OP_DELETE; o++) {
		assert_int_not_equal(life_may(LIFE_DESTROYED, (enum life_op)o), LIFE_ALLOW);
		if (o != LIFE_OP_LEAVE)
			assert_int_equal(life_may(LIFE_DESTROYING, (enum life_op)o), LIFE_REFUSE);
	}
	assert_int_equal(life_may(LIFE_DESTROYED, LIFE_OP_DATA), LIFE_GONE);
	assert_int_equal(life_may(LIFE_DESTROYED, LIFE_OP_DELETE), LIFE_NOOP);
	assert_int_equal(life_may(LIFE_PAUSED, LIFE_OP_PAUSE), LIFE_NOOP);
	assert_int_equal(life_may(LIFE_RESUMING, LIFE_OP_DATA), LIFE_HOLD);
}

static void names(void **state)
{
	enum life_state back;

	for (int s = LIFE_NONE + 1; s < LIFE_STATES; s++) {
		assert_int_equal(life_state_from(str_c(life_state_name((enum life_state)s)), &back), 0);
		assert_int_equal(back, s);
		for (int o = 0; o < LIFE_OPS; o++)
			assert_int_not_equal(strlen(life_op_name((enum life_op)o)), 0);
	}
	assert_int_equal(life_state_from(STR("none"), &back), -EINVAL);
	assert_int_equal(life_state_from(STR(""), &back), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_can_be_left_towards_the_end), cmocka_unit_test(paths),
		cmocka_unit_test(only_what_settles_is_waited_for), cmocka_unit_test(ends_refuse_changes),
		cmocka_unit_test(names) };

	return cmocka_run_group_tests_name("api/life", tests, NULL, NULL);
}

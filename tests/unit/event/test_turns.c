/* event/turns: who goes first, and that nobody is forgotten, whoever leaves meanwhile. */
#include "event/turns.h"
#include "../unit.h"

#define CONNS 8

static struct turns t;
static struct turn_line a, b;
static struct turn conn[CONNS];
static char went[64];
static struct turn *ends; /* who leaves when the first one goes */

static int setup(void **state)
{
	memset(conn, 0, sizeof(conn));
	memset(went, 0, sizeof(went));
	ends = NULL;
	turns_init(&t);
	turn_line_init(&a);
	turn_line_init(&b);
	return 0;
}

static void go(struct turn *x)
{
	went[strlen(went)] = (char)('0' + (x - conn));
	assert_true(turn_take(&t, x->line, x, false));
	if (ends) {
		turn_leave(&t, ends);
		ends = NULL;
	}
}

/* Who went in a turn of the loop: "12" is the connections 1 and 2. */
static const char *share(void)
{
	memset(went, 0, sizeof(went));
	turns_share(&t, go);
	t.now++;
	return went;
}

/* An address that has had its requests at once, in this turn. */
static void use_up(struct turn_line *l, struct turn *x)
{
	for (unsigned int i = 0; i < TURN_AT_ONCE; i++)
		assert_true(turn_take(&t, l, x, false));
}

static void some_at_once(void **state)
{
	use_up(&a, &conn[0]);
	assert_false(turn_take(&t, &a, &conn[1], false));
	assert_true(turn_waits(&conn[1]) && !turn_waits(&conn[0]));
	assert_true(turn_take(&t, &b, &conn[2], false)); /* another address has its own */
	assert_string_equal(share(), "1");
	assert_false(turns_wait(&t));
	assert_true(turn_take(&t, &a, &conn[0], false)); /* the control: a turn later */
}

static void an_address_has_two_of_those_that_wait(void **state)
{
	for (int i = 0; i < 3; i++)
		assert_false(turn_take(&t, &a, &conn[i], true));
	assert_false(turn_take(&t, &b, &conn[3], true));
	use_up(&a, &conn[4]); /* silent before: not behind them */
	assert_false(turn_take(&t, &a, &conn[5], false));
	assert_string_equal(share(), "503");
	assert_string_equal(share(), "1");
	assert_false(turn_take(&t, &a, &conn[0], true)); /* it has more, and is behind 2 now */
	assert_string_equal(share(), "2");
	assert_string_equal(share(), "0");
	assert_string_equal(share(), "");
}

static void asking_twice_is_no_second_place(void **state)
{
	assert_false(turn_take(&t, &a, &conn[0], true));
	assert_false(turn_take(&t, &a, &conn[0], true));
	assert_string_equal(share(), "0");
	assert_false(turns_wait(&t));
}

static void who_leaves_is_not_asked(void **state)
{
	assert_false(turn_take(&t, &a, &conn[0], true));
	turn_leave(&t, &conn[0]);
	turn_leave(&t, &conn[0]);
	assert_false(turns_wait(&t));
	assert_string_equal(share(), "");
	/* also when it was granted already, and its address has nobody any more */
	assert_false(turn_take(&t, &a, &conn[1], true));
	assert_false(turn_take(&t, &b, &conn[2], true));
	ends = &conn[2];
	assert_string_equal(share(), "1");
	assert_false(turn_take(&t, &b, &conn[2], true)); /* nothing of it was kept */
	assert_string_equal(share(), "2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(some_at_once, setup),
		cmocka_unit_test_setup(an_address_has_two_of_those_that_wait, setup),
		cmocka_unit_test_setup(asking_twice_is_no_second_place, setup),
		cmocka_unit_test_setup(who_leaves_is_not_asked, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

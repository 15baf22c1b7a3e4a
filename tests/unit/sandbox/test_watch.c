/* sandbox/watch: who is stuck, and who is only waited for. Beats are calls; no clock is read. */
#include "sandbox/watch.h"
#include "../unit.h"

/* A role that has answered once and was asked again. */
static struct watch asked_again(void)
{
	struct watch w = { 0 };

	assert_int_equal(watch_beat(&w, false), WATCH_ASK);
	watch_asked(&w);
	watch_answer(&w);
	assert_int_equal(watch_beat(&w, false), WATCH_ASK);
	watch_asked(&w);
	return w;
}

static void beats(struct watch *w, unsigned int n, bool excused, enum watch_verdict want)
{
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(watch_beat(w, excused), want);
}

static void silence_is_stuck_after_the_limit(void **state)
{
	struct watch w = asked_again();

	beats(&w, WATCH_LIMIT_BEATS - 1, false, WATCH_WAIT);
	beats(&w, 3, false, WATCH_STUCK); /* and stays so: its end may be awaited */
}

static void an_answer_at_the_last_moment_counts(void **state)
{
	struct watch w = asked_again();

	for (int i = 0; i < 3; i++) {
		beats(&w, WATCH_LIMIT_BEATS - 1, false, WATCH_WAIT);
		watch_answer(&w);
		assert_int_equal(watch_beat(&w, false), WATCH_ASK);
		watch_asked(&w);
	}
	beats(&w, WATCH_LIMIT_BEATS - 1, false, WATCH_WAIT);
	beats(&w, 1, false, WATCH_STUCK); /* the control: what was answered is forgotten */
}

static void excused_beats_blame_nobody(void **state)
{
	struct watch w = asked_again();

	beats(&w, 10 * WATCH_LIMIT_BEATS, true, WATCH_WAIT);
	beats(&w, WATCH_LIMIT_BEATS - 1, false, WATCH_WAIT);
	beats(&w, 10, true, WATCH_WAIT);
	beats(&w, 1, false, WATCH_STUCK);
}

static void the_first_answer_may_take_longer(void **state)
{
	struct watch w = { 0 };

	watch_asked(&w); /* as it starts */
	beats(&w, WATCH_FIRST_BEATS - 1, false, WATCH_WAIT);
	watch_answer(&w);
	assert_int_equal(watch_beat(&w, false), WATCH_ASK);
	watch_asked(&w);
	beats(&w, WATCH_LIMIT_BEATS - 1, false, WATCH_WAIT);
	beats(&w, 1, false, WATCH_STUCK);
}

static void who_never_answers_is_stuck_too(void **state)
{
	struct watch w = { 0 };

	watch_asked(&w);
	beats(&w, WATCH_FIRST_BEATS - 1, false, WATCH_WAIT);
	beats(&w, 1, false, WATCH_STUCK);
}

static void a_question_that_could_not_be_sent_is_asked_again(void **state)
{
	struct watch w = { 0 };

	beats(&w, 100, false, WATCH_ASK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_is_stuck_after_the_limit),
		cmocka_unit_test(an_answer_at_the_last_moment_counts),
		cmocka_unit_test(excused_beats_blame_nobody),
		cmocka_unit_test(the_first_answer_may_take_longer),
		cmocka_unit_test(who_never_answers_is_stuck_too),
		cmocka_unit_test(a_question_that_could_not_be_sent_is_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

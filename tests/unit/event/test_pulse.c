/* event/pulse: it beats, its loop waits without an end meanwhile, and it can be closed within a beat. */
#include <sys/resource.h>
#include "event/pulse.h"
#include "../unit.h"

static struct pulse p;
static unsigned int beats, closed;
static int timeout; /* of the loop's next wait; -1: none */

static void on_closed(uv_handle_t *handle)
{
	assert_ptr_equal(handle, &p.poll);
	closed++;
}

static void on_beat(struct pulse *which)
{
	assert_ptr_equal(which, &p);
	timeout = uv_backend_timeout(p.poll.loop);
	if (++beats == 3)
		pulse_close(&p, on_closed);
}

static void on_timer(uv_timer_t *timer)
{
	uv_close((uv_handle_t *)timer, NULL);
}

static int setup(void **state)
{
	beats = closed = 0;
	return 0;
}

static void it_beats_and_ends(void **state)
{
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(pulse_start(&loop, 1, on_beat, &p), 0);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(beats, 3);
	assert_int_equal(timeout, -1);
	assert_int_equal(closed, 1);
	assert_int_equal(p.fd, -EBADF);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* The control: this is what a timer does to the loop. */
static void beside_a_timer(void **state)
{
	uv_timer_t timer;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(pulse_start(&loop, 1, on_beat, &p), 0);
	uv_timer_init(&loop, &timer);
	assert_int_equal(uv_timer_start(&timer, on_timer, 100000, 0), 0);
	while (beats < 2)
		uv_run(&loop, UV_RUN_ONCE);
	assert_true(timeout > 0);
	uv_close((uv_handle_t *)&timer, NULL);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(closed, 1);
	assert_int_equal(uv_loop_close(&loop), 0);
}

static void no_descriptor_is_left(void **state)
{
	struct rlimit files, none;
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	none = files;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(pulse_start(&loop, 1, on_beat, &p), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(uv_loop_close(&loop), 0); /* nothing was left in it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(it_beats_and_ends, setup),
		cmocka_unit_test_setup(beside_a_timer, setup),
		cmocka_unit_test_setup(no_descriptor_is_left, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

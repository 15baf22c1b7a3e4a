/* sandbox/aside: one at a time, in order, and nobody waits for one who is not ready. */
#include "sandbox/aside.h"
#include "../unit.h"

struct work {
	struct aside_job job;
	char name;
	int result;
	unsigned int patience; /* how often it is not ready yet; at 0 it is */
	const bool *until;     /* NULL, or what it is not ready before */
};

static char order[64];
static unsigned int inside;
static uv_thread_t loop_thread;
static bool told;

static void note(char c)
{
	size_t n = strlen(order);

	assert_true(n + 1 < sizeof(order));
	order[n] = c;
	order[n + 1] = '\0';
}

static int work(struct aside_job *job, struct err *err)
{
	struct work *w = container_of(job, struct work, job);
	uv_thread_t self = uv_thread_self();
	bool wait = w->until ? !*w->until : w->patience && w->patience--;

	assert_false(uv_thread_equal(&self, &loop_thread));
	assert_int_equal(inside++, 0);
	inside--;
	if (wait)
		return -EAGAIN;
	return w->result < 0 ? err_set(err, w->result, ERR_INTERNAL, "%c failed", w->name) : 0;
}

static void done(struct aside_job *job, int result, const struct err *err)
{
	struct work *w = container_of(job, struct work, job);
	uv_thread_t self = uv_thread_self();

	assert_true(uv_thread_equal(&self, &loop_thread));
	assert_int_equal(result, w->result);
	if (result < 0)
		assert_int_equal(err->text[0], w->name);
	note(w->name);
	told |= w->name == 'z';
}

static struct work job(char name)
{
	return (struct work){ .job = { .work = work, .done = done }, .name = name };
}

static void each_in_its_turn(void **state)
{
	struct work a = job('a'), b = job('b'), c = job('c'), d = job('d');
	struct aside aside = { 0 };
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(aside_open(&aside, &loop, NULL), 0);
	order[0] = '\0';
	b.result = -EIO;
	c.patience = 3;
	aside_do(&aside, &a.job);
	aside_do(&aside, &c.job);
	aside_do(&aside, &b.job);
	aside_do(&aside, &d.job);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "abdc");
	order[0] = '\0';
	b.result = 0;
	aside_do(&aside, &b.job); /* once more */
	aside_close(&aside);	  /* which waits for it */
	assert_string_equal(order, "b");
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
}

static void who_is_never_ready_holds_up_nobody(void **state)
{
	struct work stuck = job('s'), first = job('f'), last = job('z');
	struct aside aside = { 0 };
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(aside_open(&aside, &loop, NULL), 0);
	order[0] = '\0';
	told = false;
	stuck.until = &told; /* ready only after one who comes later is done */
	aside_do(&aside, &stuck.job);
	aside_do(&aside, &first.job);
	while (!order[0])
		uv_run(&loop, UV_RUN_ONCE);
	aside_do(&aside, &last.job);
	aside_close(&aside);
	assert_string_equal(order, "fzs");
	aside_close(&(struct aside){ 0 });
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_in_its_turn),
		cmocka_unit_test(who_is_never_ready_holds_up_nobody),
	};

	loop_thread = uv_thread_self();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

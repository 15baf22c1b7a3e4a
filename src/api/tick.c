/* Timers: see the header. Closing marks, the close callback frees. */
#include "api/tick.h"

struct tick {
	uv_timer_t timer;
	tick_fn fn;
	void *arg;
};

static void fire(uv_timer_t *timer)
{
	struct tick *t = container_of(timer, struct tick, timer);

	t->fn(t->arg);
}

struct tick *tick_new(uv_loop_t *loop, uint64_t ms, uint64_t repeat, tick_fn fn, void *arg)
{
	struct tick *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->fn = fn;
	t->arg = arg;
	uv_timer_init(loop, &t->timer);
	uv_timer_start(&t->timer, fire, ms, repeat);
	return t;
}

void tick_again(struct tick *t, uint64_t ms)
{
	uv_timer_start(&t->timer, fire, ms, uv_timer_get_repeat(&t->timer));
}

static void closed(uv_handle_t *handle)
{
	free(container_of((uv_timer_t *)handle, struct tick, timer));
}

struct tick *tick_free(struct tick *t)
{
	if (t)
		uv_close((uv_handle_t *)&t->timer, closed);
	return NULL;
}

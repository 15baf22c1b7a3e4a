/* Templates of machines: see the header. */
#include "base/fd.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/template.h"

void templates_open(struct templates *ts, uint32_t limit_mib)
{
	ts->limit_mib = limit_mib;
	TAILQ_INIT(&ts->list);
}

static struct template *template_free(struct template *t)
{
	if (t) {
		fd_close(t->memory);
		fd_close(t->state);
	}
	free(t);
	return NULL;
}

static uint32_t size_mib(const struct template *t)
{
	return (uint32_t)(t->head.memory >> 20);
}

uint32_t templates_mib(const struct templates *ts)
{
	const struct template *t;
	uint32_t sum = 0;

	TAILQ_FOREACH(t, &ts->list, next)
		sum += size_mib(t);
	return sum;
}

static void drop_first(struct templates *ts)
{
	struct template *t = TAILQ_FIRST(&ts->list);

	TAILQ_REMOVE(&ts->list, t, next);
	template_free(t);
}

void templates_drop(struct templates *ts)
{
	while (!TAILQ_EMPTY(&ts->list))
		drop_first(ts);
}

unsigned int templates_count(const struct templates *ts)
{
	const struct template *t;
	unsigned int n = 0;

	TAILQ_FOREACH(t, &ts->list, next)
		n++;
	return n;
}

static void make_room(struct templates *ts, uint32_t mib)
{
	while (!TAILQ_EMPTY(&ts->list) &&
		(templates_count(ts) >= TEMPLATES_MAX || templates_mib(ts) + (uint64_t)mib > ts->limit_mib))
		drop_first(ts);
}

static struct template *take_out(struct templates *ts, const struct snapshot_head *head)
{
	struct template *t;

	TAILQ_FOREACH(t, &ts->list, next)
		if (!memcmp(t->head.own, head->own, sizeof(head->own)))
			break;
	if (t)
		TAILQ_REMOVE(&ts->list, t, next);
	return t;
}

static int make(const struct snapshot_head *head, struct template **ret, struct err *err)
{
	struct template *t = calloc(1, sizeof(*t));
	int r = t ? 0 : err_sys(err, -ENOMEM, "a template");

	if (r < 0)
		return r;
	t->head = *head;
	t->state = -EBADF;
	r = t->memory = memory_new((uint32_t)(head->memory >> 20), err);
	r = r < 0 ? r : (t->state = memory_new(0, err));
	if (r < 0) {
		template_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

int template_get(struct templates *ts, const struct snapshot_head *head, struct template **ret,
	struct err *err)
{
	struct template *t = take_out(ts, head);
	int r = 0;

	if (!t) {
		make_room(ts, (uint32_t)(head->memory >> 20));
		r = make(head, &t, err);
		ts->made += r == 0;
	}
	if (r < 0)
		return r;
	TAILQ_INSERT_TAIL(&ts->list, t, next);
	*ret = t;
	return 0;
}

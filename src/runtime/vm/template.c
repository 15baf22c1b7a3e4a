/* Templates of machines: see the header. */
#include "base/fd.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/template.h"

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
	uint32_t sum = 0;

	for (const struct template *t = ts->first; t; t = t->next)
		sum += size_mib(t);
	return sum;
}

void templates_drop(struct templates *ts)
{
	while (ts->first) {
		struct template *t = ts->first;

		ts->first = t->next;
		template_free(t);
	}
}

static unsigned int count(const struct templates *ts)
{
	unsigned int n = 0;

	for (const struct template *t = ts->first; t; t = t->next)
		n++;
	return n;
}

static void make_room(struct templates *ts, uint32_t mib)
{
	while (ts->first && (count(ts) >= TEMPLATES_MAX || templates_mib(ts) + mib > TEMPLATES_MIB)) {
		struct template *t = ts->first;

		ts->first = t->next;
		template_free(t);
	}
}

static struct template *take_out(struct templates *ts, const struct snapshot_head *head)
{
	for (struct template **at = &ts->first, *t; (t = *at); at = &t->next)
		if (!memcmp(t->head.own, head->own, sizeof(head->own))) {
			*at = t->next;
			return t;
		}
	return NULL;
}

static void put_last(struct templates *ts, struct template *t)
{
	struct template **at = &ts->first;

	while (*at)
		at = &(*at)->next;
	t->next = NULL;
	*at = t;
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
	}
	if (r < 0)
		return r;
	put_last(ts, t);
	*ret = t;
	return 0;
}

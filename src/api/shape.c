/* Shapes: see the header. */
#include "api/shape.h"

#define GIB 1024u

const struct shape shapes[SHAPES] = {
	{ "s-0.5vcpu-1gb", 1, 50, 1 * GIB, 10 * GIB },
	{ "s-1vcpu-256mb", 1, 0, 256, 10 * GIB },
	{ "s-1vcpu-512mb", 1, 0, 512, 10 * GIB },
	{ "s-1vcpu-1gb", 1, 0, 1 * GIB, 10 * GIB },
	{ "s-1vcpu-2gb", 1, 0, 2 * GIB, 10 * GIB },
	{ "s-2vcpu-2gb", 2, 0, 2 * GIB, 10 * GIB },
	{ "s-2vcpu-4gb", 2, 0, 4 * GIB, 10 * GIB },
	{ "s-4vcpu-4gb", 4, 0, 4 * GIB, 10 * GIB },
	{ "s-8vcpu-16gb", 8, 0, 16 * GIB, 10 * GIB },
};

const struct shape *shape_find(struct str id)
{
	for (size_t i = 0; i < SHAPES; i++)
		if (str_eq_c(id, shapes[i].id))
			return &shapes[i];
	return NULL;
}

uint32_t shape_cpu_milli(const struct shape *s)
{
	return s->quota_pct ? s->quota_pct * 10 : s->vcpu * 1000;
}

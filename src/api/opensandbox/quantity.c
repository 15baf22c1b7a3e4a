/* Quantities: see the header. */
#include "api/opensandbox/quantity.h"

#define FRACTION_MAX 9u /* digits after the point that count */

static const struct {
	const char *suffix;
	uint64_t milli; /* what 1 of it is, in thousandths */
} units[] = {
	{ "", 1000 },
	{ "m", 1 },
	{ "k", 1000000 },
	{ "M", UINT64_C(1000000000) },
	{ "G", UINT64_C(1000000000000) },
	{ "T", UINT64_C(1000000000000000) },
	{ "Ki", 1000u * 1024 },
	{ "Mi", UINT64_C(1000) << 20 },
	{ "Gi", UINT64_C(1000) << 30 },
	{ "Ti", UINT64_C(1000) << 40 },
};

static struct str digits(struct str *s)
{
	struct str d = { s->p, 0 };

	while (d.n < s->n && s->p[d.n] >= '0' && s->p[d.n] <= '9')
		d.n++;
	*s = str_skip(*s, d.n);
	return d;
}

int quantity_milli(struct str text, uint64_t *ret)
{
	struct str whole = digits(&text), part = STR_NONE;
	__uint128_t v, scale = 1;
	uint64_t n = 0, f = 0;
	int r;

	if (text.n && text.p[0] == '.') {
		text = str_skip(text, 1);
		part = digits(&text);
		if (!part.n || part.n > FRACTION_MAX)
			return -EINVAL;
	}
	if (!whole.n)
		return -EINVAL;
	r = str_u64(whole, UINT64_MAX, &n);
	if (r == 0 && part.n)
		r = str_u64(part, UINT64_MAX, &f);
	if (r < 0)
		return r;
	for (size_t i = 0; i < part.n; i++)
		scale *= 10;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (!str_eq_c(text, units[i].suffix))
			continue;
		v = (__uint128_t)n * units[i].milli + (__uint128_t)f * units[i].milli / scale;
		if (v > INT64_MAX)
			return -ERANGE;
		*ret = (uint64_t)v;
		return 0;
	}
	return -EINVAL;
}

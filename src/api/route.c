/* Paths to routes: see the header. */
#include "api/route.h"

int route_split(struct str path, struct route_segs *ret)
{
	ret->n = 0;
	ret->folded = 0;
	ret->more = false;
	if (!path.n || path.p[0] != '/')
		return -EINVAL;
	path = str_skip(path, 1);
	while (path.p && ret->n < ROUTE_SEGS_MAX)
		ret->seg[ret->n++] = str_cut(&path, '/');
	ret->more = path.p;
	return 0;
}

static bool is_param(struct str seg)
{
	return seg.n > 2 && seg.p[0] == '{';
}

bool route_fits(const char *pattern, const struct route_segs *segs)
{
	struct str rest = str_c(pattern + 1); /* patterns begin with '/' */
	unsigned int i = 0;

	do {
		struct str want = str_cut(&rest, '/');

		if (str_eq_c(want, "{*}"))
			return i < segs->n;
		if (i == segs->n)
			return false;
		if (is_param(want) ? !segs->seg[i].n : !str_eq(want, segs->seg[i]))
			return false;
		i++;
	} while (rest.p);
	return i == segs->n && !segs->more;
}

void route_find(const struct route *table, size_t n, enum http_method method,
	const struct route_segs *segs, struct route_hit *ret)
{
	/* An answer to HEAD is GET's without its body; the server leaves that out. */
	enum http_method as = method == HTTP_M_HEAD ? HTTP_M_GET : method;

	*ret = (struct route_hit){ 0 };
	for (size_t i = 0; i < n; i++) {
		if (!route_fits(table[i].pattern, segs))
			continue;
		ret->allow |= 1u << table[i].method;
		ret->open = ret->open || !route_needs_key(&table[i]);
		if ((table[i].method == as || table[i].method == HTTP_M_OTHER) && !ret->route)
			ret->route = &table[i];
	}
	if (ret->allow & 1u << HTTP_M_GET)
		ret->allow |= 1u << HTTP_M_HEAD;
}

struct str route_param(const struct route *route, const struct route_segs *segs, const char *name)
{
	struct str rest = str_c(route->pattern + 1);

	for (unsigned int i = 0; rest.p && i < segs->n; i++) {
		struct str seg = str_cut(&rest, '/');

		if (is_param(seg) && str_eq_c(str_n(seg.p + 1, seg.n - 2), name))
			return segs->seg[i];
	}
	return STR_NONE;
}

void route_allow_text(uint32_t allow, struct buf *out)
{
	static const char *const names[] = {
		[HTTP_M_GET] = "GET",
		[HTTP_M_HEAD] = "HEAD",
		[HTTP_M_POST] = "POST",
		[HTTP_M_PUT] = "PUT",
		[HTTP_M_PATCH] = "PATCH",
		[HTTP_M_DELETE] = "DELETE",
	};

	for (size_t m = 0; m < ARRAY_SIZE(names); m++)
		if (allow & 1u << m)
			buf_fmt(out, "%s, ", names[m]);
	buf_add_c(out, "OPTIONS");
}

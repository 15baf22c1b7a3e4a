/* Paths: "METHOD path". Whatever is found fits its pattern, and parameters are pieces of the path. */
#include "../fuzz.h"
#include "api/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str path = str_n(data, size);
	struct route_segs segs;
	struct route_hit hit;
	size_t joined = 0;

	if (!size)
		return 0;
	path = str_skip(path, 1);
	if (route_split(path, &segs) < 0)
		return 0;
	for (unsigned int i = 0; i < segs.n; i++) {
		CHECK(str_find(segs.seg[i], '/') < 0);
		joined += 1 + segs.seg[i].n;
	}
	CHECK(segs.more ? joined < path.n : joined == path.n);
	route_find(createos_routes, createos_routes_n, (enum http_method)(data[0] % 8), &segs, &hit);
	if (!hit.route)
		return 0;
	CHECK(route_fits(hit.route->pattern, &segs) && hit.allow);
	struct str id = route_param(hit.route, &segs, "sandbox");

	CHECK(!id.p || (id.n && id.p >= path.p && id.p + id.n <= path.p + path.n));
	return 0;
}

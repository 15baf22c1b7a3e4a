/* route: split first, literals before parameters, methods known for a path. */
#include <jansson.h>
#include "api/native/native.h"
#include "api/route.h"
#include "api/routes.h"
#include "../unit.h"

static struct route_segs split(const char *path)
{
	struct route_segs s;

	assert_int_equal(route_split(str_c(path), &s), 0);
	return s;
}

static const char *found(enum http_method m, const char *path)
{
	struct route_segs s = split(path);
	struct route_hit hit;

	route_find(createos_routes, createos_routes_n, m, &s, &hit);
	return hit.route ? hit.route->pattern : "";
}

static void splitting(void **state)
{
	struct route_segs s = split("/a//b%2Fc/");

	assert_int_equal(s.n, 4);
	assert_true(str_eq_c(s.seg[1], ""));
	assert_true(str_eq_c(s.seg[2], "b%2Fc"));
	assert_true(str_eq_c(s.seg[3], ""));
	assert_int_equal(route_split(STR(""), &s), -EINVAL);
	assert_int_equal(route_split(STR("a"), &s), -EINVAL);
	assert_int_equal(route_split(STR("*"), &s), -EINVAL);
	assert_int_equal(route_split(STR("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16"), &s), 0);
	assert_false(s.more);
	assert_true(route_fits("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/{x}", &s));
	assert_int_equal(route_split(STR("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/"), &s), 0);
	assert_true(s.more);
	assert_false(route_fits("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/{x}", &s));
	assert_true(route_fits("/1/{*}", &s));
}

static void finding(void **state)
{
	assert_string_equal(found(HTTP_M_GET, "/healthz"), "/healthz");
	assert_string_equal(found(HTTP_M_HEAD, "/healthz"), "/healthz");
	assert_string_equal(found(HTTP_M_GET, "/v1/sandboxes/x"), "/v1/sandboxes/{sandbox}");
	assert_string_equal(found(HTTP_M_GET, "/v1/sandboxes/by-ip/1.2.3.4"),
		"/v1/sandboxes/by-ip/{ip}");
	assert_string_equal(found(HTTP_M_POST, "/v1/sandboxes/x/exec"), "/v1/sandboxes/{sandbox}/exec");
	assert_string_equal(found(HTTP_M_GET, "/v1/sandboxes/x/exec"), "");
	assert_string_equal(found(HTTP_M_GET, "/v1/sandboxes/"), "");
	assert_string_equal(found(HTTP_M_GET, "/v1/sandboxes/x/"), "");
	assert_string_equal(found(HTTP_M_GET, "/V1/sandboxes"), "");
	assert_string_equal(found(HTTP_M_GET, "/"), "");
	assert_string_equal(found(HTTP_M_DELETE, "/v1/sandboxes/x/disks/a/b"),
		"/v1/sandboxes/{sandbox}/disks/{*}");
	assert_string_equal(found(HTTP_M_DELETE, "/v1/sandboxes/x/disks"),
		"/v1/sandboxes/{sandbox}/disks");
}

static void parameters_and_methods(void **state)
{
	struct route_segs s = split("/v1/sandboxes/by-ip/9");
	auto_buf struct buf allow = BUF_MAX(256);
	struct route_hit hit;

	route_find(createos_routes, createos_routes_n, HTTP_M_GET, &s, &hit);
	assert_true(str_eq_c(route_param(hit.route, &s, "ip"), "9"));
	assert_null(route_param(hit.route, &s, "sandbox").p);
	s = split("/v1/sandboxes/x/egress");
	route_find(createos_routes, createos_routes_n, HTTP_M_DELETE, &s, &hit);
	assert_null(hit.route);
	assert_false(hit.open);
	route_allow_text(hit.allow, &allow);
	assert_string_equal(buf_cstr(&allow), "GET, HEAD, PUT, OPTIONS");
	s = split("/v1/shapes");
	route_find(createos_routes, createos_routes_n, HTTP_M_PUT, &s, &hit);
	assert_true(hit.open);
}

/* Every route names its sandbox the same way, and only those have an operation on one. */
static void the_table(void **state)
{
	for (size_t i = 0; i < createos_routes_n; i++) {
		bool of_sandbox = strstr(createos_routes[i].pattern, "{sandbox}");

		assert_non_null(createos_routes[i].handler);
		assert_int_equal(createos_routes[i].pattern[0], '/');
		if (!of_sandbox)
			assert_int_equal(createos_routes[i].op, 0);
		if (of_sandbox)
			assert_int_equal(createos_routes[i].auth, AUTH_USER);
	}
}

/* What is served as the API's description has every route that is built. */
static void the_description_is_complete(void **state)
{
	static const char *const methods[] = { [HTTP_M_GET] = "get", [HTTP_M_POST] = "post",
		[HTTP_M_PUT] = "put", [HTTP_M_PATCH] = "patch", [HTTP_M_DELETE] = "delete" };
	json_t *doc = json_loadb((const char *)openapi_json, openapi_json_n, 0, NULL);
	json_t *paths = json_object_get(doc, "paths"), *path;
	size_t described = 0, built = 0;
	const char *name;

	json_object_foreach (paths, name, path)
		described += json_object_size(path) - (json_object_get(path, "parameters") != NULL);
	for (size_t i = 0; i < createos_routes_n; i++) {
		if (createos_routes[i].method == HTTP_M_OTHER)
			continue;
		built++;
		if (!json_object_get(json_object_get(paths, createos_routes[i].pattern),
			    methods[createos_routes[i].method]))
			fail_msg("not described: %s %s", methods[createos_routes[i].method],
				createos_routes[i].pattern);
	}
	assert_int_equal(described, built);
	json_decref(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(splitting), cmocka_unit_test(finding),
		cmocka_unit_test(parameters_and_methods), cmocka_unit_test(the_table),
		cmocka_unit_test(the_description_is_complete) };

	return cmocka_run_group_tests_name("api/route", tests, NULL, NULL);
}

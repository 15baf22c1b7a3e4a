/* Services: see the header. */
#include "api/services.h"
#include "base/str.h"
#include "bpf/maps.h"
#include "wire/json.h"

#define TEXT_MAX 65536u

#define NO_INDEX UINT_MAX

struct place { /* where in the body: "services[1].ingress.routes[0]" */
	char text[56];
};

static struct place at(const struct place *p, const char *member, unsigned int index)
{
	struct place ret;

	if (index == NO_INDEX)
		snprintf(ret.text, sizeof(ret.text), "%.30s.%.15s", p->text, member);
	else
		snprintf(ret.text, sizeof(ret.text), "%.22s%s%.13s[%u]", p->text, *p->text ? "." : "",
			member, index);
	return ret;
}

_printf_(5, 6) static int wrong(const struct place *p, const char *member, enum err_kind kind,
	struct err *err, const char *fmt, ...)
{
	char field[sizeof(err->field)], text[sizeof(err->text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(field, sizeof(field), "%.42s%s%.20s", p->text, *member ? "." : "", member);
	return err_field(err, kind == ERR_UNSUPPORTED ? -ENOSYS : -EINVAL, kind, field, "%s", text);
}

static int not_built(const struct place *p, const char *member, struct err *err)
{
	return wrong(p, member, ERR_UNSUPPORTED, err, "not built yet");
}

/* An object of members from this list, which NULL ends. */
static int object(const json_t *o, const struct place *p, const char *const *members, struct err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(o))
		return wrong(p, "", ERR_INVALID, err, "expected an object");
	json_object_foreach ((json_t *)o, key, value) {
		size_t i = 0;

		while (members[i] && strcmp(members[i], key) != 0)
			i++;
		if (!members[i])
			return wrong(p, "", ERR_INVALID, err, "unknown member \"%.40s\"", key);
	}
	return 0;
}

static json_t *member(const json_t *o, const char *name)
{
	json_t *v = json_object_get(o, name);

	return json_is_null(v) ? NULL : v;
}

static struct str text_of(const json_t *o, const char *name)
{
	const json_t *v = member(o, name);

	return json_is_string(v) ? str_n(json_string_value(v), json_string_length(v)) : STR_NONE;
}

static bool is_label(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
			    (s.p[i] == '-' && i && i + 1 < s.n)))
			return false;
	return s.n && s.n <= 63;
}

/* --- one route --- */

static bool is_header(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~' || strchr("()<>@,;:\\\"/[]?={}", s.p[i]))
			return false;
	return s.n && s.n < sizeof(((struct ipc_ingress_route *)0)->header);
}

static bool unhex(struct str s, uint8_t digest[32])
{
	if (s.n != 64 || strspn(s.p, "0123456789abcdefABCDEF") < 64)
		return false;
	for (unsigned int i = 0; i < 32 && digest; i++)
		sscanf(s.p + 2 * i, "%2hhx", &digest[i]);
	return true;
}

static int check_auth(const json_t *a, const struct place *p, struct err *err)
{
	static const char *const members[] = { "mode", "bearer_token_sha256", "header_name",
		"header_value_sha256", NULL };
	struct str mode = text_of(a, "mode");
	int r = a ? object(a, p, members, err) : 0;

	if (!a || r < 0)
		return r;
	if (str_eq_c(mode, "bearer")) {
		if (!unhex(text_of(a, "bearer_token_sha256"), NULL))
			return wrong(p, "bearer_token_sha256", ERR_INVALID, err,
				"expected 64 hexadecimal digits");
	} else if (str_eq_c(mode, "header")) {
		if (!is_header(text_of(a, "header_name")))
			return wrong(p, "header_name", ERR_INVALID, err,
				"expected the name of a header, of at most 43 bytes");
		if (!unhex(text_of(a, "header_value_sha256"), NULL))
			return wrong(p, "header_value_sha256", ERR_INVALID, err,
				"expected 64 hexadecimal digits");
	} else if (!str_eq_c(mode, "none")) {
		return wrong(p, "mode", ERR_INVALID, err, "expected none, bearer or header");
	}
	return 0;
}

/* Every method, and no other path than all of them. */
static int check_reach(const json_t *r, const struct place *p, struct err *err)
{
	static const char *const later[] = { "cors", "rate_limit", "timeout_seconds", "rewrite_prefix",
		NULL };
	const json_t *methods = member(r, "methods"), *prefix = member(r, "path_prefix");
	const char *any;

	for (const char *const *name = later; *name; name++)
		if (member(r, *name))
			return not_built(p, *name, err);
	if (prefix && !str_eq_c(text_of(r, "path_prefix"), "/"))
		return wrong(p, "path_prefix", ERR_UNSUPPORTED, err,
			"not built yet, but for \"/\"");
	if (methods && !json_is_array(methods))
		return wrong(p, "methods", ERR_INVALID, err, "expected an array");
	any = json_string_value(json_array_get(methods, 0));
	if (json_array_size(methods) > 1 || (json_array_size(methods) && (!any || strcmp(any, "*"))))
		return wrong(p, "methods", ERR_UNSUPPORTED, err, "not built yet, but for \"*\"");
	return 0;
}

static int check_route(const json_t *r, const struct place *p, struct err *err)
{
	static const char *const members[] = { "id", "path_prefix", "methods", "rewrite_prefix", "auth",
		"cors", "rate_limit", "timeout_seconds", "resume", NULL };
	struct place auth = at(p, "auth", NO_INDEX);
	int e = object(r, p, members, err);

	if (e == 0 && !is_label(text_of(r, "id")))
		e = wrong(p, "id", ERR_INVALID, err,
			"expected a DNS label: lower-case letters, digits and hyphens, at most 63");
	if (e == 0 && member(r, "resume") && !json_is_boolean(member(r, "resume")))
		e = wrong(p, "resume", ERR_INVALID, err, "expected true or false");
	if (e == 0)
		e = check_reach(r, p, err);
	return e == 0 ? check_auth(member(r, "auth"), &auth, err) : e;
}

/* --- one service --- */

static int check_ingress(json_t *s, const struct place *p, struct err *err)
{
	static const char *const members[] = { "public", "routes", NULL };
	json_t *in = member(s, "ingress"), *routes = member(in, "routes");
	struct place here = at(p, "ingress", -1), route = at(&here, "routes", 0);
	int r = object(in, &here, members, err);

	if (r < 0)
		return r;
	if (!json_is_boolean(member(in, "public")))
		return wrong(&here, "public", ERR_INVALID, err, "expected true or false");
	if (routes && !json_is_array(routes))
		return wrong(&here, "routes", ERR_INVALID, err, "expected an array");
	if (json_array_size(routes) > 1)
		return wrong(&here, "routes", ERR_UNSUPPORTED, err,
			"more than one route of a service is not built yet");
	if (json_array_size(routes))
		return check_route(json_array_get(routes, 0), &route, err);
	if (service_public(s) && json_object_set_new(in, "routes", json_pack("[{s:O,s:s,s:b}]", "id",
		member(s, "id"), "path_prefix", "/", "resume", 0)) < 0)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	return 0;
}

static int check_runtime(const json_t *s, const struct place *p, struct err *err)
{
	static const char *const members[] = { "type", NULL };
	const json_t *runtime = member(s, "runtime");
	struct place here = at(p, "runtime", NO_INDEX);
	struct str type = text_of(runtime, "type");

	if (!runtime)
		return 0;
	if (str_eq_c(type, "cmd") || str_eq_c(type, "function"))
		return wrong(&here, "type", ERR_UNSUPPORTED, err,
			"services are not started yet: start it by a command, and say manual");
	if (!str_eq_c(type, "manual"))
		return wrong(&here, "type", ERR_INVALID, err, "expected manual, cmd or function");
	return object(runtime, &here, members, err);
}

static bool is_reserved(json_int_t port)
{
	return port == WEIR_AGENT_PORT || port == WEIR_AGENT_PORT + 1 || port == 49983;
}

static int check_service(json_t *s, const struct place *p, struct err *err)
{
	static const char *const members[] = { "id", "display_name", "port", "runtime", "ingress",
		"health_check", NULL };
	json_int_t port = json_integer_value(member(s, "port"));
	int r = object(s, p, members, err);

	if (r < 0)
		return r;
	if (!is_label(text_of(s, "id")))
		return wrong(p, "id", ERR_INVALID, err,
			"expected a DNS label: lower-case letters, digits and hyphens, at most 63");
	if (member(s, "display_name") && !text_of(s, "display_name").p)
		return wrong(p, "display_name", ERR_INVALID, err, "expected a text");
	if (!json_is_integer(member(s, "port")) || port < 1 || port > UINT16_MAX)
		return wrong(p, "port", ERR_INVALID, err, "expected a number from 1 to 65535");
	if (is_reserved(port))
		return wrong(p, "port", ERR_INVALID, err, "port %d is reserved", (int)port);
	if (member(s, "health_check"))
		return not_built(p, "health_check", err);
	r = check_runtime(s, p, err);
	return r == 0 ? check_ingress(s, p, err) : r;
}

static int check_twins(const json_t *list, struct err *err)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		for (size_t k = 0; k < i; k++) {
			const json_t *a = json_array_get(list, i), *b = json_array_get(list, k);
			struct place p = at(&(struct place){ "" }, "services", (unsigned int)i);

			if (str_eq(text_of(a, "id"), text_of(b, "id")))
				return wrong(&p, "id", ERR_INVALID, err, "is there twice");
			if (service_port(a) == service_port(b))
				return wrong(&p, "port", ERR_INVALID, err, "is there twice");
		}
	return 0;
}

static int too_many(const json_t *list, const char *name, struct err *err)
{
	if (!json_is_array(list))
		return err_field(err, -EINVAL, ERR_INVALID, name, "expected an array");
	if (json_array_size(list) > SERVICES_MAX)
		return err_field(err, -E2BIG, ERR_INVALID, name, "at most %u of a sandbox",
			SERVICES_MAX);
	return 0;
}

int services_text(const json_t *list, char **ret, struct err *err)
{
	int r = too_many(list, "services", err);
	auto_json json_t *copy = r == 0 ? json_deep_copy(list) : NULL;

	for (size_t i = 0; r == 0 && i < json_array_size(copy); i++) {
		struct place p = at(&(struct place){ "" }, "services", (unsigned int)i);

		r = check_service(json_array_get(copy, i), &p, err);
	}
	if (r == 0)
		r = check_twins(copy, err);
	if (r < 0)
		return r;
	*ret = copy ? json_dumps(copy, JSON_COMPACT) : NULL;
	if (*ret && strlen(*ret) <= TEXT_MAX)
		return 0;
	r = *ret ? err_field(err, -E2BIG, ERR_INVALID, "services", "longer than %u bytes", TEXT_MAX) :
		   err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	free(take_ptr(*ret));
	return r;
}

/* --- only ports --- */

static json_t *service_from_port(json_int_t port, bool resume)
{
	char id[16];

	snprintf(id, sizeof(id), "port-%d", (int)port);
	return json_pack("{s:s,s:I,s:{s:b,s:[{s:s,s:s,s:b}]}}", "id", id, "port", port, "ingress",
		"public", 1, "routes", "id", id, "path_prefix", "/", "resume", resume);
}

int services_from_ports(const json_t *list, char **ret, struct err *err)
{
	static const char *const members[] = { "port", "resume", "public_url", NULL };
	auto_json json_t *services = json_array();
	int r = too_many(list, "exposed_ports", err);

	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i), *resume = member(one, "resume");
		struct place p = at(&(struct place){ "" }, "exposed_ports", (unsigned int)i);
		json_int_t port = json_integer_value(member(one, "port"));

		r = object(one, &p, members, err);
		if (r == 0 && (!json_is_integer(member(one, "port")) || port < 1 || port > UINT16_MAX))
			r = wrong(&p, "port", ERR_INVALID, err, "expected a number from 1 to 65535");
		if (r == 0 && resume && !json_is_boolean(resume))
			r = wrong(&p, "resume", ERR_INVALID, err, "expected true or false");
		if (r == 0 && json_array_append_new(services, service_from_port(port,
						      json_is_true(resume))) < 0)
			r = err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	return r == 0 ? services_text(services, ret, err) : r;
}

/* --- as the row has them --- */

json_t *services_of(const struct sandbox_row *row)
{
	json_t *list = row->services ? json_loads(row->services, 0, NULL) : NULL;

	return list ? list : json_array();
}

static const json_t *route_of(const json_t *service)
{
	return json_array_get(member(member(service, "ingress"), "routes"), 0);
}

bool service_public(const json_t *service)
{
	return json_is_true(member(member(service, "ingress"), "public"));
}

bool service_resumes(const json_t *service)
{
	return json_is_true(member(route_of(service), "resume"));
}

uint16_t service_port(const json_t *service)
{
	return (uint16_t)json_integer_value(member(service, "port"));
}

static void fill_auth(const json_t *auth, struct ipc_ingress_route *ret)
{
	struct str mode = text_of(auth, "mode");

	if (str_eq_c(mode, "bearer")) {
		ret->auth = IPC_INGRESS_BEARER;
		unhex(text_of(auth, "bearer_token_sha256"), ret->digest);
	} else if (str_eq_c(mode, "header")) {
		ret->auth = IPC_INGRESS_HEADER;
		str_copy(ret->header, sizeof(ret->header), text_of(auth, "header_name"));
		unhex(text_of(auth, "header_value_sha256"), ret->digest);
	}
}

/* Two gates for waking: the sandbox's first, then the port's. */
uint32_t services_routes(const struct sandbox_row *row,
	struct ipc_ingress_route ret[static IPC_INGRESS_ROUTES_MAX])
{
	auto_json json_t *list = services_of(row);
	uint32_t n = 0;

	for (size_t i = 0; i < json_array_size(list) && n < IPC_INGRESS_ROUTES_MAX; i++) {
		const json_t *s = json_array_get(list, i);

		if (!service_public(s))
			continue;
		ret[n] = (struct ipc_ingress_route){ .port = service_port(s),
			.hold = row->auto_resume && service_resumes(s) };
		fill_auth(member(route_of(s), "auth"), &ret[n]);
		n++;
	}
	return n;
}

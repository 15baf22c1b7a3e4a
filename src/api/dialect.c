/* Which dialect a request speaks: see the header. */
#include "api/dialect.h"

static const struct dialect *const dialects[] = { &dialect_createos, &dialect_opensandbox,
	&dialect_sandbox0 };

static bool all_digits(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.n > 0;
}

/*
 * Paths that only OpenSandbox has: its health check, everything below the unversioned /sandboxes,
 * and below a sandbox the proxy, the endpoints and the renewal.
 */
static bool opensandbox_path(struct str path)
{
	struct str rest = path, version, last;

	if (str_eq_c(path, "/health") || str_eq_c(path, "/v1/metrics/events") ||
		str_starts(path, STR("/v1/snapshots")) || str_starts(path, STR("/snapshots")))
		return true;
	str_cut(&rest, '/');
	version = str_cut(&rest, '/');
	if (str_eq_c(version, "sandboxes"))
		return true;
	if (!str_eq_c(version, "v1") || !str_eq_c(str_cut(&rest, '/'), "sandboxes"))
		return false;
	str_cut(&rest, '/'); /* the id */
	last = str_cut(&rest, '/');
	if (str_eq_c(last, "proxy"))
		return all_digits(str_cut(&rest, '/'));
	return str_eq_c(last, "endpoints") || str_eq_c(last, "renew-expiration");
}

static const struct dialect *by_request(const struct http *h)
{
	struct str path = http_path(h);

	/* A client whose base URL ends in a slash asks for //api/v1/… */
	if (str_starts(path, STR("/api/v1/")) || str_starts(path, STR("//api/v1/")))
		return &dialect_sandbox0;
	if (http_header(h, "open-sandbox-api-key").p || http_header(h, "open-sandbox-client-ip").p ||
		str_starts(http_header(h, "user-agent"), STR("OpenSandbox-")) ||
		opensandbox_path(path))
		return &dialect_opensandbox;
	return &dialect_createos;
}

const struct dialect *dialect_of(const struct api *a, const struct http *h)
{
	unsigned int listener = (unsigned int)http_tag(h);

	if (listener < a->config.api_listen.n)
		for (size_t i = 0; i < ARRAY_SIZE(dialects); i++)
			if (str_eq_c(str_c(a->config.api_listen.at[listener].dialect), dialects[i]->name))
				return dialects[i];
	return by_request(h);
}

static const struct dialect *stores(uint32_t dialect)
{
	for (size_t i = 0; i < ARRAY_SIZE(dialects); i++)
		if (dialects[i]->stores == dialect && dialects[i]->policy)
			return dialects[i];
	return NULL;
}

int dialect_policy(struct api *a, uint32_t dialect, struct str json, struct policy **ret,
	struct err *err)
{
	const struct dialect *d = stores(dialect);

	if (!d)
		return err_set(err, -EBADMSG, ERR_INTERNAL, "no dialect stores policies under %u",
			dialect);
	return d->policy(a, json, ret, err);
}

json_t *dialect_policy_list(uint32_t dialect, struct str json)
{
	const struct dialect *d = stores(dialect);

	return d && d->policy_list ? d->policy_list(json) : NULL;
}

const char *dialect_stored_by(uint32_t dialect)
{
	for (size_t i = 0; i < ARRAY_SIZE(dialects); i++)
		if (dialects[i]->stores == dialect)
			return dialects[i]->name;
	return "native";
}

const char *dialect_text(const struct err *err)
{
	return err->kind == ERR_INTERNAL ? "internal error" : err->text;
}

struct str dialect_bearer(struct str header)
{
	struct str token = header, scheme = str_cut(&token, ' ');

	return str_caseeq(scheme, STR("bearer")) ? str_trim(token) : STR_NONE;
}

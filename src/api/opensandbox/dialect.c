/*
 * OpenSandbox's dialect: key in OPEN-SANDBOX-API-KEY, errors as {"code":…,"message":…}, those of its
 * egress API as text. Its own code for a kind of error stands in the table; handlers name a finer one
 * in q->code.
 */
#include "api/dialect.h"
#include "api/opensandbox/execd.h"
#include "api/opensandbox/guard.h"
#include "api/opensandbox/netpolicy.h"
#include "api/opensandbox/opensandbox.h"

static const struct {
	int status;
	const char *code;
} kinds[ERR_KINDS] = {
	[ERR_INTERNAL] = { 500, "SANDBOX::INTERNAL_ERROR" },
	[ERR_INVALID] = { 400, "SANDBOX::INVALID_PARAMETER" },
	[ERR_UNAUTHORIZED] = { 401, "INVALID_API_KEY" },
	[ERR_FORBIDDEN] = { 403, "SANDBOX::FORBIDDEN" },
	[ERR_NOT_FOUND] = { 404, "NOT_FOUND" },
	[ERR_METHOD] = { 405, "METHOD_NOT_ALLOWED" },
	[ERR_TIMEOUT] = { 408, "REQUEST_TIMEOUT" },
	[ERR_CONFLICT] = { 409, "SANDBOX::INVALID_STATE" },
	[ERR_TOO_LARGE] = { 413, "REQUEST_TOO_LARGE" },
	[ERR_RATE] = { 429, "TOO_MANY_REQUESTS" },
	[ERR_UNSUPPORTED] = { 501, "SANDBOX::API_NOT_SUPPORTED" },
	[ERR_UPSTREAM] = { 502, "UPSTREAM_ERROR" },
	[ERR_CAPACITY] = { 503, "SANDBOX::UNAVAILABLE" },
};

static struct str credential(const struct http *h)
{
	return http_header(h, "open-sandbox-api-key");
}

/* The contract's 500s whose text is for the client: they are not faults of ours. */
static const char *const told_500[] = { "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE",
	"DOCKER::SANDBOX_IMAGE_PULL_FAILED" };

static int status_of(const struct req *q, const struct err *err)
{
	for (size_t i = 0; q->code && i < ARRAY_SIZE(told_500); i++)
		if (str_eq_c(str_c(q->code), told_500[i]))
			return 500;
	return kinds[err->kind].status;
}

static const char *code_of(const struct req *q, const struct err *err)
{
	if (err->kind == ERR_UNAUTHORIZED && !q->code && !credential(q->h).n)
		return "MISSING_API_KEY";
	if (err->kind == ERR_NOT_FOUND && str_eq_c(STR("id"), err->field))
		return "DOCKER::SANDBOX_NOT_FOUND";
	return q->code ? q->code : kinds[err->kind].code;
}

/* The sentence, and the field in front of it unless it begins with that. */
static void put_message(struct jw *w, const struct err *err)
{
	char text[sizeof(err->field) + sizeof(err->text) + 2];
	bool names = err->field[0] && (err->kind == ERR_INVALID || err->kind == ERR_TOO_LARGE) &&
		!str_starts(str_c(err->text), str_c(err->field));

	snprintf(text, sizeof(text), "%s%s%s", names ? err->field : "", names ? ": " : "",
		dialect_text(err));
	jw_c(w, "message", text);
}

/* The egress API is a server of its own upstream, whose errors are plain text. */
static bool of_egress(const struct req *q)
{
	return route_fits(EGRESS "/{*}", &q->segs) || route_fits("/v1" EGRESS "/{*}", &q->segs);
}

static int error(const struct req *q, const struct err *err, struct buf *out, const char **type)
{
	struct jw w = JW(out);

	if (of_egress(q)) {
		*type = "text/plain; charset=utf-8";
		buf_fmt(out, "%s\n", dialect_text(err));
		return status_of(q, err);
	}
	jw_obj(&w, NULL);
	jw_c(&w, "code", code_of(q, err));
	put_message(&w, err);
	jw_end(&w);
	return status_of(q, err);
}

const struct dialect dialect_opensandbox = { .name = "opensandbox",
	.routes = opensandbox_routes,
	.n_routes = &opensandbox_routes_n,
	.forgets = true,
	.echoes_id = true,
	.fold = execd_fold,
	.guard = guard_admits,
	.refuse = opensandbox_proxy_refuse,
	.credential = credential,
	.error = error,
	.stores = POLICY_OPENSANDBOX,
	.policy = netpolicy_read,
	.policy_list = netpolicy_list };

/*
 * OpenSandbox's dialect: key in OPEN-SANDBOX-API-KEY, errors as {"code":…,"message":…}. Its own
 * code for a kind of error stands in the table; handlers name a finer one in q->code.
 */
#include "api/dialect.h"
#include "api/opensandbox/opensandbox.h"

static const struct {
	int status;
	const char *code;
} kinds[ERR_KINDS] = {
	[ERR_INTERNAL] = { 500, "SANDBOX::INTERNAL_ERROR" },
	[ERR_INVALID] = { 400, "SANDBOX::INVALID_PARAMETER" },
	[ERR_UNAUTHORIZED] = { 401, "INVALID_API_KEY" },
	[ERR_FORBIDDEN] = { 403, "SANDBOX::FORBIDDEN" },
	[ERR_NOT_FOUND] = { 404, "SANDBOX::NOT_FOUND" },
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

static int error(const struct req *q, const struct err *err, struct buf *out)
{
	const char *code = q->code ? q->code : kinds[err->kind].code;
	struct jw w = JW(out);

	if (err->kind == ERR_UNAUTHORIZED && !credential(q->h).n)
		code = "MISSING_API_KEY";
	jw_obj(&w, NULL);
	jw_c(&w, "code", code);
	jw_c(&w, "message", dialect_text(err));
	jw_end(&w);
	return kinds[err->kind].status;
}

const struct dialect dialect_opensandbox = { .name = "opensandbox",
	.routes = opensandbox_routes,
	.n_routes = &opensandbox_routes_n,
	.credential = credential,
	.error = error };

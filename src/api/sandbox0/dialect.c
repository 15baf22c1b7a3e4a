/*
 * sandbox0's dialect: key as a bearer token, errors as {"success":false,"error":{"code":…,
 * "message":…}}. Handlers name a finer code in q->code.
 */
#include "api/dialect.h"
#include "api/sandbox0/sandbox0.h"

static const struct {
	int status;
	const char *code;
} kinds[ERR_KINDS] = {
	[ERR_INTERNAL] = { 500, "internal_error" },
	[ERR_INVALID] = { 400, "bad_request" },
	[ERR_UNAUTHORIZED] = { 401, "unauthorized" },
	[ERR_FORBIDDEN] = { 403, "forbidden" },
	[ERR_NOT_FOUND] = { 404, "not_found" },
	[ERR_METHOD] = { 405, "method_not_allowed" },
	[ERR_TIMEOUT] = { 408, "exec_timeout" },
	[ERR_CONFLICT] = { 409, "conflict" },
	[ERR_TOO_LARGE] = { 413, "file_too_large" },
	[ERR_RATE] = { 429, "quota_exceeded" },
	[ERR_UNSUPPORTED] = { 400, "bad_request" }, /* never accepted and left unenforced */
	[ERR_UPSTREAM] = { 503, "unavailable" },
	[ERR_CAPACITY] = { 503, "unavailable" },
};

static struct str credential(const struct http *h)
{
	return dialect_bearer(http_header(h, "authorization"));
}

static int error(const struct req *q, const struct err *err, struct buf *out)
{
	struct jw w = JW(out);

	jw_obj(&w, NULL);
	jw_bool(&w, "success", false);
	jw_obj(&w, "error");
	jw_c(&w, "code", q->code ? q->code : kinds[err->kind].code);
	jw_c(&w, "message", dialect_text(err));
	jw_end(&w);
	jw_end(&w);
	return kinds[err->kind].status;
}

const struct dialect dialect_sandbox0 = { .name = "sandbox0",
	.routes = sandbox0_routes,
	.n_routes = &sandbox0_routes_n,
	.credential = credential,
	.error = error };

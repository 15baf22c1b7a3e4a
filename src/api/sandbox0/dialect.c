/*
 * sandbox0's dialect: key as a bearer token, success as {"success":true,"data":…}, errors as
 * {"success":false,"error":{"code":…,"message":…}}. Handlers name a finer code in q->code.
 *
 * A message names the member at fault: "config.ttl: expected …". What is wrong with a policy begins
 * with "invalid network policy", and with a body that does not read with "invalid request", as
 * clients of the original know it.
 */
#include "api/dialect.h"
#include "api/sandbox0/contexts.h"
#include "api/sandbox0/network.h"
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

/* Codes of what goes on inside a sandbox, where their status is not their kind's. */
static const struct {
	const char *code;
	int status;
} codes[] = {
	{ "create_failed", 500 },
	{ "input_buffer_full", 409 },
	{ "restart_failed", 500 },
	{ "permission_denied", 403 },
	{ "path_exists", 409 },
	{ "path_not_directory", 409 },
	{ "path_not_file", 409 },
	{ "operation_failed", 500 },
};

static struct str credential(const struct http *h)
{
	return dialect_bearer(http_header(h, "authorization"));
}

static void put_message(struct jw *w, const struct err *err)
{
	static const char policy[] = "invalid network policy";
	const char *text = dialect_text(err), *head = err->field;
	char message[sizeof(err->field) + sizeof(err->text) + sizeof(policy)];

	if (err->kind != ERR_INVALID && err->kind != ERR_UNSUPPORTED)
		head = "";
	else if (str_eq_c(str_c(head), "body"))
		head = "invalid request";
	else if (str_eq_c(str_c(head), "network"))
		head = str_starts(str_c(text), str_c(policy)) ? "" : policy;
	snprintf(message, sizeof(message), "%s%s%s", head, *head ? ": " : "", text);
	jw_c(w, "message", message);
}

static int error(const struct req *q, const struct err *err, struct buf *out, const char **type)
{
	const char *code = q->code ? q->code : kinds[err->kind].code;
	int status = kinds[err->kind].status;
	struct jw w = JW(out);

	if (err->kind == ERR_FORBIDDEN && str_eq_c(str_c(err->field), "quota")) {
		status = 429;
		code = "quota_exceeded";
	}
	/* A call that needs the sandbox running, and it does not. */
	if (err->kind == ERR_CONFLICT && err->code == -EBUSY && q->row && q->route &&
		q->route->op == LIFE_OP_DATA) {
		status = 503;
		code = q->row->state == LIFE_ERROR ? "sandbox_resume_failed" : "unavailable";
	}
	for (size_t i = 0; q->code && i < ARRAY_SIZE(codes); i++)
		if (str_eq_c(str_c(code), codes[i].code))
			status = codes[i].status;
	/* Of these two kinds the answer has it already. */
	if ((status == 429 || status == 503) && err->kind != ERR_CAPACITY && err->kind != ERR_RATE)
		http_add_header(q->h, "Retry-After", STR("1"));
	jw_obj(&w, NULL);
	jw_bool(&w, "success", false);
	jw_obj(&w, "error");
	jw_c(&w, "code", code);
	put_message(&w, err);
	jw_end(&w);
	jw_end(&w);
	return status;
}

const struct dialect dialect_sandbox0 = { .name = "sandbox0",
	.routes = sandbox0_routes,
	.n_routes = &sandbox0_routes_n,
	.credential = credential,
	.error = error,
	.refuse = sandbox0_ws_refuse,
	.forgets = true,
	.stores = POLICY_SANDBOX0,
	.policy = network_policy };

void sandbox0_begin(struct answer *a, size_t max)
{
	a->buf = BUF_MAX(max);
	a->w = JW(&a->buf);
	jw_obj(&a->w, NULL);
	jw_bool(&a->w, "success", true);
}

void sandbox0_done(struct req *q, int status, const char *name)
{
	struct answer a;

	sandbox0_begin(&a, 256);
	jw_obj(&a.w, "data");
	jw_bool(&a.w, name, true);
	jw_end(&a.w);
	reply_send(q, status, &a);
}

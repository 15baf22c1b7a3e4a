/*
 * Answers: see req.h. CreateOS's form, which is also the native one: success is {"status":"success","data":…}; a client's fault is
 * {"status":"fail","data":{"<field>":"<sentence>"}}; ours is {"status":"error","message":…,
 * "code":…}. Internal errors are logged with their text and answered without it.
 */
#include "api/createos/egress.h"
#include "api/dialect.h"
#include "api/routes.h"
#include "base/log.h"

#define JSON_TYPE "application/json"

static const struct {
	int status;
	const char *field; /* under "data" when the error names none */
} kinds[ERR_KINDS] = {
	[ERR_INTERNAL] = { 500, NULL },
	[ERR_INVALID] = { 400, "body" },
	[ERR_UNAUTHORIZED] = { 401, "auth" },
	[ERR_FORBIDDEN] = { 403, "quota" },
	[ERR_NOT_FOUND] = { 404, "id" },
	[ERR_METHOD] = { 405, "method" },
	[ERR_TIMEOUT] = { 408, "request" },
	[ERR_CONFLICT] = { 409, "status" },
	[ERR_TOO_LARGE] = { 413, "body" },
	[ERR_RATE] = { 429, "rate" },
	[ERR_UNSUPPORTED] = { 501, NULL },
	[ERR_UPSTREAM] = { 502, NULL },
	[ERR_CAPACITY] = { 503, NULL },
};

static void fail_body(const struct err *err, struct jw *w)
{
	const char *fallback = kinds[err->kind].field;
	struct str field = str_c(err->field[0] ? err->field : fallback ? fallback : "request");
	size_t n = strcspn(err->field, "[.");

	jw_c(w, "status", "fail");
	jw_obj(w, "data");
	if (err->field[0] && n && n < field.n) {
		/* "egress[2]" is filed under "egress", and the sentence keeps the place. */
		char key[64], text[480];

		snprintf(key, sizeof(key), "%.*s", (int)n, err->field);
		snprintf(text, sizeof(text), "%s: %s", err->field, err->text);
		jw_c(w, key, text);
	} else {
		char key[64];

		snprintf(key, sizeof(key), STR_FMT, STR_ARG(field));
		jw_c(w, key, err->text);
	}
	jw_end(w);
}

void reply_err_body(int status, const struct err *err, struct buf *out)
{
	struct jw w = JW(out);

	jw_obj(&w, NULL);
	if (status < 500) {
		fail_body(err, &w);
	} else {
		jw_c(&w, "status", "error");
		jw_c(&w, "message", dialect_text(err));
		jw_i64(&w, "code", status);
	}
	jw_end(&w);
}

static struct str credential(const struct http *h)
{
	return http_header(h, "x-api-key");
}

static int error(const struct req *q, const struct err *err, struct buf *out, const char **type)
{
	int status = kinds[err->kind].status;

	reply_err_body(status, err, out);
	return status;
}

const struct dialect dialect_createos = { .name = "createos",
	.routes = createos_routes,
	.n_routes = &createos_routes_n,
	.credential = credential,
	.error = error,
	.stores = POLICY_CREATEOS,
	.policy = egress_policy };

void reply_err(struct req *q, const struct err *err)
{
	auto_buf struct buf body = BUF_MAX(8192);
	const char *type = JSON_TYPE;
	int status = q->dialect->error(q, err, &body, &type);

	if (err->kind == ERR_INTERNAL || err->kind == ERR_UPSTREAM)
		log_event(LOG_ERROR, "api.error", "req=%s path=%s status=%d text=%s", http_id(q->h),
			log_q(http_path(q->h)), status, log_q(str_c(err->text)));
	if (err->kind == ERR_CAPACITY || err->kind == ERR_RATE)
		http_add_header(q->h, "Retry-After", STR("1"));
	req_release(q);
	http_reply(q->h, status, type, buf_str(&body));
}

void not_built(struct req *q)
{
	struct err err;

	err_set(&err, -ENOSYS, ERR_UNSUPPORTED, "not built yet: %s", q->route->pattern);
	reply_err(q, &err);
}

void reply_json(struct req *q, int status, const struct buf *body)
{
	struct err err;

	if (buf_failed(body)) {
		err_set(&err, buf_failed(body), ERR_INTERNAL, "the answer does not fit");
		reply_err(q, &err);
		return;
	}
	req_release(q);
	http_reply(q->h, status, JSON_TYPE, buf_str(body));
}

void answer_begin(struct answer *a, size_t max)
{
	a->buf = BUF_MAX(max);
	a->w = JW(&a->buf);
	jw_obj(&a->w, NULL);
	jw_c(&a->w, "status", "success");
}

void reply_send(struct req *q, int status, struct answer *a)
{
	jw_end(&a->w);
	reply_json(q, status, &a->buf);
	buf_done(&a->buf);
}

void answer_page_begin(struct answer *a)
{
	jw_obj(&a->w, "data");
	jw_arr(&a->w, "data");
}

void answer_page_end(struct answer *a, uint64_t total, uint32_t limit, uint32_t offset,
	uint64_t count)
{
	jw_arr_end(&a->w);
	jw_obj(&a->w, "pagination");
	jw_u64(&a->w, "total", total);
	jw_u64(&a->w, "limit", limit);
	jw_u64(&a->w, "offset", offset);
	jw_u64(&a->w, "count", count);
	jw_end(&a->w);
	jw_end(&a->w);
}

void reply_flag(struct req *q, const char *name)
{
	struct answer a;

	answer_begin(&a, 256);
	jw_obj(&a.w, "data");
	jw_bool(&a.w, name, true);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void req_end(struct req *q)
{
	req_end_with(q, STR(""));
}

void req_end_with(struct req *q, struct str trailers)
{
	struct http *h = q->h;

	req_release(q);
	http_end_with(h, trailers);
}

void req_abort(struct req *q)
{
	struct http *h = q->h;

	req_release(q);
	http_abort(h);
}

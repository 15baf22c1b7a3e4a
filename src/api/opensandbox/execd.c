/* What execd's files share: see the header. */
#include "api/ident.h"
#include "api/opensandbox/execd.h"
#include "wire/frame.h"
#include "base/ulid.h"

static void answer(struct req *q, int status, const char *code, const char *text)
{
	auto_buf struct buf body = BUF_MAX(8192);
	struct jw w = JW(&body);

	jw_obj(&w, NULL);
	jw_c(&w, "code", code);
	jw_c(&w, "message", text);
	jw_end(&w);
	reply_json(q, status, &body);
}

void execd_fail(struct req *q, int status, const char *code, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	answer(q, status, code, text);
}

void execd_bad(struct req *q, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	answer(q, 400, "INVALID_REQUEST_BODY", text);
}

void execd_err(struct req *q, const struct err *err, const char *gone)
{
	if (err->kind == ERR_NOT_FOUND && gone)
		answer(q, 404, gone, err->text);
	else if (err->kind == ERR_INVALID || err->kind == ERR_TOO_LARGE ||
		(err->kind == ERR_UPSTREAM && err->code != -EPROTO && err->code != -ECONNRESET &&
			err->code != -ETIMEDOUT))
		answer(q, 500, "RUNTIME_ERROR", err->text);
	else
		reply_err(q, err);
}

void execd_empty(struct req *q)
{
	struct http *h = q->h;

	req_release(q);
	http_reply(h, 200, NULL, STR_NONE);
}

/* --- bodies --- */

struct body {
	struct req *q;
	void (*fn)(struct req *q);
};

static void on_body(struct http *h, struct str text, void *arg)
{
	struct body *b = arg;
	struct err err;

	if (json_parse(text, &b->q->json, &err) < 0)
		execd_bad(b->q, "%s", err.text);
	else
		b->fn(b->q);
}

void execd_json(struct req *q, void (*fn)(struct req *q))
{
	struct body *b = http_alloc(q->h, sizeof(*b));

	if (!b) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return;
	}
	*b = (struct body){ q, fn };
	http_body_whole(q->h, EXECD_BODY_MAX, on_body, b);
}

int execd_text(struct req *q, const json_t *obj, const char *name, struct str *ret)
{
	const json_t *v = json_object_get(obj, name);

	*ret = STR_NONE;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v)) {
		execd_bad(q, "%s: expected a string", name);
		return -EINVAL;
	}
	*ret = str_n(json_string_value(v), json_string_length(v));
	if (str_find(*ret, '\0') >= 0) {
		execd_bad(q, "%s: contains a NUL", name);
		return -EINVAL;
	}
	return 0;
}

int execd_number(struct req *q, const json_t *obj, const char *name, uint64_t max, uint64_t *ret)
{
	const json_t *v = json_object_get(obj, name);

	*ret = 0;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
		(uint64_t)json_integer_value(v) > max) {
		execd_bad(q, "%s: expected a whole number from 0 to %" PRIu64, name, max);
		return -EINVAL;
	}
	*ret = (uint64_t)json_integer_value(v);
	return 0;
}

/* 644 means 0644. */
static int mode_from(struct req *q, const json_t *v, struct execd_mark *mark)
{
	json_int_t n = json_integer_value(v);
	uint32_t shift = 0;

	if (!v || json_is_null(v))
		return 0;
	for (; json_is_integer(v) && n > 0 && n % 10 < 8 && shift < 12; n /= 10, shift += 3)
		mark->mode |= (uint32_t)(n % 10) << shift;
	if (!json_is_integer(v) || n) {
		execd_bad(q, "mode: expected digits that read as octal, as 644; at most 7777");
		return -EINVAL;
	}
	mark->has_mode = true;
	return 0;
}

int execd_mark(struct req *q, const json_t *obj, struct execd_mark *ret)
{
	*ret = (struct execd_mark){ 0 };
	if (mode_from(q, json_object_get(obj, "mode"), ret) < 0 ||
		execd_text(q, obj, "owner", &ret->owner) < 0 ||
		execd_text(q, obj, "group", &ret->group) < 0)
		return -EINVAL;
	if (ret->owner.n <= FRAME_OWNER_MAX && ret->group.n <= FRAME_OWNER_MAX)
		return 0;
	execd_bad(q, "owner, group: expected at most %u bytes", FRAME_OWNER_MAX);
	return -EINVAL;
}

/* --- paths --- */

/* A variable as a command of the sandbox would find it. -ENOENT: it has none of that name. */
static int variable(struct req *q, struct str name, struct buf *out)
{
	static const char *const base[][2] = {
		{ "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
		{ "HOME", "/root" }, { "USER", "root" }, { "LANG", "C.UTF-8" } };
	auto_json json_t *envs = json_loads(q->row->envs, 0, NULL);
	auto_free char *key = str_dup(name);
	const json_t *v = key ? json_object_get(envs, key) : NULL;

	if (json_is_string(v))
		return buf_add(out, json_string_value(v), json_string_length(v));
	for (size_t i = 0; i < ARRAY_SIZE(base); i++)
		if (str_eq_c(name, base[i][0]))
			return buf_add_c(out, base[i][1]);
	return -ENOENT;
}

static size_t name_length(struct str s)
{
	size_t n = 0;

	while (n < s.n && (s.p[n] == '_' || (s.p[n] >= 'a' && s.p[n] <= 'z') ||
				  (s.p[n] >= 'A' && s.p[n] <= 'Z') ||
				  (n && s.p[n] >= '0' && s.p[n] <= '9')))
		n++;
	return n;
}

/* `s` begins behind a dollar sign. How much of it was the variable. */
static ssize_t expand(struct req *q, struct str s, struct buf *out)
{
	bool braced = s.n && s.p[0] == '{';
	struct str rest = str_skip(s, braced);
	size_t n = name_length(rest);

	if (!n || (braced && (n == rest.n || rest.p[n] != '}'))) {
		buf_add_c(out, "$");
		return 0;
	}
	if (variable(q, str_n(rest.p, n), out) < 0) {
		execd_fail(q, 500, "RUNTIME_ERROR", "the sandbox has no variable %.*s",
			(int)MIN(n, (size_t)64), rest.p);
		return -ENOENT;
	}
	return (ssize_t)(n + (braced ? 2 : 0));
}

int execd_path(struct req *q, struct str in, struct str *ret)
{
	auto_buf struct buf out = BUF_MAX(65536);

	if (!in.n) {
		execd_bad(q, "path: must not be empty");
		return -EINVAL;
	}
	if (in.p[0] == '~' && (in.n == 1 || in.p[1] == '/')) {
		buf_add_c(&out, "/root");
		in = str_skip(in, 1);
	} else if (in.p[0] != '/' && in.p[0] != '$') {
		buf_add_c(&out, "/root/");
	}
	while (in.n) {
		ssize_t n;

		if (in.p[0] != '$') {
			buf_add(&out, in.p, 1);
			in = str_skip(in, 1);
			continue;
		}
		in = str_skip(in, 1);
		n = expand(q, in, &out);
		if (n < 0)
			return -EINVAL;
		in = str_skip(in, (size_t)n);
	}
	if (buf_failed(&out) || out.n > FRAME_PATH_MAX || out.p[0] != '/' ||
		str_find(buf_str(&out), '\0') >= 0) {
		execd_bad(q, "path: expected at most %u bytes without NUL", FRAME_PATH_MAX);
		return -EINVAL;
	}
	*ret = http_alloc_str(q->h, buf_str(&out));
	if (ret->p)
		return 0;
	execd_fail(q, 413, "INVALID_REQUEST_BODY", "the paths of one request are too long together");
	return -EINVAL;
}

int execd_query_all(struct req *q, const char *name, struct str **ret, size_t *n)
{
	struct str query = http_query(q->h), rest = query;
	size_t max = 0;

	while (rest.n) {
		struct str value = str_cut(&rest, '&');

		max += str_eq_c(str_cut(&value, '='), name);
	}
	*n = 0;
	*ret = http_alloc(q->h, (max + 1) * sizeof(**ret));
	if (max > EXECD_PATHS_MAX || !*ret) {
		execd_bad(q, "%s: at most %u", name, EXECD_PATHS_MAX);
		return -EINVAL;
	}
	while (query.n) {
		struct str value = str_cut(&query, '&'), key = str_cut(&value, '=');

		if (!str_eq_c(key, name))
			continue;
		if (http_decode(q->h, value.p ? value : STR(""), true, &(*ret)[*n]) < 0) {
			execd_fail(q, 400, "MISSING_QUERY", "%s: malformed escape", name);
			return -EINVAL;
		}
		++*n;
	}
	if (*n)
		return 0;
	execd_fail(q, 400, "MISSING_QUERY", "missing query parameter: %s", name);
	return -EINVAL;
}

void execd_id(char ret[static 33])
{
	uint8_t raw[16];

	random_bytes(raw, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(ret + 2 * i, 3, "%02x", raw[i]);
}

/* --- handlers --- */

void execd_ping(struct req *q)
{
	execd_empty(q);
}

void execd_nothing(struct req *q)
{
	execd_fail(q, 404, "NOT_SUPPORTED", "execd has nothing here");
}

/* Sessions in namespaces of their own inside the sandbox: upstream has them as an extra, with an
 * answer for those who have not. */
#define NO_ISOLATION "a sandbox here has no isolated sessions: each sandbox is one"

void execd_isolation(struct req *q)
{
	auto_buf struct buf body = BUF_MAX(512);
	struct jw w = JW(&body);

	jw_obj(&w, NULL);
	jw_bool(&w, "available", false);
	jw_c(&w, "message", NO_ISOLATION);
	jw_bool(&w, "commit_supported", false);
	jw_bool(&w, "diff_supported", false);
	jw_end(&w);
	reply_json(q, 200, &body);
}

void execd_no_isolation(struct req *q)
{
	execd_fail(q, 503, "NOT_SUPPORTED", NO_ISOLATION);
}

/*
 * /files and /directories, but contents: what is asked of the agent one name after the other. A
 * request that fails in the middle has done what came before; its answer names what failed.
 */
#include "api/opensandbox/execd.h"
#include "api/tree.h"
#include "base/clock.h"

#define ANSWER_MAX (8u << 20) /* of one that is collected */

struct batch {
	struct use use;
	struct req *q;
	struct tree *tree;
	struct tree_spec *specs; /* request memory, as is what they point to */
	struct str *asked;	 /* the names as the request has them */
	size_t n, at;
	struct buf out;
	struct jw w;
	bool tell;	/* the answer is an object by name: info, or replacedCount */
	bool counts;	/* … replacedCount */
	bool listing;	/* the answer is an array, sent as it comes */
	bool started;
	const char *wrong_kind; /* what ENOTDIR is called, as a 400; NULL: a 500 as all */
};

static void batch_free(struct batch *b)
{
	tree_free(b->tree);
	buf_done(&b->out);
	box_unuse(&b->use);
	free(b);
}

static void batch_gone(struct req *q)
{
	batch_free(q->state);
}

static struct req *batch_over(struct batch *b)
{
	struct req *q = b->q;

	q->on_gone = NULL;
	batch_free(b);
	return q;
}

static void batch_fail(struct batch *b, const struct err *err)
{
	const char *wrong_kind = b->wrong_kind;
	bool started = b->started;
	struct req *q = batch_over(b);

	if (started)
		req_abort(q);
	else if (wrong_kind && err->code == -ENOTDIR)
		execd_fail(q, 400, wrong_kind, "%s", err->text);
	else
		execd_err(q, err, "FILE_NOT_FOUND");
}

static void batch_bounce(struct use *u, const struct err *err)
{
	batch_fail(container_of(u, struct batch, use), err);
}

/* With room for n specs, or NULL: answered. */
static struct batch *batch_new(struct req *q, size_t n)
{
	struct batch *b = n > EXECD_PATHS_MAX ? NULL : calloc(1, sizeof(*b));

	if (b) {
		b->specs = http_alloc(q->h, (n + 1) * sizeof(*b->specs));
		b->asked = http_alloc(q->h, (n + 1) * sizeof(*b->asked));
	}
	if (!b || !b->specs || !b->asked) {
		free(b);
		execd_bad(q, "at most %u names in one request", EXECD_PATHS_MAX);
		return NULL;
	}
	b->q = q;
	b->out = BUF_MAX(ANSWER_MAX);
	b->w = JW(&b->out);
	return b;
}

/* A batch that is not begun, of a request that was answered. */
static void batch_drop(struct batch *b)
{
	free(b);
}

static void time_text(struct jw *w, const char *name, uint64_t ns)
{
	jw_c(w, name, rfc3339_from(ns).s);
}

static void write_entry(struct jw *w, const char *name, const struct tree_entry *e, struct str path)
{
	static const char *const kinds[] = { "other", "file", "directory", "symlink", "other" };
	char mode[8];

	snprintf(mode, sizeof(mode), "%o", e->mode);
	jw_obj(w, name);
	jw_str(w, "path", path);
	jw_c(w, "type", kinds[e->kind]);
	jw_u64(w, "size", e->bytes);
	time_text(w, "modified_at", e->modified_ns);
	time_text(w, "created_at", e->created_ns);
	jw_str(w, "owner", e->owner);
	jw_str(w, "group", e->group);
	jw_raw(w, "mode", str_c(mode)); /* decimal digits that read as octal */
	jw_end(w);
}

/* --- one after the other --- */

static void next(struct batch *b);

static void on_drain(struct http *h, void *arg)
{
	tree_pause(((struct batch *)arg)->tree, false);
}

static void array_start(struct batch *b)
{
	if (b->started)
		return;
	b->started = true;
	http_on_drain(b->q->h, on_drain, b);
	http_start(b->q->h, 200, "application/json", -1);
	http_write(b->q->h, STR("["));
}

static void on_entry(struct tree *x, const struct tree_entry *e, void *arg)
{
	struct batch *b = arg;
	struct str path = e->path;

	if (b->listing) {
		array_start(b);
		write_entry(&b->w, NULL, e, path);
		if (b->out.n < 16384)
			return;
		if (http_write(b->q->h, buf_str(&b->out)) == 0)
			tree_pause(x, true);
		buf_reset(&b->out);
	} else if (b->tell) {
		auto_free char *key = str_dup(b->asked[b->at]);

		if (key)
			write_entry(&b->w, key, e, b->asked[b->at]);
	}
}

static void on_end(struct tree *x, uint64_t n, const struct err *err, void *arg)
{
	struct batch *b = arg;

	tree_free(take_ptr(b->tree));
	if (err) {
		batch_fail(b, err);
		return;
	}
	if (b->counts) {
		auto_free char *key = str_dup(b->asked[b->at]);

		jw_obj(&b->w, key ? key : "");
		jw_u64(&b->w, "replacedCount", n);
		jw_end(&b->w);
	}
	b->at++;
	next(b);
}

static void finish(struct batch *b)
{
	auto_buf struct buf out = b->out;
	bool tell = b->tell || b->counts, listing = b->listing;
	struct req *q;

	if (listing)
		array_start(b);
	else if (tell)
		jw_end(&b->w);
	out = b->out;
	b->out = BUF_MAX(0);
	q = batch_over(b);
	if (listing) {
		http_write(q->h, buf_str(&out));
		http_write(q->h, STR("]"));
		req_end(q);
	} else if (tell) {
		reply_json(q, 200, &out);
	} else {
		execd_empty(q);
	}
}

static void next(struct batch *b)
{
	static const struct tree_ops ops = { on_entry, on_end };
	struct req *q = b->q;
	struct err err;

	if (b->at == b->n)
		finish(b);
	else if (tree_start(q->api->loop, &q->box->link, &b->specs[b->at], &ops, b, &b->tree, &err) < 0)
		batch_fail(b, &err);
}

static void begin(struct batch *b)
{
	struct req *q = b->q;

	q->state = b;
	q->on_gone = batch_gone;
	box_use(q->box, &b->use, batch_bounce);
	if ((b->tell || b->counts) && !b->listing)
		jw_obj(&b->w, NULL);
	next(b);
}

/* --- names in the query --- */

static void by_query(struct req *q, struct tree_spec like, bool tell)
{
	struct str *paths;
	struct batch *b;
	size_t n;

	if (execd_query_all(q, "path", &paths, &n) < 0)
		return;
	b = batch_new(q, n);
	if (!b)
		return;
	for (size_t i = 0; i < n; i++) {
		b->specs[i] = like;
		b->asked[i] = paths[i];
		if (execd_path(q, paths[i], &b->specs[i].path) < 0) {
			batch_drop(b);
			return;
		}
	}
	b->n = n;
	b->tell = tell;
	begin(b);
}

void execd_info(struct req *q)
{
	by_query(q, (struct tree_spec){ .op = FRAME_TREE_STAT }, true);
}

void execd_delete(struct req *q)
{
	by_query(q, (struct tree_spec){ .op = FRAME_TREE_REMOVE, .flags = FRAME_TREE_FILES }, false);
}

void execd_rmdirs(struct req *q)
{
	by_query(q, (struct tree_spec){ .op = FRAME_TREE_REMOVE,
			    .flags = FRAME_TREE_ALL | FRAME_TREE_DIR }, false);
}

/* --- lists --- */

static void list(struct req *q, struct tree_spec spec)
{
	struct str path;
	struct batch *b;
	struct err err;

	if (req_query(q, "path", &path, &err) < 0 || !path.n) {
		execd_fail(q, 400, "MISSING_QUERY", "missing query parameter: path");
		return;
	}
	if (execd_path(q, path, &spec.path) < 0)
		return;
	b = batch_new(q, 1);
	if (!b)
		return;
	b->specs[0] = spec;
	b->n = 1;
	b->listing = true;
	b->wrong_kind = "INVALID_FILE";
	begin(b);
}

void execd_list(struct req *q)
{
	struct tree_spec spec = { .op = FRAME_TREE_LIST, .depth = 1, .flags = FRAME_TREE_DIR };
	struct str text;
	struct err err;
	uint64_t depth;

	if (req_query(q, "depth", &text, &err) < 0 ||
		(text.n && str_u64(text, UINT32_MAX, &depth) < 0)) {
		execd_fail(q, 400, "MISSING_QUERY", "depth: expected a number, 0 or more");
		return;
	}
	if (text.n)
		spec.depth = (uint32_t)depth;
	if (!spec.depth) { /* nothing of it, but it must be there */
		spec.op = FRAME_TREE_FIND;
		spec.depth = 1;
		spec.pattern = STR("/");
	}
	list(q, spec);
}

void execd_search(struct req *q)
{
	struct tree_spec spec = { .op = FRAME_TREE_FIND };
	struct err err;

	if (req_query(q, "pattern", &spec.pattern, &err) < 0 || spec.pattern.n > FRAME_PATH_MAX ||
		str_find(spec.pattern, '\0') >= 0) {
		execd_fail(q, 400, "MISSING_QUERY", "pattern: expected a glob");
		return;
	}
	if (!spec.pattern.n || str_eq_c(spec.pattern, "**"))
		spec.pattern = STR("*");
	list(q, spec);
}

/* --- names in the body --- */

static int permission(struct req *q, const json_t *v, struct tree_spec *spec)
{
	struct execd_mark mark;

	if (execd_mark(q, v, &mark) < 0)
		return -EINVAL;
	spec->owner = mark.owner;
	spec->group = mark.group;
	spec->mode = mark.mode;
	if (mark.has_mode)
		spec->flags |= FRAME_TREE_MODE;
	return 0;
}

static int replacement(struct req *q, const json_t *v, struct tree_spec *spec)
{
	const json_t *old = json_object_get(v, "old"), *new = json_object_get(v, "new");

	if (!json_is_string(old) || !json_string_length(old) || (new && !json_is_string(new))) {
		execd_bad(q, "old: expected a string that is not empty; new: a string");
		return -EINVAL;
	}
	spec->old = str_n(json_string_value(old), json_string_length(old));
	if (new)
		spec->new = str_n(json_string_value(new), json_string_length(new));
	return 0;
}

/* An object of path: {…}. */
static void by_object(struct req *q, struct tree_spec like,
	int (*fill)(struct req *q, const json_t *v, struct tree_spec *spec), bool counts)
{
	struct batch *b;
	const char *key;
	json_t *v;

	if (!json_is_object(q->json)) {
		execd_bad(q, "expected an object of paths");
		return;
	}
	b = batch_new(q, json_object_size(q->json));
	if (!b)
		return;
	json_object_foreach (q->json, key, v) {
		b->specs[b->n] = like;
		b->asked[b->n] = str_c(key);
		if (!json_is_object(v))
			execd_bad(q, "%.64s: expected an object", key);
		else if (execd_path(q, str_c(key), &b->specs[b->n].path) == 0 &&
			fill(q, v, &b->specs[b->n]) == 0) {
			b->n++;
			continue;
		}
		batch_drop(b);
		return;
	}
	b->counts = counts;
	begin(b);
}

static void permissions(struct req *q)
{
	by_object(q, (struct tree_spec){ .op = FRAME_TREE_CHANGE }, permission, false);
}

void execd_permissions(struct req *q)
{
	execd_json(q, permissions);
}

static void mkdirs(struct req *q)
{
	by_object(q, (struct tree_spec){ .op = FRAME_TREE_MKDIR, .flags = FRAME_TREE_ALL },
		permission, false);
}

void execd_mkdirs(struct req *q)
{
	execd_json(q, mkdirs);
}

static void replace(struct req *q)
{
	bool verbose = false;
	struct err err;

	if (req_query_bool(q, "verbose", &verbose, &err) < 0)
		execd_bad(q, "verbose: %s", err.text);
	else
		by_object(q, (struct tree_spec){ .op = FRAME_TREE_REPLACE }, replacement, verbose);
}

void execd_replace(struct req *q)
{
	execd_json(q, replace);
}

static void move(struct req *q)
{
	struct batch *b;
	json_t *v;
	size_t i;

	if (!json_is_array(q->json)) {
		execd_bad(q, "expected an array of {src, dest}");
		return;
	}
	b = batch_new(q, json_array_size(q->json));
	if (!b)
		return;
	json_array_foreach (q->json, i, v) {
		struct tree_spec *s = &b->specs[b->n];
		struct str src, dest;

		*s = (struct tree_spec){ .op = FRAME_TREE_MOVE,
			.flags = FRAME_TREE_ALL | FRAME_TREE_KEEP };
		if (execd_text(q, v, "src", &src) < 0 || execd_text(q, v, "dest", &dest) < 0) {
			batch_drop(b);
			return;
		}
		if (!src.n || !dest.n) {
			batch_drop(b);
			execd_bad(q, "[%zu].%s: expected a path", i, src.n ? "dest" : "src");
			return;
		}
		if (execd_path(q, src, &s->path) < 0 || execd_path(q, dest, &s->target) < 0) {
			batch_drop(b);
			return;
		}
		b->n++;
	}
	begin(b);
}

void execd_move(struct req *q)
{
	execd_json(q, move);
}

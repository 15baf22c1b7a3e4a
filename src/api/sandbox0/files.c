/*
 * Files: see the header. Contents pass through without being kept: a slow agent stops the reading
 * from the client, a slow client the reading from the agent. Names are one question each.
 */
#include "api/box.h"
#include "api/sandbox0/files.h"
#include "api/sandbox0/path.h"
#include "api/tree.h"
#include "base/clock.h"

#define FILE_MAX    UINT64_C(104857600) /* the contract's 100 MB */
#define LISTING_MAX (32u << 20)
#define PATH_SIZE   4096u

struct file {
	struct use use;
	struct req *q;
	struct agent_put *put;
	struct agent_get *get;
	struct tree *tree;
	char path[PATH_SIZE], target[PATH_SIZE];
	const char *done; /* {"<done>":true}, or NULL: entries are told */
	int status;
	bool list, may_miss, opened;
	uint64_t size, moved, found;
	struct answer a;
};

static void file_free(struct file *f)
{
	agent_put_free(f->put);
	agent_get_free(f->get);
	tree_free(f->tree);
	buf_done(&f->a.buf);
	box_unuse(&f->use);
	free(f);
}

static void file_gone(struct req *q)
{
	file_free(q->state);
}

/* The agent's errno as sandbox0 names it. */
static const char *code_of(const struct file *f, const struct err *err)
{
	static const struct {
		int error;
		const char *code;
	} codes[] = { { ENOENT, "file_not_found" }, { EACCES, "permission_denied" },
		{ EPERM, "permission_denied" }, { EROFS, "permission_denied" },
		{ EEXIST, "path_exists" }, { ENOTEMPTY, "path_exists" },
		{ ENOTDIR, "path_not_directory" }, { EISDIR, "path_not_file" },
		{ EFBIG, "file_too_large" }, { EINVAL, "invalid_request" } };

	if (err->kind == ERR_CONFLICT && err->code == -EBUSY)
		return NULL; /* the sandbox's state, not the file's */
	if (f->list && err->code == -ENOENT)
		return "directory_not_found";
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (err->code == -codes[i].error)
			return codes[i].code;
	return err->kind == ERR_TOO_LARGE ? "operation_failed" : NULL;
}

/* An answer, or, once bytes are out, a broken connection. */
static void file_fail(struct file *f, const struct err *err)
{
	struct req *q = f->q;
	bool opened = f->opened;
	struct err e = *err;

	q->code = code_of(f, err);
	q->on_gone = NULL;
	file_free(f);
	if (opened)
		req_abort(q);
	else
		reply_err(q, &e);
}

static void file_bounce(struct use *u, const struct err *err)
{
	file_fail(container_of(u, struct file, use), err);
}

static void invalid(struct req *q, const struct err *err)
{
	q->code = err->kind == ERR_INVALID ? "invalid_request" : NULL;
	reply_err(q, err);
}

/* NULL: answered. path is STR_NONE where the query has it. */
static struct file *file_new(struct req *q, struct str path)
{
	struct file *f = calloc(1, sizeof(*f));
	struct err err;
	int r = f ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0 && !path.p)
		r = req_query(q, "path", &path, &err);
	if (r == 0)
		r = path_from(path, f->path, sizeof(f->path), "path", &err);
	if (r < 0) {
		free(f);
		invalid(q, &err);
		return NULL;
	}
	f->q = q;
	f->status = 200;
	q->state = f;
	q->on_gone = file_gone;
	box_use(q->box, &f->use, file_bounce);
	return f;
}

static void file_done(struct file *f, const char *name)
{
	struct req *q = f->q;
	int status = f->status;

	q->on_gone = NULL;
	file_free(f);
	sandbox0_done(q, status, name);
}

/* --- contents --- */

static void on_put_drain(struct agent_put *p, void *arg)
{
	struct file *f = arg;

	http_body_pause(f->q->h, false);
}

static void on_put_end(struct agent_put *p, uint64_t bytes, const struct err *err, void *arg)
{
	struct file *f = arg;

	if (err)
		file_fail(f, err);
	else
		file_done(f, "written");
}

static void too_large(struct file *f)
{
	struct err err;

	err_set(&err, -EFBIG, ERR_TOO_LARGE, "larger than %llu bytes", (unsigned long long)FILE_MAX);
	file_fail(f, &err);
}

static void on_put_data(struct http *h, struct str data, bool end, void *arg)
{
	struct file *f = arg;

	f->moved += data.n;
	if (f->moved > FILE_MAX) {
		too_large(f);
		return;
	}
	if (data.n && agent_put_write(f->put, data) == 0)
		http_body_pause(h, true);
	if (end)
		agent_put_finish(f->put);
}

static void write_file(struct req *q)
{
	static const struct agent_put_ops ops = { .on_drain = on_put_drain, .on_end = on_put_end };
	struct file *f = file_new(q, STR_NONE);
	struct err err;

	if (!f)
		return;
	if (agent_put_start(q->api->loop, &q->box->link, str_c(f->path), 0644, &ops, f, &f->put, &err) <
		0)
		file_fail(f, &err);
	else
		http_body_stream(q->h, on_put_data, f);
}

static void on_get_open(struct agent_get *g, uint64_t size, void *arg)
{
	struct file *f = arg;
	struct req *q = f->q;

	if (size > FILE_MAX) {
		too_large(f);
		return;
	}
	f->size = size;
	f->opened = true;
	http_start(q->h, 200, "application/octet-stream", (int64_t)size);
	if (http_method(q->h) != HTTP_M_HEAD)
		return;
	q->on_gone = NULL;
	file_free(f);
	req_end(q);
}

static void on_get_data(struct agent_get *g, struct str data, void *arg)
{
	struct file *f = arg;

	f->moved += data.n;
	if (http_write(f->q->h, data) == 0)
		agent_get_pause(f->get, true);
}

static void on_get_drain(struct http *h, void *arg)
{
	struct file *f = arg;

	agent_get_pause(f->get, false);
}

static void on_get_end(struct agent_get *g, const struct err *err, void *arg)
{
	struct file *f = arg;
	struct req *q = f->q;
	struct err e;

	if (err || f->moved != f->size) {
		err_set(&e, -EIO, ERR_UPSTREAM, "the file changed while it was read");
		file_fail(f, err ? err : &e);
		return;
	}
	q->on_gone = NULL;
	file_free(f);
	req_end(q);
}

void sandbox0_file_read(struct req *q)
{
	static const struct agent_get_ops ops = { .on_open = on_get_open, .on_data = on_get_data,
		.on_end = on_get_end };
	struct file *f = file_new(q, STR_NONE);
	struct err err;

	if (!f)
		return;
	http_on_drain(q->h, on_get_drain, f);
	if (agent_get_start(q->api->loop, &q->box->link, str_c(f->path), &ops, f, &f->get, &err) < 0)
		file_fail(f, &err);
}

/* --- names --- */

static const char *kind_name(enum frame_kind kind)
{
	return kind == FRAME_DIR ? "dir" : kind == FRAME_LINK ? "symlink" : "file";
}

static void put_entry(struct jw *w, const char *member, const struct tree_entry *e)
{
	struct str name = e->path;
	char mode[8];

	for (ssize_t at; (at = str_find(name, '/')) >= 0 && (size_t)at + 1 < name.n;)
		name = str_skip(name, (size_t)at + 1);
	snprintf(mode, sizeof(mode), "%04o", e->mode & 07777);
	jw_obj(w, member);
	jw_str(w, "name", name);
	jw_str(w, "path", e->path);
	jw_c(w, "type", kind_name(e->kind));
	jw_u64(w, "size", e->bytes);
	jw_c(w, "mode", mode);
	jw_c(w, "mod_time", rfc3339_from(e->modified_ns).s);
	jw_bool(w, "is_link", e->kind == FRAME_LINK);
	if (e->kind == FRAME_LINK)
		jw_str(w, "link_target", e->target);
	jw_end(w);
}

static void on_entry(struct tree *x, const struct tree_entry *e, void *arg)
{
	struct file *f = arg;

	f->found++;
	if (!f->done && (f->list || f->found == 1))
		put_entry(&f->a.w, f->list ? NULL : "data", e);
}

static void on_tree_end(struct tree *x, uint64_t n, const struct err *err, void *arg)
{
	struct file *f = arg;
	struct req *q = f->q;
	struct answer a;

	if (err && !(f->may_miss && err->code == -ENOENT)) {
		file_fail(f, err);
		return;
	}
	if (f->done) {
		file_done(f, f->done);
		return;
	}
	if (f->list) {
		jw_arr_end(&f->a.w);
		jw_end(&f->a.w);
	}
	a = f->a;
	a.w.out = &a.buf;
	f->a.buf = BUF_MAX(0);
	q->on_gone = NULL;
	file_free(f);
	reply_send(q, 200, &a);
}

static void ask(struct file *f, struct tree_spec *spec)
{
	static const struct tree_ops ops = { .on_entry = on_entry, .on_end = on_tree_end };
	struct req *q = f->q;
	struct err err;

	spec->path = str_c(f->path);
	if (tree_start(q->api->loop, &q->box->link, spec, &ops, f, &f->tree, &err) < 0)
		file_fail(f, &err);
}

void sandbox0_file_stat(struct req *q)
{
	struct file *f = file_new(q, STR_NONE);

	if (!f)
		return;
	sandbox0_begin(&f->a, 65536);
	ask(f, &(struct tree_spec){ .op = FRAME_TREE_STAT });
}

void sandbox0_file_list(struct req *q)
{
	struct file *f = file_new(q, STR_NONE);

	if (!f)
		return;
	f->list = true;
	sandbox0_begin(&f->a, LISTING_MAX);
	jw_obj(&f->a.w, "data");
	jw_arr(&f->a.w, "entries");
	ask(f, &(struct tree_spec){ .op = FRAME_TREE_LIST, .depth = 1 });
}

void sandbox0_file_delete(struct req *q)
{
	struct file *f = file_new(q, STR_NONE);

	if (!f)
		return;
	f->done = "deleted";
	f->may_miss = true;
	ask(f, &(struct tree_spec){ .op = FRAME_TREE_REMOVE, .flags = FRAME_TREE_ALL });
}

static void make_dir(struct req *q, bool recursive)
{
	struct file *f = file_new(q, STR_NONE);
	uint32_t flags = FRAME_TREE_MODE | (recursive ? FRAME_TREE_ALL : FRAME_TREE_KEEP);

	if (!f)
		return;
	f->done = "created";
	f->status = 201;
	if (str_starts(str_c(f->path), STR(PATH_BASE "/"))) /* which is there, for all they know */
		flags |= FRAME_TREE_ALL;
	ask(f, &(struct tree_spec){ .op = FRAME_TREE_MKDIR, .mode = 0755, .flags = flags });
}

void sandbox0_file_write(struct req *q)
{
	bool mkdir = false, recursive = false;
	struct err err;
	int r = req_query_bool(q, "mkdir", &mkdir, &err);

	if (r == 0)
		r = req_query_bool(q, "recursive", &recursive, &err);
	if (r < 0)
		invalid(q, &err);
	else if (mkdir)
		make_dir(q, recursive);
	else
		write_file(q);
}

void sandbox0_file_move(struct req *q)
{
	struct {
		struct str source, destination;
	} in = { 0 };
	static const struct json_field fields[] = {
		{ .name = "source", .kind = JK_STR, .required = true, .seen_offset = -1 },
		{ .name = "destination", .kind = JK_STR, .required = true, .seen_offset = -1,
			.offset = sizeof(struct str) },
	};
	struct file *f;
	struct err err;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), &in, &err);

	if (r == 0 && (!in.source.n || !in.destination.n))
		r = err_field(&err, -EINVAL, ERR_INVALID, in.source.n ? "destination" : "source",
			"required");
	if (r < 0) {
		q->code = "invalid_paths";
		reply_err(q, &err);
		return;
	}
	f = file_new(q, in.source);
	if (!f)
		return;
	f->done = "moved";
	if (path_from(in.destination, f->target, sizeof(f->target), "destination", &err) < 0)
		file_fail(f, &err);
	else
		ask(f, &(struct tree_spec){ .op = FRAME_TREE_MOVE, .target = str_c(f->target),
				.flags = FRAME_TREE_ALL });
}

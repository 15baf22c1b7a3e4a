/*
 * /files/upload: pairs of parts, metadata and file, in any number. Bytes pass through as they come: a
 * slow agent stops the reading from the client. Each file takes its place whole when its part has
 * ended; a request that fails in the middle leaves those before.
 */
#include "api/opensandbox/execd.h"
#include "api/opensandbox/multipart.h"

#define META_MAX 65536u
#define HOLD_MAX (1u << 20) /* what came before the pause was heard */
#define GATHER	 16384u	    /* pieces of a file below this are sent together */

struct upload {
	struct use use;
	struct req *q;
	struct multipart parts;
	struct agent_put *put;
	struct buf meta, hold;
	struct buf gather; /* of the file: a body full of carriage returns comes byte by byte */
	enum { PART_NONE, PART_META, PART_FILE, PART_OTHER } part;
	bool has_meta, waiting /* for the agent to put the file in place */;
	bool ended /* the body */, whole /* its last boundary was there */;
	unsigned int files;
};

static void upload_free(struct upload *u)
{
	agent_put_free(u->put);
	multipart_done(&u->parts);
	buf_done(&u->meta);
	buf_done(&u->hold);
	buf_done(&u->gather);
	box_unuse(&u->use);
	free(u);
}

static void upload_gone(struct req *q)
{
	upload_free(q->state);
}

static struct req *upload_over(struct upload *u)
{
	struct req *q = u->q;

	q->on_gone = NULL;
	upload_free(u);
	return q;
}

static void upload_bounce(struct use *b, const struct err *err)
{
	reply_err(upload_over(container_of(b, struct upload, use)), err);
}

/* --- one file --- */

static void on_put_drain(struct agent_put *p, void *arg)
{
	struct upload *u = arg;

	if (!u->waiting)
		http_body_pause(u->q->h, false);
}

static void go_on(struct upload *u);

static void on_put_end(struct agent_put *p, uint64_t bytes, const struct err *err, void *arg)
{
	struct upload *u = arg;

	if (err) {
		execd_err(upload_over(u), err, "FILE_NOT_FOUND");
		return;
	}
	agent_put_free(take_ptr(u->put));
	u->waiting = false;
	u->files++;
	go_on(u);
}

/* False: answered, and u is no more. */
static bool file_begin(struct upload *u)
{
	static const struct agent_put_ops ops = { .on_drain = on_put_drain, .on_end = on_put_end };
	struct req *q = u->q;
	auto_json json_t *meta = json_loadb(u->meta.p, u->meta.n, 0, NULL);
	struct agent_put_mark as;
	struct execd_mark mark;
	struct str path;
	struct err err;

	q->on_gone = NULL; /* what follows may answer */
	if (!u->has_meta || !json_is_object(meta)) {
		upload_free(u);
		execd_fail(q, 400, "INVALID_FILE_METADATA",
			"before each file a part named metadata is expected: a JSON object");
		return false;
	}
	if (execd_text(q, meta, "path", &path) < 0 || execd_mark(q, meta, &mark) < 0 ||
		execd_path(q, path, &path) < 0) {
		upload_free(u);
		return false;
	}
	as = (struct agent_put_mark){ mark.mode, mark.owner, mark.group };
	if (agent_put_as(q->api->loop, &q->box->link, path, &as, &ops, u, &u->put, &err) < 0) {
		upload_free(u);
		execd_err(q, &err, NULL);
		return false;
	}
	q->on_gone = upload_gone;
	u->has_meta = false;
	buf_reset(&u->meta);
	return true;
}

/* --- the body --- */

static bool part_begin(struct upload *u)
{
	const char *name = u->parts.name;

	u->part = str_eq_c(STR("metadata"), name) ? PART_META :
		str_eq_c(STR("file"), name) ? PART_FILE : PART_OTHER;
	if (u->part == PART_META)
		buf_reset(&u->meta);
	return u->part != PART_FILE || file_begin(u);
}

static void file_write(struct upload *u, struct str data)
{
	if (data.n && agent_put_write(u->put, data) == 0)
		http_body_pause(u->q->h, true);
}

static void gathered(struct upload *u)
{
	file_write(u, buf_str(&u->gather));
	buf_reset(&u->gather);
}

static void part_data(struct upload *u, struct str data)
{
	if (u->part == PART_META)
		buf_add_str(&u->meta, data);
	if (u->part != PART_FILE)
		return;
	if (u->gather.n + data.n > GATHER)
		gathered(u);
	if (data.n >= GATHER || buf_add_str(&u->gather, data) < 0)
		file_write(u, data);
}

static void part_end(struct upload *u)
{
	if (u->part == PART_META) {
		u->has_meta = !buf_failed(&u->meta);
	} else if (u->part == PART_FILE) {
		gathered(u);
		u->waiting = true;
		http_body_pause(u->q->h, true);
		agent_put_finish(u->put);
	}
	u->part = PART_NONE;
}

/* Until the input is used up or a file is waited for. False: answered, and u is no more. */
static bool take(struct upload *u, struct str *in)
{
	struct str data;
	int r;

	while (!u->waiting) {
		r = multipart_next(&u->parts, in, &data);
		if (r < 0) {
			execd_fail(upload_over(u), 400, "INVALID_FILE", "malformed multipart body");
			return false;
		}
		if (r == MULTIPART_MORE) {
			gathered(u);
			return true;
		}
		if (r == MULTIPART_PART && !part_begin(u))
			return false;
		if (r == MULTIPART_DATA)
			part_data(u, data);
		if (r == MULTIPART_PART_END)
			part_end(u);
		if (r == MULTIPART_END)
			u->whole = true;
	}
	return true;
}

static void finish(struct upload *u)
{
	bool whole = u->whole, lonely = u->has_meta || !u->files;
	struct req *q = upload_over(u);

	if (!whole)
		execd_fail(q, 400, "INVALID_FILE", "the multipart body has no end");
	else if (lonely)
		execd_fail(q, 400, "INVALID_FILE", "no part named file follows the metadata");
	else
		execd_empty(q);
}

/* A file is in its place: on with what came meanwhile. */
static void go_on(struct upload *u)
{
	auto_buf struct buf hold = u->hold;
	struct str in = buf_str(&hold);

	u->hold = BUF_MAX(HOLD_MAX);
	if (!take(u, &in))
		return;
	buf_add_str(&u->hold, in);
	if (u->waiting)
		return;
	if (u->ended)
		finish(u);
	else
		http_body_pause(u->q->h, false);
}

static void on_data(struct http *h, struct str data, bool end, void *arg)
{
	struct upload *u = arg;

	u->ended = u->ended || end;
	if (!u->waiting && !take(u, &data))
		return;
	if (buf_add_str(&u->hold, data) < 0)
		execd_fail(upload_over(u), 413, "INVALID_FILE", "too much came at once");
	else if (u->ended && !u->waiting)
		finish(u);
}

void execd_upload(struct req *q)
{
	struct upload *u = calloc(1, sizeof(*u));

	if (!u) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return;
	}
	if (multipart_open(&u->parts, http_header(q->h, "content-type")) < 0) {
		free(u);
		execd_fail(q, 400, "INVALID_FILE",
			"Content-Type: expected multipart/form-data with a boundary");
		return;
	}
	u->q = q;
	u->meta = BUF_MAX(META_MAX);
	u->hold = BUF_MAX(HOLD_MAX);
	u->gather = BUF_MAX(GATHER);
	q->state = u;
	q->on_gone = upload_gone;
	box_use(q->box, &u->use, upload_bounce);
	http_body_stream(q->h, on_data, u);
}

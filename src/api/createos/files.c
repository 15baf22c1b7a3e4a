/*
 * Files: see the header. Bytes pass through without being kept: a slow agent stops the reading
 * from the client, a slow client the reading from the agent.
 */
#include "api/box.h"
#include "api/createos/files.h"
#include "base/fault.h"

struct transfer {
	struct use use;
	struct req *q;
	struct agent_put *put;
	struct agent_get *get;
	struct str path; /* request memory */
	uint64_t size, sent;
	bool opened;
};

static void transfer_free(struct transfer *t)
{
	agent_put_free(t->put);
	agent_get_free(t->get);
	box_unuse(&t->use);
	free(t);
}

static void transfer_gone(struct req *q)
{
	transfer_free(q->state);
}

/* End with an error: as an answer, or, once bytes are out, by breaking the connection. */
static void transfer_fail(struct transfer *t, const struct err *err)
{
	struct req *q = t->q;
	bool opened = t->opened;

	q->on_gone = NULL;
	transfer_free(t);
	if (opened)
		req_abort(q);
	else
		reply_err(q, err);
}

static void transfer_bounce(struct use *u, const struct err *err)
{
	transfer_fail(container_of(u, struct transfer, use), err);
}

static int path_of(struct req *q, struct str *ret, struct err *err)
{
	int r = req_query(q, "path", ret, err);

	if (r < 0)
		return r;
	if (!ret->n || ret->p[0] != '/')
		return err_field(err, -EINVAL, ERR_INVALID, "path", "must be an absolute path");
	if (ret->n > 4095)
		return err_field(err, -ENAMETOOLONG, ERR_INVALID, "path", "longer than 4095 bytes");
	if (str_find(*ret, '\0') >= 0)
		return err_field(err, -EINVAL, ERR_INVALID, "path", "contains a NUL");
	return 0;
}

static struct transfer *transfer_new(struct req *q)
{
	struct transfer *t;
	struct str path;
	struct err err;

	if (path_of(q, &path, &err) < 0) {
		reply_err(q, &err);
		return NULL;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return NULL;
	}
	t->q = q;
	t->path = path;
	q->state = t;
	q->on_gone = transfer_gone;
	box_use(q->box, &t->use, transfer_bounce);
	return t;
}

/* The agent speaks of the path; so does the answer. */
static struct err path_err(const struct err *err)
{
	struct err e = *err;

	if (!e.field[0] && (e.kind == ERR_NOT_FOUND || e.kind == ERR_INVALID))
		snprintf(e.field, sizeof(e.field), "path");
	return e;
}

/* --- upload --- */

static void on_put_drain(struct agent_put *p, void *arg)
{
	struct transfer *t = arg;

	http_body_pause(t->q->h, false);
}

static void on_put_end(struct agent_put *p, uint64_t bytes, const struct err *err, void *arg)
{
	struct transfer *t = arg;
	struct req *q = t->q;
	struct answer a;

	FAULT("api.put.ended");
	if (err) {
		struct err e = path_err(err);

		transfer_fail(t, &e);
		return;
	}
	q->on_gone = NULL;
	answer_begin(&a, 65536);
	jw_obj(&a.w, "data");
	jw_u64(&a.w, "bytes", bytes);
	jw_str(&a.w, "path", t->path);
	jw_end(&a.w);
	transfer_free(t);
	reply_send(q, 200, &a);
}

static void on_put_data(struct http *h, struct str data, bool end, void *arg)
{
	struct transfer *t = arg;

	FAULT("api.put.data");
	if (data.n && agent_put_write(t->put, data) == 0)
		http_body_pause(h, true);
	if (end)
		agent_put_finish(t->put);
}

void createos_file_put(struct req *q)
{
	static const struct agent_put_ops ops = { .on_drain = on_put_drain, .on_end = on_put_end };
	struct transfer *t = transfer_new(q);
	struct err err;

	if (!t)
		return;
	if (agent_put_start(q->api->loop, &q->box->link, t->path, 0644, &ops, t, &t->put, &err) < 0) {
		transfer_fail(t, &err);
		return;
	}
	http_body_stream(q->h, on_put_data, t);
}

/* --- download --- */

static void on_get_open(struct agent_get *g, uint64_t size, void *arg)
{
	struct transfer *t = arg;
	struct req *q = t->q;

	FAULT("api.get.opened");
	t->size = size;
	t->opened = true;
	http_start(q->h, 200, "application/octet-stream", (int64_t)MIN(size, (uint64_t)INT64_MAX));
	if (http_method(q->h) != HTTP_M_HEAD)
		return;
	q->on_gone = NULL;
	transfer_free(t);
	req_end(q);
}

static void on_get_data(struct agent_get *g, struct str data, void *arg)
{
	struct transfer *t = arg;

	FAULT("api.get.data");
	/* A file that grew while it was read: its announced size is what was asked for. */
	data.n = (size_t)MIN((uint64_t)data.n, t->size - t->sent);
	t->sent += data.n;
	if (data.n && http_write(t->q->h, data) == 0)
		agent_get_pause(t->get, true);
}

static void on_get_drain(struct http *h, void *arg)
{
	struct transfer *t = arg;

	agent_get_pause(t->get, false);
}

static void on_get_end(struct agent_get *g, const struct err *err, void *arg)
{
	struct transfer *t = arg;
	struct req *q = t->q;

	FAULT("api.get.ended");
	if (err || !t->opened || t->sent != t->size) {
		struct err e;

		if (err)
			e = path_err(err);
		else
			err_set(&e, -EIO, ERR_UPSTREAM, "the file changed while it was read");
		transfer_fail(t, &e);
		return;
	}
	q->on_gone = NULL;
	transfer_free(t);
	req_end(q);
}

void createos_file_get(struct req *q)
{
	static const struct agent_get_ops ops = { .on_open = on_get_open, .on_data = on_get_data,
		.on_end = on_get_end };
	struct transfer *t = transfer_new(q);
	struct err err;

	if (!t)
		return;
	http_on_drain(q->h, on_get_drain, t);
	if (agent_get_start(q->api->loop, &q->box->link, t->path, &ops, t, &t->get, &err) < 0)
		transfer_fail(t, &err);
}

/*
 * POST /v1/rootfs/build {"name"}: the log as NDJSON, {"line":…} each, then {"final":true,"status":
 * "ready"|"failed"}. The end is known when both the log has ended and the host role has told the
 * status; they come in either order.
 */
#include "api/builds.h"
#include "api/native/native.h"
#include "api/peers.h"
#include "api/tick.h"
#include "base/fd.h"
#include "base/log.h"

#define LINE_MAX_BYTES 16384u
#define HEARTBEAT_MS   5000u

struct build {
	LIST_ENTRY(build) next;
	struct api *api;
	struct req *q; /* NULL: the client left; the log is drained */
	char name[IPC_NAME_LEN];
	uv_pipe_t pipe;
	struct buf line;
	struct tick *tick;
	bool piped, log_ended, told;
	int32_t status;
	char chunk[16384];
};
struct builds {
	LIST_HEAD(, build) list;
};

static void closed(uv_handle_t *handle)
{
	struct build *b = container_of((uv_pipe_t *)handle, struct build, pipe);

	buf_done(&b->line);
	free(b);
}

static void build_free(struct build *b)
{
	LIST_REMOVE(b, next);
	tick_free(b->tick);
	if (b->piped)
		uv_close((uv_handle_t *)&b->pipe, closed);
	else
		closed((uv_handle_t *)&b->pipe);
}

static void send_line(struct build *b)
{
	auto_buf struct buf out = BUF_MAX(LINE_MAX_BYTES * 6 + 64);
	struct jw w = JW(&out);

	jw_obj(&w, NULL);
	jw_str(&w, "line", buf_str(&b->line));
	jw_end(&w);
	buf_add(&out, "\n", 1);
	buf_reset(&b->line);
	if (b->q && !buf_failed(&out) && http_write(b->q->h, buf_str(&out)) == 0)
		uv_read_stop((uv_stream_t *)&b->pipe);
}

static void finish(struct build *b)
{
	struct req *q = b->q;
	bool ok = b->status == 0;

	if (!b->log_ended || !b->told)
		return;
	if (q) {
		if (b->line.n)
			send_line(b);
		q->on_gone = NULL;
		http_write(q->h, ok ? STR("{\"final\":true,\"status\":\"ready\"}\n") :
				      STR("{\"final\":true,\"status\":\"failed\"}\n"));
		req_end(q);
	}
	log_event(ok ? LOG_INFO : LOG_WARN, "rootfs.build", "name=%s status=%d", b->name, b->status);
	b->api->images_at = 0; /* the list is stale */
	build_free(b);
}

void builds_done(struct api *a, const struct ipc_build_done *d)
{
	struct build *b, *hit = NULL;

	a->images_at = 0;
	if (!a->builds || !ipc_text_ok(d->name, sizeof(d->name)))
		return;
	LIST_FOREACH (b, &a->builds->list, next)
		if (str_eq_c(str_c(b->name), d->name) && !b->told)
			hit = b;
	if (!hit)
		return;
	hit->told = true;
	hit->status = d->status;
	finish(hit);
}

static void give_chunk(uv_handle_t *handle, size_t hint, uv_buf_t *ret)
{
	struct build *b = container_of((uv_pipe_t *)handle, struct build, pipe);

	*ret = uv_buf_init(b->chunk, sizeof(b->chunk));
}

static void on_log(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct build *b = container_of((uv_pipe_t *)stream, struct build, pipe);

	for (ssize_t i = 0; i < n; i++) {
		if (buf->base[i] != '\n')
			buf_add(&b->line, &buf->base[i], 1);
		if (buf->base[i] == '\n' || b->line.n == LINE_MAX_BYTES)
			send_line(b);
	}
	if (n < 0) {
		uv_read_stop(stream);
		b->log_ended = true;
		finish(b);
	}
}

static void gone(struct req *q)
{
	struct build *b = q->state;

	b->q = NULL;
	b->tick = tick_free(b->tick);
	if (b->piped && !b->log_ended)
		uv_read_start((uv_stream_t *)&b->pipe, give_chunk, on_log);
}

static void on_drain(struct http *h, void *arg)
{
	struct build *b = arg;

	if (b->piped && !b->log_ended)
		uv_read_start((uv_stream_t *)&b->pipe, give_chunk, on_log);
}

static void on_heartbeat(void *arg)
{
	struct build *b = arg;

	http_write(b->q->h, STR("{\"hb\":true}\n"));
}

static void refused(struct build *b, const struct err *err)
{
	struct req *q = b->q;

	build_free(b);
	if (!q)
		return;
	q->on_gone = NULL;
	reply_err(q, err);
}

static void on_started(struct chan_msg *m, const struct err *err, void *arg)
{
	struct build *b = arg;
	struct err why;
	int fd;

	if (err) {
		refused(b, err);
		return;
	}
	fd = chan_take_fd(m, 0);
	if (fd < 0 || fd_nonblock(fd, true) < 0 || uv_pipe_init(b->api->loop, &b->pipe, 0) < 0) {
		fd_close(fd);
		err_set(&why, -EBADF, ERR_INTERNAL, "no log came with the build");
		refused(b, &why);
		return;
	}
	b->piped = true;
	if (uv_pipe_open(&b->pipe, fd) < 0)
		fd_close(fd);
	if (b->q) {
		http_on_drain(b->q->h, on_drain, b);
		http_start(b->q->h, 200, "application/x-ndjson", -1);
		b->tick = tick_new(b->api->loop, HEARTBEAT_MS, HEARTBEAT_MS, on_heartbeat, b);
	}
	if (uv_read_start((uv_stream_t *)&b->pipe, give_chunk, on_log) < 0) {
		b->log_ended = true;
		finish(b);
	}
}

void native_build(struct req *q)
{
	static const struct json_field fields[] = {
		{ .name = "name", .kind = JK_STR, .required = true, .seen_offset = -1, .min = 1,
			.max = IPC_NAME_LEN - 1 },
	};
	struct ipc_build ask = { 0 };
	struct api *a = q->api;
	struct str name = STR_NONE;
	struct build *b;
	struct err err;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), &name, &err);

	if (r == 0 && str_copy(ask.name, sizeof(ask.name), name) < 0)
		r = err_field(&err, -EINVAL, ERR_INVALID, "name", "contains a NUL");
	if (r == 0 && !a->builds) {
		a->builds = calloc(1, sizeof(*a->builds));
		if (a->builds)
			LIST_INIT(&a->builds->list);
	}
	b = r == 0 && a->builds ? calloc(1, sizeof(*b)) : NULL;
	if (r == 0 && !b)
		r = err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	b->api = a;
	b->q = q;
	b->line = BUF_MAX(LINE_MAX_BYTES);
	memcpy(b->name, ask.name, sizeof(b->name));
	LIST_INSERT_HEAD(&a->builds->list, b, next);
	q->state = b;
	q->on_gone = gone;
	host_call(a, IPC_HOST_BUILD, &ask, sizeof(ask), -1, on_started, b);
}

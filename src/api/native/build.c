/*
 * POST /v1/rootfs/build {"name"}: the log as NDJSON, {"line":…} each, then {"final":true,"status":
 * "ready"|"failed"}. A client that reads slowly makes the build wait; one that leaves does not end it.
 */
#include "api/builds.h"
#include "api/native/native.h"
#include "api/tick.h"

#define LINE_OUT_MAX (6u * 16384u + 64u) /* the longest line, all of it escaped */
#define HEARTBEAT_MS 5000u

struct following {
	struct req *q;
	struct build *build;
	struct tick *tick;
	bool begun;
};

static void on_heartbeat(void *arg)
{
	struct following *f = arg;

	http_write(f->q->h, STR("{\"hb\":true}\n"));
}

static void on_drain(struct http *h, void *arg)
{
	struct following *f = arg;

	if (f->build)
		build_more(f->build);
}

static void on_begin(void *arg)
{
	struct following *f = arg;

	f->begun = true;
	http_on_drain(f->q->h, on_drain, f);
	http_start(f->q->h, 200, "application/x-ndjson", -1);
	f->tick = tick_new(f->q->api->loop, HEARTBEAT_MS, HEARTBEAT_MS, on_heartbeat, f);
}

static bool on_line(struct str line, void *arg)
{
	struct following *f = arg;
	auto_buf struct buf out = BUF_MAX(LINE_OUT_MAX);
	struct jw w = JW(&out);

	jw_obj(&w, NULL);
	jw_str(&w, "line", line);
	jw_end(&w);
	buf_add(&out, "\n", 1);
	return buf_failed(&out) || http_write(f->q->h, buf_str(&out)) != 0;
}

static void on_end(const struct err *err, void *arg)
{
	struct following *f = arg;
	struct req *q = f->q;
	bool begun = f->begun;

	q->on_gone = NULL;
	tick_free(f->tick);
	free(f);
	if (!begun) {
		reply_err(q, err);
		return;
	}
	http_write(q->h, err ? STR("{\"final\":true,\"status\":\"failed\"}\n") :
			       STR("{\"final\":true,\"status\":\"ready\"}\n"));
	req_end(q);
}

static void gone(struct req *q)
{
	struct following *f = q->state;

	tick_free(f->tick);
	if (f->build)
		build_forget(f->build);
	free(f);
}

void native_build(struct req *q)
{
	static const struct json_field fields[] = {
		{ .name = "name", .kind = JK_STR, .required = true, .seen_offset = -1, .min = 1,
			.max = IPC_NAME_LEN - 1 },
	};
	struct str name = STR_NONE;
	struct following *f;
	struct build *b;
	struct err err;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), &name, &err);

	f = r == 0 ? calloc(1, sizeof(*f)) : NULL;
	if (r == 0 && !f)
		r = err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	f->q = q;
	q->state = f;
	q->on_gone = gone;
	b = build_start(q->api, &(struct build_spec){ .name = name, .user = q->who.user,
		.on_begin = on_begin, .on_line = on_line, .on_end = on_end, .arg = f });
	if (b)
		f->build = b; /* else f is gone */
}

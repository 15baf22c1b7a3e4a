/*
 * A command on its way to a client: the event stream.
 *
 * The agent has the process (api/procs.h). The stream follows it paced, so that it waits for the
 * client as it would for a terminal, and loses nothing; a client that leaves takes nothing with
 * it: the command goes on, and can be asked about. In the background it is the other way round:
 * nobody waits, the newest output is kept.
 *
 * bash runs it where the sandbox has one. That is found out by starting it: an image without is told
 * apart by the agent's 127 before anything ran, and then sh does.
 */
#include "api/ident.h"
#include "api/opensandbox/events.h"
#include "api/opensandbox/execd.h"
#include "api/tick.h"
#include "base/clock.h"

#define PING_MS	   3000u
#define EVENTS_MAX (16u << 20) /* of one frame of output: every byte of it may be a line */

struct run {
	struct use use;
	struct req *q;
	struct proc *x;
	struct tick *ping;
	struct execd_run_spec spec; /* texts in the request's memory, or static */
	bool plain;	 /* sh */
	bool started;
	uint64_t from_ns;
	struct lines lines[2];
};

static void run_free(struct run *r)
{
	proc_free(r->x);
	tick_free(r->ping);
	lines_done(&r->lines[0]);
	lines_done(&r->lines[1]);
	box_unuse(&r->use);
	free(r);
}

static void run_gone(struct req *q)
{
	run_free(q->state);
}

static uint64_t took_ms(const struct run *r)
{
	return (clock_mono_ns() - r->from_ns) / 1000000;
}

static const char *stream_name(int i)
{
	return i ? "stderr" : "stdout";
}

static void flush_lines(struct run *r, struct buf *out)
{
	for (int i = 0; i < 2; i++)
		lines_flush(&r->lines[i], out, stream_name(i), api_now_ms());
}

/* The last events, and the end of the answer. */
static void run_end(struct run *r, struct buf *out)
{
	struct req *q = r->q;

	q->on_gone = NULL;
	run_free(r);
	if (buf_failed(out)) {
		req_abort(q);
		return;
	}
	http_write(q->h, buf_str(out));
	req_end(q);
}

static void run_fail(struct run *r, const struct err *err)
{
	auto_buf struct buf out = BUF_MAX(EVENTS_MAX);
	struct req *q = r->q;

	if (r->started) {
		flush_lines(r, &out);
		event_error(&out, api_now_ms(), STR("CommandExecError"), str_c(err->text),
			str_c(err->text));
		run_end(r, &out);
		return;
	}
	q->on_gone = NULL;
	run_free(r);
	if (err->code == -EAGAIN || err->kind != ERR_CAPACITY)
		execd_err(q, err, "CONTEXT_NOT_FOUND");
	else
		reply_err(q, err);
}

static void run_bounce(struct use *u, const struct err *err)
{
	run_fail(container_of(u, struct run, use), err);
}

/* --- what the process says --- */

static void on_ping(void *arg)
{
	struct run *r = arg;
	auto_buf struct buf out = BUF_MAX(256);

	event_text(&out, "ping", api_now_ms(), STR("pong"));
	http_write(r->q->h, buf_str(&out));
}

static void on_drain(struct http *h, void *arg)
{
	struct run *r = arg;

	proc_pause(r->x, false);
}

static void on_started(struct proc *x, uint32_t pid, void *arg)
{
	auto_buf struct buf out = BUF_MAX(1024);
	struct run *r = arg;
	struct req *q = r->q;

	r->started = true;
	http_add_header(q->h, "Cache-Control", STR("no-cache"));
	http_add_header(q->h, "X-Accel-Buffering", STR("no"));
	http_on_drain(q->h, on_drain, r);
	http_start(q->h, 200, "text/event-stream", -1);
	event_text(&out, "init", api_now_ms(), r->spec.init);
	if (r->spec.background) {
		event_complete(&out, api_now_ms(), took_ms(r));
		run_end(r, &out);
		return;
	}
	http_write(q->h, buf_str(&out));
	r->ping = tick_new(q->api->loop, PING_MS, PING_MS, on_ping, r);
}

static void on_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	auto_buf struct buf out = BUF_MAX(EVENTS_MAX);
	struct run *r = arg;
	int i = stream == PROC_ERR;

	lines_add(&r->lines[i], &out, stream_name(i), api_now_ms(), data);
	if (out.n && http_write(r->q->h, buf_str(&out)) == 0)
		proc_pause(x, true);
}

static int run_start(struct run *r, struct err *err);

static void not_started(struct run *r, const struct agent_exit *exit)
{
	struct req *q = r->q;
	struct err err;

	if (exit->code == 127 && !r->plain) {
		proc_free(take_ptr(r->x));
		r->plain = true;
		if (run_start(r, &err) < 0)
			run_fail(r, &err);
		return;
	}
	q->on_gone = NULL;
	run_free(r);
	/* The one fault that is the client's: a directory that is not there. */
	if (exit->code == 126 && str_starts(str_c(exit->error), STR("cannot enter")))
		execd_bad(q, "cwd: %s", exit->error);
	else
		execd_fail(q, 500, "RUNTIME_ERROR", "%s", exit->error);
}

static void on_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	auto_buf struct buf out = BUF_MAX(EVENTS_MAX);
	struct run *r = arg;

	if (err) {
		run_fail(r, err);
	} else if (!exit) { /* of one in the background: told on_started() */
		return;
	} else if (!r->started) {
		not_started(r, exit);
	} else {
		flush_lines(r, &out);
		event_exit(&out, api_now_ms(), took_ms(r), exit->code, exit->signal);
		run_end(r, &out);
	}
}

/* --- beginnings --- */

static int run_start(struct run *r, struct err *err)
{
	static const struct proc_ops ops = { .on_started = on_started,
		.on_output = on_output, .on_end = on_end };
	const struct execd_run_spec *s = &r->spec;
	struct str argv[8] = { r->plain ? STR("sh") : STR("bash"), STR("-c"), s->cmd };
	size_t n_env = 0, n = json_object_size(s->envs);
	auto_free struct agent_env *env = calloc(n + 1, sizeof(*env));
	struct proc_spec spec = { .id = str_c(s->id), .label = s->label, .note = s->note,
		.argv = argv, .n_argv = 3 + s->n_args, .env = env, .cwd = s->cwd,
		.brief = !s->background, .queue = s->queue, .timeout_ms = s->timeout_ms,
		.uid = s->uid, .gid = s->gid, .has_gid = s->has_gid };
	const char *key;
	json_t *v;

	if (!env)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	memcpy(argv + 3, s->args, MIN(s->n_args, ARRAY_SIZE(argv) - 3) * sizeof(*argv));
	json_object_foreach (s->envs, key, v)
		env[n_env++] = (struct agent_env){ str_c(key),
			str_n(json_string_value(v), json_string_length(v)) };
	spec.n_env = n_env;
	return proc_start(r->q->api->loop, &r->q->box->link, &spec, !s->background, true, &ops, r,
		&r->x, err);
}

void execd_run(struct req *q, const struct execd_run_spec *spec)
{
	struct run *r = calloc(1, sizeof(*r));
	struct err err;

	if (!r) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return;
	}
	r->q = q;
	r->spec = *spec;
	r->lines[0] = r->lines[1] = LINES;
	r->from_ns = clock_mono_ns();
	q->state = r;
	q->on_gone = run_gone;
	box_use(q->box, &r->use, run_bounce);
	if (run_start(r, &err) < 0)
		run_fail(r, &err);
}

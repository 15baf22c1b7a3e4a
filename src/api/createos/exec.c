/*
 * POST …/exec: see the header.
 *
 * One struct for both forms; they differ in where output goes. Buffered: two buffers, one answer at
 * the end. A command that outlasts Node's wait for headers (300 s) gets its 200 and white space
 * from 240 s on. Much output is told in pieces as the client takes them: as JSON it may be six
 * times as long, and whoever does not read would have us hold all of it. Streamed: the head at
 * once, a line per piece, a heartbeat every 5 s, and the agent's socket is not read while the
 * client's is full.
 *
 * Ends: the command ends; the client leaves (the connection to the agent closes, and the agent
 * kills the process group); the sandbox pauses (the request is bounced, the command stays as an
 * orphan whose output nobody reads); the sandbox goes.
 */
#include "api/box.h"
#include "api/createos/exec.h"
#include "api/createos/frames.h"
#include "api/ident.h"
#include "base/clock.h"
#include "base/fault.h"

#define OUTPUT_MAX	(16u << 20)  /* kept per stream of a buffered command */
#define OUTPUT_AT_ONCE	65536u	     /* more is told in pieces */
#define PIECE		16384u
#define ANSWER_MAX	((size_t)6 * OUTPUT_AT_ONCE + 65536)
#define HEARTBEAT_MS	5000u
#define LONG_MS		240000u
#define LONG_AGAIN_MS	30000u
#define ARGS_MAX	4096u
#define ORPHANS_PER_BOX 256u

struct exec {
	struct use use;
	struct orphan orphan;
	struct box *box; /* a reference: whose output is counted */
	struct req *q;	 /* NULL: orphaned */
	struct agent_exec *x;
	struct tick *tick; /* heartbeat, or the long buffered command's white space */
	bool stream, started, truncated[2];
	uint64_t from_ns;
	struct buf out[2];
	struct frames_carry carry[2];
	int telling;	 /* the stream that is told in pieces; 2: none left */
	size_t told;	 /* of it */
	struct buf rest; /* the answer behind the output */
};

static void output_drop(struct exec *e, int i)
{
	box_let_go(e->box, e->out[i].n);
	buf_done(&e->out[i]);
}

static void exec_free(struct exec *e)
{
	agent_exec_free(e->x);
	tick_free(e->tick);
	output_drop(e, 0);
	output_drop(e, 1);
	buf_done(&e->rest);
	box_unuse(&e->use);
	box_unref(e->box);
	free(e);
}

/* --- output --- */

static void keep_output(struct exec *e, int i, struct str data)
{
	size_t n = box_hold(e->box, MIN(OUTPUT_MAX - e->out[i].n, data.n));

	e->truncated[i] = e->truncated[i] || n < data.n;
	if (buf_add(&e->out[i], data.p, n) < 0) {
		e->truncated[i] = true;
		box_let_go(e->box, n);
	}
}

static void send_output(struct exec *e, int i, struct str data)
{
	auto_buf struct buf lines = BUF_MAX(data.n * 7 + 4096);

	frames_output(&lines, i ? "stderr" : "stdout", &e->carry[i], data);
	if (lines.n && http_write(e->q->h, buf_str(&lines)) == 0)
		agent_exec_pause(e->x, true);
}

static void on_output(struct agent_exec *x, int stream, struct str data, void *arg)
{
	struct exec *e = arg;
	int i = stream == 2;

	FAULT("api.exec.output");
	if (!e->q)
		return; /* orphaned: nobody reads it */
	if (e->stream)
		send_output(e, i, data);
	else
		keep_output(e, i, data);
}

static void on_drain(struct http *h, void *arg)
{
	struct exec *e = arg;

	agent_exec_pause(e->x, false);
}

static void on_heartbeat(void *arg)
{
	struct exec *e = arg;

	http_write(e->q->h, FRAMES_HEARTBEAT);
}

static void on_long(void *arg)
{
	struct exec *e = arg;

	if (!e->started)
		http_start(e->q->h, 200, "application/json", -1);
	e->started = true;
	http_write(e->q->h, STR(" "));
	tick_again(e->tick, LONG_AGAIN_MS);
}

/* --- the end --- */

/* What follows the two streams, up to the end of "data". */
static void write_exit(struct exec *e, const struct agent_exit *exit, const char *error,
	struct jw *w)
{
	char note[320];
	size_t n = (size_t)snprintf(note, sizeof(note), "%s", error);

	for (int i = 0; i < 2; i++) {
		bool whole = e->out[i].n == OUTPUT_MAX;

		if ((e->truncated[i] || exit->truncated) && n < sizeof(note))
			n += (size_t)snprintf(note + n, sizeof(note) - n, "%s%s truncated at %zu %s",
				n ? "; " : "", i ? "stderr" : "stdout", e->out[i].n >> (whole ? 20 : 0),
				whole ? "MiB" : "bytes");
	}
	jw_i64(w, "exit_code", exit->code);
	if (n)
		jw_c(w, "error", note);
	jw_end(w);
	jw_ms(w, "exec_ms", clock_mono_ns() - e->from_ns);
	jw_end(w);
}

static void write_result(struct exec *e, const struct agent_exit *exit, const char *error,
	struct jw *w)
{
	jw_obj(w, "data");
	jw_obj(w, "result");
	jw_str(w, "stdout", buf_str(&e->out[0]));
	jw_str(w, "stderr", buf_str(&e->out[1]));
	write_exit(e, exit, error, w);
}

/* The next piece of the stream as the inside of a JSON string. No character is cut in two. */
static void piece(struct exec *e, struct buf *out)
{
	struct buf *from = &e->out[e->telling];
	struct str s = str_n(from->p + e->told, MIN(from->n - e->told, (size_t)PIECE));
	auto_buf struct buf quoted = BUF_MAX((size_t)6 * PIECE + 64);
	struct jw w = JW(&quoted);

	if (e->told + s.n < from->n)
		s.n -= frames_unfinished(s);
	jw_str(&w, NULL, s);
	if (buf_failed(&quoted))
		out->failed = buf_failed(&quoted);
	else
		buf_add(out, quoted.p + 1, quoted.n - 2);
	e->told += s.n;
}

/* Until the client has enough for now, or all. */
static void tell(struct exec *e)
{
	struct req *q = e->q;

	for (;;) {
		auto_buf struct buf out = BUF_MAX((size_t)6 * PIECE + 8192);
		int r;

		if (e->told < e->out[e->telling].n) {
			piece(e, &out);
		} else {
			output_drop(e, e->telling++);
			e->told = 0;
			if (e->telling == 2)
				buf_add_str(&out, buf_str(&e->rest));
			else
				buf_add_c(&out, "\",\"stderr\":\"");
		}
		r = buf_failed(&out) ? buf_failed(&out) : http_write(q->h, buf_str(&out));
		if (e->telling == 2 || buf_failed(&out)) {
			q->on_gone = NULL;
			exec_free(e);
			if (r < 0)
				req_abort(q);
			else
				req_end(q);
			return;
		}
		if (r <= 0)
			return; /* more when there is room; lost: exec_gone() follows */
	}
}

static void on_tell_drain(struct http *h, void *arg)
{
	tell(arg);
}

/* The command is over, and so is the use of the sandbox: the rest is between the client and us. */
static void tell_begin(struct exec *e, const struct agent_exit *exit)
{
	struct req *q = e->q;
	struct jw w = JW(&e->rest);

	agent_exec_free(take_ptr(e->x));
	e->tick = tick_free(e->tick);
	box_unuse(&e->use);
	e->rest = BUF_MAX(4096);
	buf_add_c(&e->rest, "\"");
	w.comma = true;
	write_exit(e, exit, exit->error, &w);
	jw_end(&w);
	http_on_drain(q->h, on_tell_drain, e);
	if (!e->started)
		http_start(q->h, 200, "application/json", -1);
	http_write(q->h, STR("{\"status\":\"success\",\"data\":{\"result\":{\"stdout\":\""));
	tell(e);
}

static void end_buffered(struct exec *e, const struct agent_exit *exit, const struct err *err)
{
	static const struct agent_exit lost = { .code = 255 };
	struct req *q = e->q;
	struct answer a;

	q->on_gone = NULL;
	if (err && !e->started) {
		reply_err(q, err);
		return;
	}
	for (int i = 0; err && i < 2; i++)
		output_drop(e, i); /* half of an output says less than why it is half */
	answer_begin(&a, ANSWER_MAX);
	/* Once the head is out an error can only be told inside. */
	write_result(e, err ? &lost : exit, err ? err->text : exit->error, &a.w);
	if (!e->started) {
		reply_send(q, 200, &a);
		return;
	}
	jw_end(&a.w);
	if (buf_failed(&a.buf)) {
		req_abort(q);
	} else {
		http_write(q->h, buf_str(&a.buf));
		req_end(q);
	}
	buf_done(&a.buf);
}

static void end_stream(struct exec *e, const struct agent_exit *exit, const struct err *err)
{
	auto_buf struct buf lines = BUF_MAX(65536);
	struct req *q = e->q;

	q->on_gone = NULL;
	frames_flush(&lines, "stdout", &e->carry[0]);
	frames_flush(&lines, "stderr", &e->carry[1]);
	if (err)
		frames_error(&lines, str_c(err->text));
	else if (exit->error[0])
		frames_error(&lines, str_c(exit->error));
	if (!err)
		frames_exit(&lines, exit->code);
	http_write(q->h, buf_str(&lines));
	req_end(q);
}

static void finish(struct exec *e, const struct agent_exit *exit, const struct err *err)
{
	FAULT("api.exec.ended");
	if (e->q && !e->stream && !err && e->out[0].n + e->out[1].n > OUTPUT_AT_ONCE) {
		tell_begin(e, exit); /* which frees it in the end */
		return;
	}
	if (!e->q)
		LIST_REMOVE(&e->orphan, next);
	else if (e->stream)
		end_stream(e, exit, err);
	else
		end_buffered(e, exit, err);
	exec_free(e);
}

static void on_end(struct agent_exec *x, const struct agent_exit *exit, const struct err *err,
	void *arg)
{
	finish(arg, exit, err);
}

static void exec_gone(struct req *q)
{
	exec_free(q->state);
}

static void orphan_drop(struct orphan *o)
{
	struct exec *e = container_of(o, struct exec, orphan);

	LIST_REMOVE(o, next);
	exec_free(e);
}

static unsigned int count_orphans(const struct box *b)
{
	const struct orphan *o;
	unsigned int n = 0;

	LIST_FOREACH (o, &b->orphans, next)
		n++;
	return n;
}

/* The sandbox pauses or goes: answer now. A command in a pausing sandbox stays connected, so that
 * the agent, when it runs again, does not take it for abandoned. */
static void exec_bounce(struct use *u, const struct err *err)
{
	struct exec *e = container_of(u, struct exec, use);
	struct box *b = u->box;

	if (e->stream)
		end_stream(e, NULL, err);
	else
		end_buffered(e, NULL, err);
	e->q = NULL;
	e->tick = tick_free(e->tick);
	if (b->row.state != LIFE_PAUSING || count_orphans(b) >= ORPHANS_PER_BOX) {
		exec_free(e);
		return;
	}
	output_drop(e, 0);
	output_drop(e, 1);
	box_unuse(u);
	e->orphan.drop = orphan_drop;
	LIST_INSERT_HEAD(&b->orphans, &e->orphan, next);
	agent_exec_pause(e->x, false);
}

/* --- the beginning --- */

struct exec_ask {
	struct str cmd, input;
	json_t *args, *env;
	bool stream;
};
#define F(n, k, f) .name = n, .kind = k, .offset = offsetof(struct exec_ask, f), .seen_offset = -1
static const struct json_field fields[] = {
	{ F("cmd", JK_STR, cmd), .required = true, .min = 1, .max = 4096 },
	{ F("args", JK_STR_LIST, args), .max = ARGS_MAX },
	{ F("env", JK_STR_MAP, env) },
	{ F("stdin", JK_BYTES, input) },
	{ F("stream", JK_BOOL, stream) },
};

/* Only variables that were declared at create may be given another value. */
static int check_env(const struct box *b, json_t *env, struct err *err)
{
	auto_json json_t *declared = NULL;
	const char *key;
	json_t *v;
	int r;

	if (!env)
		return 0;
	r = envs_check(env, "env", err);
	if (r < 0)
		return r;
	declared = json_loads(b->row.envs, 0, NULL);
	json_object_foreach (env, key, v)
		if (!json_object_get(declared, key))
			return err_field(err, -EINVAL, ERR_INVALID, "env",
				"not declared at create: %.64s", key);
	return 0;
}

static int ask_decode(struct req *q, struct exec_ask *ask, struct err *err)
{
	bool stream = false;
	json_t *v;
	size_t i;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), ask, err);

	if (r == 0)
		r = req_query_bool(q, "stream", &stream, err);
	if (r == 0)
		r = check_env(q->box, ask->env, err);
	if (r < 0)
		return r;
	ask->stream = ask->stream || stream;
	if (str_find(ask->cmd, '\0') >= 0)
		return err_field(err, -EINVAL, ERR_INVALID, "cmd", "contains a NUL");
	json_array_foreach (ask->args, i, v)
		if (memchr(json_string_value(v), 0, json_string_length(v)))
			return err_field(err, -EINVAL, ERR_INVALID, "args", "args[%zu] contains a NUL",
				i);
	return 0;
}

static int start(struct exec *e, const struct exec_ask *ask, struct err *err)
{
	static const struct agent_exec_ops ops = { .on_output = on_output, .on_end = on_end };
	size_t n = json_array_size(ask->args), n_env = 0, i;
	auto_free struct str *argv = calloc(n + 1, sizeof(*argv));
	struct agent_env env[ENVS_MAX];
	struct agent_exec_spec spec = { .argv = argv, .n_argv = n + 1, .env = env,
		.stdin_data = ask->input, .kill_on_close = true };
	const char *key;
	json_t *v;

	if (!argv)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	argv[0] = ask->cmd;
	json_array_foreach (ask->args, i, v)
		argv[i + 1] = str_n(json_string_value(v), json_string_length(v));
	json_object_foreach (ask->env, key, v)
		env[n_env++] = (struct agent_env){ str_c(key),
			str_n(json_string_value(v), json_string_length(v)) };
	spec.n_env = n_env;
	return agent_exec_start(e->q->api->loop, &e->q->box->link, &spec, &ops, e, &e->x, err);
}

void createos_exec(struct req *q)
{
	struct exec_ask ask = { 0 };
	struct exec *e;
	struct err err;

	if (ask_decode(q, &ask, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	e = calloc(1, sizeof(*e));
	if (!e) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return;
	}
	e->q = q;
	e->box = box_ref(q->box);
	e->stream = ask.stream;
	e->from_ns = clock_mono_ns();
	e->out[0] = e->out[1] = BUF_MAX(OUTPUT_MAX);
	box_use(q->box, &e->use, exec_bounce);
	if (start(e, &ask, &err) < 0) {
		exec_free(e);
		reply_err(q, &err);
		return;
	}
	FAULT("api.exec.asked");
	q->state = e;
	q->on_gone = exec_gone;
	json_decref(take_ptr(q->json)); /* arguments and input are the agent's now */
	if (e->stream) {
		http_on_drain(q->h, on_drain, e);
		http_start(q->h, 200, "application/x-ndjson", -1);
		e->tick = tick_new(q->api->loop, HEARTBEAT_MS, HEARTBEAT_MS, on_heartbeat, e);
	} else {
		e->tick = tick_new(q->api->loop, LONG_MS, 0, on_long, e);
	}
}

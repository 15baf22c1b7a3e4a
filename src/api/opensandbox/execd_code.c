/*
 * /code: interpreters that keep their state between runs.
 *
 * A context is a process of the label "code", running a driver (drivers.h): code goes to its stdin,
 * whole, and what the driver tells comes by descriptor 3, behind what the code printed before. A run
 * reads the context's output from the beginning to the end that bear its own number; what is there
 * before is of a run whose client has left, which goes on and is waited for. One run at a time:
 * another is refused while one is being read here.
 *
 * What a driver says is a tenant's word: lines are bounded, and what is no JSON object is passed over.
 */
#include <signal.h>
#include "api/opensandbox/drivers.h"
#include "api/opensandbox/events.h"
#include "api/opensandbox/execd.h"
#include "api/tick.h"
#include "base/clock.h"
#include "wire/frame.h"

#define LABEL	   "code"
#define SIDE_MAX   (2u << 20)  /* one line of a driver */
#define EVENTS_MAX (16u << 20) /* of one frame: every byte may be a line */
#define PING_MS	   3000u

static const struct language {
	const char *names[4];
	const char *argv[4]; /* and the driver */
	const char *driver;
} languages[] = {
	{ { "python", "python3", "py" }, { "python3", "-u", "-c" }, driver_python },
	{ { "javascript", "js", "node" }, { "node", "-e" }, driver_javascript },
	{ { "bash", "sh", "shell" }, { "bash", "-c" }, driver_bash },
};

struct code {
	LIST_ENTRY(code) next; /* of runs */
	struct use use;
	struct req *q;
	struct proc *x;
	struct proc_ask *ask;
	struct tick *ping;
	struct str id, cwd; /* the context's; request memory */
	const struct language *language;
	char run[33];
	struct buf input, side, out;
	struct jw w;
	struct lines lines[2];
	uint64_t from_ns;
	struct str only; /* a list: the one language */
	bool create, running, started, begun, failed;
	unsigned int told;
};

static LIST_HEAD(, code) runs = LIST_HEAD_INITIALIZER(runs); /* under way, over all sandboxes */

static void code_free(struct code *c)
{
	if (c->running)
		LIST_REMOVE(c, next);
	proc_free(c->x);
	proc_ask_free(c->ask);
	tick_free(c->ping);
	buf_done(&c->input);
	buf_done(&c->side);
	buf_done(&c->out);
	lines_done(&c->lines[0]);
	lines_done(&c->lines[1]);
	box_unuse(&c->use);
	free(c);
}

static void code_gone(struct req *q)
{
	code_free(q->state);
}

static struct req *code_over(struct code *c)
{
	struct req *q = c->q;

	q->on_gone = NULL;
	code_free(c);
	return q;
}

static void code_end(struct code *c, struct buf *out)
{
	struct req *q = code_over(c);

	if (buf_failed(out)) {
		req_abort(q);
		return;
	}
	http_write(q->h, buf_str(out));
	req_end(q);
}

static void code_fail(struct code *c, const struct err *err)
{
	auto_buf struct buf out = BUF_MAX(65536);

	if (c->started) {
		event_error(&out, api_now_ms(), STR("RuntimeError"), str_c(err->text), STR_NONE);
		code_end(c, &out);
	} else if (err->kind == ERR_NOT_FOUND) {
		execd_fail(code_over(c), 404, "CONTEXT_NOT_FOUND", "no such context");
	} else {
		execd_err(code_over(c), err, NULL);
	}
}

static void code_bounce(struct use *u, const struct err *err)
{
	code_fail(container_of(u, struct code, use), err);
}

static struct code *code_new(struct req *q)
{
	struct code *c = calloc(1, sizeof(*c));

	if (!c) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return NULL;
	}
	c->q = q;
	c->from_ns = clock_mono_ns();
	c->input = BUF_MAX(FRAME_REQUEST_MAX);
	c->side = BUF_MAX(SIDE_MAX);
	c->out = BUF_MAX(1 << 20);
	c->w = JW(&c->out);
	c->lines[0] = c->lines[1] = LINES;
	q->state = c;
	q->on_gone = code_gone;
	box_use(q->box, &c->use, code_bounce);
	return c;
}

/* --- languages --- */

static const struct language *language_of(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(languages); i++)
		for (size_t k = 0; k < ARRAY_SIZE(languages[i].names); k++)
			if (languages[i].names[k] && str_eq_c(name, languages[i].names[k]))
				return &languages[i];
	return NULL;
}

/* Answers if there is none of the name. */
static const struct language *language_asked(struct req *q, const json_t *obj)
{
	const struct language *l;
	struct str name;

	if (execd_text(q, obj, "language", &name) < 0)
		return NULL;
	l = language_of(name);
	if (!l)
		execd_fail(q, 400, "NOT_SUPPORTED", "language: expected python, javascript or bash");
	return l;
}

static void write_context(struct jw *w, const char *name, struct str id, struct str language)
{
	jw_obj(w, name);
	jw_str(w, "id", id);
	jw_str(w, "language", language);
	jw_end(w);
}

/* --- one run --- */

static void on_ping(void *arg)
{
	struct code *c = arg;
	auto_buf struct buf out = BUF_MAX(256);

	event_text(&out, "ping", api_now_ms(), STR("pong"));
	http_write(c->q->h, buf_str(&out));
}

static void on_drain(struct http *h, void *arg)
{
	proc_pause(((struct code *)arg)->x, false);
}

static struct str text_of(const json_t *v)
{
	return json_is_string(v) ? str_n(json_string_value(v), json_string_length(v)) : STR("");
}

static void tell_result(const json_t *result, struct buf *out)
{
	const char *key;
	json_t *v;
	struct jw w;

	event_begin(&w, out, "result", api_now_ms());
	jw_obj(&w, "results");
	json_object_foreach ((json_t *)(uintptr_t)result, key, v)
		jw_str(&w, key, text_of(v));
	jw_end(&w);
	event_end(&w);
}

static void tell_error(const json_t *error, struct buf *out)
{
	auto_buf struct buf trace = BUF_MAX(SIDE_MAX);
	const json_t *lines = json_object_get(error, "traceback");
	json_t *v;
	size_t i;

	json_array_foreach (lines, i, v) {
		if (i)
			buf_add_c(&trace, "\n");
		buf_add_str(&trace, text_of(v));
	}
	event_error(out, api_now_ms(), text_of(json_object_get(error, "ename")),
		text_of(json_object_get(error, "evalue")), buf_str(&trace));
}

/* The driver is at our code, and waits. */
static void go(struct code *c)
{
	auto_buf struct buf out = BUF_MAX(64);

	c->begun = true;
	buf_fmt(&out, "go %s\n", c->run);
	proc_write(c->x, buf_str(&out), false); /* if not: on_run_end() */
}

/* Told before our beginning. True: by a driver of a build that knew of none. */
static bool side_before(struct code *c, const json_t *told, struct buf *out)
{
	if (str_eq_c(text_of(json_object_get(told, "begin")), c->run))
		go(c);
	if (!str_eq_c(text_of(json_object_get(told, "end")), c->run))
		return false;
	event_error(out, api_now_ms(), STR("RuntimeError"),
		STR("this context was started by an older build: delete it, and create another"),
		STR_NONE);
	return true;
}

/* True: this was the end of our run. */
static bool side_line(struct code *c, struct str line, struct buf *out)
{
	auto_json json_t *told = json_loadb(line.p, line.n, 0, NULL);
	const json_t *result = json_object_get(told, "result"), *error = json_object_get(told, "error");
	struct jw w;

	if (!c->begun)
		return side_before(c, told, out);
	for (int i = 0; told && i < 2; i++)
		lines_flush(&c->lines[i], out, i ? "stderr" : "stdout", api_now_ms());
	if (json_is_object(result))
		tell_result(result, out);
	if (json_is_object(error)) {
		tell_error(error, out);
		c->failed = true;
	}
	if (!str_eq_c(text_of(json_object_get(told, "end")), c->run))
		return false;
	event_begin(&w, out, "execution_count", api_now_ms());
	jw_i64(&w, "execution_count", json_integer_value(json_object_get(told, "count")));
	event_end(&w);
	if (!c->failed)
		event_complete(out, api_now_ms(), (clock_mono_ns() - c->from_ns) / 1000000);
	return true;
}

static bool side(struct code *c, struct str data, struct buf *out)
{
	while (data.n) {
		ssize_t end = str_find(data, '\n');

		buf_add(&c->side, data.p, end < 0 ? data.n : (size_t)end);
		if (end < 0)
			return false;
		data = str_skip(data, (size_t)end + 1);
		if (!buf_failed(&c->side) && side_line(c, buf_str(&c->side), out))
			return true;
		buf_reset(&c->side);
	}
	return false;
}

static void on_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	auto_buf struct buf out = BUF_MAX(EVENTS_MAX);
	struct code *c = arg;
	int i = stream == PROC_ERR;

	if (stream == PROC_SIDE && side(c, data, &out)) {
		code_end(c, &out);
		return;
	}
	if (stream != PROC_SIDE && c->begun)
		lines_add(&c->lines[i], &out, i ? "stderr" : "stdout", api_now_ms(), data);
	if (out.n && http_write(c->q->h, buf_str(&out)) == 0)
		proc_pause(x, true);
}

static void on_attached(struct proc *x, uint64_t offset, void *arg)
{
	auto_buf struct buf out = BUF_MAX(1024);
	struct code *c = arg;
	struct http *h = c->q->h;

	c->started = true;
	http_add_header(h, "Cache-Control", STR("no-cache"));
	http_add_header(h, "X-Accel-Buffering", STR("no"));
	http_on_drain(h, on_drain, c);
	http_start(h, 200, "text/event-stream", -1);
	event_text(&out, "init", api_now_ms(), c->id);
	http_write(h, buf_str(&out));
	c->ping = tick_new(c->q->api->loop, PING_MS, PING_MS, on_ping, c);
}

static void on_run_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct code *c = arg;
	struct err gone;

	if (!err)
		err_set(&gone, -ECONNRESET, ERR_CONFLICT, "the interpreter has ended");
	code_fail(c, err ? err : &gone);
}

static bool busy(const struct code *c)
{
	const struct code *other;

	LIST_FOREACH (other, &runs, next)
		if (other->q->box == c->q->box && str_eq(other->id, c->id))
			return true;
	return false;
}

static void run(struct code *c)
{
	static const struct proc_ops ops = { .on_output = on_output, .on_end = on_run_end,
		.on_attached = on_attached };
	struct proc_attach how = { .id = c->id, .from = PROC_FROM_END, .follow = true, .pace = true,
		.input = buf_str(&c->input) };
	struct req *q = c->q;
	struct err err;

	if (busy(c)) {
		execd_fail(code_over(c), 500, "RUNTIME_ERROR", "the context is busy with another run");
		return;
	}
	LIST_INSERT_HEAD(&runs, c, next);
	c->running = true;
	proc_free(take_ptr(c->x));
	if (proc_attach(q->api->loop, &q->box->link, &how, &ops, c, &c->x, &err) < 0)
		code_fail(c, &err);
}

/* --- starting an interpreter --- */

static void context_ready(struct code *c)
{
	auto_buf struct buf out = BUF_MAX(1024);
	struct jw w = JW(&out);

	if (!c->create) {
		run(c);
		return;
	}
	write_context(&w, NULL, c->id, str_c(c->language->names[0]));
	reply_json(code_over(c), 200, &out);
}

static void on_context_started(struct proc *x, uint32_t pid, void *arg)
{
	context_ready(arg);
}

static void on_context_end(struct proc *x, const struct agent_exit *exit, const struct err *err,
	void *arg)
{
	struct code *c = arg;

	if (err && err->code == -EEXIST && !c->create)
		run(c); /* the language's own context is there already */
	else if (err)
		code_fail(c, err);
	else if (exit)
		execd_fail(code_over(c), 500, "RUNTIME_ERROR", "%s", exit->error);
}

static void context_start(struct code *c)
{
	static const struct proc_ops ops = { .on_started = on_context_started,
		.on_end = on_context_end };
	const struct language *l = c->language;
	struct str argv[5];
	struct proc_spec spec = { .id = c->id, .label = STR(LABEL), .note = str_c(l->names[0]),
		.argv = argv, .cwd = c->cwd, .stdin_open = true, .side = true };
	struct req *q = c->q;
	struct err err;

	while (l->argv[spec.n_argv]) {
		argv[spec.n_argv] = str_c(l->argv[spec.n_argv]);
		spec.n_argv++;
	}
	argv[spec.n_argv++] = str_c(l->driver);
	if (proc_start(q->api->loop, &q->box->link, &spec, false, false, &ops, c, &c->x, &err) < 0)
		code_fail(c, &err);
}

static void context_create(struct req *q)
{
	const struct language *l = language_asked(q, q->json);
	char id[33];
	struct code *c;
	struct str cwd;

	if (!l || execd_text(q, q->json, "cwd", &cwd) < 0 || (cwd.n && execd_path(q, cwd, &cwd) < 0))
		return;
	c = code_new(q);
	if (!c)
		return;
	execd_id(id);
	c->id = http_alloc_str(q->h, str_c(id));
	c->language = l;
	c->cwd = cwd;
	c->create = true;
	context_start(c);
}

void execd_context_create(struct req *q)
{
	execd_json(q, context_create);
}

static void code_run(struct req *q)
{
	const json_t *context = json_object_get(q->json, "context");
	const struct language *l = NULL;
	struct str id, code;
	char own[64];
	struct code *c;

	if (execd_text(q, context, "id", &id) < 0 || execd_text(q, q->json, "code", &code) < 0)
		return;
	if (!code.n) {
		execd_bad(q, "code: must not be empty");
		return;
	}
	if (!id.n) {
		l = language_asked(q, context);
		if (!l)
			return;
	}
	c = code_new(q);
	if (!c)
		return;
	execd_id(c->run);
	buf_fmt(&c->input, "%s %zu\n", c->run, code.n);
	if (buf_add_str(&c->input, code) < 0) {
		execd_fail(code_over(c), 413, "INVALID_REQUEST_BODY", "code: longer than 2 MiB");
		return;
	}
	if (l)
		snprintf(own, sizeof(own), "default-%s", l->names[0]);
	c->id = http_alloc_str(q->h, l ? str_c(own) : id);
	c->language = l;
	if (l)
		context_start(c);
	else
		run(c);
}

void execd_code(struct req *q)
{
	execd_json(q, code_run);
}

/* --- asking about contexts, ending them --- */

static void on_list(const struct proc_info *p, const struct err *err, void *arg)
{
	auto_buf struct buf out = BUF_MAX(0);
	struct code *c = arg;

	if (p) {
		if (p->running && (!c->only.n || language_of(c->only) == language_of(p->note)) &&
			(!c->id.n || str_eq(c->id, p->id))) {
			c->told++;
			write_context(&c->w, NULL, p->id, p->note);
		}
		return;
	}
	c->ask = NULL;
	if (err) {
		code_fail(c, err);
		return;
	}
	if (!c->id.n)
		jw_arr_end(&c->w);
	out = c->out;
	c->out = BUF_MAX(0);
	if (c->id.n && !c->told)
		execd_fail(code_over(c), 404, "CONTEXT_NOT_FOUND", "no such context");
	else
		reply_json(code_over(c), 200, &out);
}

static void ask_contexts(struct req *q, struct str id, struct str only, proc_info_fn fn)
{
	struct code *c = code_new(q);
	struct err err;

	if (!c)
		return;
	c->id = id;
	c->only = only;
	if (!id.n && fn == on_list)
		jw_arr(&c->w, NULL);
	if (procs_list(q->api->loop, &q->box->link, STR(LABEL), STR_NONE, fn, c, &c->ask, &err) < 0)
		code_fail(c, &err);
}

void execd_contexts(struct req *q)
{
	struct str only;
	struct err err;

	if (req_query(q, "language", &only, &err) < 0)
		execd_fail(q, 400, "MISSING_QUERY", "language: %s", err.text);
	else
		ask_contexts(q, STR_NONE, only, on_list);
}

void execd_context_get(struct req *q)
{
	ask_contexts(q, req_param(q, "id"), STR_NONE, on_list);
}

static void on_changed(const struct proc_info *p, const struct err *err, void *arg)
{
	struct code *c = arg;

	if (p)
		return;
	c->ask = NULL;
	if (err)
		code_fail(c, err);
	else
		execd_empty(code_over(c));
}

static void change(struct req *q, struct str id, int signal, bool forget)
{
	struct proc_change how = { .id = id, .signal = signal, .forget = forget };
	struct code *c = code_new(q);
	struct err err;

	if (c && proc_change(q->api->loop, &q->box->link, &how, on_changed, c, &c->ask, &err) < 0)
		code_fail(c, &err);
}

void execd_context_delete(struct req *q)
{
	change(q, req_param(q, "id"), SIGKILL, true);
}

void execd_code_interrupt(struct req *q)
{
	struct str id;
	struct err err;

	if (req_query(q, "id", &id, &err) < 0 || !id.n)
		execd_fail(q, 400, "MISSING_QUERY", "missing query parameter: id");
	else
		change(q, id, SIGINT, false);
}

/* All of a language, one after the other: the list is asked again until none is left. */
static void on_next_to_delete(const struct proc_info *p, const struct err *err, void *arg);

static void on_deleted(const struct proc_info *p, const struct err *err, void *arg)
{
	struct code *c = arg;
	struct str only = c->only;

	if (p)
		return;
	c->ask = NULL;
	if (err && err->kind != ERR_NOT_FOUND)
		code_fail(c, err);
	else
		ask_contexts(code_over(c), STR_NONE, only, on_next_to_delete);
}

static void on_next_to_delete(const struct proc_info *p, const struct err *err, void *arg)
{
	struct code *c = arg;
	struct proc_change how = { .signal = SIGKILL, .forget = true };
	struct req *q = c->q;
	struct err e;

	if (p) {
		if (!c->id.n && p->running && language_of(c->only) == language_of(p->note))
			c->id = http_alloc_str(q->h, p->id);
		return;
	}
	c->ask = NULL;
	how.id = c->id;
	if (err)
		code_fail(c, err);
	else if (!c->id.n)
		execd_empty(code_over(c));
	else if (proc_change(q->api->loop, &q->box->link, &how, on_deleted, c, &c->ask, &e) < 0)
		code_fail(c, &e);
}

void execd_contexts_delete(struct req *q)
{
	struct str only;
	struct err err;

	if (req_query(q, "language", &only, &err) < 0 || !only.n)
		execd_fail(q, 400, "MISSING_QUERY", "missing query parameter: language");
	else if (!language_of(only))
		execd_fail(q, 400, "NOT_SUPPORTED", "language: expected python, javascript or bash");
	else
		ask_contexts(q, STR_NONE, only, on_next_to_delete);
}

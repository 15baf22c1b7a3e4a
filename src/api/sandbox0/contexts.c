/*
 * Contexts: see the header. The agent has the processes (api/procs.h); a call here is one or two
 * conversations about one of them, and leaves it as it is when the client leaves.
 *
 *	create, wait	START and follow it to its end. Clients give up where no head comes for
 *			minutes, so it is sent while the command runs, and blanks behind it; what
 *			fails then can only break the connection
 *	create, REPL	START, the next candidate where one does not, up to its first prompt; what
 *			it is given, then, and up to the next
 *	create		START
 *	get		what it is, then its output
 *	exec		what it is, then input, and output up to the next prompt
 *	restart		what it is, and whether that is known well enough; KILL, wait for its end,
 *			forget it, START the same again
 *	the others	one question each
 */
#include <signal.h>
#include "api/box.h"
#include "api/sandbox0/context.h"
#include "api/sandbox0/contexts.h"
#include "wire/frame.h"

#define ANSWER_MAX     (32u << 20) /* three times what is kept, each byte up to six */
#define QUIET_MS       50u	   /* behind a prompt: it was the last */
#define EARLY_MS       45000u	   /* proxies give up after 60 s, Node's client after 300 */
#define PROMPT_MS      30000u	   /* for a REPL to be ready, and for what it is asked */

struct call {
	struct use use;
	struct req *q;
	struct proc *proc;
	struct proc_ask *ask;
	struct tick *tick, *limit, *early;
	struct kept out;
	struct context context;
	struct context_ask want; /* create, restart; of exec the input */
	unsigned int nth;	 /* of a REPL's candidates */
	char id[64], why[200];	 /* why the last candidate did not start */
	bool found, started, prompting; /* prompting: the end is a prompt */
	bool inputs; /* input, exec: what it does not take has codes of its own */
	bool fed;   /* the REPL has what it was to be given */
	bool begun; /* the answer's head has gone out */
	json_t *again;	       /* restart: the request that made it */
};

static void call_free(struct call *c)
{
	proc_free(c->proc);
	proc_ask_free(c->ask);
	tick_free(c->tick);
	tick_free(c->limit);
	tick_free(c->early);
	kept_done(&c->out);
	context_done(&c->context);
	json_decref(c->again);
	box_unuse(&c->use);
	free(c);
}

static void call_gone(struct req *q)
{
	call_free(q->state);
}

static void call_fail(struct call *c, const struct err *err)
{
	struct req *q = c->q;
	struct err e = *err;
	bool begun = c->begun, inputs = c->inputs;

	q->on_gone = NULL;
	call_free(c);
	if (begun) {
		req_abort(q);
		return;
	}
	if (e.kind == ERR_NOT_FOUND) {
		q->code = "context_not_found";
		snprintf(e.text, sizeof(e.text), "context not found");
	} else if (inputs && e.code == -EAGAIN && e.kind == ERR_CAPACITY) {
		q->code = "input_buffer_full";
	} else if (inputs && e.code == -EPIPE) {
		e.kind = ERR_CONFLICT;
		q->code = "process_not_running";
	}
	reply_err(q, &e);
}

/* With a code of the contract's own. */
static void call_fail_as(struct call *c, const char *code, int r, const char *why)
{
	struct err err;

	c->q->code = code;
	err_set(&err, r, ERR_UNSUPPORTED, "%s", why);
	call_fail(c, &err);
}

static void call_bounce(struct use *u, const struct err *err)
{
	call_fail(container_of(u, struct call, use), err);
}

static void invalid(struct req *q, const struct err *err)
{
	q->code = err->kind == ERR_INVALID || err->kind == ERR_UNSUPPORTED ? "invalid_request" : NULL;
	reply_err(q, err);
}

/* NULL: answered. */
static struct call *call_new(struct req *q)
{
	struct call *c = calloc(1, sizeof(*c));
	struct str id = req_param(q, "context");
	struct err err;

	if (!c) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return NULL;
	}
	if (id.p && (str_copy(c->id, sizeof(c->id), id) < 0 || !str_starts(id, STR("ctx-")))) {
		free(c);
		q->code = "context_not_found";
		err_set(&err, -ENOENT, ERR_NOT_FOUND, "context not found");
		reply_err(q, &err);
		return NULL;
	}
	c->q = q;
	q->state = c;
	q->on_gone = call_gone;
	kept_begin(&c->out, q->box);
	box_use(q->box, &c->use, call_bounce);
	return c;
}

/* The rest of an answer that was begun. */
static void send_rest(struct req *q, struct answer *a)
{
	jw_end(&a->w);
	if (buf_failed(&a->buf))
		req_abort(q);
	else if (http_write(q->h, buf_str(&a->buf)) >= 0)
		req_end(q);
	buf_done(&a->buf);
}

static void reply_context(struct call *c, int status, bool output, bool raw)
{
	struct req *q = c->q;
	bool begun = c->begun;
	struct answer a;

	q->on_gone = NULL;
	sandbox0_begin(&a, ANSWER_MAX);
	context_put(&a.w, "data", &c->context, output ? &c->out : NULL, raw);
	call_free(c);
	if (begun)
		send_rest(q, &a);
	else
		reply_send(q, status, &a);
}

static void reply_done(struct call *c, const char *name)
{
	struct req *q = c->q;

	q->on_gone = NULL;
	call_free(c);
	sandbox0_done(q, 200, name);
}

static void on_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg);

/* --- asking about one: its note and how it stands --- */

static void on_info(struct call *c, const struct proc_info *info)
{
	if (c->found || !str_eq(info->label, CONTEXT_LABEL))
		return;
	c->found = context_from(info, &c->context) == 0;
}

static int ask_one(struct call *c, proc_info_fn fn, struct err *err)
{
	struct req *q = c->q;

	return procs_list(q->api->loop, &q->box->link, STR_NONE, str_c(c->id), fn, c, &c->ask, err);
}

/* The end of a question: 0, or it was answered. */
static int asked(struct call *c, const struct err *err)
{
	struct err none;

	c->ask = NULL;
	if (!err && !c->found) {
		err_set(&none, -ENOENT, ERR_NOT_FOUND, "context not found");
		err = &none;
	}
	if (err)
		call_fail(c, err);
	return err ? -1 : 0;
}

/* Read it from there: 0, or it was answered. */
static int attach(struct call *c, struct proc_attach from, const struct proc_ops *ops)
{
	struct req *q = c->q;
	struct err err;
	int r;

	from.id = str_c(c->id);
	r = proc_attach(q->api->loop, &q->box->link, &from, ops, c, &c->proc, &err);
	if (r < 0)
		call_fail(c, &err);
	return r;
}

/* --- create --- */

static void create_failed(struct call *c, const char *why)
{
	call_fail_as(c, "create_failed", -ENOEXEC, why);
}

static int create_start(struct call *c, struct err *err);

/* A program that never started is no context; another candidate may start. */
static void forgotten(const struct proc_info *info, const struct err *err, void *arg)
{
	struct call *c = arg;
	struct err why;
	int r = -ENOENT;

	if (info)
		return;
	c->ask = NULL;
	c->nth++;
	if (c->want.is_repl)
		r = create_start(c, &why);
	if (r == -ENOENT)
		create_failed(c, c->why);
	else if (r < 0)
		call_fail(c, &why);
}

static void forget(struct call *c, const char *why)
{
	struct proc_change change = { .id = str_c(c->id), .forget = true };
	struct err err;

	snprintf(c->why, sizeof(c->why), "%s", why);
	if (proc_change(c->q->api->loop, &c->q->box->link, &change, forgotten, c, &c->ask, &err) < 0)
		create_failed(c, c->why);
}

static void created(struct call *c, const struct agent_exit *exit, bool output)
{
	int status = c->again ? 200 : 201;

	c->context.running = !exit;
	if (exit) {
		c->context.code = exit->code;
		c->context.signal = exit->signal;
	}
	reply_context(c, status, output, true);
}

static void on_create_end(struct proc *x, const struct agent_exit *exit, const struct err *err,
	void *arg)
{
	struct call *c = arg;

	proc_free(take_ptr(c->proc));
	if (err)
		call_fail(c, err);
	else if (exit && exit->error[0] && !c->started)
		forget(c, exit->error);
	else
		created(c, exit, true);
}

/* It is ready: what it is given, and up to the prompt behind that. */
static void feed(struct call *c)
{
	c->fed = c->prompting = true;
	c->tick = tick_free(c->tick);
	kept_forget(&c->out);
	proc_write(c->proc, c->want.input, false);
}

/* A REPL's prompt, and nothing behind it for a moment. */
static void on_quiet(void *arg)
{
	struct call *c = arg;

	if (c->want.input.n && !c->fed)
		feed(c);
	else
		created(c, NULL, c->fed);
}

/* Of a REPL with a delay, the end of that; else it runs, whatever it is doing. */
static void on_create_limit(void *arg)
{
	struct call *c = arg;

	if (!c->started) {
		create_failed(c, "the program was not started within 30 s");
	} else if (c->want.input.n && !c->fed && c->want.repl.delay_ms) {
		feed(c);
		tick_again(c->limit, PROMPT_MS);
	} else {
		created(c, NULL, c->fed);
	}
}

static void wait_quiet(struct call *c, tick_fn fn)
{
	if (c->tick)
		tick_again(c->tick, QUIET_MS);
	else
		c->tick = tick_new(c->q->api->loop, QUIET_MS, 0, fn, c);
}

static void on_create_output(struct proc *x, enum proc_stream stream, uint64_t offset,
	struct str data, void *arg)
{
	struct call *c = arg;

	kept_add(&c->out, stream, data);
	if (c->prompting && kept_prompted(&c->out, c->want.repl.prompt))
		wait_quiet(c, on_quiet);
	else
		c->tick = tick_free(c->tick);
}

/* It runs on, and the client is to know that it is not forgotten: JSON may begin with blanks. */
static void on_early(void *arg)
{
	struct call *c = arg;

	if (!c->begun)
		http_start(c->q->h, c->again ? 200 : 201, "application/json", -1);
	c->begun = true;
	http_write(c->q->h, STR(" "));
}

static void on_create_started(struct proc *x, uint32_t pid, void *arg)
{
	struct call *c = arg;

	c->started = true;
	if (!c->want.is_repl)
		c->early = tick_new(c->q->api->loop, EARLY_MS, EARLY_MS, on_early, c);
	else if (c->want.repl.delay_ms)
		tick_again(c->limit, c->want.repl.delay_ms);
}

static int create_start(struct call *c, struct err *err)
{
	static const struct proc_ops ops = { .on_started = on_create_started,
		.on_output = on_create_output, .on_end = on_create_end };
	struct req *q = c->q;
	const struct context_ask *ask = &c->want;
	struct context_start *s = calloc(1, sizeof(*s));
	bool follow = ask->wait || ask->is_repl;
	int r = s ? context_start_from(ask, c->nth, c->id, s, err)
		  : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");

	context_done(&c->context);
	if (r == 0)
		r = json_parse(s->spec.note, &c->context.note, err);
	if (r == 0)
		r = proc_start(q->api->loop, &q->box->link, &s->spec, follow, ask->wait && !ask->is_repl,
			&ops, c, &c->proc, err);
	if (s)
		context_start_done(s);
	free(s);
	return r;
}

static void create(struct call *c, const struct context_ask *ask)
{
	struct req *q = c->q;
	struct err err;

	c->want = *ask;
	snprintf(c->context.id, sizeof(c->context.id), "%s", c->id);
	c->context.started_ms = api_now_ms();
	c->context.pty = ask->pty;
	c->prompting = ask->is_repl && !ask->repl.delay_ms;
	if (create_start(c, &err) < 0) {
		q->on_gone = NULL;
		call_free(c);
		invalid(q, &err);
	} else if (ask->is_repl) {
		c->limit = tick_new(q->api->loop, PROMPT_MS, 0, on_create_limit, c);
	}
}

void sandbox0_context_create(struct req *q)
{
	struct context_ask ask = { 0 };
	struct call *c;
	struct err err;

	if (context_decode(q->json, &ask, &err) < 0) {
		invalid(q, &err);
		return;
	}
	c = call_new(q);
	if (!c)
		return;
	context_id_new(c->id);
	create(c, &ask);
}

/* --- list, get --- */

struct listing {
	struct use use;
	struct req *q;
	struct proc_ask *ask;
	struct answer a;
};

static void listing_free(struct listing *l)
{
	proc_ask_free(l->ask);
	box_unuse(&l->use);
	buf_done(&l->a.buf);
	free(l);
}

static void listing_gone(struct req *q)
{
	listing_free(q->state);
}

static void listing_fail(struct listing *l, const struct err *err)
{
	struct req *q = l->q;

	q->on_gone = NULL;
	listing_free(l);
	reply_err(q, err);
}

static void listing_bounce(struct use *u, const struct err *err)
{
	listing_fail(container_of(u, struct listing, use), err);
}

static void on_listed(const struct proc_info *info, const struct err *err, void *arg)
{
	struct listing *l = arg;
	struct req *q = l->q;
	struct context c;
	struct answer a;

	if (info) {
		if (context_from(info, &c) == 0)
			context_put(&l->a.w, NULL, &c, NULL, false);
		context_done(&c);
		return;
	}
	l->ask = NULL;
	if (err) {
		listing_fail(l, err);
		return;
	}
	jw_arr_end(&l->a.w);
	jw_end(&l->a.w);
	a = l->a;
	a.w.out = &a.buf;
	l->a.buf = BUF_MAX(0);
	q->on_gone = NULL;
	listing_free(l);
	reply_send(q, 200, &a);
}

void sandbox0_context_list(struct req *q)
{
	struct listing *l = calloc(1, sizeof(*l));
	struct err err;

	if (!l) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return;
	}
	l->q = q;
	q->state = l;
	q->on_gone = listing_gone;
	sandbox0_begin(&l->a, 8u << 20);
	jw_obj(&l->a.w, "data");
	jw_arr(&l->a.w, "contexts");
	box_use(q->box, &l->use, listing_bounce);
	if (procs_list(q->api->loop, &q->box->link, CONTEXT_LABEL, STR_NONE, on_listed, l, &l->ask,
		    &err) < 0)
		listing_fail(l, &err);
}

static void on_got(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct call *c = arg;

	if (err)
		call_fail(c, err);
	else
		reply_context(c, 200, true, false);
}

static void on_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	struct call *c = arg;

	kept_add(&c->out, stream, data);
}

static void on_get_info(const struct proc_info *info, const struct err *err, void *arg)
{
	static const struct proc_ops ops = { .on_output = on_output, .on_end = on_got };
	struct call *c = arg;

	if (info)
		on_info(c, info);
	else if (asked(c, err) == 0)
		attach(c, (struct proc_attach){ 0 }, &ops);
}

void sandbox0_context_get(struct req *q)
{
	struct call *c = call_new(q);
	struct err err;

	if (c && ask_one(c, on_get_info, &err) < 0)
		call_fail(c, &err);
}

/* --- input, exec --- */

static int take_input(struct req *q, struct str *ret)
{
	static const struct json_field fields[] = {
		{ .name = "data", .kind = JK_BYTES, .required = true, .seen_offset = -1,
			.max = FRAME_REQUEST_MAX / 2 },
	};
	struct err err;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), ret, &err);

	if (r == 0 && ret->n)
		return 0;
	if (r == 0)
		r = err_field(&err, -EINVAL, ERR_INVALID, "data", "must not be empty");
	invalid(q, &err);
	return r;
}

static void on_input_end(struct proc *x, const struct agent_exit *exit, const struct err *err,
	void *arg)
{
	struct call *c = arg;

	if (err)
		call_fail(c, err);
	else
		reply_done(c, "written");
}

void sandbox0_context_input(struct req *q)
{
	static const struct proc_ops ops = { .on_output = on_output, .on_end = on_input_end };
	struct proc_attach how = { .from = PROC_FROM_END };
	struct call *c;
	struct err err;

	if (take_input(q, &how.input) < 0)
		return;
	c = call_new(q);
	if (!c)
		return;
	c->inputs = true;
	how.id = str_c(c->id);
	if (proc_attach(q->api->loop, &q->box->link, &how, &ops, c, &c->proc, &err) < 0)
		call_fail(c, &err);
}

static void reply_exec(struct call *c, const struct agent_exit *exit)
{
	struct req *q = c->q;
	struct answer a;

	q->on_gone = NULL;
	sandbox0_begin(&a, ANSWER_MAX);
	jw_obj(&a.w, "data");
	kept_put(&a.w, &c->out, context_prompt(&c->context), true, false);
	if (exit) {
		c->context.code = exit->code;
		c->context.signal = exit->signal;
		jw_i64(&a.w, "exit_code", exit->code);
		jw_c(&a.w, "state", context_state(&c->context));
	}
	jw_end(&a.w);
	call_free(c);
	reply_send(q, 200, &a);
}

static void on_exec_quiet(void *arg)
{
	reply_exec(arg, NULL);
}

static void on_exec_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	struct call *c = arg;

	kept_add(&c->out, stream, data);
	if (kept_prompted(&c->out, context_prompt(&c->context)))
		wait_quiet(c, on_exec_quiet);
	else
		c->tick = tick_free(c->tick);
}

static void on_exec_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct call *c = arg;

	if (err)
		call_fail(c, err);
	else
		reply_exec(c, exit);
}

static void on_exec_limit(void *arg)
{
	struct call *c = arg;
	struct err err;

	err_set(&err, -ETIMEDOUT, ERR_TIMEOUT, "no prompt within %u s; it runs on", PROMPT_MS / 1000);
	call_fail(c, &err);
}

static void on_exec_info(const struct proc_info *info, const struct err *err, void *arg)
{
	static const struct proc_ops ops = { .on_output = on_exec_output, .on_end = on_exec_end };
	struct call *c = arg;
	struct proc_attach from = { .from = PROC_FROM_END, .follow = true, .input = c->want.input };

	if (info)
		on_info(c, info);
	else if (asked(c, err) == 0 && attach(c, from, &ops) == 0)
		c->limit = tick_new(c->q->api->loop, PROMPT_MS, 0, on_exec_limit, c);
}

void sandbox0_context_exec(struct req *q)
{
	struct str input;
	struct call *c;
	struct err err;

	if (take_input(q, &input) < 0)
		return;
	c = call_new(q);
	if (!c)
		return;
	c->inputs = true;
	c->want.input = input;
	if (ask_one(c, on_exec_info, &err) < 0)
		call_fail(c, &err);
}

/* --- delete, resize, signal --- */

int context_signal(struct str name)
{
	static const struct {
		const char *name;
		int number;
	} signals[] = { { "INT", SIGINT }, { "TERM", SIGTERM }, { "KILL", SIGKILL }, { "HUP", SIGHUP },
		{ "QUIT", SIGQUIT }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "WINCH", SIGWINCH },
		{ "STOP", SIGSTOP }, { "CONT", SIGCONT } };
	uint64_t number;

	if (str_u64(name, 64, &number) == 0)
		return (int)number;
	if (str_starts(name, STR("SIG")))
		name = str_skip(name, 3);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (str_eq_c(name, signals[i].name))
			return signals[i].number;
	return 0;
}

static void change(struct req *q, struct proc_change *how, proc_info_fn fn)
{
	struct call *c = call_new(q);
	struct err err;

	if (!c)
		return;
	how->id = str_c(c->id);
	if (proc_change(q->api->loop, &q->box->link, how, fn, c, &c->ask, &err) < 0)
		call_fail(c, &err);
}

static void on_deleted(const struct proc_info *info, const struct err *err, void *arg)
{
	struct call *c = arg;

	if (info)
		on_info(c, info);
	else if (asked(c, err) == 0)
		reply_done(c, "deleted");
}

void sandbox0_context_delete(struct req *q)
{
	change(q, &(struct proc_change){ .signal = SIGKILL, .forget = true }, on_deleted);
}

/* What needs it running, or on a terminal. */
static void changed(struct call *c, const struct err *err, const char *name, bool needs_pty)
{
	struct req *q = c->q;
	struct err why;

	if (asked(c, err) < 0)
		return;
	if (c->context.running && (c->context.pty || !needs_pty)) {
		reply_done(c, name);
		return;
	}
	q->code = c->context.running ? "pty_unavailable" : "process_not_running";
	err_set(&why, -EINVAL, ERR_CONFLICT, "%s",
		c->context.running ? "the process has no terminal" : "the process has ended");
	call_fail(c, &why);
}

static void on_resized(const struct proc_info *info, const struct err *err, void *arg)
{
	if (info)
		on_info(arg, info);
	else
		changed(arg, err, "resized", true);
}

void sandbox0_context_resize(struct req *q)
{
	static const struct json_field fields[] = {
		{ .name = "rows", .kind = JK_U32, .required = true, .seen_offset = -1, .min = 1,
			.max = UINT16_MAX },
		{ .name = "cols", .kind = JK_U32, .required = true, .seen_offset = -1, .min = 1,
			.max = UINT16_MAX, .offset = sizeof(uint32_t) },
	};
	uint32_t size[2] = { 0 };
	struct err err;

	if (json_decode(q->json, fields, ARRAY_SIZE(fields), size, &err) < 0)
		invalid(q, &err);
	else
		change(q, &(struct proc_change){ .rows = (uint16_t)size[0], .cols = (uint16_t)size[1] },
			on_resized);
}

static void on_signaled(const struct proc_info *info, const struct err *err, void *arg)
{
	if (info)
		on_info(arg, info);
	else
		changed(arg, err, "signaled", false);
}

void sandbox0_context_signal(struct req *q)
{
	const json_t *v = json_object_get(q->json, "signal");
	char number[24] = "";
	int signal;
	struct err err;

	if (json_is_integer(v))
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
	signal = context_signal(json_is_string(v) ? str_c(json_string_value(v)) : str_c(number));
	if (!signal) {
		err_field(&err, -EINVAL, ERR_INVALID, "signal",
			"expected INT, TERM, KILL, HUP, QUIT, USR1, USR2, WINCH, STOP, CONT or 1 to 64");
		invalid(q, &err);
		return;
	}
	change(q, &(struct proc_change){ .signal = signal }, on_signaled);
}

/* --- restart --- */

static void restart_unknown(struct call *c)
{
	call_fail_as(c, "restart_failed", -EIO,
		"what it was started with was too long to be kept; it stays as it is");
}

static void on_forgotten(const struct proc_info *info, const struct err *err, void *arg)
{
	struct context_ask ask = { 0 };
	struct call *c = arg;
	struct err why;

	if (info)
		return;
	c->ask = NULL;
	context_done(&c->context);
	if (err && err->kind != ERR_NOT_FOUND)
		call_fail(c, err);
	else if (context_decode(c->again, &ask, &why) < 0)
		call_fail(c, &why);
	else
		create(c, &ask);
}

static void on_ended(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct call *c = arg;
	struct proc_change forget = { .id = str_c(c->id), .forget = true };
	struct err why;

	proc_free(take_ptr(c->proc));
	if (err)
		call_fail(c, err);
	else if (proc_change(c->q->api->loop, &c->q->box->link, &forget, on_forgotten, c, &c->ask,
			 &why) < 0)
		call_fail(c, &why);
}

static void ignore_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
}

static void on_killed(const struct proc_info *info, const struct err *err, void *arg)
{
	static const struct proc_ops ops = { .on_output = ignore_output, .on_end = on_ended };
	struct call *c = arg;
	struct proc_attach from = { .from = PROC_FROM_END, .follow = true };

	if (!info && asked(c, err) == 0)
		attach(c, from, &ops);
}

/* What could not be started again is not ended. */
static void on_restart_info(const struct proc_info *info, const struct err *err, void *arg)
{
	struct context_ask ask = { 0 };
	struct call *c = arg;
	struct proc_change kill = { .id = str_c(c->id), .signal = SIGKILL };
	struct err why;

	if (info) {
		on_info(c, info);
		return;
	}
	if (asked(c, err) < 0)
		return;
	c->again = context_request(&c->context);
	if (!c->again || context_decode(c->again, &ask, &why) < 0)
		restart_unknown(c);
	else if (proc_change(c->q->api->loop, &c->q->box->link, &kill, on_killed, c, &c->ask, &why) < 0)
		call_fail(c, &why);
}

void sandbox0_context_restart(struct req *q)
{
	struct call *c = call_new(q);
	struct err err;

	if (c && ask_one(c, on_restart_info, &err) < 0)
		call_fail(c, &err);
}

/*
 * /pty: a shell over WebSocket, on a terminal or, with pty=0, on pipes. It is a process of the label
 * "pty" (api/procs.h), which outlives its clients; one at a time is at it. The first to come says which
 * of the two it is; until then an ended process of the same id stands for it, whose note says how it is
 * to be started. What was written before a client came is sent again from the offset it names, each
 * piece with its own, then it goes on as it comes.
 *
 *	binary   0 bytes		 input
 *		 1 bytes		 output
 *		 2 bytes		 what pipes have on stderr
 *		 3 offset (8, big-endian) bytes	 output of before
 *	text	 {"type":"connected"|"exit"|"pong"|"error"…}; from the client "resize", "signal", "ping"
 */
#include <signal.h>
#include "api/opensandbox/execd.h"
#include "api/websocket.h"
#include "wire/frame.h"

#define LABEL	 "pty"
#define ROWS_MAX 65535u

struct pty {
	LIST_ENTRY(pty) next; /* attached */
	struct use use;
	struct req *q; /* NULL: upgraded, or answered */
	struct websocket *ws;
	struct proc *x;
	struct proc_ask *ask;
	char id[FRAME_ID_MAX + 1];
	uint64_t since, newest;
	enum { MODE_ANY, MODE_PIPES, MODE_PTY } mode; /* asked for; once found, what it is */
	bool listed, takeover, found, running, is_pty;
	bool sh;	/* there is no bash */
	json_t *how;	/* owned; of one that nobody was at yet: rows, cols, cwd */
	void (*then)(struct pty *p);
};

static LIST_HEAD(, pty) attached = LIST_HEAD_INITIALIZER(attached);

static void pty_free(struct pty *p)
{
	if (p->listed)
		LIST_REMOVE(p, next);
	proc_free(p->x);
	proc_ask_free(p->ask);
	json_decref(p->how);
	box_unuse(&p->use);
	free(p);
}

static void pty_gone(struct req *q)
{
	pty_free(q->state);
}

static struct req *pty_over(struct pty *p)
{
	struct req *q = p->q;

	q->on_gone = NULL;
	pty_free(p);
	return q;
}

/* Say why, if there is somebody to hear it, and be gone. */
static void pty_close(struct pty *p, uint16_t code, const char *why)
{
	websocket_close(p->ws, code, why);
	pty_free(p);
}

static void pty_fail(struct pty *p, const struct err *err)
{
	if (!p->q)
		pty_close(p, 1011, err->text);
	else if (err->kind == ERR_NOT_FOUND)
		execd_fail(pty_over(p), 404, "CONTEXT_NOT_FOUND", "no such terminal");
	else
		execd_err(pty_over(p), err, NULL);
}

static void pty_bounce(struct use *u, const struct err *err)
{
	pty_fail(container_of(u, struct pty, use), err);
}

static struct pty *pty_new(struct req *q, struct str id)
{
	struct pty *p = calloc(1, sizeof(*p));

	if (!p || str_copy(p->id, sizeof(p->id), id) < 0) {
		free(p);
		execd_fail(q, 404, "CONTEXT_NOT_FOUND", "no such terminal");
		return NULL;
	}
	p->q = q;
	q->state = p;
	q->on_gone = pty_gone;
	box_use(q->box, &p->use, pty_bounce);
	return p;
}

/* --- POST --- */

static void on_made(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	auto_buf struct buf out = BUF_MAX(256);
	struct pty *p = arg;
	struct jw w = JW(&out);

	if (err) {
		pty_fail(p, err);
	} else if (exit && exit->error[0]) {
		execd_fail(pty_over(p), exit->code == 126 ? 400 : 500, "RUNTIME_ERROR", "%s",
			exit->error);
	} else {
		jw_obj(&w, NULL);
		jw_c(&w, "session_id", p->id);
		jw_end(&w);
		reply_json(pty_over(p), 201, &out);
	}
}

/* What stands for it until somebody comes: tried where it will be started, and ended. */
static int make(struct pty *p, const char *how, struct str cwd, struct err *err)
{
	static const struct proc_ops ops = { .on_end = on_made };
	const struct str argv[] = { STR("sh"), STR("-c"), STR(":") };
	struct proc_spec spec = { .id = str_c(p->id), .label = STR(LABEL), .note = str_c(how),
		.argv = argv, .n_argv = ARRAY_SIZE(argv), .cwd = cwd };
	struct req *q = p->q;

	return proc_start(q->api->loop, &q->box->link, &spec, true, false, &ops, p, &p->x, err);
}

static void create(struct req *q)
{
	auto_json json_t *how = NULL;
	auto_free char *text = NULL;
	uint64_t rows, cols;
	struct str cwd;
	char id[33];
	struct pty *p;
	struct err err;

	if (execd_number(q, q->json, "rows", ROWS_MAX, &rows) < 0 ||
		execd_number(q, q->json, "cols", ROWS_MAX, &cols) < 0 ||
		execd_text(q, q->json, "cwd", &cwd) < 0 || (cwd.n && execd_path(q, cwd, &cwd) < 0))
		return;
	how = json_pack("{s:I, s:I, s:s%}", "rows", (json_int_t)rows, "cols", (json_int_t)cols, "cwd",
		cwd.n ? cwd.p : "", cwd.n);
	text = how ? json_dumps(how, JSON_COMPACT) : NULL;
	if (!text || strlen(text) > FRAME_NOTE_MAX) {
		execd_bad(q, "cwd: expected UTF-8 of at most %u bytes", FRAME_NOTE_MAX - 64);
		return;
	}
	execd_id(id);
	p = pty_new(q, str_c(id));
	if (p && make(p, text, cwd, &err) < 0)
		pty_fail(p, &err);
}

void execd_pty_create(struct req *q)
{
	execd_json(q, create);
}

/* --- asking --- */

static void on_info(const struct proc_info *i, const struct err *err, void *arg)
{
	struct pty *p = arg;

	if (i) {
		p->found = true;
		p->running = i->running;
		p->is_pty = i->pty;
		p->newest = i->newest;
		json_decref(p->how);
		p->how = i->note.n ? json_loadb(i->note.p, i->note.n, 0, NULL) : NULL;
		return;
	}
	p->ask = NULL;
	if (err)
		pty_fail(p, err);
	else if (!p->found)
		execd_fail(pty_over(p), 404, "CONTEXT_NOT_FOUND", "no such terminal");
	else
		p->then(p);
}

static void look(struct pty *p, void (*then)(struct pty *p))
{
	struct req *q = p->q;
	struct err err;

	p->then = then;
	if (procs_list(q->api->loop, &q->box->link, STR(LABEL), str_c(p->id), on_info, p, &p->ask,
		    &err) < 0)
		pty_fail(p, &err);
}

static void show(struct pty *p)
{
	auto_buf struct buf out = BUF_MAX(256);
	struct jw w = JW(&out);

	jw_obj(&w, NULL);
	jw_c(&w, "session_id", p->id);
	jw_bool(&w, "running", p->running);
	jw_u64(&w, "output_offset", p->newest);
	jw_end(&w);
	reply_json(pty_over(p), 200, &out);
}

void execd_pty_get(struct req *q)
{
	struct pty *p = pty_new(q, req_param(q, "id"));

	if (p)
		look(p, show);
}

static void on_changed(const struct proc_info *i, const struct err *err, void *arg)
{
	struct pty *p = arg;

	if (i)
		return;
	p->ask = NULL;
	if (err)
		pty_fail(p, err);
	else
		p->then(p);
}

static void change(struct pty *p, const struct proc_change *how, void (*then)(struct pty *p))
{
	struct req *q = p->q;
	struct err err;

	p->then = then;
	if (proc_change(q->api->loop, &q->box->link, how, on_changed, p, &p->ask, &err) < 0)
		pty_fail(p, &err);
}

static void deleted(struct pty *p)
{
	execd_empty(pty_over(p));
}

static void destroy(struct pty *p)
{
	change(p, &(struct proc_change){ .id = str_c(p->id), .signal = SIGHUP, .grace_ms = 1000,
		.forget = true }, deleted);
}

void execd_pty_delete(struct req *q)
{
	struct pty *p = pty_new(q, req_param(q, "id"));

	if (p)
		look(p, destroy);
}

/* --- at the terminal --- */

static int say(struct pty *p, const char *type, const char *name, int64_t value)
{
	bool hello = str_eq_c(STR("connected"), type);
	auto_buf struct buf out = BUF_MAX(512);
	struct jw w = JW(&out);

	jw_obj(&w, NULL);
	jw_c(&w, "type", type);
	jw_c(&w, "session_id", p->id);
	if (name)
		jw_i64(&w, name, value);
	if (hello)
		jw_c(&w, "mode", p->is_pty ? "pty" : "pipe");
	jw_end(&w);
	return websocket_send(p->ws, buf_str(&out));
}

static void on_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	auto_buf struct buf out = BUF_MAX(FRAME_MAX + 16);
	struct pty *p = arg;
	size_t before = offset < p->newest ? (size_t)MIN(p->newest - offset, (uint64_t)data.n) : 0;
	int r = 1;

	if (before) {
		buf_u8(&out, 3);
		buf_be64(&out, offset);
		buf_add(&out, data.p, before);
		r = websocket_send_binary(p->ws, buf_str(&out));
		buf_reset(&out);
	}
	data = str_skip(data, before);
	if (r >= 0 && data.n) {
		buf_u8(&out, stream == PROC_ERR ? 2 : 1);
		buf_add_str(&out, data);
		r = websocket_send_binary(p->ws, buf_str(&out));
	}
	if (r == 0)
		proc_pause(x, true);
}

static void on_proc_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct pty *p = arg;

	if (err) {
		pty_fail(p, err);
		return;
	}
	if (exit)
		say(p, "exit", "exit_code", exit->signal ? -1 : exit->code);
	pty_close(p, 1000, "");
}

static int signal_from(struct str name)
{
	static const struct {
		const char *name;
		int number;
	} known[] = { { "INT", SIGINT }, { "TERM", SIGTERM }, { "KILL", SIGKILL }, { "HUP", SIGHUP },
		{ "QUIT", SIGQUIT }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 } };

	if (str_starts(name, STR("SIG")))
		name = str_skip(name, 3);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_eq_c(name, known[i].name))
			return known[i].number;
	return 0;
}

static void on_control(struct pty *p, struct str text)
{
	auto_json json_t *m = json_loadb(text.p, text.n, 0, NULL);
	const char *type = json_string_value(json_object_get(m, "type"));
	struct str t = str_c(type ? type : "");
	json_int_t rows = json_integer_value(json_object_get(m, "rows"));
	json_int_t cols = json_integer_value(json_object_get(m, "cols"));
	int sig = signal_from(str_c(json_string_value(json_object_get(m, "signal"))));

	if (str_eq_c(t, "ping"))
		say(p, "pong", NULL, 0);
	else if (str_eq_c(t, "resize") && p->is_pty && rows > 0 && rows <= ROWS_MAX && cols > 0 && cols <= ROWS_MAX)
		proc_resize(p->x, (uint16_t)rows, (uint16_t)cols);
	else if (str_eq_c(t, "signal") && sig)
		proc_kill(p->x, sig);
	else
		say(p, "error", NULL, 0);
}

static void on_message(struct websocket *ws, struct str data, void *arg)
{
	struct pty *p = arg;

	if (!data.n || data.p[0] != 0)
		on_control(p, data);
	else if (data.n > 1)
		proc_write(p->x, str_skip(data, 1), false); /* past its bound: on_proc_end() */
}

static void on_ws_drain(struct websocket *ws, void *arg)
{
	proc_pause(((struct pty *)arg)->x, false);
}

static void on_ws_gone(struct websocket *ws, void *arg)
{
	pty_free(arg);
}

/* Upgrade. */
static void attach(struct pty *p)
{
	static const struct proc_ops ops = { .on_output = on_output, .on_end = on_proc_end };
	static const struct websocket_ops ws_ops = { .on_message = on_message,
		.on_drain = on_ws_drain, .on_gone = on_ws_gone };
	struct proc_attach how = { .id = str_c(p->id), .from = p->since, .follow = true, .pace = true };
	struct api *api = p->q->api;
	struct req *q = p->q;
	struct err err;

	q->on_gone = NULL;
	p->q = NULL;
	if (websocket_accept(q, &ws_ops, p, &p->ws) < 0) {
		pty_free(p);
		return;
	}
	say(p, "connected", "output_offset", (int64_t)p->newest);
	if (proc_attach(api->loop, &p->use.box->link, &how, &ops, p, &p->x, &err) < 0)
		pty_fail(p, &err);
}

static void start(struct pty *p);

static void on_started(struct proc *x, uint32_t pid, void *arg)
{
	struct pty *p = arg;

	proc_free(take_ptr(p->x));
	attach(p);
}

static void on_start_end(struct proc *x, const struct agent_exit *exit, const struct err *err,
	void *arg)
{
	struct pty *p = arg;

	if (err) {
		pty_fail(p, err);
	} else if (exit && exit->code == 127 && !p->sh) { /* no bash: sh, once */
		p->sh = true;
		proc_free(take_ptr(p->x));
		start(p);
	} else if (exit) {
		execd_fail(pty_over(p), 500, "RUNTIME_ERROR", "%s", exit->error);
	}
}

static uint16_t told(const json_t *how, const char *name)
{
	json_int_t n = json_integer_value(json_object_get(how, name));

	return n > 0 && n <= ROWS_MAX ? (uint16_t)n : 0;
}

static void start(struct pty *p)
{
	static const struct proc_ops ops = { .on_started = on_started, .on_end = on_start_end };
	static const struct agent_env env[] = { { STR("TERM"), STR("xterm-256color") } };
	const struct str argv[] = { p->sh ? STR("sh") : STR("bash"), STR("-i") };
	const char *cwd = json_string_value(json_object_get(p->how, "cwd"));
	struct proc_spec spec = { .id = str_c(p->id), .label = STR(LABEL), .argv = argv,
		.n_argv = p->is_pty ? 2 : 1, .env = env, .n_env = p->is_pty, .cwd = str_c(cwd ? cwd : ""),
		.pty = p->is_pty, .stdin_open = true, .rows = told(p->how, "rows"),
		.cols = told(p->how, "cols") };
	struct req *q = p->q;
	struct err err;

	if (proc_start(q->api->loop, &q->box->link, &spec, false, false, &ops, p, &p->x, &err) < 0)
		pty_fail(p, &err);
}

/* Nobody was at it yet: what stands for it makes room. */
static void begin(struct pty *p)
{
	p->is_pty = p->mode != MODE_PIPES;
	change(p, &(struct proc_change){ .id = str_c(p->id), .forget = true }, start);
}

/* Who is at it already? */
static void enter(struct pty *p)
{
	bool fresh = p->how && !p->running, other_mode = p->mode != (p->is_pty ? MODE_PTY : MODE_PIPES);
	struct pty *other, *next;

	if (!fresh && p->mode != MODE_ANY && other_mode) {
		execd_fail(pty_over(p), 409, "RUNTIME_ERROR", "it was started with pty=%d", p->is_pty);
		return;
	}
	for (other = LIST_FIRST(&attached); other; other = next) {
		next = LIST_NEXT(other, next);
		if (other->use.box != p->use.box || strcmp(other->id, p->id) != 0)
			continue;
		if (!p->takeover || other->q) {
			execd_fail(pty_over(p), 409, "RUNTIME_ERROR", "somebody is at the terminal");
			return;
		}
		pty_close(other, 4001, "taken over");
	}
	LIST_INSERT_HEAD(&attached, p, next);
	p->listed = true;
	if (fresh)
		begin(p);
	else
		attach(p);
}

void execd_pty_ws(struct req *q)
{
	uint64_t since = 0;
	struct str text, mode;
	bool takeover = false;
	struct pty *p;
	struct err err;

	if (websocket_asked(q, &err) < 0 || req_query(q, "since", &text, &err) < 0 ||
		req_query(q, "pty", &mode, &err) < 0 ||
		req_query_bool(q, "takeover", &takeover, &err) < 0) {
		q->code = "INVALID_REQUEST_BODY";
		reply_err(q, &err);
		return;
	}
	if ((text.n && str_u64(text, INT64_MAX, &since) < 0) ||
		(mode.n && !str_eq_c(mode, "0") && !str_eq_c(mode, "1"))) {
		execd_bad(q, "since: expected an offset; pty: expected 0 or 1");
		return;
	}
	p = pty_new(q, req_param(q, "id"));
	if (!p)
		return;
	p->since = since;
	p->takeover = takeover;
	p->mode = !mode.n ? MODE_ANY : str_eq_c(mode, "0") ? MODE_PIPES : MODE_PTY;
	look(p, enter);
}

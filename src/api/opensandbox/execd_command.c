/*
 * /command and /session.
 *
 * A command is a process of the label EXECD_LABEL, under the id that its stream begins with; its note
 * keeps what was asked for, so that status can be told without any memory of ours.
 *
 * A session is a file in the sandbox, /run/execd/<id>, which a shell reads: the exported variables and
 * the directory that the last run left. Each run is a shell of its own that reads it, runs the command
 * and writes it anew at its end; so an exit, a time limit or a signal ends the run and not the session.
 * Runs of one session queue up in the agent. A session is gone with its file.
 */
#include "api/opensandbox/execd.h"
#include "api/tree.h"
#include "base/clock.h"

#define SESSIONS "/run/execd/"

/* What a request talks to the agent about, one question after the other. */
struct ask {
	struct use use;
	struct req *q;
	struct proc_ask *list;
	struct proc *logs;
	struct tree *tree;
	struct agent_put *put;
	struct str id, path; /* in the request's memory */
	uint64_t cursor, until;
	struct execd_run_spec run;
	bool found, background, streaming;
};

static void ask_free(struct ask *a)
{
	proc_ask_free(a->list);
	proc_free(a->logs);
	tree_free(a->tree);
	agent_put_free(a->put);
	box_unuse(&a->use);
	free(a);
}

static void ask_gone(struct req *q)
{
	ask_free(q->state);
}

/* The request goes on without. */
static struct req *ask_over(struct ask *a)
{
	struct req *q = a->q;

	q->on_gone = NULL;
	ask_free(a);
	return q;
}

static void ask_fail(struct ask *a, const struct err *err, const char *gone)
{
	bool streaming = a->streaming;
	struct req *q = ask_over(a);

	if (streaming)
		req_abort(q);
	else
		execd_err(q, err, gone);
}

static void ask_bounce(struct use *u, const struct err *err)
{
	ask_fail(container_of(u, struct ask, use), err, NULL);
}

static struct ask *ask_new(struct req *q)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (!a) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return NULL;
	}
	a->q = q;
	q->state = a;
	q->on_gone = ask_gone;
	box_use(q->box, &a->use, ask_bounce);
	return a;
}

/* --- what a command was asked to be --- */

/* As JSON in a note: a long command is cut there. */
static int note_make(struct req *q, struct str cmd, bool background, struct str *ret)
{
	auto_buf struct buf out = BUF_MAX(FRAME_NOTE_MAX);

	for (;; cmd.n /= 2) {
		struct jw w = JW(&out);

		jw_obj(&w, NULL);
		jw_str(&w, "content", cmd);
		jw_bool(&w, "background", background);
		jw_end(&w);
		if (!buf_failed(&out))
			break;
		buf_reset(&out);
		if (!cmd.n)
			return -ENOMEM;
	}
	*ret = http_alloc_str(q->h, buf_str(&out));
	return ret->p ? 0 : -ENOMEM;
}

static int ids(struct req *q, const json_t *obj, struct execd_run_spec *s)
{
	const json_t *gid = json_object_get(obj, "gid"), *uid = json_object_get(obj, "uid");
	uint64_t u, g;

	if (execd_number(q, obj, "uid", INT32_MAX, &u) < 0 ||
		execd_number(q, obj, "gid", INT32_MAX, &g) < 0)
		return -EINVAL;
	s->uid = (uint32_t)u;
	s->gid = (uint32_t)g;
	s->has_gid = gid && !json_is_null(gid);
	if (!s->has_gid || (uid && !json_is_null(uid)))
		return 0;
	execd_bad(q, "gid: needs a uid");
	return -EINVAL;
}

static int envs(struct req *q, const json_t *obj, struct execd_run_spec *s)
{
	json_t *v;
	const char *key;

	s->envs = json_object_get(obj, "envs");
	if (json_is_null(s->envs))
		s->envs = NULL;
	if (s->envs && !json_is_object(s->envs)) {
		execd_bad(q, "envs: expected an object of strings");
		return -EINVAL;
	}
	json_object_foreach (s->envs, key, v)
		if (!json_is_string(v) || !*key || strchr(key, '=') ||
			memchr(json_string_value(v), 0, json_string_length(v))) {
			execd_bad(q, "envs: %.64s: expected a name and a string without NUL", key);
			return -EINVAL;
		}
	return 0;
}

static bool blank(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!strchr(" \t\r\n", s.p[i]))
			return false;
	return true;
}

/* What /command and a run in a session share. */
static int run_decode(struct req *q, struct execd_run_spec *s)
{
	const json_t *obj = q->json;
	uint64_t timeout;

	if (!json_is_object(obj)) {
		execd_bad(q, "expected an object");
		return -EINVAL;
	}
	if (execd_text(q, obj, "command", &s->cmd) < 0 || execd_text(q, obj, "cwd", &s->cwd) < 0 ||
		execd_number(q, obj, "timeout", UINT32_MAX, &timeout) < 0)
		return -EINVAL;
	if (blank(s->cmd)) {
		execd_bad(q, "command: must not be blank");
		return -EINVAL;
	}
	if (s->cwd.n && execd_path(q, s->cwd, &s->cwd) < 0)
		return -EINVAL;
	s->timeout_ms = (uint32_t)timeout;
	return 0;
}

static char *new_id(struct req *q)
{
	char *id = http_alloc(q->h, 33);

	if (id)
		execd_id(id);
	else
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
	return id;
}

static void command(struct req *q)
{
	struct execd_run_spec s = { .label = STR(EXECD_LABEL) };
	const json_t *background = json_object_get(q->json, "background");

	if (run_decode(q, &s) < 0 || ids(q, q->json, &s) < 0 || envs(q, q->json, &s) < 0)
		return;
	if (background && !json_is_null(background) && !json_is_boolean(background)) {
		execd_bad(q, "background: expected true or false");
		return;
	}
	s.background = json_is_true(background);
	s.id = new_id(q);
	if (!s.id)
		return;
	s.init = str_c(s.id);
	if (note_make(q, s.cmd, s.background, &s.note) < 0)
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
	else
		execd_run(q, &s);
}

void execd_command(struct req *q)
{
	execd_json(q, command);
}

/* --- asking about one --- */

static void ask_about(struct req *q, struct str id, proc_info_fn fn)
{
	struct ask *a = ask_new(q);
	struct err err;

	if (!a)
		return;
	a->id = id;
	/* An id no process can have is one that no process has. */
	if (!id.n || id.n > FRAME_ID_MAX || str_find(id, '\0') >= 0)
		fn(NULL, NULL, a);
	else if (procs_list(q->api->loop, &q->box->link, STR(EXECD_LABEL), id, fn, a, &a->list,
			 &err) < 0)
		ask_fail(a, &err, NULL);
}

static void time_text(struct jw *w, const char *name, uint64_t ms)
{
	if (ms)
		jw_c(w, name, rfc3339_from(ms * NS_PER_MS).s);
	else
		jw_raw(w, name, STR("null"));
}

static void write_status(struct buf *out, const struct proc_info *p, struct str content)
{
	bool running = p->running || p->waiting;
	struct jw w = JW(out);

	jw_obj(&w, NULL);
	jw_str(&w, "id", p->id);
	jw_str(&w, "content", content);
	jw_bool(&w, "running", running);
	if (running)
		jw_raw(&w, "exit_code", STR("null"));
	else
		jw_i64(&w, "exit_code", p->signal ? -1 : p->code);
	if (p->error.n)
		jw_str(&w, "error", p->error);
	else if (p->signal)
		jw_c(&w, "error", strsignal(p->signal));
	time_text(&w, "started_at", p->started_ms);
	time_text(&w, "finished_at", running ? 0 : p->ended_ms);
	jw_end(&w);
}

static void on_status(const struct proc_info *p, const struct err *err, void *arg)
{
	auto_buf struct buf out = BUF_MAX(65536);
	auto_json json_t *note = NULL;
	struct ask *a = arg;
	struct str content;
	struct req *q;

	if (!p) {
		a->list = NULL;
		if (err)
			ask_fail(a, err, NULL);
		else
			execd_fail(ask_over(a), 404, "CONTEXT_NOT_FOUND", "no such command");
		return;
	}
	note = json_loadb(p->note.p, p->note.n, 0, NULL);
	content = str_c(json_string_value(json_object_get(note, "content")));
	write_status(&out, p, content);
	q = ask_over(a);
	reply_json(q, 200, &out);
}

void execd_status(struct req *q)
{
	ask_about(q, req_param(q, "id"), on_status);
}

/* --- interrupting --- */

static void on_interrupted(const struct proc_info *p, const struct err *err, void *arg)
{
	struct ask *a = arg;

	if (p)
		return;
	a->list = NULL;
	if (err)
		ask_fail(a, err, NULL);
	else
		execd_empty(ask_over(a));
}

static void on_found_to_interrupt(const struct proc_info *p, const struct err *err, void *arg)
{
	struct ask *a = arg;
	struct proc_change how = { .id = a->id, .signal = SIGTERM, .grace_ms = 3000 };
	struct req *q = a->q;
	struct err e;

	if (p) {
		a->found = true;
		return;
	}
	a->list = NULL;
	if (err)
		ask_fail(a, err, NULL);
	else if (!a->found)
		execd_fail(ask_over(a), 500, "RUNTIME_ERROR", "no such command");
	else if (proc_change(q->api->loop, &q->box->link, &how, on_interrupted, a, &a->list, &e) < 0)
		ask_fail(a, &e, NULL);
}

void execd_interrupt(struct req *q)
{
	struct str id;
	struct err err;

	if (req_query(q, "id", &id, &err) < 0 || !id.n)
		execd_fail(q, 400, "MISSING_QUERY", "missing query parameter: id");
	else
		ask_about(q, id, on_found_to_interrupt);
}

/* --- logs of one in the background --- */

static void on_log_drain(struct http *h, void *arg)
{
	proc_pause(((struct ask *)arg)->logs, false);
}

static void on_log(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data, void *arg)
{
	struct ask *a = arg;

	if (offset >= a->until) /* the cursor that was told ends here */
		return;
	data.n = (size_t)MIN((uint64_t)data.n, a->until - offset);
	if (http_write(a->q->h, data) == 0)
		proc_pause(x, true);
}

static void on_log_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct ask *a = arg;

	if (err)
		ask_fail(a, err, "CONTEXT_NOT_FOUND");
	else
		req_end(ask_over(a));
}

static void logs_begin(struct ask *a)
{
	static const struct proc_ops ops = { .on_output = on_log, .on_end = on_log_end };
	struct proc_attach how = { .id = a->id, .from = a->cursor };
	struct req *q = a->q;
	char cursor[24];
	struct err err;

	if (proc_attach(q->api->loop, &q->box->link, &how, &ops, a, &a->logs, &err) < 0) {
		ask_fail(a, &err, NULL);
		return;
	}
	snprintf(cursor, sizeof(cursor), "%" PRIu64, a->until);
	http_add_header(q->h, "EXECD-COMMANDS-TAIL-CURSOR", str_c(cursor));
	http_on_drain(q->h, on_log_drain, a);
	a->streaming = true;
	http_start(q->h, 200, "text/plain; charset=utf-8", -1);
}

static void on_found_to_read(const struct proc_info *p, const struct err *err, void *arg)
{
	auto_json json_t *note = NULL;
	struct ask *a = arg;

	if (p) {
		note = json_loadb(p->note.p, p->note.n, 0, NULL);
		a->found = true;
		a->background = json_is_true(json_object_get(note, "background"));
		a->until = MAX(p->newest, a->cursor);
		return;
	}
	a->list = NULL;
	if (err)
		ask_fail(a, err, NULL);
	else if (!a->found)
		execd_fail(ask_over(a), 404, "CONTEXT_NOT_FOUND", "no such command");
	else if (!a->background)
		execd_fail(ask_over(a), 400, "NOT_SUPPORTED",
			"only commands in the background have logs");
	else
		logs_begin(a);
}

void execd_logs(struct req *q)
{
	uint64_t cursor = 0;
	struct str text;
	struct err err;

	if (req_query(q, "cursor", &text, &err) < 0 ||
		(text.n && str_u64(text, INT64_MAX, &cursor) < 0)) {
		execd_fail(q, 400, "MISSING_QUERY", "cursor: expected a number, 0 or more");
		return;
	}
	ask_about(q, req_param(q, "id"), on_found_to_read);
	if (q->on_gone == ask_gone)
		((struct ask *)q->state)->cursor = cursor;
}

/* --- sessions --- */

/* $1: the session's file, $2: the command, $3: a directory or nothing. */
static const char session_script[] =
	"__weir_s=$1 __weir_c=$2 __weir_d=$3\n"
	"set --\n"
	". \"$__weir_s\"\n"
	"cd -- \"$__WEIR_CWD\" 2>/dev/null\n"
	"unset __WEIR_CWD\n"
	"__weir_end() {\n"
	"	__weir_r=$?\n"
	"	trap - EXIT\n"
	"	if [ -e \"$__weir_s\" ]; then\n" /* else the session was deleted meanwhile */
	"		export __WEIR_CWD=\"$PWD\"\n"
	"		(umask 077; export -p >\"$__weir_s.new\") && mv -f \"$__weir_s.new\" \"$__weir_s\"\n"
	"	fi\n"
	"	exit $__weir_r\n"
	"}\n"
	"trap __weir_end EXIT\n"
	"[ -z \"$__weir_d\" ] || cd -- \"$__weir_d\" || exit\n"
	"eval \"$__weir_c\"\n";

static int session_path(struct req *q, struct str id, struct str *ret)
{
	char text[64];
	bool hex = id.n == 32;

	for (size_t i = 0; hex && i < id.n; i++)
		hex = (id.p[i] >= '0' && id.p[i] <= '9') || (id.p[i] >= 'a' && id.p[i] <= 'f');
	if (!hex) {
		execd_fail(q, 404, "CONTEXT_NOT_FOUND", "no such session");
		return -ENOENT;
	}
	snprintf(text, sizeof(text), SESSIONS STR_FMT, STR_ARG(id));
	*ret = http_alloc_str(q->h, str_c(text));
	if (ret->p)
		return 0;
	execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
	return -ENOMEM;
}

static void on_session_made(struct agent_put *p, uint64_t bytes, const struct err *err, void *arg)
{
	auto_buf struct buf out = BUF_MAX(256);
	struct ask *a = arg;
	struct jw w = JW(&out);

	if (err) {
		ask_fail(a, err, NULL);
		return;
	}
	jw_obj(&w, NULL);
	jw_str(&w, "session_id", a->id);
	jw_end(&w);
	reply_json(ask_over(a), 200, &out);
}

static void session_make(struct ask *a)
{
	static const struct agent_put_ops ops = { .on_end = on_session_made };
	const struct agent_put_mark mark = { .mode = 0600 };
	auto_buf struct buf text = BUF_MAX(8 * FRAME_PATH_MAX);
	struct str dir = a->run.cwd;
	struct req *q = a->q;
	struct err err;
	int r;

	buf_add_c(&text, "export __WEIR_CWD='");
	for (size_t i = 0; i < dir.n; i++)
		if (dir.p[i] == '\'')
			buf_add_c(&text, "'\\''");
		else
			buf_add(&text, dir.p + i, 1);
	buf_add_c(&text, "'\n");
	r = agent_put_as(q->api->loop, &q->box->link, a->path, &mark, &ops, a, &a->put, &err);
	if (r < 0) {
		ask_fail(a, &err, NULL);
		return;
	}
	if (agent_put_write(a->put, buf_str(&text)) >= 0)
		agent_put_finish(a->put);
}

static void on_session_dir(struct tree *x, const struct tree_entry *e, void *arg)
{
	((struct ask *)arg)->found = e->kind == FRAME_DIR || e->kind == FRAME_LINK;
}

static void on_session_dir_end(struct tree *x, uint64_t n, const struct err *err, void *arg)
{
	struct ask *a = arg;

	tree_free(take_ptr(a->tree));
	if ((err && err->kind == ERR_NOT_FOUND) || (!err && !a->found))
		execd_bad(ask_over(a), "cwd: no such directory");
	else if (err)
		ask_fail(a, err, NULL);
	else
		session_make(a);
}

static void session(struct req *q)
{
	static const struct tree_ops ops = { on_session_dir, on_session_dir_end };
	struct tree_spec look = { .op = FRAME_TREE_STAT };
	struct str cwd, path;
	struct ask *a;
	struct err err;
	char *id;

	if (!json_is_object(q->json)) {
		execd_bad(q, "expected an object");
		return;
	}
	if (execd_text(q, q->json, "cwd", &cwd) < 0 ||
		execd_path(q, cwd.n ? cwd : STR("/root"), &cwd) < 0)
		return;
	id = new_id(q);
	if (!id || session_path(q, str_c(id), &path) < 0)
		return;
	a = ask_new(q);
	if (!a)
		return;
	a->id = str_c(id);
	a->path = path;
	a->run.cwd = look.path = cwd;
	if (tree_start(q->api->loop, &q->box->link, &look, &ops, a, &a->tree, &err) < 0)
		ask_fail(a, &err, NULL);
}

void execd_session(struct req *q)
{
	execd_json(q, session);
}

static void on_session_there(struct tree *x, const struct tree_entry *e, void *arg)
{
}

static void on_session_found(struct tree *x, uint64_t n, const struct err *err, void *arg)
{
	struct ask *a = arg;
	struct execd_run_spec run = a->run;

	if (err && err->kind == ERR_NOT_FOUND)
		execd_fail(ask_over(a), 404, "CONTEXT_NOT_FOUND", "no such session");
	else if (err)
		ask_fail(a, err, NULL);
	else
		execd_run(ask_over(a), &run);
}

static void session_run(struct req *q)
{
	static const struct tree_ops ops = { on_session_there, on_session_found };
	struct execd_run_spec s = { .queue = true };
	struct tree_spec look = { .op = FRAME_TREE_STAT };
	struct str *args = http_alloc(q->h, 4 * sizeof(*args));
	struct str id = req_param(q, "id");
	char label[FRAME_ID_MAX + 1];
	struct ask *a;
	struct err err;

	if (session_path(q, id, &look.path) < 0 || run_decode(q, &s) < 0)
		return;
	snprintf(label, sizeof(label), "session-" STR_FMT, STR_ARG(id));
	s.label = http_alloc_str(q->h, str_c(label));
	s.id = new_id(q);
	if (!s.id)
		return;
	if (!args || !s.label.p) {
		execd_fail(q, 500, "RUNTIME_ERROR", "out of memory");
		return;
	}
	args[0] = STR("bash");
	args[1] = look.path;
	args[2] = s.cmd;
	args[3] = s.cwd.n ? s.cwd : STR("");
	s.cmd = str_c(session_script);
	s.cwd = STR_NONE;
	s.args = args;
	s.n_args = 4;
	s.init = id;
	a = ask_new(q);
	if (!a)
		return;
	a->run = s;
	if (tree_start(q->api->loop, &q->box->link, &look, &ops, a, &a->tree, &err) < 0)
		ask_fail(a, &err, NULL);
}

void execd_session_run(struct req *q)
{
	execd_json(q, session_run);
}

static void on_session_gone(struct tree *x, uint64_t n, const struct err *err, void *arg)
{
	struct ask *a = arg;

	if (err)
		ask_fail(a, err, NULL);
	else if (!n)
		execd_fail(ask_over(a), 404, "CONTEXT_NOT_FOUND", "no such session");
	else
		execd_empty(ask_over(a));
}

void execd_session_delete(struct req *q)
{
	static const struct tree_ops ops = { NULL, on_session_gone };
	struct tree_spec away = { .op = FRAME_TREE_REMOVE, .flags = FRAME_TREE_FILES };
	struct ask *a;
	struct err err;

	if (session_path(q, req_param(q, "id"), &away.path) < 0)
		return;
	a = ask_new(q);
	if (a && tree_start(q->api->loop, &q->box->link, &away, &ops, a, &a->tree, &err) < 0)
		ask_fail(a, &err, NULL);
}

/* A context: see the header. */
#include "api/ident.h"
#include "api/sandbox0/context.h"
#include "api/sandbox0/path.h"
#include "base/clock.h"
#include "base/fd.h"
#include "wire/frame.h"

#define ARGS_MAX     4096u
#define SECONDS_MAX  INT64_C(4294967) /* in ms it is to fit 32 bits */
#define NOTE_MAX     (FRAME_NOTE_MAX - 64u)
#define ALL_MAX	     (2u * CONTEXT_KEEP) /* of a buffer: then the older half goes */

/* --- the request --- */

#define F(n, k, f) .name = n, .kind = k, .offset = offsetof(struct context_ask, f), .seen_offset = -1
static const struct json_field fields[] = {
	{ F("type", JK_STR, type), .max = 16 },
	{ F("cmd", JK_RAW, cmd) },
	{ F("repl", JK_RAW, repl_json) },
	{ F("wait_until_done", JK_BOOL, wait) },
	{ F("cwd", JK_STR, cwd), .max = 4000 },
	{ F("env_vars", JK_STR_MAP, env_vars) },
	{ F("pty_size", JK_RAW, pty_size) },
	{ F("idle_timeout_sec", JK_I64, idle_s), .max = SECONDS_MAX },
	{ F("ttl_sec", JK_I64, ttl_s), .max = SECONDS_MAX },
};

static int decode_cmd(struct context_ask *a, struct err *err)
{
	static const struct json_field cmd[] = {
		{ F("command", JK_STR_LIST, command), .required = true, .min = 1, .max = ARGS_MAX },
	};

	if (!json_is_object(a->cmd))
		return err_field(err, -EINVAL, ERR_INVALID, "cmd", "expected an object with command");
	if (json_decode(a->cmd, cmd, ARRAY_SIZE(cmd), a, err) < 0)
		return -EINVAL;
	if (!json_string_length(json_array_get(a->command, 0)))
		return err_field(err, -EINVAL, ERR_INVALID, "cmd.command", "the program is empty");
	return 0;
}

static int decode_repl(struct context_ask *a, struct err *err)
{
	static const struct json_field more[] = {
		{ F("input", JK_STR, input), .max = FRAME_REQUEST_MAX / 2 },
	};
	int r = repl_decode(a->repl_json, &a->repl, err);

	if (r == 0)
		r = json_decode(a->repl_json, more, ARRAY_SIZE(more), a, err);
	a->is_repl = a->pty = r == 0;
	return r;
}

static int decode_size(struct context_ask *a, struct err *err)
{
	static const struct json_field size[] = {
		{ F("rows", JK_U32, rows), .required = true, .min = 1, .max = UINT16_MAX },
		{ F("cols", JK_U32, cols), .required = true, .min = 1, .max = UINT16_MAX },
	};

	if (!a->pty_size || json_is_null(a->pty_size))
		return 0;
	if (!json_is_object(a->pty_size))
		return err_field(err, -EINVAL, ERR_INVALID, "pty_size",
			"expected an object with rows and cols");
	a->pty = true;
	return json_decode(a->pty_size, size, ARRAY_SIZE(size), a, err);
}

static bool given(const json_t *v)
{
	return v && !json_is_null(v);
}

int context_decode(const json_t *body, struct context_ask *ret, struct err *err)
{
	int r = json_decode(body, fields, ARRAY_SIZE(fields), ret, err);
	bool repl = given(ret->repl_json);

	if (r < 0)
		return r;
	if (ret->type.n && !str_eq_c(ret->type, "cmd") && !str_eq_c(ret->type, "repl"))
		return err_field(err, -EINVAL, ERR_INVALID, "type", "expected cmd or repl");
	if (repl == given(ret->cmd))
		return err_set(err, -EINVAL, ERR_INVALID, "expected either cmd or repl");
	if (ret->type.n && repl != str_eq_c(ret->type, "repl"))
		return err_field(err, -EINVAL, ERR_INVALID, "type", "does not fit cmd or repl");
	r = ret->env_vars ? envs_check(ret->env_vars, "env_vars", err) : 0;
	if (r == 0)
		r = repl ? decode_repl(ret, err) : decode_cmd(ret, err);
	return r == 0 ? decode_size(ret, err) : r;
}

/* --- starting --- */

void context_id_new(char ret[static CONTEXT_ID_LEN])
{
	uint32_t n;

	random_bytes(&n, sizeof(n));
	snprintf(ret, CONTEXT_ID_LEN, "ctx-%08x", n);
}

static int fill_argv(const struct context_ask *ask, unsigned int nth, struct context_start *s)
{
	size_t n = json_array_size(ask->command);

	s->argv = calloc(n + 1 + REPL_ARGS_MAX, sizeof(*s->argv));
	if (!s->argv)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(ask->command, i);

		s->argv[i] = str_n(json_string_value(v), json_string_length(v));
	}
	if (ask->is_repl)
		n = repl_argv(&ask->repl, nth, s->argv);
	s->spec.argv = s->argv;
	s->spec.n_argv = n;
	return n ? 0 : -ENOENT;
}

static struct str string_of(const json_t *v)
{
	return str_n(json_string_value(v), json_string_length(v));
}

/* Later ones count: the interpreter's, its description's, the request's. */
static void fill_env(const struct context_ask *ask, struct context_start *s)
{
	const json_t *more = json_object_get(ask->repl.config, "env");
	const char *key;
	json_t *v;
	size_t i, n = 0;

	if (ask->is_repl) { /* shells take their prompts from here; no terminal's tricks */
		s->env[n++] = (struct agent_env){ STR("PS1"), STR(REPL_PROMPT) };
		s->env[n++] = (struct agent_env){ STR("PS2"), STR(REPL_PROMPT2) };
		s->env[n++] = (struct agent_env){ STR("TERM"),
			ask->repl.term.n ? ask->repl.term : STR("dumb") };
		s->env[n++] = (struct agent_env){ STR("PYTHON_BASIC_REPL"), STR("1") };
	}
	json_array_foreach (more, i, v)
		s->env[n++] = (struct agent_env){ string_of(json_object_get(v, "name")),
			string_of(json_object_get(v, "value")) };
	json_object_foreach (ask->env_vars, key, v)
		if (n < CONTEXT_ENV_MAX)
			s->env[n++] = (struct agent_env){ str_c(key), string_of(v) };
	s->spec.env = s->env;
	s->spec.n_env = n;
}

/* What is told of it later. A command or an environment too long for a note is left out. */
static char *note_of(const struct context_ask *ask)
{
	auto_json json_t *note = json_object();
	char *text;

	json_object_set_new(note, "type", json_string(ask->is_repl ? "repl" : "cmd"));
	if (ask->is_repl) {
		json_object_set_new(note, "alias", json_stringn(ask->repl.alias.p, ask->repl.alias.n));
		json_object_set_new(note, "prompt", json_stringn(ask->repl.prompt.p, ask->repl.prompt.n));
	}
	if (ask->repl.config)
		json_object_set(note, "repl_config", (json_t *)ask->repl.config);
	if (ask->cwd.n)
		json_object_set_new(note, "cwd", json_stringn(ask->cwd.p, ask->cwd.n));
	if (ask->command)
		json_object_set(note, "command", ask->command);
	if (ask->env_vars)
		json_object_set(note, "env_vars", ask->env_vars);
	if (ask->pty_size)
		json_object_set(note, "pty_size", ask->pty_size);
	if (ask->idle_s)
		json_object_set_new(note, "idle_timeout_sec", json_integer(ask->idle_s));
	if (ask->ttl_s)
		json_object_set_new(note, "ttl_sec", json_integer(ask->ttl_s));
	text = json_dumps(note, JSON_COMPACT);
	for (const char *const *p = (const char *const[]){ "env_vars", "command", "cwd",
		     "repl_config", NULL };
		text && *p && strlen(text) > NOTE_MAX; p++) {
		free(text);
		json_object_del(note, *p);
		json_object_set_new(note, "shortened", json_true());
		text = json_dumps(note, JSON_COMPACT);
	}
	return text;
}

int context_start_from(const struct context_ask *ask, unsigned int nth, const char *id,
	struct context_start *ret, struct err *err)
{
	struct proc_spec *spec = &ret->spec;
	int r = ask->cwd.n ? path_from(ask->cwd, ret->cwd, sizeof(ret->cwd), "cwd", err) : 0;

	if (r < 0)
		return r;
	r = fill_argv(ask, nth, ret);
	if (r == -ENOENT)
		return r;
	if (r < 0 || !(ret->note = note_of(ask)))
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	fill_env(ask, ret);
	spec->id = str_c(id);
	spec->label = CONTEXT_LABEL;
	spec->note = str_c(ret->note);
	spec->cwd = str_c(ret->cwd);
	spec->pty = ask->pty;
	spec->rows = (uint16_t)ask->rows;
	spec->cols = (uint16_t)ask->cols;
	spec->stdin_open = ask->pty;
	spec->timeout_ms = (uint32_t)ask->ttl_s * 1000;
	spec->idle_ms = (uint32_t)ask->idle_s * 1000;
	spec->keep = 2 * CONTEXT_KEEP;
	return 0;
}

void context_start_done(struct context_start *s)
{
	free(s->argv);
	free(s->note);
}

/* --- how it stands --- */

void context_done(struct context *c)
{
	json_decref(c->note);
	c->note = NULL;
}

/* The note is ours, but it comes back as a tenant's word. */
int context_from(const struct proc_info *info, struct context *ret)
{
	struct err err;

	*ret = (struct context){ .running = info->running, .waiting = info->waiting,
		.pty = info->pty,
		.started_ms = info->started_ms, .code = info->code, .signal = info->signal };
	if (str_copy(ret->id, sizeof(ret->id), info->id) < 0 ||
		json_parse(info->note, &ret->note, &err) < 0 || !json_is_object(ret->note)) {
		context_done(ret);
		return -EBADMSG;
	}
	return 0;
}

const char *context_state(const struct context *c)
{
	if (c->waiting)
		return "starting";
	if (c->running)
		return "running";
	if (c->signal || c->code == 137)
		return "killed";
	return c->code ? "crashed" : "stopped";
}

/* A word it never said would answer nothing: the note is a tenant's. */
struct str context_prompt(const struct context *c)
{
	const json_t *word = json_object_get(c->note, "prompt");
	struct str s = json_is_string(word) ? string_of(word) : STR_NONE;

	return s.n && s.n <= REPL_PROMPT_MAX ? s : STR(REPL_PROMPT);
}

json_t *context_request(const struct context *c)
{
	static const char *const plain[] = { "type", "cwd", "env_vars", "pty_size", "idle_timeout_sec",
		"ttl_sec" };
	const json_t *alias = json_object_get(c->note, "alias");
	json_t *body = json_object_get(c->note, "shortened") ? NULL : json_object();

	if (!body)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		if (json_object_get(c->note, plain[i]))
			json_object_set(body, plain[i], json_object_get(c->note, plain[i]));
	if (alias)
		json_object_set_new(body, "repl", json_pack("{s:O,s:O*}", "alias", alias, "repl_config",
			json_object_get(c->note, "repl_config")));
	else
		json_object_set_new(body, "cmd",
			json_pack("{s:O*}", "command", json_object_get(c->note, "command")));
	return body;
}

static void put_note(struct jw *w, const struct context *c, const char *member)
{
	const json_t *v = json_object_get(c->note, member);
	auto_free char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (text)
		jw_raw(w, member, str_c(text));
}

void context_put(struct jw *w, const char *name, const struct context *c, const struct kept *out,
	bool raw)
{
	const json_t *type = json_object_get(c->note, "type");
	bool repl = json_is_string(type) && str_eq_c(str_c(json_string_value(type)), "repl");

	jw_obj(w, name);
	jw_c(w, "id", c->id);
	jw_c(w, "type", repl ? "repl" : "cmd");
	put_note(w, c, "alias");
	put_note(w, c, "command");
	put_note(w, c, "cwd");
	if (json_is_object(json_object_get(c->note, "env_vars")))
		put_note(w, c, "env_vars");
	else
		jw_raw(w, "env_vars", STR("{}"));
	jw_bool(w, "running", c->running || c->waiting);
	jw_bool(w, "paused", false);
	jw_c(w, "created_at", rfc3339_from(c->started_ms * NS_PER_MS).s);
	jw_c(w, "state", context_state(c));
	if (!c->running && !c->waiting)
		jw_i64(w, "exit_code", c->code);
	if (out)
		kept_put(w, out, repl ? context_prompt(c) : STR_NONE, raw, !c->pty);
	jw_end(w);
}

/* --- output --- */

void kept_begin(struct kept *k, struct box *b)
{
	*k = (struct kept){ .box = box_ref(b), .all = BUF_MAX(ALL_MAX),
		.stream = { BUF_MAX(ALL_MAX), BUF_MAX(ALL_MAX) } };
}

static void drop(struct kept *k, struct buf *b, size_t n)
{
	buf_consume(b, n);
	box_let_go(k->box, n);
}

void kept_forget(struct kept *k)
{
	drop(k, &k->all, k->all.n);
	for (int i = 0; i < 2; i++)
		drop(k, &k->stream[i], k->stream[i].n);
}

void kept_done(struct kept *k)
{
	if (!k->box)
		return;
	kept_forget(k);
	for (int i = 0; i < 2; i++)
		buf_done(&k->stream[i]);
	buf_done(&k->all);
	k->box = box_unref(k->box);
}

static void add(struct kept *k, struct buf *b, struct str data)
{
	data = str_skip(data, data.n > CONTEXT_KEEP ? data.n - CONTEXT_KEEP : 0);
	if (b->n + data.n > ALL_MAX)
		drop(k, b, b->n - (CONTEXT_KEEP - MIN(data.n, (size_t)CONTEXT_KEEP)));
	data.n = box_hold(k->box, data.n);
	if (buf_add_str(b, data) < 0)
		box_let_go(k->box, data.n);
}

void kept_add(struct kept *k, enum proc_stream stream, struct str data)
{
	add(k, &k->all, data);
	if (stream != PROC_SIDE)
		add(k, &k->stream[stream == PROC_ERR], data);
}

bool kept_prompted(const struct kept *k, struct str prompt)
{
	return str_ends(buf_str(&k->all), prompt);
}

static struct str newest(const struct buf *b)
{
	return str_skip(buf_str(b), b->n > CONTEXT_KEEP ? b->n - CONTEXT_KEEP : 0);
}

/* Without prompts: the private ones wherever they stand, another word only at the end, for it may be
 * anybody's. */
static void put_plain(struct jw *w, const char *name, struct str s, struct str prompt)
{
	static const struct str prompts[] = {
		{ REPL_PROMPT2, sizeof(REPL_PROMPT2) - 1 },
		{ REPL_PROMPT, sizeof(REPL_PROMPT) - 1 },
	};
	auto_buf struct buf out = BUF_MAX(ALL_MAX);
	size_t i = 0;

	if (!prompt.n) {
		jw_str(w, name, s);
		return;
	}
	if (str_ends(s, prompt))
		s.n -= prompt.n;
	while (i < s.n) {
		struct str rest = str_skip(s, i);
		size_t k = 0;

		while (k < ARRAY_SIZE(prompts) && !str_starts(rest, prompts[k]))
			k++;
		if (k < ARRAY_SIZE(prompts)) {
			i += prompts[k].n;
		} else {
			buf_add(&out, rest.p, 1);
			i++;
		}
	}
	jw_str(w, name, buf_str(&out));
}

void kept_put(struct jw *w, const struct kept *k, struct str prompt, bool raw, bool streams)
{
	if (raw)
		put_plain(w, "output_raw", newest(&k->all), prompt);
	if (streams && k->stream[0].n)
		put_plain(w, "stdout", newest(&k->stream[0]), prompt);
	if (streams && k->stream[1].n)
		put_plain(w, "stderr", newest(&k->stream[1]), prompt);
}

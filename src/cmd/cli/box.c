/* What several commands do with a sandbox: find it, make it, wait for it, run something in it. */
#include <fcntl.h>
#include <time.h>
#include "base/fd.h"
#include "base/ulid.h"
#include "cmd/cli/cli.h"

#define WAIT_S 120

struct box_path box_path(const char *id, const char *rest)
{
	struct box_path p;

	snprintf(p.s, sizeof(p.s), "/v1/sandboxes/%s%s", id, rest);
	return p;
}

/* --- names --- */

static bool is_over(const json_t *box)
{
	const char *status = jtext(box, "status");

	return strcmp(status, "destroyed") == 0 || strcmp(status, "failed") == 0;
}

struct search {
	const char *name;
	char id[CLI_ID_LEN];
	bool live;
};

/* Only live sandboxes share no names; of dead ones the newest, which comes first, is meant. */
static int match(json_t *box, void *arg)
{
	struct search *s = arg;

	if (strcmp(jtext(box, "name"), s->name) != 0 && strcmp(jtext(box, "id"), s->name) != 0)
		return 0;
	if (!s->id[0] || !is_over(box))
		snprintf(s->id, sizeof(s->id), "%s", jtext(box, "id"));
	s->live = !is_over(box);
	return s->live;
}

int box_find(struct cli *c, const char *word, char id[CLI_ID_LEN])
{
	struct search s = { .name = word };
	struct ulid ulid;
	int r;

	if ((strncmp(word, "sb-", 3) == 0 || strncmp(word, "sb_", 3) == 0) &&
		ulid_from(str_c(word + 3), &ulid) == 0) {
		snprintf(id, CLI_ID_LEN, "sb-%s", ulid.s);
		return CLI_OK;
	}
	r = api_each(c, "/v1/sandboxes", match, &s);
	if (r)
		return r;
	if (!s.id[0] || strchr(s.id, '/')) {
		cli_say("there is no sandbox \"%.60s\"", word);
		cli_hint("\"weir ls\" lists your sandboxes");
		return CLI_NOT_FOUND;
	}
	snprintf(id, CLI_ID_LEN, "%s", s.id);
	return CLI_OK;
}

/* --- making one --- */

static void put_list(struct jw *w, const char *name, const struct cli_list *list)
{
	jw_arr(w, name);
	for (unsigned int i = 0; i < list->n; i++)
		jw_c(w, NULL, list->v[i]);
	jw_arr_end(w);
}

/* NAME=VALUE, or NAME alone for the value it has here. */
static int put_env(struct jw *w, const char *name, const struct cli_list *list)
{
	jw_obj(w, name);
	for (unsigned int i = 0; i < list->n; i++) {
		struct str value = str_c(list->v[i]), key = str_cut(&value, '=');
		auto_free char *key_c = str_dup(key);
		const char *here = value.p || !key_c ? NULL : getenv(key_c);

		if (!key_c || !key.n || (!value.p && !here)) {
			cli_say("--env %.60s: %s", list->v[i],
				key.n ? "not set here; give NAME=VALUE" : "has no name");
			return CLI_USAGE;
		}
		jw_str(w, key_c, value.p ? value : str_c(here));
	}
	jw_end(w);
	return CLI_OK;
}

/* A file of public keys: one per line, comments allowed. A private key never leaves. */
static int put_keys(struct jw *w, const struct cli_list *files)
{
	jw_arr(w, "ssh_pubkeys");
	for (unsigned int i = 0; i < files->n; i++) {
		auto_buf struct buf text = BUF_MAX(65536);
		struct str rest;
		int r = file_read(AT_FDCWD, files->v[i], &text);

		if (r < 0) {
			cli_say("--ssh-key %s: %s", files->v[i], strerror(-r));
			return CLI_USAGE;
		}
		rest = buf_str(&text);
		while (rest.p) {
			struct str line = str_trim(str_cut(&rest, '\n'));

			while (line.n && line.p[line.n - 1] == '\r')
				line.n--;
			if (!line.n || line.p[0] == '#')
				continue;
			if (str_starts(line, STR("-----"))) {
				cli_say("--ssh-key %s: this is a private key", files->v[i]);
				cli_hint("give the file beside it that ends with .pub");
				return CLI_USAGE;
			}
			jw_str(w, NULL, line);
		}
	}
	jw_arr_end(w);
	return CLI_OK;
}

int box_create_body(struct cli *c, const char *name, struct buf *out)
{
	const struct cli_opts *o = &c->opt;
	struct jw w = JW(out);
	int r = CLI_OK;

	jw_obj(&w, NULL);
	jw_c(&w, "shape", o->shape ? o->shape : "s-1vcpu-256mb");
	if (name)
		jw_c(&w, "name", name);
	if (o->rootfs)
		jw_c(&w, "rootfs", o->rootfs);
	if (o->egress.n)
		put_list(&w, "egress", &o->egress);
	if (o->net.n) {
		jw_arr(&w, "networks");
		for (unsigned int i = 0; i < o->net.n; i++) {
			jw_obj(&w, NULL);
			jw_c(&w, "id", o->net.v[i]);
			jw_end(&w);
		}
		jw_arr_end(&w);
	}
	if (o->ingress)
		jw_bool(&w, "ingress_enabled", true);
	r = ingress_options(c, &w);
	if (o->disk)
		jw_u64(&w, "disk_mib", o->disk);
	if (o->auto_pause)
		jw_u64(&w, "auto_pause_after_seconds", o->auto_pause);
	if (!r && o->env.n)
		r = put_env(&w, "envs", &o->env);
	if (!r && o->ssh_key.n)
		r = put_keys(&w, &o->ssh_key);
	jw_end(&w);
	return r;
}

int box_fork_body(struct cli *c, struct buf *out)
{
	const struct cli_opts *o = &c->opt;
	struct jw w = JW(out);
	int r = CLI_OK;

	jw_obj(&w, NULL);
	if (o->paused)
		jw_bool(&w, "start_paused", true);
	if (o->files_only)
		jw_bool(&w, "memory", false);
	else if (!o->paused)
		jw_bool(&w, "live", true); /* also of a machine that runs */
	if (o->egress.n)
		put_list(&w, "egress", &o->egress);
	if (o->env.n)
		r = put_env(&w, "envs", &o->env);
	if (!r && o->ssh_key.n)
		r = put_keys(&w, &o->ssh_key);
	jw_end(&w);
	return r;
}

int box_create(struct cli *c, const char *name, json_t **ret)
{
	auto_buf struct buf body = BUF_MAX(4u << 20);
	int r = box_create_body(c, name, &body);

	return r ? r : api_json(c, "POST", "/v1/sandboxes", buf_str(&body), ret);
}

/* --- waiting --- */

int box_wait(struct cli *c, const char *id, const char *wanted)
{
	time_t until = time(NULL) + WAIT_S;

	for (;;) {
		auto_json json_t *box = NULL;
		const char *status;
		int r = api_json(c, "GET", box_path(id, "").s, STR_NONE, &box);

		if (r)
			return r;
		status = jtext(box, "status");
		if (strcmp(status, wanted) == 0)
			return CLI_OK;
		if (is_over(box) || strcmp(status, "error") == 0) {
			cli_say("%s is %s", jtext(box, "name"), status);
			return CLI_FAILED;
		}
		if (time(NULL) > until) {
			cli_say("%s is still %s after %d seconds", jtext(box, "name"), status, WAIT_S);
			return CLI_FAILED;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
}

/* --- running something --- */

#define STDIN_MAX (8u << 20)

static int read_stdin(struct buf *in)
{
	for (;;) {
		ssize_t n;

		if (buf_room(in, 65536) < 0) {
			cli_say("standard input is longer than %u MiB", STDIN_MAX >> 20);
			cli_hint("copy it with \"weir cp\" and let the command read the file");
			return CLI_USAGE;
		}
		n = read(STDIN_FILENO, in->p + in->n, 65536);
		if (n < 0 && errno == EINTR && !cli_interrupted)
			continue;
		if (n < 0) {
			cli_say("read standard input: %s", strerror(errno));
			return CLI_FAILED;
		}
		if (n == 0)
			break;
		in->n += (size_t)n;
	}
	if (str_utf8(buf_str(in)))
		return CLI_OK;
	cli_say("standard input is not UTF-8 text, which is all that can be passed this way");
	cli_hint("copy it with \"weir cp\" and let the command read the file");
	return CLI_USAGE;
}

static int exec_body(struct cli *c, const char *const *words, size_t n, bool with_options,
	struct buf *out)
{
	struct jw w = JW(out);
	int r = CLI_OK;

	jw_obj(&w, NULL);
	jw_c(&w, "cmd", words[0]);
	jw_arr(&w, "args");
	for (size_t i = 1; i < n; i++)
		jw_c(&w, NULL, words[i]);
	jw_arr_end(&w);
	if (with_options && c->opt.interactive) {
		auto_buf struct buf in = BUF_MAX(STDIN_MAX + 65536);

		r = read_stdin(&in);
		jw_str(&w, "stdin", buf_str(&in));
	}
	/* For run the options were the sandbox's. */
	if (!r && with_options && c->cmd->max > 0 && c->opt.env.n)
		r = put_env(&w, "env", &c->opt.env);
	jw_end(&w);
	return r;
}

struct output {
	struct cli *c;
	int code; /* -1: not there yet */
};

static int on_frame(struct str line, void *arg)
{
	struct output *o = arg;
	auto_json json_t *frame = json_loadb(line.p, line.n, JSON_ALLOW_NUL, NULL);
	const json_t *text;

	if (o->c->opt.json) {
		if (fd_write_all(STDOUT_FILENO, line.p, line.n) < 0 ||
			fd_write_all(STDOUT_FILENO, "\n", 1) < 0)
			return -EPIPE;
	} else {
		text = json_object_get(frame, "stdout");
		if (text && fd_write_all(STDOUT_FILENO, json_string_value(text),
				    json_string_length(text)) < 0)
			return -EPIPE;
		text = json_object_get(frame, "stderr");
		if (text)
			fd_write_all(STDERR_FILENO, json_string_value(text), json_string_length(text));
	}
	if (jtext(frame, "error")[0]) {
		auto_buf struct buf words = BUF_MAX(4096);

		print_clean(&words, str_c(jtext(frame, "error")));
		if (buf_cstr(&words))
			cli_say("%s", buf_cstr(&words));
	}
	if (json_is_integer(json_object_get(frame, "exit_code")))
		o->code = (int)jint(frame, "exit_code") & 0xff;
	return 0;
}

int box_exec(struct cli *c, const char *id, char **words, int n, bool heed_signals)
{
	auto_buf struct buf body = BUF_MAX(64u << 20);
	auto_answer struct api_answer a = { 0 };
	struct output o = { .c = c, .code = -1 };
	struct box_path path = box_path(id, "/exec?stream=true");
	struct api_req q = { .method = "POST", .path = path.s, .on_line = on_frame, .arg = &o,
		.heed_signals = heed_signals };
	int r = exec_body(c, (const char *const *)words, (size_t)n, true, &body);

	if (r)
		return CLI_EXEC_FAILED;
	q.body = buf_str(&body);
	r = api_call(c, &q, &a);
	if (o.code >= 0)
		return o.code;
	if (r == CLI_OK) {
		cli_say("the command was cut off: its end was not reported");
		return CLI_EXEC_FAILED;
	}
	/* Ours must not look like the command's. */
	return r == CLI_INTERRUPTED ? r : CLI_EXEC_FAILED;
}

int box_exec_quietly(struct cli *c, const char *id, const char *const *words, size_t n)
{
	auto_buf struct buf body = BUF_MAX(1u << 20);
	auto_json json_t *data = NULL;
	const json_t *result;

	if (exec_body(c, words, n, false, &body) ||
		api_json(c, "POST", box_path(id, "/exec").s, buf_str(&body), &data))
		return -1;
	result = json_object_get(data, "result");
	if (jint(result, "exit_code") != 0 && jtext(result, "stderr")[0]) {
		auto_buf struct buf words_of = BUF_MAX(4096);
		struct str all = str_c(jtext(result, "stderr"));

		print_clean(&words_of, str_cut(&all, '\n'));
		if (buf_cstr(&words_of))
			cli_say("%s", buf_cstr(&words_of));
	}
	return (int)jint(result, "exit_code");
}

/*
 * REPLs: see the header. Who can be told its prompts gets the private words, by its arguments or by
 * the environment; the others are waited for by what ends every prompt of theirs.
 */
#include "api/sandbox0/repl.h"

#define WORDS_MAX 6
#define OTHERS	  "> " /* ends the prompts of those that keep their own */

static const struct repl_known {
	const char *alias, *prompt; /* NULL: the private word */
	const char *argv[2][WORDS_MAX]; /* candidates; NULL ends each, and them */
} known[] = {
	{ "python", NULL,
		{ { "python3", "-q", "-i", "-c",
			  "import sys; sys.ps1 = '" REPL_PROMPT "'; sys.ps2 = '" REPL_PROMPT2 "'" } } },
	{ "node", NULL,
		{ { "node", "-e",
			"require('repl').start({prompt: '" REPL_PROMPT "', terminal: false})" } } },
	{ "bash", NULL, { { "bash", "--norc", "--noprofile", "--noediting", "-i" } } },
	{ "sh", NULL, { { "sh", "-i" } } },
	{ "zsh", NULL, { { "zsh", "-f", "-i", "+Z", "+V" } } },
	{ "ruby", NULL,
		{ { "ruby", "-rirb", "-e",
			"IRB.setup(nil, argv: ['-f', '--nomultiline', '--nosingleline', '--noautocomplete']); "
			"IRB.conf[:PROMPT][:S0] = {PROMPT_I: '" REPL_PROMPT "', PROMPT_S: '" REPL_PROMPT2
			"', PROMPT_C: '" REPL_PROMPT2 "', RETURN: \"=> %s\\n\"}; "
			"IRB.conf[:PROMPT_MODE] = :S0; IRB::Irb.new.run(IRB.conf)" } } },
	{ "lua", NULL,
		{ { "lua", "-i", "-e",
			"_PROMPT = '" REPL_PROMPT "'; _PROMPT2 = '" REPL_PROMPT2 "'" } } },
	{ "php", NULL, { { "php", "-d", "cli.prompt=" REPL_PROMPT, "-a" } } },
	{ "r", OTHERS, { { "R", "--quiet", "--no-save", "--no-restore", "--no-readline" } } },
	{ "perl", NULL,
		{ { "perl", "-e",
			"$| = 1; while (print('" REPL_PROMPT "'), defined(my $_s0 = <STDIN>)) "
			"{ no strict; my @_s0 = eval $_s0; print $@ || (@_s0 ? \"@_s0\\n\" : ''); }" } } },
	{ "redis-cli", OTHERS, { { "redis-cli" } } },
	{ "sqlite", NULL,
		{ { "sqlite3", "-interactive", "-cmd",
			".prompt '" REPL_PROMPT "' '" REPL_PROMPT2 "'" } } },
	{ "swift", OTHERS, { { "swift", "repl" }, { "swift" } } },
	{ "kotlin", OTHERS, { { "kotlinc" }, { "kotlin" } } },
};

static const struct repl_known *find(struct str alias)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_eq_c(alias, known[i].alias))
			return &known[i];
	return NULL;
}

static int invalid(struct err *err, const char *member, const char *why)
{
	char field[sizeof(err->field)];

	snprintf(field, sizeof(field), "repl.%s", member);
	return err_field(err, -EINVAL, ERR_INVALID, field, "%s", why);
}

static const json_t *given(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return json_is_null(v) ? NULL : v;
}

/* A text without NUL characters. */
static bool text_of(const json_t *v, struct str *ret)
{
	*ret = json_is_string(v) ? str_n(json_string_value(v), json_string_length(v)) : STR_NONE;
	return ret->p && str_find(*ret, '\0') < 0;
}

static int check_candidates(const json_t *list, struct err *err)
{
	static const char *const members[] = { "name", "args" };

	if (!json_array_size(list) || json_array_size(list) > REPL_CANDIDATES_MAX)
		return invalid(err, "repl_config.candidates", "expected 1 to 8 programs");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i), *args = given(one, members[1]);
		struct str text;

		if (!text_of(given(one, members[0]), &text) || !text.n)
			return invalid(err, "repl_config.candidates", "each needs the name of a program");
		if ((args && !json_is_array(args)) || json_array_size(args) > REPL_ARGS_MAX)
			return invalid(err, "repl_config.candidates", "args: expected at most 32 texts");
		for (size_t k = 0; k < json_array_size(args); k++)
			if (!text_of(json_array_get(args, k), &text))
				return invalid(err, "repl_config.candidates", "args: expected texts");
	}
	return 0;
}

static int check_env(const json_t *list, struct err *err)
{
	if (list && (!json_is_array(list) || json_array_size(list) > REPL_ENV_MAX))
		return invalid(err, "repl_config.env", "expected at most 32 variables");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);
		struct str name, value;

		if (given(one, "value_from"))
			return err_field(err, -ENOSYS, ERR_UNSUPPORTED, "repl.repl_config.env",
				"value_from is not built yet: give the value");
		if (!text_of(given(one, "name"), &name) || !name.n || str_find(name, '=') >= 0 ||
			!text_of(given(one, "value"), &value))
			return invalid(err, "repl_config.env", "each needs a name without \"=\", and a value");
	}
	return 0;
}

static int take_ready(const json_t *config, struct repl *r, struct err *err)
{
	const json_t *ready = given(config, "ready"), *prompt = given(config, "prompt");
	const json_t *mode = given(ready, "mode"), *delay = given(ready, "startup_delay_ms");
	const json_t *word = given(ready, "token") ? given(ready, "token") : given(prompt, "custom_prompt");
	struct str how;

	if ((ready && !json_is_object(ready)) || (prompt && !json_is_object(prompt)))
		return invalid(err, "repl_config", "prompt and ready: expected objects");
	if (word && (!text_of(word, &r->prompt) || !r->prompt.n || r->prompt.n > REPL_PROMPT_MAX))
		return invalid(err, "repl_config.ready", "the prompt has 1 to 64 bytes");
	if (mode && (!text_of(mode, &how) ||
			    (!str_eq_c(how, "prompt_token") && !str_eq_c(how, "startup_delay"))))
		return invalid(err, "repl_config.ready.mode", "expected prompt_token or startup_delay");
	if (delay && (!json_is_integer(delay) || json_integer_value(delay) < 0 ||
			     json_integer_value(delay) > REPL_DELAY_MAX_MS))
		return invalid(err, "repl_config.ready.startup_delay_ms", "expected 0 to 30000");
	if (mode && str_eq_c(how, "startup_delay"))
		r->delay_ms = MAX(1u, (uint32_t)json_integer_value(delay));
	return 0;
}

static int from_config(const json_t *config, struct repl *r, struct err *err)
{
	static const struct json_field fields[] = {
		{ .name = "name", .kind = JK_STR, .required = true, .min = 1, .max = 64,
			.seen_offset = -1, .offset = offsetof(struct repl, alias) },
		{ .name = "default_term", .kind = JK_STR, .max = 64, .seen_offset = -1,
			.offset = offsetof(struct repl, term) },
	};
	struct repl said = { .prompt = r->prompt };
	int e;

	if (!json_is_object(config))
		return invalid(err, "repl_config", "expected an object with name and candidates");
	e = json_decode(config, fields, ARRAY_SIZE(fields), &said, err);
	if (e == 0)
		e = check_candidates(given(config, "candidates"), err);
	if (e == 0)
		e = check_env(given(config, "env"), err);
	if (e == 0)
		e = take_ready(config, &said, err);
	if (e < 0)
		return e;
	said.alias = r->alias.n ? r->alias : said.alias;
	said.config = config;
	*r = said;
	return 0;
}

int repl_decode(const json_t *json, struct repl *ret, struct err *err)
{
	static const struct json_field fields[] = {
		{ .name = "alias", .kind = JK_STR, .max = 64, .seen_offset = -1,
			.offset = offsetof(struct repl, alias) },
	};
	struct repl r = { .prompt = STR(REPL_PROMPT) };
	const json_t *config;
	int e;

	if (!json_is_object(json))
		return err_field(err, -EINVAL, ERR_INVALID, "repl", "expected an object with alias");
	e = json_decode(json, fields, ARRAY_SIZE(fields), &r, err);
	if (e < 0)
		return e;
	config = given(json, "repl_config");
	if (config) {
		e = from_config(config, &r, err);
	} else {
		r.known = find(r.alias);
		if (!r.known)
			return invalid(err, "alias",
				"unknown: there are python, node, bash, sh, zsh, ruby, lua, php, r, perl, "
				"redis-cli, sqlite, swift, kotlin; others come as repl_config");
		r.prompt = r.known->prompt ? str_c(r.known->prompt) : r.prompt;
	}
	*ret = r;
	return e;
}

static size_t argv_of_config(const json_t *one, struct str *ret)
{
	const json_t *args = given(one, "args");
	size_t n = 0;

	if (!one)
		return 0;
	text_of(given(one, "name"), &ret[n++]);
	for (size_t i = 0; i < json_array_size(args); i++)
		text_of(json_array_get(args, i), &ret[n++]);
	return n;
}

size_t repl_argv(const struct repl *r, unsigned int nth, struct str ret[static 1 + REPL_ARGS_MAX])
{
	size_t n = 0;

	if (!r->known)
		return argv_of_config(json_array_get(given(r->config, "candidates"), nth), ret);
	if (nth >= ARRAY_SIZE(r->known->argv))
		return 0;
	while (n < WORDS_MAX && r->known->argv[nth][n]) {
		ret[n] = str_c(r->known->argv[nth][n]);
		n++;
	}
	return n;
}

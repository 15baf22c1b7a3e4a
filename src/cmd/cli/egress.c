/* weir egress get, set, add, rm, explain. */
#include "cmd/cli/cli.h"

static void show_rules(struct cli *c, const json_t *rules, struct buf *out)
{
	json_t *item;
	size_t i;

	if (!json_array_size(rules))
		buf_add_c(out, "*\n");
	json_array_foreach(rules, i, item) {
		print_clean(out, str_c(json_string_value(item) ? json_string_value(item) : "?"));
		buf_add(out, "\n", 1);
	}
}

static int show(struct cli *c, const json_t *view)
{
	auto_buf struct buf out = BUF_MAX(4u << 20);

	if (c->opt.json)
		return print_json(c, view);
	show_rules(c, json_object_get(view, "egress"), &out);
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}

static int get(struct cli *c, const char *id, json_t **view)
{
	return api_json(c, "GET", box_path(id, "/egress").s, STR_NONE, view);
}

/* Send these rules (an array) and show what the daemon made of them. */
static int put(struct cli *c, const char *id, json_t *rules)
{
	auto_json json_t *body = json_pack("{s:O}", "egress", rules), *view = NULL;
	auto_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	int r;

	if (!text) {
		cli_say("out of memory, or a rule that is not UTF-8");
		return CLI_FAILED;
	}
	r = api_json(c, "PUT", box_path(id, "/egress").s, str_c(text), &view);
	return r ? r : show(c, view);
}

static bool has(const json_t *rules, const char *rule, size_t *at)
{
	json_t *item;
	size_t i;

	json_array_foreach(rules, i, item) {
		if (json_string_value(item) && strcasecmp(json_string_value(item), rule) == 0) {
			*at = i;
			return true;
		}
	}
	return false;
}

/* A list without rules, or with '*', allows everything. */
static bool is_open(const json_t *rules)
{
	size_t at;

	return !json_array_size(rules) || has(rules, "*", &at);
}

int cmd_egress_get(struct cli *c)
{
	auto_json json_t *view = NULL;
	char id[CLI_ID_LEN];
	int r = box_find(c, c->argv[0], id);

	if (!r)
		r = get(c, id, &view);
	return r ? r : show(c, view);
}

int cmd_egress_set(struct cli *c)
{
	auto_json json_t *rules = json_array();
	char id[CLI_ID_LEN];
	int r = box_find(c, c->argv[0], id);

	for (int i = 1; i < c->argc; i++)
		json_array_append_new(rules, json_string(c->argv[i]));
	return r ? r : put(c, id, rules);
}

/* The id of the sandbox that the first argument names, and a list of its rules to change. */
static int rules_of(struct cli *c, char id[CLI_ID_LEN], json_t **ret)
{
	auto_json json_t *view = NULL;
	int r = box_find(c, c->argv[0], id);

	if (!r)
		r = get(c, id, &view);
	if (r)
		return r;
	*ret = json_copy(json_object_get(view, "egress"));
	if (!*ret)
		*ret = json_array();
	return 0;
}

int cmd_egress_add(struct cli *c)
{
	auto_json json_t *rules = NULL;
	char id[CLI_ID_LEN];
	size_t at;
	int r = rules_of(c, id, &rules);

	if (r)
		return r;
	if (is_open(rules) && strcmp(c->argv[1], "*") != 0) {
		json_array_clear(rules);
		cli_say("it could reach everything; from now on only what the rules name");
	}
	for (int i = 1; i < c->argc; i++)
		if (!has(rules, c->argv[i], &at))
			json_array_append_new(rules, json_string(c->argv[i]));
	return put(c, id, rules);
}

int cmd_egress_rm(struct cli *c)
{
	auto_json json_t *rules = NULL;
	char id[CLI_ID_LEN];
	size_t at;
	int r = rules_of(c, id, &rules);

	if (r)
		return r;
	for (int i = 1; i < c->argc; i++) {
		if (!has(rules, c->argv[i], &at)) {
			cli_say("there is no rule \"%.200s\"", c->argv[i]);
			cli_hint("\"weir egress get %s\" lists them", c->argv[0]);
			return CLI_NOT_FOUND;
		}
		json_array_remove(rules, at);
	}
	if (!json_array_size(rules)) {
		cli_say("this would remove the last rule, and a list without rules allows everything");
		cli_hint("if that is meant: weir egress set %s '*'", c->argv[0]);
		return CLI_FAILED;
	}
	return put(c, id, rules);
}

int cmd_egress_explain(struct cli *c)
{
	auto_buf struct buf path = BUF_MAX(4096), out = BUF_MAX(8192);
	auto_json json_t *data = NULL;
	char id[CLI_ID_LEN];
	bool allow;
	int r = box_find(c, c->argv[0], id);

	if (r)
		return r;
	buf_add_c(&path, box_path(id, "/egress/explain?to=").s);
	api_escape(&path, c->argv[1]);
	if (!buf_cstr(&path)) {
		cli_say("\"%.60s...\" is too long", c->argv[1]);
		return CLI_USAGE;
	}
	r = api_json(c, "GET", buf_cstr(&path), STR_NONE, &data);
	if (r)
		return r;
	allow = strcmp(jtext(data, "verdict"), "allow") == 0;
	if (c->opt.json) {
		r = print_json(c, data);
		return r ? r : allow ? CLI_OK : CLI_DENY;
	}
	print_tone(&out, c->colour, allow ? TONE_GOOD : TONE_BAD, allow ? "allow" : "deny");
	if (jtext(data, "text")[0]) {
		buf_add_c(&out, "  ");
		print_clean(&out, str_c(jtext(data, "text")));
	}
	buf_add(&out, "\n", 1);
	print_flush(&out, STDOUT_FILENO);
	return allow ? CLI_OK : CLI_DENY;
}

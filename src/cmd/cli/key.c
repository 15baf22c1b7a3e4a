/* weir key create, ls, rm: for keys that may manage keys. */
#include <time.h>
#include "cmd/cli/cli.h"

int cmd_key_create(struct cli *c)
{
	auto_buf struct buf body = BUF_MAX(4096);
	auto_json json_t *data = NULL;
	struct jw w = JW(&body);
	int r;

	jw_obj(&w, NULL);
	jw_c(&w, "name", c->argv[0]);
	if (c->opt.admin)
		jw_bool(&w, "admin", true);
	jw_end(&w);
	r = api_json(c, "POST", "/v1/keys", buf_str(&body), &data);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, data);
	print_line(jtext(data, "key"));
	if (isatty(STDERR_FILENO)) {
		cli_say("this is the only time the key is shown; its id is %s", jtext(data, "id"));
		cli_hint("use it as WEIR_API_KEY, or as \"api_key = ...\" in %s", c->conf.path);
	}
	return CLI_OK;
}

static void one_key(struct table *t, json_t *key, uint64_t now)
{
	table_cell(t, jtext(key, "id"));
	table_cell(t, jtext(key, "name"));
	table_cell(t, jbool(key, "admin") ? "yes" : "");
	table_cell(t, jtext(key, "hint"));
	table_cell(t, age_of(jtext(key, "created_at"), now).s);
}

int cmd_key_ls(struct cli *c)
{
	static const char *const heads[] = { "ID", "NAME", "ADMIN", "STARTS WITH", "AGE" };

	return print_list(c, &(struct list){ "/v1/keys", heads, ARRAY_SIZE(heads), 16u << 20, one_key });
}

int cmd_key_rm(struct cli *c)
{
	int r = CLI_OK;

	for (int i = 0; !r && i < c->argc; i++)
		r = api_delete(c, "/v1/keys/", c->argv[i], "id of a key");
	return r;
}

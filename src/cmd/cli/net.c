/* weir net create, ls, show, rm, attach, detach: private networks. */
#include <time.h>
#include "cmd/cli/cli.h"

/* "/v1/networks/<word>"; NULL: too long to be a network. */
static const char *net_path(struct buf *path, const char *prefix, const char *word)
{
	buf_add_c(path, prefix);
	api_escape(path, word);
	if (!buf_cstr(path))
		cli_say("\"%.60s...\" is no network", word);
	return buf_cstr(path);
}

static void say_line(const char *text)
{
	auto_buf struct buf out = BUF_MAX(65536);

	print_clean(&out, str_c(text));
	buf_add(&out, "\n", 1);
	print_flush(&out, STDOUT_FILENO);
}

int cmd_net_create(struct cli *c)
{
	auto_buf struct buf body = BUF_MAX(65536);
	auto_json json_t *data = NULL;
	struct jw w = JW(&body);
	int r;

	jw_obj(&w, NULL);
	jw_c(&w, "name", c->argv[0]);
	jw_end(&w);
	r = api_json(c, "POST", "/v1/networks", buf_str(&body), &data);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, data);
	say_line(jtext(data, "id"));
	return CLI_OK;
}

struct nets {
	struct table *table;
	json_t *all;
	uint64_t now;
};

static int one_net(json_t *net, void *arg)
{
	struct nets *n = arg;
	char members[24];

	json_array_append(n->all, net);
	snprintf(members, sizeof(members), "%" PRId64, jint(net, "member_count"));
	table_cell(n->table, jtext(net, "name"));
	table_cell(n->table, jtext(net, "id"));
	table_cell(n->table, members);
	table_cell(n->table, age_of(jtext(net, "created_at"), n->now).s);
	return 0;
}

int cmd_net_ls(struct cli *c)
{
	static const char *const heads[] = { "NAME", "ID", "MEMBERS", "AGE" };
	struct nets n = { table_new(heads, ARRAY_SIZE(heads)), json_array(), (uint64_t)time(NULL) };
	auto_buf struct buf out = BUF_MAX(16u << 20);
	int r = api_each(c, "/v1/networks", one_net, &n);

	if (!r && c->opt.json) {
		r = print_json(c, n.all);
	} else if (!r) {
		table_print(n.table, c->colour, &out);
		print_flush(&out, STDOUT_FILENO);
	}
	table_free(n.table);
	json_decref(n.all);
	return r;
}

int cmd_net_show(struct cli *c)
{
	static const char *const heads[] = { "NAME", "ADDRESS", "STATUS", "ID" };
	auto_buf struct buf path = BUF_MAX(4096), out = BUF_MAX(16u << 20);
	auto_json json_t *data = NULL;
	struct table *t;
	json_t *m;
	size_t i;
	int r;

	if (!net_path(&path, "/v1/networks/", c->argv[0]))
		return CLI_USAGE;
	r = api_json(c, "GET", path.p, STR_NONE, &data);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, data);
	t = table_new(heads, ARRAY_SIZE(heads));
	json_array_foreach (json_object_get(data, "members"), i, m) {
		const char *status = jtext(m, "status");

		table_cell(t, jtext(m, "name"));
		table_cell(t, jtext(m, "ip"));
		table_cell_tone(t, tone_of_status(status), status);
		table_cell(t, jtext(m, "sandbox_id"));
	}
	table_print(t, c->colour, &out);
	print_flush(&out, STDOUT_FILENO);
	table_free(t);
	return CLI_OK;
}

int cmd_net_rm(struct cli *c)
{
	for (int i = 0; i < c->argc; i++) {
		auto_buf struct buf path = BUF_MAX(4096);
		auto_json json_t *data = NULL;
		int r;

		if (!net_path(&path, "/v1/networks/", c->argv[i]))
			return CLI_USAGE;
		r = api_json(c, "DELETE", path.p, STR_NONE, &data);
		if (!r && c->opt.json)
			r = print_json(c, data);
		if (r)
			return r;
	}
	return CLI_OK;
}

int cmd_net_attach(struct cli *c)
{
	auto_buf struct buf body = BUF_MAX(65536);
	auto_json json_t *data = NULL;
	struct jw w = JW(&body);
	char id[CLI_ID_LEN];
	int r = box_find(c, c->argv[0], id);

	if (r)
		return r;
	jw_obj(&w, NULL);
	jw_c(&w, "id", c->argv[1]);
	jw_end(&w);
	r = api_json(c, "POST", box_path(id, "/networks").s, buf_str(&body), &data);
	return r || !c->opt.json ? r : print_json(c, data);
}

int cmd_net_detach(struct cli *c)
{
	auto_buf struct buf path = BUF_MAX(4096);
	auto_json json_t *data = NULL;
	char id[CLI_ID_LEN];
	int r = box_find(c, c->argv[0], id);

	if (r)
		return r;
	if (!net_path(&path, box_path(id, "/networks/").s, c->argv[1]))
		return CLI_USAGE;
	r = api_json(c, "DELETE", path.p, STR_NONE, &data);
	return r || !c->opt.json ? r : print_json(c, data);
}

/* weir net create, ls, show, rm, attach, detach, policy: private networks. */
#include <time.h>
#include "cmd/cli/cli.h"

/* "/v1/networks/<word>"; NULL: too long to be a network. */
static const char *net_path(struct buf *path, const char *word)
{
	buf_add_c(path, "/v1/networks/");
	api_escape(path, word);
	if (!buf_cstr(path))
		cli_say("\"%.60s...\" is no network", word);
	return buf_cstr(path);
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
	print_line(jtext(data, "id"));
	return CLI_OK;
}

static void one_net(struct table *t, json_t *net, uint64_t now)
{
	char members[24];

	snprintf(members, sizeof(members), "%" PRId64, jint(net, "member_count"));
	table_cell(t, jtext(net, "name"));
	table_cell(t, jtext(net, "id"));
	table_cell(t, members);
	table_cell(t, age_of(jtext(net, "created_at"), now).s);
}

int cmd_net_ls(struct cli *c)
{
	static const char *const heads[] = { "NAME", "ID", "MEMBERS", "AGE" };

	return print_list(c, &(struct list){ "/v1/networks", heads, ARRAY_SIZE(heads), 16u << 20,
		one_net });
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

	if (!net_path(&path, c->argv[0]))
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
	int r = CLI_OK;

	for (int i = 0; !r && i < c->argc; i++)
		r = api_delete(c, "/v1/networks/", c->argv[i], "network");
	return r;
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
	char id[CLI_ID_LEN];
	int r = box_find(c, c->argv[0], id);

	return r ? r : api_delete(c, box_path(id, "/networks/").s, c->argv[1], "network");
}

/* --- policy --- */

/* "web db 5432,8000-8099/tcp", "deny * db", "web db icmp" */
static int put_rule(struct jw *w, const char *text)
{
	struct str rest = str_c(text), word[4] = { { 0 } }, ports, protocol;
	unsigned int n = 0, at;

	while (rest.p && n < ARRAY_SIZE(word)) {
		word[n] = str_cut(&rest, ' ');
		n += word[n].n > 0;
	}
	at = n && (str_eq_c(word[0], "allow") || str_eq_c(word[0], "deny"));
	if (str_trim(rest).n || n < at + 2 || n > at + 3)
		return cli_say("\"%.100s\" is no rule: write [allow|deny] FROM TO [PORTS[/PROTOCOL]]",
			text), -EINVAL;
	jw_obj(w, NULL);
	if (at)
		jw_str(w, "action", word[0]);
	jw_str(w, "from", word[at]);
	jw_str(w, "to", word[at + 1]);
	protocol = word[at + 2];
	ports = str_cut(&protocol, '/');
	if (!protocol.p && ports.n && (ports.p[0] < '0' || ports.p[0] > '9')) {
		protocol = ports; /* "icmp" */
		ports = STR_NONE;
	}
	if (protocol.n)
		jw_str(w, "protocol", protocol);
	if (ports.n)
		jw_arr(w, "ports");
	for (struct str list = ports; ports.n && list.p;)
		jw_str(w, NULL, str_cut(&list, ','));
	if (ports.n)
		jw_arr_end(w);
	jw_end(w);
	return 0;
}

static int show_policy(struct cli *c, const json_t *data)
{
	auto_buf struct buf out = BUF_MAX(1u << 20);
	json_t *rule, *port;
	size_t i, k;

	if (c->opt.json)
		return print_json(c, data);
	json_array_foreach (json_object_get(data, "rules"), i, rule) {
		const json_t *ports = json_object_get(rule, "ports");
		const char *protocol = jtext(rule, "protocol");
		bool any = strcmp(protocol, "any") == 0;

		buf_fmt(&out, "%s %s %s", jtext(rule, "action"), jtext(rule, "from"),
			jtext(rule, "to"));
		json_array_foreach (ports, k, port)
			buf_fmt(&out, "%s%s", k ? "," : " ", json_string_value(port));
		if (!any)
			buf_fmt(&out, "%s%s", json_array_size(ports) ? "/" : " ", protocol);
		buf_add(&out, "\n", 1);
	}
	buf_fmt(&out, "default %s\n", jtext(data, "default"));
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}

int cmd_net_policy(struct cli *c)
{
	auto_buf struct buf path = BUF_MAX(4096), body = BUF_MAX(1u << 20);
	auto_json json_t *data = NULL;
	struct jw w = JW(&body);
	const char *only = c->argc == 2 ? c->argv[1] : "";
	const char *method = c->argc == 1 ? "GET" : strcmp(only, "open") == 0 ? "DELETE" : "PUT";
	int r;

	if (!net_path(&path, c->argv[0]))
		return CLI_USAGE;
	buf_add_c(&path, "/policy");
	if (strcmp(method, "PUT") == 0) {
		jw_obj(&w, NULL);
		jw_arr(&w, "rules");
		for (int i = 1; i < c->argc && strcmp(only, "closed") != 0; i++)
			if (put_rule(&w, c->argv[i]) < 0)
				return CLI_USAGE;
		jw_arr_end(&w);
		jw_end(&w);
	}
	r = api_json(c, method, buf_cstr(&path), buf_str(&body), &data);
	return r ? r : show_policy(c, data);
}

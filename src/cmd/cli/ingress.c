/* weir url, weir ingress on, off, token: reaching a sandbox's services from outside. */
#include <time.h>
#include "cmd/cli/cli.h"

static int get_box(struct cli *c, const char *id, json_t **ret)
{
	return api_json(c, "GET", box_path(id, "").s, STR_NONE, ret);
}

static int read_port(const char *text, uint32_t *ret)
{
	uint64_t n;

	if (str_u64(str_c(text), UINT16_MAX, &n) < 0 || n == 0) {
		cli_say("\"%.40s\" is no port: a number from 1 to 65535", text);
		return CLI_USAGE;
	}
	*ret = (uint32_t)n;
	return CLI_OK;
}

/* The template with the port in its place. */
static void put_url(struct buf *out, const char *template, uint32_t port)
{
	const char *mark = strstr(template, "<port>");

	if (!mark) {
		print_clean(out, str_c(template));
		return;
	}
	print_clean(out, str_n(template, (size_t)(mark - template)));
	buf_fmt(out, "%u", port);
	print_clean(out, str_c(mark + strlen("<port>")));
}

int cmd_url(struct cli *c)
{
	auto_buf struct buf out = BUF_MAX(65536);
	auto_json json_t *box = NULL;
	char id[CLI_ID_LEN];
	uint32_t port;
	int r = read_port(c->argv[1], &port);

	if (!r)
		r = box_find(c, c->argv[0], id);
	if (!r)
		r = get_box(c, id, &box);
	if (r)
		return r;
	if (!jbool(box, "ingress_enabled")) {
		cli_say("%s cannot be reached from outside", jtext(box, "name"));
		cli_hint("\"weir ingress on %s\" lets it", c->argv[0]);
		return CLI_FAILED;
	}
	put_url(&out, jtext(box, "ingress_url_template"), port);
	if (c->opt.json) {
		auto_json json_t *data = json_pack("{s:s, s:i, s:s}", "url", buf_cstr(&out), "port",
			(int)port, "access", jtext(box, "ingress_access"));

		return print_json(c, data);
	}
	buf_add(&out, "\n", 1);
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}

/* --- on and off --- */

static int contradiction(const char *name)
{
	cli_say("--%s and --no-%s contradict each other", name, name);
	return CLI_USAGE;
}

/* Which of the two ports of the host: bit 0 is proxy, bit 1 direct; 0: neither was said. */
static int which_ports(const char *option, const char *value, unsigned int *ret)
{
	*ret = !value ? 0 : !*value ? 3 : strcmp(value, "proxy") == 0 ? 1 : 2;
	if (*ret != 2 || strcmp(value, "direct") == 0)
		return CLI_OK;
	cli_say("--%s=%.40s: expected proxy or direct", option, value);
	return CLI_USAGE;
}

static int put_ports(struct cli *c, struct jw *w)
{
	static const char *const names[] = { "proxy", "direct" };
	unsigned int on, off;
	int r = which_ports("ports", c->opt.ports, &on);

	if (!r)
		r = which_ports("no-ports", c->opt.no_ports, &off);
	if (r)
		return r;
	if (on & off)
		return contradiction("ports");
	if (on == 3 || off == 3) {
		jw_bool(w, "host_ports", on);
	} else if (on | off) {
		jw_obj(w, "host_ports");
		for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
			if ((on | off) & 1u << i)
				jw_bool(w, names[i], on & 1u << i);
		jw_end(w);
	}
	return CLI_OK;
}

int ingress_options(struct cli *c, struct jw *w)
{
	const struct cli_opts *o = &c->opt;

	if (o->access)
		jw_c(w, "ingress_access", o->access);
	if (o->hold && o->no_hold)
		return contradiction("hold");
	if (o->hold || o->no_hold)
		jw_bool(w, "ingress_hold", o->hold);
	return put_ports(c, w);
}

static int patch(struct cli *c, bool on)
{
	auto_buf struct buf body = BUF_MAX(4096);
	auto_json json_t *box = NULL;
	struct jw w = JW(&body);
	char id[CLI_ID_LEN];
	int r = box_find(c, c->argv[0], id);

	if (r)
		return r;
	jw_obj(&w, NULL);
	jw_bool(&w, "ingress_enabled", on);
	r = ingress_options(c, &w);
	jw_end(&w);
	if (!r)
		r = api_json(c, "PATCH", box_path(id, "").s, buf_str(&body), &box);
	if (r || c->opt.json)
		return r ? r : print_json(c, box);
	if (on)
		print_line(jtext(box, "ingress_url_template"));
	return CLI_OK;
}

int cmd_ingress_on(struct cli *c)
{
	return patch(c, true);
}

int cmd_ingress_off(struct cli *c)
{
	return patch(c, false);
}

/* --- tokens --- */

static int token_create(struct cli *c, const char *id)
{
	auto_buf struct buf body = BUF_MAX(4096);
	auto_json json_t *data = NULL;
	struct jw w = JW(&body);
	uint32_t port;
	int r;

	if (c->argc != 3) {
		cli_say("weir ingress token create needs: SANDBOX PORT");
		return CLI_USAGE;
	}
	r = read_port(c->argv[2], &port);
	if (r)
		return r;
	jw_obj(&w, NULL);
	jw_u64(&w, "port", port);
	if (c->opt.name)
		jw_c(&w, "name", c->opt.name);
	if (c->opt.expires)
		jw_u64(&w, "expires_in_seconds", c->opt.expires);
	jw_end(&w);
	r = api_json(c, "POST", box_path(id, "/ingress/tokens").s, buf_str(&body), &data);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, data);
	print_line(jtext(data, "token"));
	if (isatty(STDERR_FILENO)) {
		cli_say("this is the only time the token is shown; its id is %s", jtext(data, "id"));
		cli_hint("send it as header X-Weir-Ingress-Token, or once as ?weir_token=... in a browser");
	}
	return CLI_OK;
}

static void one_token(struct table *t, json_t *token, uint64_t now)
{
	char port[24];

	snprintf(port, sizeof(port), "%" PRId64, jint(token, "port"));
	table_cell(t, jtext(token, "id"));
	table_cell(t, port);
	table_cell(t, jtext(token, "name"));
	table_cell(t, jtext(token, "hint"));
	table_cell(t, jtext(token, "expires_at")[0] ? jtext(token, "expires_at") : "never");
	table_cell(t, age_of(jtext(token, "created_at"), now).s);
}

static int token_ls(struct cli *c, const char *id)
{
	static const char *const heads[] = { "ID", "PORT", "NAME", "STARTS WITH", "EXPIRES", "AGE" };

	if (c->argc != 2) {
		cli_say("weir ingress token ls needs: SANDBOX");
		return CLI_USAGE;
	}
	return print_list(c, &(struct list){ box_path(id, "/ingress/tokens").s, heads,
		ARRAY_SIZE(heads), 1u << 20, one_token });
}

static int token_revoke(struct cli *c, const char *id)
{
	int r = CLI_OK;

	if (c->argc < 3) {
		cli_say("weir ingress token revoke needs: SANDBOX ID ...");
		return CLI_USAGE;
	}
	for (int i = 2; !r && i < c->argc; i++)
		r = api_delete(c, box_path(id, "/ingress/tokens/").s, c->argv[i], "token");
	return r;
}

int cmd_ingress_token(struct cli *c)
{
	static const struct {
		const char *name;
		int (*run)(struct cli *c, const char *id);
	} verbs[] = { { "create", token_create }, { "ls", token_ls }, { "revoke", token_revoke } };
	char id[CLI_ID_LEN];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(c->argv[0], verbs[i].name) != 0)
			continue;
		r = box_find(c, c->argv[1], id);
		return r ? r : verbs[i].run(c, id);
	}
	cli_say("weir ingress token: there is no \"%.40s\"; there is create, ls, revoke", c->argv[0]);
	return CLI_USAGE;
}

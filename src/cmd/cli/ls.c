/* weir ls: live sandboxes, or all. */
#include <time.h>
#include "cmd/cli/cli.h"

struct listing {
	struct cli *c;
	struct table *table;
	struct buf names;
	json_t *all; /* for --json */
	uint64_t now;
};

static void egress_text(const json_t *box, char *out, size_t size)
{
	const json_t *rules = json_object_get(box, "egress");
	size_t n = json_array_size(rules);
	const char *first = json_string_value(json_array_get(rules, 0));

	if (!n)
		snprintf(out, size, "everything");
	else if (n == 1)
		snprintf(out, size, "%.40s", first ? first : "?");
	else
		snprintf(out, size, "%.30s and %zu more", first ? first : "?", n - 1);
}

static int one(json_t *box, void *arg)
{
	struct listing *l = arg;
	const char *status = jtext(box, "status");
	char egress[80];

	if (!l->c->opt.all && (strcmp(status, "destroyed") == 0 || strcmp(status, "failed") == 0))
		return 0;
	if (l->c->opt.json) {
		json_array_append(l->all, box);
		return 0;
	}
	if (l->c->opt.quiet) {
		print_clean(&l->names, str_c(jtext(box, "name")[0] ? jtext(box, "name") : jtext(box, "id")));
		buf_add(&l->names, "\n", 1);
		return 0;
	}
	egress_text(box, egress, sizeof(egress));
	table_cell(l->table, jtext(box, "name"));
	table_cell_tone(l->table, tone_of_status(status), status);
	table_cell(l->table, jtext(box, "shape"));
	table_cell(l->table, jtext(box, "rootfs"));
	table_cell(l->table, jtext(box, "ip"));
	table_cell(l->table, age_of(jtext(box, "created_at"), l->now).s);
	table_cell(l->table, egress);
	table_cell(l->table, jtext(box, "id"));
	return 0;
}

int cmd_ls(struct cli *c)
{
	static const char *const heads[] = { "NAME", "STATUS", "SHAPE", "ROOTFS", "IP", "AGE",
		"MAY REACH", "ID" };
	struct listing l = { .c = c, .table = table_new(heads, ARRAY_SIZE(heads)),
		.names = BUF_MAX(16u << 20), .all = json_array(), .now = (uint64_t)time(NULL) };
	auto_buf struct buf out = BUF_MAX(64u << 20);
	int r;

	r = api_each(c, "/v1/sandboxes", one, &l);
	if (r == CLI_OK && c->opt.json) {
		r = print_json(c, l.all);
	} else if (r == CLI_OK && c->opt.quiet) {
		print_flush(&l.names, STDOUT_FILENO);
	} else if (r == CLI_OK) {
		table_print(l.table, c->colour, &out);
		print_flush(&out, STDOUT_FILENO);
	}
	table_free(l.table);
	buf_done(&l.names);
	json_decref(l.all);
	return r;
}

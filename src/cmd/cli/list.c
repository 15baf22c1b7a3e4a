/*
 * Listings: what a path of the API lists, page after page, as a table or as JSON.
 */
#include <time.h>
#include "cmd/cli/cli.h"

struct under_way {
	const struct list *list;
	struct table *table;
	json_t *all;
	uint64_t now;
};

static int one(json_t *item, void *arg)
{
	struct under_way *x = arg;

	json_array_append(x->all, item);
	x->list->row(x->table, item, x->now);
	return 0;
}

int print_list(struct cli *c, const struct list *list)
{
	struct under_way x = { list, table_new(list->heads, list->columns), json_array(),
		(uint64_t)time(NULL) };
	auto_buf struct buf out = BUF_MAX(list->max);
	int r = api_each(c, list->path, one, &x);

	if (!r && c->opt.json) {
		r = print_json(c, x.all);
	} else if (!r) {
		table_print(x.table, c->colour, &out);
		print_flush(&out, STDOUT_FILENO);
	}
	table_free(x.table);
	json_decref(x.all);
	return r;
}

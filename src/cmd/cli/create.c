/* weir create: the id on standard output, what came of it on standard error. */
#include "cmd/cli/cli.h"

int cmd_create(struct cli *c)
{
	auto_json json_t *box = NULL;
	auto_buf struct buf words = BUF_MAX(65536);
	size_t rules;
	int r;

	r = box_create(c, c->opt.name, &box);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, box);
	print_line(jtext(box, "id"));
	rules = json_array_size(json_object_get(box, "egress"));
	print_clean(&words, str_c(jtext(box, "name")));
	buf_fmt(&words, " is running at ");
	print_clean(&words, str_c(jtext(box, "ip")));
	if (rules)
		buf_fmt(&words, "; it may reach what %zu rule%s name%s", rules, rules > 1 ? "s" : "",
			rules > 1 ? "" : "s");
	else
		buf_add_c(&words, "; it may reach everything");
	buf_add(&words, "\n", 1);
	if (isatty(STDERR_FILENO))
		print_flush(&words, STDERR_FILENO);
	return CLI_OK;
}

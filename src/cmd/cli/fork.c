/* weir fork: the id of the new one on standard output, what came of it on standard error. */
#include "cmd/cli/cli.h"

int cmd_fork(struct cli *c)
{
	auto_json json_t *box = NULL;
	auto_buf struct buf body = BUF_MAX(4u << 20), words = BUF_MAX(4096);
	char id[CLI_ID_LEN];
	int r = box_find(c, c->argv[0], id);

	r = r ? r : box_fork_body(c, &body);
	r = r ? r : api_json(c, "POST", box_path(id, "/fork").s, buf_str(&body), &box);
	if (r)
		return r;
	if (c->opt.json)
		return print_json(c, box);
	print_line(jtext(box, "id"));
	print_clean(&words, str_c(jtext(box, "name")));
	buf_fmt(&words, " is %s at ", jtext(box, "status"));
	print_clean(&words, str_c(jtext(box, "ip")));
	buf_add(&words, "\n", 1);
	if (isatty(STDERR_FILENO))
		print_flush(&words, STDERR_FILENO);
	return CLI_OK;
}

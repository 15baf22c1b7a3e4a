/*
 * weir rm: every sandbox is tried; the first failure is the exit status. It ends when they are
 * gone, because only then their names are free.
 */
#include "cmd/cli/cli.h"

int cmd_rm(struct cli *c)
{
	int first = CLI_OK;

	for (int i = 0; i < c->argc; i++) {
		auto_json json_t *gone = NULL;
		char id[CLI_ID_LEN];
		int r = box_find(c, c->argv[i], id);

		if (!r)
			r = api_json(c, "DELETE", box_path(id, "").s, STR_NONE, &gone);
		if (!r && !c->opt.no_wait && strcmp(jtext(gone, "status"), "destroyed") != 0)
			r = box_wait(c, id, "destroyed");
		if (!r && c->opt.json)
			r = print_json(c, gone);
		else if (!r && !c->opt.quiet && isatty(STDERR_FILENO))
			cli_say("%s is destroyed", c->argv[i]);
		first = first ? first : r;
	}
	return first;
}

/* weir exec: leaving, by whatever signal, closes the connection, which ends the command. */
#include "cmd/cli/cli.h"

int cmd_exec(struct cli *c)
{
	char id[CLI_ID_LEN];
	int r;

	cli_catch_signals();
	r = box_find(c, c->argv[0], id);
	if (r)
		return CLI_EXEC_FAILED;
	return box_exec(c, id, c->argv + 1, c->argc - 1, true);
}

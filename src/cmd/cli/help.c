/* Help from the tables. */
#include "cmd/cli/cli.h"

static void put_option(struct buf *out, const struct cli_option *o)
{
	char left[64];

	snprintf(left, sizeof(left), "%c%c%c --%s%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
		o->letter ? ',' : ' ', o->name,
		o->kind == CLI_CHOICE ? "[=" : o->arg ? " " : "", o->arg ? o->arg : "",
		o->kind == CLI_CHOICE ? "]" : "");
	buf_fmt(out, "  %-26s %s\n", left, o->help);
}

static void put_options(struct buf *out, uint32_t which)
{
	for (int i = 0; i < OPT_COUNT; i++)
		if (which & 1u << i)
			put_option(out, &cli_options[i]);
}

static void help_all(struct buf *out)
{
	buf_add_c(out, "weir: run untrusted code in sandboxes whose network you control\n\n"
		       "usage: weir [--url URL] [--json] COMMAND ...\n\n");
	for (size_t i = 0; i < cli_n_commands; i++)
		buf_fmt(out, "  %-16s %s\n", cli_commands[i].path, cli_commands[i].summary);
	buf_add_c(out, "\nA SANDBOX is named by its name or its id. \"weir sandbox\" and \"weir sb\" may\n"
		       "stand before any command. weir COMMAND --help says more, weir(1) everything.\n\n"
		       "options of every command:\n");
	put_options(out, 1u << OPT_HELP | 1u << OPT_JSON | 1u << OPT_URL);
}

void cli_help(struct buf *out, const struct cli_command *cmd)
{
	if (!cmd) {
		help_all(out);
		return;
	}
	buf_fmt(out, "weir %s: %s\n\nusage: weir %s%s%s%s\n", cmd->path, cmd->summary, cmd->path,
		cmd->options ? " [options]" : "", cmd->operands[0] ? " " : "", cmd->operands);
	if (cmd->alias)
		buf_fmt(out, "       weir %s is the same\n", cmd->alias);
	buf_add_c(out, "\n");
	put_options(out, cmd->options);
	put_options(out, 1u << OPT_HELP | 1u << OPT_JSON | 1u << OPT_URL);
	if (cmd->more)
		buf_fmt(out, "\n%s", cmd->more);
}

/*
 * weir completion: scripts for bash and zsh, made from the tables. scripts/completion/ holds
 * their output, and a test holds the two together.
 */
#include "cmd/cli/cli.h"

#define COMMON (1u << OPT_HELP | 1u << OPT_JSON | 1u << OPT_URL)

static void put_options(struct buf *out, uint32_t which)
{
	bool first = true;

	for (int i = 0; i < OPT_COUNT; i++)
		if (which & 1u << i) {
			buf_fmt(out, "%s--%s", first ? "" : " ", cli_options[i].name);
			first = false;
		}
}

/* Is it the first command of its group ("egress …")? Then how long is the group's name? */
static size_t new_group(size_t i)
{
	const char *space = strchr(cli_commands[i].path, ' ');
	size_t n = space ? (size_t)(space - cli_commands[i].path) + 1 : 0;

	if (n && i && strncmp(cli_commands[i - 1].path, cli_commands[i].path, n) == 0)
		return 0;
	return n;
}

static void put_first_words(struct buf *out)
{
	for (size_t i = 0; i < cli_n_commands; i++) {
		const char *path = cli_commands[i].path;
		size_t n = new_group(i);

		if (!strchr(path, ' '))
			buf_fmt(out, "%s ", path);
		else if (n)
			buf_fmt(out, "%.*s ", (int)n - 1, path);
	}
	buf_add_c(out, "sandbox sb help");
}

static void put_second_words(struct buf *out, const char *group, size_t n)
{
	bool first = true;

	for (size_t i = 0; i < cli_n_commands; i++)
		if (strncmp(cli_commands[i].path, group, n) == 0) {
			buf_fmt(out, "%s%s", first ? "" : " ", cli_commands[i].path + n);
			first = false;
		}
}

/* Options whose value is the next word. */
static void put_valued(struct buf *out)
{
	bool first = true;

	for (int i = 0; i < OPT_COUNT; i++) {
		const struct cli_option *o = &cli_options[i];

		if (o->kind == CLI_FLAG || o->kind == CLI_CHOICE)
			continue;
		buf_fmt(out, "%s--%s", first ? "" : "|", o->name);
		if (o->letter)
			buf_fmt(out, "|-%c", o->letter);
		first = false;
	}
}

static void bash_path(struct buf *out)
{
	buf_add_c(out, "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		       "\t\tw=${COMP_WORDS[i]}\n"
		       "\t\tcase $w in\n\t\t");
	put_valued(out);
	buf_add_c(out, ")\n\t\t\t((i++))\n\t\t\tcontinue ;;\n"
		       "\t\t-*) continue ;;\n"
		       "\t\tsandbox|sb|help) [[ -n $path ]] || continue ;;\n"
		       "\t\tesac\n"
		       "\t\tif [[ -n $found ]]; then\n"
		       "\t\t\t((at++))\n"
		       "\t\t\tcontinue\n"
		       "\t\tfi\n"
		       "\t\tcase \"$path $w\" in\n");
	for (size_t i = 0; i < cli_n_commands; i++) {
		size_t n = new_group(i);

		if (n)
			buf_fmt(out, "\t\t\" %.*s\") path=\" %.*s\" ;;\n", (int)n - 1,
				cli_commands[i].path, (int)n - 1, cli_commands[i].path);
		buf_fmt(out, "\t\t\" %s\") path=\" %s\" found=1 ;;\n", cli_commands[i].path,
			cli_commands[i].path);
	}
	buf_add_c(out, "\t\t*) return ;;\n\t\tesac\n\tdone\n\n");
}

static void bash_operands(struct buf *out)
{
	buf_add_c(out, "\tcase $path in\n\t'') kinds=w words=\"");
	put_first_words(out);
	buf_add_c(out, "\" ;;\n");
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *cmd = &cli_commands[i];
		size_t n = new_group(i);

		if (n) {
			buf_fmt(out, "\t' %.*s') kinds=w words=\"", (int)n - 1, cmd->path);
			put_second_words(out, cmd->path, n);
			buf_add_c(out, "\" ;;\n");
		}
		buf_fmt(out, "\t' %s') options=\"", cmd->path);
		put_options(out, cmd->options);
		buf_add_c(out, "\"");
		if (cmd->complete)
			buf_fmt(out, " kinds=%s", cmd->complete);
		if (cmd->words)
			buf_fmt(out, " words=\"%s\"", cmd->words);
		buf_add_c(out, " ;;\n");
	}
	buf_add_c(out, "\tesac\n\n"
		       "\tkind=${kinds:at:1}\n"
		       "\t[[ -n $kind || -z $kinds ]] || kind=${kinds: -1}\n"
		       "\tcase $prev in\n"
		       "\t--shape) kind=w words=$(weir shapes 2>/dev/null | awk 'NR > 1 {print $1}') ;;\n"
		       "\t--rootfs) kind=w words=$(weir rootfs ls 2>/dev/null | awk 'NR > 1 {print $1}') ;;\n"
		       "\t--access) kind=w words=\"open token\" ;;\n"
		       "\t--net) kind=n ;;\n"
		       "\t--ssh-key) kind=F ;;\n\t");
	put_valued(out);
	buf_add_c(out, ") kind= ;;\n"
		       "\tesac\n");
}

static void bash(struct buf *out)
{
	buf_add_c(out,
		"# Completion of weir for bash. Written by \"weir completion bash\".\n"
		"_weir()\n{\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= found= w i\n"
		"\tlocal options= words= kinds= kind at=0 # of the operand that is being written\n\n");
	bash_path(out);
	bash_operands(out);
	buf_add_c(out, "\tif [[ $cur == -* ]]; then\n"
		       "\t\twords=\"$options ");
	put_options(out, COMMON);
	buf_add_c(out, "\" kind=w\n"
		       "\tfi\n"
		       "\tcase $kind in\n"
		       "\ts) words=$(weir ls --quiet 2>/dev/null) ;;\n"
		       "\tf) words=$(weir ls --quiet 2>/dev/null | sed 's|$|:/|') ;;\n"
		       "\tn) words=$(weir net ls 2>/dev/null | awk 'NR > 1 {print $1}') ;;\n"
		       "\tw) ;;\n"
		       "\t*) words= ;;\n"
		       "\tesac\n"
		       "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
		       "\tcase $kind in\n"
		       "\tf|F) COMPREPLY+=($(compgen -f -- \"$cur\")) ;;\n"
		       "\tesac\n}\n"
		       "complete -o bashdefault -F _weir weir\n");
}

static void put_zsh_text(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("[]:'", *text))
			buf_add_c(out, *text == '\'' ? "'\\'" : "\\");
		buf_u8(out, (uint8_t)*text);
	}
}

static void put_zsh_options(struct buf *out, uint32_t which)
{
	for (int i = 0; i < OPT_COUNT; i++) {
		const struct cli_option *o = &cli_options[i];

		if (!(which & 1u << i))
			continue;
		buf_fmt(out, " \\\n\t\t\t'%s--%s%s[", o->kind == CLI_LIST ? "*" : "", o->name,
			o->kind == CLI_CHOICE ? "=-" : "");
		put_zsh_text(out, o->help);
		buf_add_c(out, "]");
		if (o->kind != CLI_FLAG)
			buf_fmt(out, "%s:%s:%s", o->kind == CLI_CHOICE ? ":" : "", o->arg,
				i == OPT_SSH_KEY ? "_files" : i == OPT_NET ? "_weir_networks" :
				i == OPT_ACCESS ? "(open token)" : "");
		buf_add_c(out, "'");
	}
}

/* One for each letter; the last again and again, if the command takes more. */
static void put_zsh_operands(struct buf *out, const struct cli_command *cmd)
{
	size_t n = cmd->complete ? strlen(cmd->complete) : 0;

	for (size_t i = 0; i < n; i++) {
		char place[24];

		if (i + 1 == n && cmd->max > n && !cmd->rest)
			snprintf(place, sizeof(place), "*");
		else
			snprintf(place, sizeof(place), "%zu", i + 1);
		switch (cmd->complete[i]) {
		case 's':
			buf_fmt(out, " \\\n\t\t\t'%s:sandbox:_weir_sandboxes'", place);
			break;
		case 'n':
			buf_fmt(out, " \\\n\t\t\t'%s:network:_weir_networks'", place);
			break;
		case 'f':
			buf_fmt(out, " \\\n\t\t\t'%s:file:_files'", place);
			break;
		case 'w':
			buf_fmt(out, " \\\n\t\t\t'%s:what:(%s)'", place, cmd->words);
			break;
		default:
			break;
		}
	}
}

static void zsh(struct buf *out)
{
	buf_add_c(out, "#compdef weir\n"
		       "# Completion of weir for zsh. Written by \"weir completion zsh\".\n\n"
		       "_weir_sandboxes()\n{\n"
		       "\tlocal -a names\n\tnames=(${(f)\"$(weir ls --quiet 2>/dev/null)\"})\n"
		       "\t_describe sandbox names\n}\n\n"
		       "_weir_networks()\n{\n"
		       "\tlocal -a names\n"
		       "\tnames=(${(f)\"$(weir net ls 2>/dev/null | awk 'NR > 1 {print $1}')\"})\n"
		       "\t_describe network names\n}\n\n"
		       "_weir()\n{\n"
		       "\tlocal -a first\n\tlocal command\n\n\tfirst=(\n");
	for (size_t i = 0; i < cli_n_commands; i++) {
		size_t n = new_group(i);

		if (n)
			buf_fmt(out, "\t\t'%.*s'\n", (int)n - 1, cli_commands[i].path);
		else if (!strchr(cli_commands[i].path, ' ')) {
			buf_fmt(out, "\t\t'%s:", cli_commands[i].path);
			put_zsh_text(out, cli_commands[i].summary);
			buf_add_c(out, "'\n");
		}
	}
	buf_add_c(out, "\t)\n"
		       "\tif [[ $words[2] == (sandbox|sb) ]]; then\n"
		       "\t\tshift words\n\t\t((CURRENT--))\n\tfi\n"
		       "\tif ((CURRENT == 2)); then\n\t\t_describe command first\n\t\treturn\n\tfi\n"
		       "\tcommand=$words[2]\n\tcase $command in\n");
	for (size_t i = 0; i < cli_n_commands; i++) {
		size_t n = new_group(i);

		if (!n)
			continue;
		buf_fmt(out, "\t%.*s)\n\t\tif ((CURRENT == 3)); then\n\t\t\tcompadd -- ", (int)n - 1,
			cli_commands[i].path);
		put_second_words(out, cli_commands[i].path, n);
		buf_add_c(out, "\n\t\t\treturn\n\t\tfi\n\t\tcommand=\"$words[2] $words[3]\"\n"
			       "\t\tshift words\n\t\t((CURRENT--)) ;;\n");
	}
	buf_add_c(out, "\tesac\n\tshift words\n\t((CURRENT--))\n\tcase $command in\n");
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *cmd = &cli_commands[i];

		buf_fmt(out, "\t'%s')\n\t\t_arguments", cmd->path);
		put_zsh_options(out, cmd->options | COMMON);
		put_zsh_operands(out, cmd);
		if (cmd->rest)
			buf_add_c(out, " \\\n\t\t\t'*::command:_normal'");
		buf_add_c(out, " ;;\n");
	}
	buf_add_c(out, "\tesac\n}\n\n_weir \"$@\"\n");
}

int cmd_completion(struct cli *c)
{
	auto_buf struct buf out = BUF_MAX(1u << 20);

	if (strcmp(c->argv[0], "bash") == 0) {
		bash(&out);
	} else if (strcmp(c->argv[0], "zsh") == 0) {
		zsh(&out);
	} else {
		cli_say("there is no completion for \"%.40s\"", c->argv[0]);
		cli_hint("there is one for bash, and one for zsh");
		return CLI_USAGE;
	}
	print_flush(&out, STDOUT_FILENO);
	return CLI_OK;
}

/*
 * Reading a command line: options that every command has, then the command, then its own.
 *
 * Options and operands may be mixed, except behind the last fixed operand of a command that takes
 * another command: from there on, or after "--", the words are not ours to read.
 */
#include <getopt.h>
#include "cmd/cli/cli.h"

#define AT(m) offsetof(struct cli_opts, m)
const struct cli_option cli_options[OPT_COUNT] = {
	[OPT_HELP] = { "help", 'h', CLI_FLAG, AT(help), .help = "show this help" },
	[OPT_JSON] = { "json", 0, CLI_FLAG, AT(json), .help = "print the daemon's data as JSON" },
	[OPT_URL] = { "url", 0, CLI_TEXT, AT(url), "URL",
		.help = "the daemon; otherwise WEIR_URL, the configuration, http://127.0.0.1:8080" },
	[OPT_SHAPE] = { "shape", 0, CLI_TEXT, AT(shape), "SHAPE",
		.help = "how large it is (weir shapes); s-1vcpu-256mb" },
	[OPT_NAME] = { "name", 'n', CLI_TEXT, AT(name), "NAME",
		.help = "its name, also its host name; chosen for you otherwise" },
	[OPT_ROOTFS] = { "rootfs", 0, CLI_TEXT, AT(rootfs), "IMAGE",
		.help = "root file system (weir rootfs ls)" },
	[OPT_EGRESS] = { "egress", 'e', CLI_LIST, AT(egress), "RULE",
		.help = "allow host, *.host, address or prefix, each perhaps with :port; repeatable" },
	[OPT_ENV] = { "env", 0, CLI_LIST, AT(env), "NAME=VALUE",
		.help = "an environment variable; NAME alone takes its value from here; repeatable" },
	[OPT_DISK] = { "disk", 0, CLI_NUMBER, AT(disk), "MIB", 1, UINT32_MAX,
		.help = "size of the writable disk" },
	[OPT_SSH_KEY] = { "ssh-key", 0, CLI_LIST, AT(ssh_key), "FILE",
		.help = "a file of public keys to let in; repeatable" },
	[OPT_AUTO_PAUSE] = { "auto-pause", 0, CLI_NUMBER, AT(auto_pause), "SECONDS", 60, 86400,
		.help = "pause by itself after so long without use (60 to 86400)" },
	[OPT_NET] = { "net", 0, CLI_LIST, AT(net), "NETWORK",
		.help = "a private network to be in; repeatable" },
	[OPT_INTERACTIVE] = { "interactive", 'i', CLI_FLAG, AT(interactive),
		.help = "pass standard input on, read to its end first" },
	[OPT_KEEP] = { "keep", 0, CLI_FLAG, AT(keep), .help = "do not destroy the sandbox at the end" },
	[OPT_QUIET] = { "quiet", 'q', CLI_FLAG, AT(quiet),
		.help = "no words besides the result; for ls, names only" },
	[OPT_ALL] = { "all", 'a', CLI_FLAG, AT(all), .help = "destroyed and failed ones too" },
	[OPT_FOLLOW] = { "follow", 'f', CLI_FLAG, AT(follow), .help = "go on as they happen" },
	[OPT_LIMIT] = { "limit", 0, CLI_NUMBER, AT(limit), "N", 1, 500, .help = "at most so many" },
	[OPT_ADMIN] = { "admin", 0, CLI_FLAG, AT(admin), .help = "a key that may manage keys" },
	[OPT_INGRESS] = { "ingress", 0, CLI_FLAG, AT(ingress),
		.help = "let its services be reached from outside (weir url)" },
	[OPT_ACCESS] = { "access", 0, CLI_TEXT, AT(access), "open|token",
		.help = "who may come in: who knows the address (open), or who has a token" },
	[OPT_HOLD] = { "hold", 0, CLI_FLAG, AT(hold),
		.help = "a visitor of the paused sandbox resumes it, and waits" },
	[OPT_NO_HOLD] = { "no-hold", 0, CLI_FLAG, AT(no_hold), .help = "not any more" },
	[OPT_PORTS] = { "ports", 0, CLI_CHOICE, AT(ports), "proxy|direct",
		.help = "ports of the host for it: proxy, for /proxy/PORT/ of any port; direct, to 8080; or both" },
	[OPT_NO_PORTS] = { "no-ports", 0, CLI_CHOICE, AT(no_ports), "proxy|direct",
		.help = "close that one, or both" },
	[OPT_EXPIRES] = { "expires", 0, CLI_NUMBER, AT(expires), "SECONDS", 1, 316224000,
		.help = "how long it is good for; otherwise until it is revoked" },
	[OPT_FILES_ONLY] = { "files-only", 0, CLI_FLAG, AT(files_only), .help = "copy the files alone: containers" },
	[OPT_PAUSED] = { "paused", 0, CLI_FLAG, AT(paused), .help = "leave it paused" },
	[OPT_NO_WAIT] = { "no-wait", 0, CLI_FLAG, AT(no_wait), .help = "do not wait until it is done" },
};

#define COMMON (1u << OPT_HELP | 1u << OPT_JSON | 1u << OPT_URL)

static int complain(struct err *err, const char *fmt, ...) _printf_(2, 3);
static int complain(struct err *err, const char *fmt, ...)
{
	va_list ap;

	*err = (struct err){ .code = -EINVAL, .kind = ERR_INVALID };
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int take_value(struct cli *c, const struct cli_option *o, const char *text, struct err *err)
{
	void *place = (char *)&c->opt + o->offset;
	uint64_t n;

	switch (o->kind) {
	case CLI_FLAG:
		*(bool *)place = true;
		return 0;
	case CLI_TEXT:
		*(const char **)place = text;
		return 0;
	case CLI_CHOICE:
		*(const char **)place = text ? text : "";
		return 0;
	case CLI_LIST: {
		struct cli_list *list = place;

		if (list->n == CLI_LIST_MAX)
			return complain(err, "--%s is given more than %d times", o->name, CLI_LIST_MAX);
		list->v[list->n++] = text;
		return 0;
	}
	case CLI_NUMBER:
		if (str_u64(str_c(text), o->max, &n) < 0 || n < o->min)
			return complain(err, "--%s %s: not a number from %u to %u", o->name, text, o->min,
				o->max);
		*(uint32_t *)place = (uint32_t)n;
		return 0;
	}
	return 0;
}

static int argument_of(const struct cli_option *o)
{
	return o->kind == CLI_FLAG ? no_argument :
		o->kind == CLI_CHOICE ? optional_argument : required_argument;
}

/* Read options from argv[*at] on until an operand, "--" or the end; *at moves. */
static int take_options(struct cli *c, uint32_t allowed, int argc, char **argv, int *at,
	struct err *err)
{
	struct option longs[OPT_COUNT + 1] = { 0 };
	char shorts[2 * OPT_COUNT + 3] = "+:";
	size_t n_longs = 0, n_shorts = 2;
	int r;

	for (int i = 0; i < OPT_COUNT; i++) {
		const struct cli_option *o = &cli_options[i];

		if (!(allowed & 1u << i))
			continue;
		longs[n_longs++] = (struct option){ o->name, argument_of(o), NULL, 256 + i };
		if (o->letter) {
			shorts[n_shorts++] = o->letter;
			if (o->kind != CLI_FLAG)
				shorts[n_shorts++] = ':';
		}
	}
	/* getopt's argv[0] is the word before the first one to read. */
	argv += *at - 1;
	argc -= *at - 1;
	optind = 0;
	while ((r = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		int which = r - 256;

		if (r == '?' || r == ':') {
			bool is_long = optopt == 0 || optopt >= 256;
			char letter[3] = { '-', (char)optopt, '\0' };

			return complain(err, r == '?' ? "unknown option %s" : "option %s needs a value",
				is_long ? argv[optind - 1] : letter);
		}
		for (int i = 0; which < 0 && i < OPT_COUNT; i++)
			if ((allowed & 1u << i) && cli_options[i].letter == r)
				which = i;
		r = take_value(c, &cli_options[which], optarg, err);
		if (r < 0)
			return r;
	}
	*at += optind - 1;
	return 0;
}

/* --- which command was meant? --- */

static unsigned int distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned int row[32];

	if (n >= 31 || m >= 31)
		return 99;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned int)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned int diagonal = row[0];

		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned int above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);

			best = MIN(best, above + 1);
			best = MIN(best, row[j - 1] + 1);
			row[j] = best;
			diagonal = above;
		}
	}
	return row[m];
}

static int unknown_command(int argc, char **argv, struct err *err)
{
	const char *best = NULL;
	unsigned int least = 3;
	char group[128] = "";

	for (size_t i = 0; i < cli_n_commands; i++) {
		const char *path = cli_commands[i].path;
		const char *space = strchr(path, ' ');
		unsigned int d = distance(argv[0], path);

		if (space && strlen(argv[0]) == (size_t)(space - path) &&
			strncmp(path, argv[0], (size_t)(space - path)) == 0) {
			size_t n = strlen(group);

			snprintf(group + n, sizeof(group) - n, "%s%s", n ? ", " : "", space + 1);
		}
		if (d < least) {
			least = d;
			best = path;
		}
	}
	if (group[0])
		return complain(err, argc > 1 ? "weir %s: there is no \"%s\"; there is %s"
					      : "weir %s: say what%.0s: %s",
			argv[0], argc > 1 ? argv[1] : "", group);
	if (best)
		return complain(err, "there is no command \"%.40s\"; did you mean \"%s\"?", argv[0], best);
	return complain(err, "there is no command \"%.40s\"; weir --help lists them", argv[0]);
}

int cli_parse(struct cli *c, int argc, char **argv, struct err *err)
{
	const struct cli_command *cmd;
	int at = 1, used, r, n = 0;
	bool literal;

	r = take_options(c, COMMON, argc, argv, &at, err);
	if (r < 0)
		return r;
	if (at < argc && (strcmp(argv[at], "sandbox") == 0 || strcmp(argv[at], "sb") == 0)) {
		at++;
		r = take_options(c, COMMON, argc, argv, &at, err);
		if (r < 0)
			return r;
	}
	if (at < argc && strcmp(argv[at], "help") == 0) {
		c->opt.help = true;
		at++;
	}
	if (at >= argc) {
		if (c->opt.help)
			return 0;
		return complain(err, "say what to do; weir --help lists the commands");
	}
	cmd = cli_find(argc - at, argv + at, &used);
	if (!cmd)
		return c->opt.help ? 0 : unknown_command(argc - at, argv + at, err);
	c->cmd = cmd;
	at += used;
	c->argv = argv + at; /* operands move to its front */
	for (;;) {
		r = take_options(c, COMMON | cmd->options, argc, argv, &at, err);
		if (r < 0)
			return r;
		/* getopt steps over a "--"; what follows it are operands whatever they look like. */
		literal = strcmp(argv[at - 1], "--") == 0 && at > 1 && at - 1 >= (int)(c->argv - argv);
		if (at >= argc)
			break;
		if (literal || (cmd->rest && n >= (int)cmd->max)) {
			while (at < argc)
				c->argv[n++] = argv[at++];
			break;
		}
		c->argv[n++] = argv[at++];
	}
	c->argc = n;
	if (c->opt.help)
		return 0;
	if (n < (int)cmd->min + cmd->rest)
		return complain(err, "weir %s needs: %s", cmd->path, cmd->operands);
	if (!cmd->rest && n > (int)cmd->max)
		return complain(err, "weir %s: unexpected \"%.100s\"", cmd->path, c->argv[cmd->max]);
	return 0;
}

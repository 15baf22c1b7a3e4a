/* The table of commands. Help, completions and the checks of weir(1) are made from it. */
#include "cmd/cli/cli.h"

#define O(x) (1u << OPT_##x)
#define MAKING                                                                                     \
	(O(SHAPE) | O(NAME) | O(ROOTFS) | O(EGRESS) | O(ENV) | O(DISK) | O(SSH_KEY) | O(AUTO_PAUSE) | \
		O(NET) | O(INGRESS) | O(ACCESS) | O(HOLD) | O(PORTS))
#define MANY 256

const struct cli_command cli_commands[] = {
	{ "create", NULL, "", "make a sandbox, print its id", MAKING, 0, 0, .run = cmd_create,
		.more = "Without --egress the sandbox may reach everything; with it, only what the\n"
			"rules name.\n\n"
			"  weir create --name build --egress pypi.org:443 --egress '*.pythonhosted.org'\n" },
	{ "ls", "list", "", "list sandboxes", O(ALL) | O(QUIET), 0, 0, .run = cmd_ls },
	{ "show", "get", "SANDBOX", "everything about one sandbox", 0, 1, 1, .complete = "s",
		.run = cmd_show },
	{ "exec", NULL, "SANDBOX [--] COMMAND [ARG ...]", "run a command in a sandbox",
		O(INTERACTIVE) | O(ENV), 1, 1, .rest = true, .complete = "s.", .run = cmd_exec,
		.more = "The command's exit status becomes ours; a signal N gives 128+N; 125 means that\n"
			"it could not be run to its end. There is no shell in between:\n\n"
			"  weir exec build -- sh -c 'echo $HOME'\n"
			"  echo 'print(6*7)' | weir exec -i build python3 -\n" },
	{ "run", NULL, "[--] COMMAND [ARG ...]", "make a sandbox, run a command in it, destroy it",
		MAKING | O(INTERACTIVE) | O(KEEP) | O(QUIET), 0, 0, .rest = true, .run = cmd_run,
		.more = "What the sandbox was refused is listed on standard error at the end, unless\n"
			"--quiet. The sandbox is destroyed on Ctrl-C too.\n\n"
			"  weir run --egress pypi.org:443 -- pip download six\n" },
	{ "cp", NULL, "SOURCE TARGET", "copy a file or directory into or out of a sandbox", O(QUIET), 2, 2,
		.complete = "f", .run = cmd_cp,
		.more = "One of the two is SANDBOX:/absolute/path; '-' is standard input or output.\n\n"
			"  weir cp app.tar.gz build:/srv/\n"
			"  weir cp build:/var/log ./logs\n" },
	{ "egress get", NULL, "SANDBOX", "what a sandbox may reach", 0, 1, 1, .complete = "s",
		.run = cmd_egress_get },
	{ "egress set", NULL, "SANDBOX RULE ...", "replace the rules", 0, 2, MANY, .complete = "s.",
		.run = cmd_egress_set,
		.more = "A rule is host, *.host, address or prefix, each perhaps with :port; a single\n"
			"'*' opens everything. New rules hold for the next packet, also of connections\n"
			"that are open.\n" },
	{ "egress add", NULL, "SANDBOX RULE ...", "add rules", 0, 2, MANY, .complete = "s.",
		.run = cmd_egress_add },
	{ "egress rm", NULL, "SANDBOX RULE ...", "remove rules", 0, 2, MANY, .complete = "s.",
		.run = cmd_egress_rm,
		.more = "The last rule cannot be removed, because a list without rules allows\n"
			"everything; say so with: weir egress set SANDBOX '*'\n" },
	{ "egress explain", NULL, "SANDBOX HOST:PORT",
		"would it be allowed, by which rule, and why", 0, 2, 2, .complete = "s.",
		.run = cmd_egress_explain,
		.more = "The exit status is 0 for allowed and 6 for denied.\n" },
	{ "denials", NULL, "SANDBOX", "what was refused, and by which rule", O(FOLLOW) | O(LIMIT), 1, 1,
		.complete = "s", .run = cmd_denials },
	{ "pause", NULL, "SANDBOX ...", "stop a sandbox, keeping its memory", O(NO_WAIT), 1, MANY,
		.complete = "s", .run = cmd_pause },
	{ "resume", NULL, "SANDBOX ...", "let a paused sandbox go on", O(NO_WAIT), 1, MANY,
		.complete = "s", .run = cmd_resume },
	{ "fork", NULL, "SANDBOX", "another sandbox that goes on from this one, print its id",
		O(EGRESS) | O(ENV) | O(SSH_KEY) | O(PAUSED) | O(FILES_ONLY), 1, 1, .complete = "s", .run = cmd_fork,
		.more = "What runs in it and its disk are copied; the source stays paused, or goes on. Rules,\n"
			"environment and keys are the source's unless they are given. Of a container\n"
			"only the files can be copied (--files-only): the new one begins anew with them.\n\n"
			"  weir fork build\n" },
	{ "rm", "delete", "SANDBOX ...", "destroy sandboxes", O(QUIET) | O(NO_WAIT), 1, MANY, .complete = "s",
		.run = cmd_rm },
	{ "net create", NULL, "NAME", "make a private network, print its id", 0, 1, 1,
		.run = cmd_net_create,
		.more = "Members reach each other on every port, by name, whatever their rules say:\n\n"
			"  weir net create backend\n"
			"  weir create --name db --net backend\n"
			"  weir run --net backend -- curl http://db:8080\n" },
	{ "net ls", "net list", "", "list private networks", 0, 0, 0, .run = cmd_net_ls },
	{ "net show", "net get", "NETWORK", "who is in a private network, at which address", 0, 1, 1,
		.complete = "n", .run = cmd_net_show },
	{ "net rm", "net delete", "NETWORK ...", "remove private networks without members", 0, 1, MANY,
		.complete = "n", .run = cmd_net_rm },
	{ "net attach", NULL, "SANDBOX NETWORK", "let a sandbox into a private network", 0, 2, 2,
		.complete = "sn", .run = cmd_net_attach },
	{ "net detach", NULL, "SANDBOX NETWORK", "take a sandbox out of a private network", 0, 2, 2,
		.complete = "sn", .run = cmd_net_detach },
	{ "net policy", NULL, "NETWORK [RULE ...]", "show or set who may call whom in a private network", 0,
		1, 65, .complete = "n.", .run = cmd_net_policy,
		.more = "A rule is [allow|deny] FROM TO [PORTS[/PROTOCOL]]; FROM and TO are names, ids or *. The\n"
			"first that fits decides, and what none fits is refused. Answers always pass.\n\n"
			"  weir net policy backend 'web db 5432/tcp' '* cache 6379' 'mon * icmp'\n"
			"  weir net policy backend closed\n"
			"  weir net policy backend open\n" },
	{ "url", NULL, "SANDBOX PORT", "the address at which a port is reached from outside", 0, 2, 2,
		.complete = "s.", .run = cmd_url,
		.more = "  weir ingress on build && curl $(weir url build 8000)\n" },
	{ "ingress on", NULL, "SANDBOX", "let a sandbox's services be reached from outside",
		O(ACCESS) | O(HOLD) | O(NO_HOLD) | O(PORTS) | O(NO_PORTS), 1, 1, .complete = "s",
		.run = cmd_ingress_on,
		.more = "What is not said stays as it was. The address has <port> where the port goes;\n"
			"a service listens on 0.0.0.0 or on localhost.\n" },
	{ "ingress off", NULL, "SANDBOX", "let nobody in; who is in is cut off",
		O(ACCESS) | O(HOLD) | O(NO_HOLD) | O(PORTS) | O(NO_PORTS), 1, 1, .complete = "s",
		.run = cmd_ingress_off },
	{ "ingress token", NULL, "create SANDBOX PORT | ls SANDBOX | revoke SANDBOX ID ...",
		"tokens that let visitors in where --access token asks for them",
		O(NAME) | O(EXPIRES), 2, MANY, .complete = "ws.", .words = "create ls revoke",
		.run = cmd_ingress_token,
		.more = "A token opens one port. It is shown once. Visitors send it in the header\n"
			"X-Weir-Ingress-Token, or once as ?weir_token=... in a browser.\n\n"
			"  weir ingress token create --expires 3600 build 8000\n" },
	{ "forward", NULL, "SANDBOX [ADDRESS:]LOCAL:REMOTE ...",
		"bring ports of a sandbox to this machine", 0, 2, 1 + FORWARDS_MAX, .complete = "s.",
		.run = cmd_forward,
		.more = "REMOTE is a port on the sandbox's loopback, whatever the service speaks and whether\n"
			"ingress is on or not; LOCAL 0 takes a free one. Listens on 127.0.0.1 unless an\n"
			"ADDRESS is given, and goes on until it is interrupted.\n\n"
			"  weir forward db 5432:5432\n"
			"  weir forward build 8000:80 [::1]:9229:9229\n" },
	{ "rootfs ls", "rootfs list", "", "list root file systems", 0, 0, 0, .run = cmd_rootfs_ls },
	{ "rootfs build", NULL, "NAME", "build a root file system and follow the log", 0, 1, 1,
		.run = cmd_rootfs_build },
	{ "rootfs pulls", NULL, "", "list images that creates are waiting for", 0, 0, 0,
		.run = cmd_rootfs_pulls },
	{ "shapes", NULL, "", "list shapes: how large a sandbox can be", 0, 0, 0, .run = cmd_shapes },
	{ "key create", NULL, "NAME", "make an API key and print it, once", O(ADMIN), 1, 1,
		.run = cmd_key_create },
	{ "key ls", "key list", "", "list API keys", 0, 0, 0, .run = cmd_key_ls },
	{ "key rm", "key revoke", "ID ...", "revoke API keys", 0, 1, MANY, .run = cmd_key_rm },
	{ "doctor", NULL, "", "check the way to the daemon and say what to do", 0, 0, 0,
		.run = cmd_doctor },
	{ "version", NULL, "", "versions of this command and of the daemon", 0, 0, 0,
		.run = cmd_version },
	{ "completion", NULL, "bash|zsh", "print a completion script", 0, 1, 1, .complete = "w",
		.words = "bash zsh", .run = cmd_completion,
		.more = "  source <(weir completion bash)\n" },
};
const size_t cli_n_commands = ARRAY_SIZE(cli_commands);

/* Do the first words of argv spell this path? Then how many are they? */
static int spells(const char *path, int argc, char **argv)
{
	struct str rest = str_c(path);
	int n = 0;

	while (rest.p) {
		if (n >= argc || !str_eq_c(str_cut(&rest, ' '), argv[n]))
			return 0;
		n++;
	}
	return n;
}

const struct cli_command *cli_find(int argc, char **argv, int *used)
{
	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *cmd = &cli_commands[i];

		*used = spells(cmd->path, argc, argv);
		if (!*used && cmd->alias)
			*used = spells(cmd->alias, argc, argv);
		if (*used)
			return cmd;
	}
	return NULL;
}

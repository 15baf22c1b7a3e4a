/* cmd/cli/args: which words are options, which are operands, and what is said about the others. */
#include "cmd/cli/cli.h"
#include "../unit.h"

static struct cli c;

/* Words of one line, split at spaces. */
static int parse(const char *line, struct err *err)
{
	static char copy[512];
	static char *argv[64];
	int argc = 0;

	memset(&c, 0, sizeof(c));
	snprintf(copy, sizeof(copy), "weir %s", line);
	for (char *p = copy, *word; (word = strsep(&p, " ")) && argc < 63;)
		if (word[0])
			argv[argc++] = word;
	argv[argc] = NULL;
	return cli_parse(&c, argc, argv, err);
}

static void good(const char *line, const char *path, const char *operands)
{
	auto_buf struct buf got = BUF_MAX(1024);
	struct err err = { 0 };

	if (parse(line, &err) < 0)
		fail_msg("%s: %s", line, err.text);
	assert_non_null(c.cmd);
	assert_string_equal(c.cmd->path, path);
	for (int i = 0; i < c.argc; i++)
		buf_fmt(&got, "%s%s", i ? "|" : "", c.argv[i]);
	assert_string_equal(buf_cstr(&got), operands);
}

static void bad(const char *line, const char *says)
{
	struct err err = { 0 };

	if (parse(line, &err) == 0)
		fail_msg("%s: taken", line);
	assert_string_equal(err.text, says);
}

static void commands(void **state)
{
	good("ls", "ls", "");
	good("list", "ls", "");
	good("sandbox ls", "ls", "");
	good("sb ls", "ls", "");
	good("--json sb ls", "ls", "");
	good("egress get box", "egress get", "box");
	good("sb egress explain box a.example:443", "egress explain", "box|a.example:443");
	good("key list", "key ls", "");
	good("key revoke k1 k2", "key rm", "k1|k2");
	good("rm a b c", "rm", "a|b|c");
}

static void options(void **state)
{
	good("create --shape s-1vcpu-1gb -n demo --egress a --egress=b:443 -e c --env K=V --disk 5000 "
	     "--ssh-key k.pub --auto-pause 60 --rootfs devbox:1",
		"create", "");
	assert_string_equal(c.opt.shape, "s-1vcpu-1gb");
	assert_string_equal(c.opt.name, "demo");
	assert_string_equal(c.opt.rootfs, "devbox:1");
	assert_int_equal(c.opt.egress.n, 3);
	assert_string_equal(c.opt.egress.v[1], "b:443");
	assert_string_equal(c.opt.env.v[0], "K=V");
	assert_int_equal(c.opt.disk, 5000);
	assert_int_equal(c.opt.auto_pause, 60);
	/* mixed with operands, before and after the command */
	good("--url http://h ls -aq --json", "ls", "");
	assert_true(c.opt.json && c.opt.all && c.opt.quiet);
	assert_string_equal(c.opt.url, "http://h");
	good("denials box -f", "denials", "box");
	assert_true(c.opt.follow);
	good("denials -f box --limit 5", "denials", "box");
	assert_int_equal(c.opt.limit, 5);
	/* behind "--" nothing is an option */
	good("egress add box -- -x", "egress add", "box|-x");
	good("rm -q -- --name", "rm", "--name");
}

/* What belongs to the command that is run is left alone. */
static void passed_on(void **state)
{
	good("exec box ls -l --json", "exec", "box|ls|-l|--json");
	assert_false(c.opt.json);
	good("exec box -i cat -n", "exec", "box|cat|-n");
	assert_true(c.opt.interactive);
	good("exec -i box -- -weird --", "exec", "box|-weird|--");
	good("exec --env A=b box env", "exec", "box|env");
	good("run -e a:443 -- curl -sI https://a", "run", "curl|-sI|https://a");
	assert_int_equal(c.opt.egress.n, 1);
	good("run curl --json", "run", "curl|--json");
	assert_false(c.opt.json);
	good("run --keep true", "run", "true");
	assert_true(c.opt.keep);
}

static void complaints(void **state)
{
	bad("", "say what to do; weir --help lists the commands");
	bad("craete", "there is no command \"craete\"; did you mean \"create\"?");
	bad("frobnicate", "there is no command \"frobnicate\"; weir --help lists them");
	bad("egress", "weir egress: say what: get, set, add, rm, explain");
	bad("egress show box", "weir egress: there is no \"show\"; there is get, set, add, rm, explain");
	bad("ls --foo", "unknown option --foo");
	bad("ls -x", "unknown option -x");
	bad("ls --follow", "unknown option --follow");
	bad("ls extra", "weir ls: unexpected \"extra\"");
	bad("create --name", "option --name needs a value");
	bad("create -n", "option -n needs a value");
	bad("create --auto-pause 59", "--auto-pause 59: not a number from 60 to 86400");
	bad("create --disk 0x10", "--disk 0x10: not a number from 1 to 4294967295");
	bad("exec", "weir exec needs: SANDBOX [--] COMMAND [ARG ...]");
	bad("exec box", "weir exec needs: SANDBOX [--] COMMAND [ARG ...]");
	bad("run", "weir run needs: [--] COMMAND [ARG ...]");
	bad("run --", "weir run needs: [--] COMMAND [ARG ...]");
	bad("egress set box", "weir egress set needs: SANDBOX RULE ...");
	bad("cp a", "weir cp needs: SOURCE TARGET");
}

static void help(void **state)
{
	struct err err;

	assert_int_equal(parse("--help", &err), 0);
	assert_true(c.opt.help && !c.cmd);
	assert_int_equal(parse("create --help", &err), 0);
	assert_true(c.opt.help);
	assert_string_equal(c.cmd->path, "create");
	assert_int_equal(parse("help egress add", &err), 0);
	assert_string_equal(c.cmd->path, "egress add");
	assert_int_equal(parse("exec -h", &err), 0);
	assert_true(c.opt.help);
	/* of what is run, not of ours */
	good("exec box ls --help", "exec", "box|ls|--help");
	assert_false(c.opt.help);
}

/* The tables themselves: every command says what it does, no two share a name, no option letter
 * means two things in one command, and each option has a use. */
static void tables(void **state)
{
	uint32_t used = 1u << OPT_HELP | 1u << OPT_JSON | 1u << OPT_URL;

	for (size_t i = 0; i < cli_n_commands; i++) {
		const struct cli_command *cmd = &cli_commands[i];
		auto_buf struct buf text = BUF_MAX(65536);
		char letters[256] = { ['h'] = 1 };

		assert_non_null(cmd->run);
		assert_true(cmd->summary[0] && cmd->min <= cmd->max);
		cli_help(&text, cmd);
		assert_int_equal(buf_failed(&text), 0);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(cmd->path, cli_commands[k].path);
		for (int o = 0; o < OPT_COUNT; o++) {
			unsigned char letter = (unsigned char)cli_options[o].letter;

			if (!(cmd->options & 1u << o))
				continue;
			assert_true(!letter || !letters[letter]);
			letters[letter] = 1;
			assert_non_null(strstr(buf_cstr(&text), cli_options[o].name));
		}
		used |= cmd->options;
	}
	assert_int_equal(used, (1u << OPT_COUNT) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(commands), cmocka_unit_test(options),
		cmocka_unit_test(passed_on), cmocka_unit_test(complaints), cmocka_unit_test(help),
		cmocka_unit_test(tables) };

	return cmocka_run_group_tests_name("cmd/args", tests, NULL, NULL);
}

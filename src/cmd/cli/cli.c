/* One run of the command: read the words, the configuration, then do what they say. */
#include <signal.h>
#include "cmd/cli/cli.h"

volatile int cli_interrupted;

void cli_say(const char *fmt, ...)
{
	va_list ap;

	fputs("weir: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void cli_hint(const char *fmt, ...)
{
	va_list ap;

	fputs("      ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void cli_usage_of(const struct cli *c)
{
	if (c->cmd)
		cli_hint("weir %s --help says more", c->cmd->path);
}

/* The first signal asks; a second one, should the first lead nowhere, ends us. */
static void on_signal(int sig)
{
	cli_interrupted = sig;
	signal(sig, SIG_DFL);
}

void cli_catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &(struct sigaction){ .sa_handler = on_signal }, NULL);
}

static bool colours(int fd)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fd) && !(no && no[0]) && term && strcmp(term, "dumb") != 0;
}

static int run(struct cli *c, int argc, char **argv)
{
	struct err err;

	if (cli_parse(c, argc, argv, &err) < 0) {
		cli_say("%s", err.text);
		cli_usage_of(c);
		return CLI_USAGE;
	}
	if (c->opt.help) {
		auto_buf struct buf text = BUF_MAX(65536);

		cli_help(&text, c->cmd);
		print_flush(&text, STDOUT_FILENO);
		return CLI_OK;
	}
	if (cli_conf_read(&c->conf, c->opt.url, &err) < 0) {
		cli_say("%s", err.text);
		return CLI_USAGE;
	}
	c->colour = colours(STDOUT_FILENO);
	c->colour_err = colours(STDERR_FILENO);
	return c->cmd->run(c);
}

int cli_main(int argc, char **argv)
{
	struct cli c = { 0 };
	int r;

	/* "weir --version", because everybody tries it. */
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		argv[1] = (char *)"version";
	curl_global_init(CURL_GLOBAL_DEFAULT);
	r = run(&c, argc, argv);
	curl_easy_cleanup(c.curl);
	curl_global_cleanup();
	secret_done(&c.conf.key);
	/* Told apart from a command that exits with this number by itself. */
	if (r == CLI_INTERRUPTED && cli_interrupted)
		r = 128 + cli_interrupted;
	return r;
}

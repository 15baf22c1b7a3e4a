/*
 * weird: the host role. Root, in the host's namespaces; see sandbox/daemon.h for what it does and
 * doc/privilege.md for what it holds. This file reads the command line and the configuration.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/daemon.h"
#include "wire/config.h"

#define CONFIG_DEFAULT "/etc/weir/weird.conf"
#define CONFIG_MAX     (1 << 20)

static const char usage[] =
	"Usage: weird [--config FILE] [--set KEY=VALUE]... [ACTION]\n"
	"\n"
	"Runs the daemon in the foreground. SIGTERM stops it and leaves sandboxes running for the\n"
	"next start; SIGINT takes everything down.\n"
	"\n"
	"  --config FILE    read FILE (default " CONFIG_DEFAULT ", which need not exist)\n"
	"  --set KEY=VALUE  override one key of the configuration\n"
	"\n"
	"Actions, instead of running:\n"
	"  --check          read the configuration and print every complaint\n"
	"  --print-config   print the configuration in force\n"
	"  --probe          check what the machine offers, and say what to do about it\n"
	"  --down           destroy every sandbox of this daemon, and all it made in the kernel\n"
	"  --leaks          list kernel objects that carry this daemon's name; 1 if there are any\n"
	"  --version        print the version\n"
	"  --help           print this\n";

enum action { RUN, CHECK, PRINT, PROBE, DOWN, LEAKS };

enum { OPT_CONFIG = 256, OPT_SET, OPT_VERSION, OPT_HELP, OPT_ACTION };

static const struct option options[] = {
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "set", required_argument, NULL, OPT_SET },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "check", no_argument, NULL, OPT_ACTION + CHECK },
	{ "print-config", no_argument, NULL, OPT_ACTION + PRINT },
	{ "probe", no_argument, NULL, OPT_ACTION + PROBE },
	{ "down", no_argument, NULL, OPT_ACTION + DOWN },
	{ "leaks", no_argument, NULL, OPT_ACTION + LEAKS },
	{ NULL, 0, NULL, 0 },
};

static int complain(const struct err *err)
{
	bool named = str_starts(str_c(err->text), str_c(err->field));

	fprintf(stderr, "weird: %s%s%s\n", named ? "" : err->field, named ? "" : ": ", err->text);
	return 1;
}

static int read_config(const char *path, bool named, struct config *c)
{
	auto_buf struct buf text = BUF_MAX(CONFIG_MAX), complaints = BUF_MAX(CONFIG_MAX);
	int r = file_read(AT_FDCWD, path, &text);

	config_defaults(c);
	if (r == -ENOENT && !named)
		return 0;
	if (r < 0) {
		fprintf(stderr, "weird: %s: %s\n", path, strerror(-r));
		return r;
	}
	r = config_read(c, path, buf_str(&text), &complaints);
	if (r < 0)
		fprintf(stderr, STR_FMT, STR_ARG(buf_str(&complaints)));
	return r;
}

/* --set, then what only all keys together show. */
static int settle(struct config *c, const char *const *sets, unsigned int n)
{
	auto_buf struct buf complaints = BUF_MAX(CONFIG_MAX);
	struct err err;

	for (unsigned int i = 0; i < n; i++)
		if (config_set(c, str_c(sets[i]), &err) < 0) {
			complain(&err);
			return -EINVAL;
		}
	if (config_finish(c, &complaints) == 0)
		return 0;
	fprintf(stderr, STR_FMT, STR_ARG(buf_str(&complaints)));
	return -EINVAL;
}

static int print_config(const struct config *c)
{
	auto_buf struct buf out = BUF_MAX(CONFIG_MAX);

	if (config_print(c, false, &out) < 0)
		return 1;
	return fd_write_all(STDOUT_FILENO, out.p, out.n) < 0;
}

static int probe(const struct config *c)
{
	auto_buf struct buf out = BUF_MAX(65536);
	struct err err = { .code = 0 };
	int r = daemon_probe(c, &out, &err);

	fd_write_all(STDOUT_FILENO, out.p, out.n);
	return r < 0;
}

static int down(const struct config *c)
{
	auto_free struct daemon *d = calloc(1, sizeof(*d));
	struct err err = { .code = 0 };
	int r = d ? daemon_paths(d, c, &err) : err_sys(&err, -ENOMEM, "daemon");

	if (r == 0)
		r = daemon_down(d, &err);
	if (d)
		daemon_close(d);
	return r < 0 ? complain(&err) : 0;
}

static int leaks(const struct config *c)
{
	auto_free struct daemon *d = calloc(1, sizeof(*d));
	auto_buf struct buf out = BUF_MAX(CONFIG_MAX);
	struct err err = { .code = 0 };
	int n = d ? daemon_paths(d, c, &err) : err_sys(&err, -ENOMEM, "daemon");

	if (n == 0)
		n = daemon_leaks(d, &out);
	if (d)
		daemon_close(d);
	if (n < 0)
		return complain(&err);
	fd_write_all(STDOUT_FILENO, out.p, out.n);
	return n > 0;
}

static int run(const struct config *c)
{
	auto_free struct daemon *d = calloc(1, sizeof(*d));
	struct err err = { .code = 0 };
	bool all;
	int r;

	signal(SIGPIPE, SIG_IGN);
	log_open("host", (enum log_level)c->log_level);
	fault_open(FAULT_DIR, "host");
	r = d ? daemon_open(d, c, &err) : err_sys(&err, -ENOMEM, "daemon");
	if (r == 0)
		r = daemon_run(d, &err);
	if (!d)
		return complain(&err);
	all = d->take_all;
	daemon_close(d);
	if (r < 0)
		return complain(&err);
	return all ? down(c) : 0;
}

int main(int argc, char **argv)
{
	const char *path = CONFIG_DEFAULT, *sets[128];
	unsigned int n_sets = 0;
	enum action action = RUN;
	bool named = false;
	struct config c;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == OPT_CONFIG) {
			path = optarg;
			named = true;
		} else if (o == OPT_SET && n_sets < ARRAY_SIZE(sets)) {
			sets[n_sets++] = optarg;
		} else if (o == OPT_VERSION) {
			puts("weird " WEIR_VERSION);
			return 0;
		} else if (o == OPT_HELP) {
			fputs(usage, stdout);
			return 0;
		} else if (o > OPT_ACTION && o <= OPT_ACTION + LEAKS) {
			action = (enum action)(o - OPT_ACTION);
		} else {
			fputs("weird: try weird --help\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "weird: unexpected argument \"%s\"; try weird --help\n",
			argv[optind]);
		return 2;
	}
	if (read_config(path, named, &c) < 0)
		return 1;
	if (settle(&c, sets, n_sets) < 0)
		return 1;
	switch (action) {
	case CHECK:
		return 0;
	case PRINT:
		return print_config(&c);
	case PROBE:
		return probe(&c);
	case DOWN:
		return down(&c);
	case LEAKS:
		return leaks(&c);
	case RUN:
		break;
	}
	return run(&c);
}

/*
 * weir doctor: the way from here to the daemon, step by step. Each finding says what to do; the
 * exit status is 0 only if nothing is wrong. Where weird is installed and we are root, its own
 * probe of the machine comes first.
 */
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/wait.h>
#include "cmd/cli/cli.h"

struct findings {
	struct cli *c;
	json_t *all;
	bool bad;
};

enum finding { FOUND_OK, FOUND_WARN, FOUND_BAD };

static void found(struct findings *f, enum finding what, const char *step, const char *todo,
	const char *fmt, ...) _printf_(5, 6);
static void found(struct findings *f, enum finding what, const char *step, const char *todo,
	const char *fmt, ...)
{
	static const char *const words[] = { "ok", "warn", "bad" };
	static const enum tone tones[] = { TONE_GOOD, TONE_WARN, TONE_BAD };
	auto_buf struct buf out = BUF_MAX(16384);
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f->bad |= what == FOUND_BAD;
	json_array_append_new(f->all, json_pack("{s:s, s:s, s:s, s:s}", "check", step, "result",
		words[what], "text", text, "todo", todo));
	if (f->c->opt.json)
		return;
	print_tone(&out, f->c->colour, tones[what], words[what]);
	buf_fmt(&out, "%*s%-12s ", what == FOUND_WARN ? 1 : what == FOUND_OK ? 3 : 2, "", step);
	print_clean(&out, str_c(text));
	buf_add(&out, "\n", 1);
	if (todo[0])
		buf_fmt(&out, "%-17s %s\n", "", todo);
	print_flush(&out, STDOUT_FILENO);
}

/* The weird that came with us: beside us in a build tree, in sbin when installed; or any other. */
static bool find_weird(char path[PATH_MAX])
{
	static const char *const places[] = { "weird", "../sbin/weird", "/usr/local/sbin/weird",
		"/usr/sbin/weird" };
	char dir[PATH_MAX], place[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	while (n > 0 && dir[n - 1] != '/')
		n--;
	dir[n > 0 ? n : 0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(place, sizeof(place), "%s%s", places[i][0] == '/' ? "" : dir, places[i]);
		if (access(place, X_OK) == 0 && realpath(place, path))
			return true;
	}
	return false;
}

/* The daemon's own look at this machine, its lines passed on. */
static void probe(struct findings *f)
{
	char path[PATH_MAX];
	int status;
	pid_t pid;

	if (!find_weird(path))
		return; /* the daemon may well be on another machine */
	if (geteuid() != 0) {
		found(f, FOUND_WARN, "machine", "run \"sudo weir doctor\" to have it checked",
			"only root can check it");
		return;
	}
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (f->c->opt.json)
			dup2(STDERR_FILENO, STDOUT_FILENO);
		execl(path, path, "--probe", NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		found(f, FOUND_OK, "machine", "", "%s --probe finds nothing missing", path);
	else
		found(f, FOUND_BAD, "machine", "its lines above say what is missing",
			"%s --probe is not satisfied", path);
}

static void configuration(struct findings *f)
{
	const struct cli_conf *conf = &f->c->conf;

	found(f, FOUND_OK, "address", "", "%s", conf->url);
	if (secret_empty(&conf->key))
		found(f, FOUND_BAD, "key",
			"set WEIR_API_KEY; the admin's key lies in " CLI_ADMIN_KEY " on its machine",
			"there is none");
	else if (conf->readable_by_all)
		found(f, FOUND_WARN, "key", "chmod 600 that file", "%s can be read by others", conf->path);
	else
		found(f, FOUND_OK, "key", "", "from %s", conf->key_from);
}

static bool reach(struct findings *f)
{
	struct api_req health = { .method = "GET", .path = "/healthz" };
	struct api_req ready = { .method = "GET", .path = "/readyz" };
	auto_answer struct api_answer a = { 0 }, b = { 0 };

	if (api_perform(f->c, &health, &a) < 0) {
		found(f, FOUND_BAD, "connection",
			"root starts it with \"weird\", and its log says why it stopped; another address: "
			"--url or WEIR_URL",
			"%s", curl_easy_strerror(a.curl));
		return false;
	}
	if (a.status != 200 || !jbool(a.data, "up")) {
		found(f, FOUND_BAD, "connection", "is the address right?",
			"what answers there is no Weir daemon (HTTP %ld)", a.status);
		return false;
	}
	found(f, FOUND_OK, "connection", "", "the daemon answers");
	api_perform(f->c, &ready, &b);
	if (b.status == 200)
		found(f, FOUND_OK, "ready", "", "it takes work");
	else
		found(f, FOUND_BAD, "ready", "its log says more", "it is not ready: %s",
			jtext(b.data, "reason")[0] ? jtext(b.data, "reason") : b.message);
	return true;
}

static void identity(struct findings *f)
{
	struct api_req q = { .method = "GET", .path = "/v1/whoami" };
	auto_answer struct api_answer a = { 0 };

	if (secret_empty(&f->c->conf.key))
		return;
	api_perform(f->c, &q, &a);
	if (a.data)
		found(f, FOUND_OK, "access", "", "you are %s, with %" PRId64 " sandboxes",
			jtext(a.data, "user_id"), jint(json_object_get(a.data, "stats"), "total"));
	else
		found(f, FOUND_BAD, "access", "the admin's key lies in " CLI_ADMIN_KEY,
			"the daemon does not know the key from %s", f->c->conf.key_from);
}

/* Which runtimes there are, which one is taken unasked, and what machines run by. */
static void runtimes(struct findings *f, const json_t *version)
{
	bool vm = false;
	json_t *name;
	size_t i;

	json_array_foreach(json_object_get(version, "runtimes"), i, name)
		vm |= json_string_value(name) && !strcmp(json_string_value(name), "vm");
	found(f, FOUND_OK, "runtime", "", "%s, where a create names none",
		jtext(version, "runtime_default"));
	found(f, vm ? FOUND_OK : FOUND_WARN, "vm", vm ? "" : "then restart weird", "%s%s",
		vm ? "machines run by " : "there are no machines: ", jtext(version, "vm"));
}

static void versions(struct findings *f)
{
	struct api_req q = { .method = "GET", .path = "/v1/version" };
	auto_answer struct api_answer a = { 0 };
	const char *version;

	api_perform(f->c, &q, &a);
	version = jtext(a.data, "version");
	if (!a.data)
		return; /* other daemons speak this API too, without saying their version */
	if (strcmp(version, WEIR_VERSION) == 0)
		found(f, FOUND_OK, "version", "", "%s, like this command", version);
	else
		found(f, FOUND_WARN, "version", "install the same version of both",
			"the daemon is %s, this command %s", version, WEIR_VERSION);
	if (!json_array_size(json_object_get(a.data, "runtimes")))
		found(f, FOUND_BAD, "runtimes", "the daemon's log says why", "none works");
	else if (json_object_get(a.data, "vm"))
		runtimes(f, a.data);
}

static void images(struct findings *f)
{
	struct api_req q = { .method = "GET", .path = "/v1/rootfs" };
	auto_answer struct api_answer a = { 0 };
	const char *wanted;
	char todo[300];
	json_t *name;
	size_t i;

	api_perform(f->c, &q, &a);
	wanted = jtext(a.data, "default");
	if (!wanted[0])
		return;
	json_array_foreach(json_object_get(a.data, "rootfs"), i, name) {
		if (json_string_value(name) && strcmp(json_string_value(name), wanted) == 0) {
			found(f, FOUND_OK, "rootfs", "", "%s is there", wanted);
			return;
		}
	}
	snprintf(todo, sizeof(todo), "\"weir rootfs build %.200s\" makes it", wanted);
	found(f, FOUND_BAD, "rootfs", todo, "the default, %s, is not built", wanted);
}

/* The default domain of ingress: a daemon that finds this too publishes paths instead of names. */
static void names(struct findings *f)
{
	struct addrinfo *a = NULL;

	if (getaddrinfo("weir.localhost", NULL, NULL, &a) == 0)
		found(f, FOUND_OK, "names", "", "names below localhost lead here");
	else
		found(f, FOUND_WARN, "names", "install libnss-myhostname, then restart weird",
			"names below localhost do not resolve: services are published by path");
	if (a)
		freeaddrinfo(a);
}

int cmd_doctor(struct cli *c)
{
	struct findings f = { .c = c, .all = json_array() };
	int r = CLI_OK;

	probe(&f);
	configuration(&f);
	if (reach(&f)) {
		identity(&f);
		versions(&f);
		images(&f);
		names(&f);
	}
	if (c->opt.json)
		r = print_json(c, f.all);
	json_decref(f.all);
	return r ? r : f.bad ? CLI_FAILED : CLI_OK;
}

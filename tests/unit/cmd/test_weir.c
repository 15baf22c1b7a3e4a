/*
 * Whole commands against a server that plays the daemon: what is asked, printed and returned.
 * The player answers from a table and notes every request in shared memory; each command runs in
 * a process of its own, as it does in life.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "cmd/cli/cli.h"
#include "event/httpd.h"
#include "../unit.h"

#define BOX  "sb-01jq2m8z6k3v9x4c7b5n1t0hga"
#define VIEW "{\"id\":\"" BOX "\",\"name\":\"demo\",\"status\":\"running\",\"ip\":\"10.60.0.14\"," \
	     "\"shape\":\"s-1vcpu-256mb\",\"rootfs\":\"devbox:1\",\"vcpu\":1,\"mem_mib\":256,"       \
	     "\"disk_mib\":10240,\"created_at\":\"2026-01-05T09:30:00Z\",\"egress\":[\"a.example:443\"]}"
#define OK(data)      "{\"status\":\"success\",\"data\":" data "}"
#define FAIL(data)    "{\"status\":\"fail\",\"data\":" data "}"
#define PAGE(items, n) OK("{\"data\":[" items "],\"pagination\":{\"total\":" n ",\"limit\":500," \
			  "\"offset\":0,\"count\":" n "}}")

/* --- the player --- */

static const struct {
	const char *method, *target; /* a target that ends with '*' is a beginning */
	int status;
	const char *body;
} script[] = {
	{ "GET", "/healthz", 200, OK("{\"up\":true}") },
	{ "GET", "/readyz", 200, OK("{\"ready\":true}") },
	{ "GET", "/v1/whoami", 200, OK("{\"user_id\":\"u1\",\"stats\":{\"total\":1}}") },
	{ "GET", "/v1/version", 200, OK("{\"version\":\"" WEIR_VERSION "\",\"runtimes\":[\"container\"]}") },
	{ "GET", "/v1/rootfs", 200, OK("{\"rootfs\":[\"devbox:1\"],\"default\":\"devbox:1\"}") },
	{ "GET", "/v1/shapes*", 200,
		PAGE("{\"id\":\"s-1vcpu-256mb\",\"vcpu\":1,\"mem_mib\":256,\"default_disk_mib\":10240},"
		     "{\"id\":\"s-0.5vcpu-1gb\",\"vcpu\":1,\"cpu_quota_pct\":50,\"mem_mib\":1024,"
		     "\"default_disk_mib\":10240}", "2") },
	{ "GET", "/v1/sandboxes?*", 200,
		PAGE("{\"id\":\"sb-01jq2m8z6k3v9x4c7b5n1t0hgb\",\"name\":\"demo\",\"status\":\"destroyed\"},"
		     VIEW ",{\"id\":\"sb-01jq2m8z6k3v9x4c7b5n1t0hgc\",\"name\":\"other\\u001b[2J\","
		     "\"status\":\"paused\",\"egress\":[]}", "3") },
	{ "GET", "/v1/sandboxes/" BOX, 200, OK(VIEW) },
	{ "DELETE", "/v1/sandboxes/" BOX, 200, OK("{\"id\":\"" BOX "\",\"status\":\"destroying\"}") },
	{ "GET", "/v1/sandboxes/" BOX "/counters", 200,
		OK("{\"out_packets\":3,\"out_bytes\":2048,\"in_packets\":1,\"in_bytes\":60,"
		   "\"denied\":{\"default\":7,\"floor\":0}}") },
	{ "GET", "/v1/sandboxes/" BOX "/egress", 200,
		OK("{\"id\":\"" BOX "\",\"egress\":[\"a.example:443\",\"b.example\"]}") },
	{ "PUT", "/v1/sandboxes/" BOX "/egress", 200, OK("{\"id\":\"" BOX "\",\"egress\":[\"new\"]}") },
	{ "GET", "/v1/sandboxes/" BOX "/egress/explain?to=a.example%3A443", 200,
		OK("{\"verdict\":\"allow\",\"reason\":\"rule\",\"text\":\"rule 1, a.example:443\"}") },
	{ "GET", "/v1/sandboxes/" BOX "/egress/explain?to=evil.example%3A80", 200,
		OK("{\"verdict\":\"deny\",\"reason\":\"default\",\"text\":\"no rule names it\"}") },
	{ "GET", "/v1/sandboxes/" BOX "/denials?limit=*", 200,
		OK("{\"denials\":[{\"at\":\"2026-01-05T09:31:00.000Z\",\"protocol\":\"tcp\","
		   "\"name\":\"evil\\u001b.example\",\"port\":443,\"text\":\"evil\\u001b.example: no rule names it\",\"count\":3},"
		   "{\"at\":\"2026-01-05T09:30:00.000Z\",\"protocol\":\"udp\",\"address\":\"192.0.2.1\","
		   "\"port\":53,\"reason\":\"floor\",\"count\":1}],\"suppressed\":2}") },
	{ "GET", "/v1/sandboxes/" BOX "/denials?follow=*", 200,
		"{\"hb\":true}\n{\"at\":\"2026-01-05T09:31:00.000Z\",\"protocol\":\"tcp\","
		"\"name\":\"evil.example\",\"port\":443,\"text\":\"no\"}\n" },
	{ "GET", "/v1/sandboxes/" BOX "/files?path=%2Fetc%2Fmotd", 200, "hello from inside\n" },
	{ "GET", "/v1/sandboxes/" BOX "/files?path=%2Fnone", 404, FAIL("{\"path\":\"no such file\"}") },
	{ "PUT", "/v1/sandboxes/" BOX "/files?path=*", 200, OK("{\"bytes\":4}") },
	{ "POST", "/v1/sandboxes/" BOX "/pause", 202, OK("{\"id\":\"" BOX "\",\"status\":\"pausing\"}") },
	{ "POST", "/v1/sandboxes/" BOX "/resume", 200, OK(VIEW) },
	{ "POST", "/v1/rootfs/build", 200,
		"{\"line\":\"step 1\"}\n{\"hb\":true}\n{\"final\":true,\"status\":\"failed\"}\n" },
	{ "GET", "/v1/rootfs/pulls?*", 200,
		PAGE("{\"image\":\"docker.example/a:1\",\"status\":\"queued\",\"creates\":3}", "1") },
	{ "GET", "/v1/keys?*", 200, PAGE("{\"id\":\"key-1\",\"name\":\"ci\",\"admin\":true}", "1") },
	{ "POST", "/v1/keys", 200, OK("{\"id\":\"key-2\",\"name\":\"n\",\"key\":\"secret-once\"}") },
	{ "DELETE", "/v1/keys/key-1", 403, FAIL("{\"auth\":\"only for admins\"}") },
};

static char *seen; /* shared: requests, one after the other */
#define SEEN_MAX 65536u

static const char *exec_frames(struct str body)
{
	if (memmem(body.p, body.n, "\"cut\"", 5))
		return "{\"stdout\":\"half\"}\n";
	if (memmem(body.p, body.n, "\"missing\"", 9))
		return "{\"error\":\"missing: not found\"}\n{\"exit_code\":127}\n";
	if (memmem(body.p, body.n, "\"stdin\":\"given\"", 15))
		return "{\"stdout\":\"got it\"}\n{\"exit_code\":0}\n";
	return "{\"stdout\":\"out \"}\n{\"hb\":true}\n{\"stderr\":\"err\"}\n{\"stdout\":\"put\\n\"}\n"
	       "{\"exit_code\":42}\n";
}

static void answer(struct http *h, struct str body, void *arg)
{
	struct str target = http_target(h), method = http_method_text(h);
	size_t at = strlen(seen);

	snprintf(seen + at, SEEN_MAX - at, "%.*s %.*s %.*s\n", STR_ARG(method), STR_ARG(target),
		STR_ARG(body));
	if (!str_eq_c(http_header(h, "x-api-key"), "good-key")) {
		http_reply(h, 401, "application/json", STR(FAIL("{\"auth\":\"missing or invalid\"}")));
		return;
	}
	if (str_eq_c(target, "/v1/sandboxes") && str_eq_c(method, "POST")) {
		if (memmem(body.p, body.n, "\"shape\":\"huge\"", 14))
			http_reply(h, 400, "application/json",
				STR(FAIL("{\"shape\":\"unknown shape: huge\"}")));
		else
			http_reply(h, 200, "application/json", STR(OK(VIEW)));
		return;
	}
	if (str_ends(target, STR("/exec?stream=true"))) {
		if (memmem(body.p, body.n, "\"forever\"", 9)) {
			http_start(h, 200, "application/x-ndjson", -1);
			http_write(h, STR("{\"stdout\":\"begun\\n\"}\n"));
			return; /* until the client leaves */
		}
		http_reply(h, 200, "application/x-ndjson", str_c(exec_frames(body)));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(script); i++) {
		struct str want = str_c(script[i].target);
		bool begins = str_ends(want, STR("*")) && str_starts(target, str_n(want.p, want.n - 1));

		if (str_eq_c(method, script[i].method) && (begins || str_eq(target, want))) {
			http_reply(h, script[i].status, "application/json", str_c(script[i].body));
			return;
		}
	}
	http_reply(h, 404, "text/html", STR("<html>what?</html>"));
}

static void on_request(struct http *h, void *arg)
{
	http_body_whole(h, 1u << 20, answer, NULL);
}

static void on_refuse(struct http *h, int status, const struct err *err, struct buf *body,
	const char **type, void *arg)
{
	buf_add_c(body, err->text);
}

static const struct httpd_ops ops = { .on_request = on_request, .on_refuse = on_refuse };
static pid_t player;
static char url[64];

static int setup(void **state)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(addr);
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	seen = mmap(NULL, SEEN_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (bind(fd, (struct sockaddr *)&addr, n) < 0 || listen(fd, 16) < 0)
		return -1;
	getsockname(fd, (struct sockaddr *)&addr, &n);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(addr.sin_port));
	setenv("WEIR_URL", url, 1);
	setenv("WEIR_API_KEY", "good-key", 1);
	setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
	player = fork();
	if (player == 0) {
		uv_loop_t loop;
		struct httpd *d;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		uv_loop_init(&loop);
		if (httpd_new(&loop, &ops, NULL, 100, &d) < 0 || httpd_listen(d, take_fd(fd), 0) < 0)
			_exit(1);
		uv_run(&loop, UV_RUN_DEFAULT);
		_exit(0);
	}
	return player < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	kill(player, SIGKILL);
	waitpid(player, NULL, 0);
	return 0;
}

/* --- one command --- */

static struct buf out, err;

static int begin(int in, int out_fd, int err_fd, char **argv, int argc)
{
	pid_t pid = fork();

	if (pid == 0) {
		dup2(in, STDIN_FILENO);
		dup2(out_fd, STDOUT_FILENO);
		dup2(err_fd, STDERR_FILENO);
		alarm(120);
		_exit(cli_main(argc, argv));
	}
	return pid;
}

static void content(int fd, struct buf *to)
{
	char path[64];

	buf_done(to);
	*to = (struct buf)BUF_MAX(1u << 20);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(file_read(AT_FDCWD, path, to), 0);
	assert_non_null(buf_cstr(to));
}

/* Words end with NULL. */
static int weir_in(const char *input, ...)
{
	auto_fd int in = memfd_create("in", MFD_CLOEXEC), o = memfd_create("out", MFD_CLOEXEC),
		e = memfd_create("err", MFD_CLOEXEC);
	char *argv[32] = { (char *)"weir" };
	int argc = 1, status;
	va_list ap;

	va_start(ap, input);
	while ((argv[argc] = va_arg(ap, char *)))
		argc++;
	va_end(ap);
	fd_write_all(in, input, strlen(input));
	lseek(in, 0, SEEK_SET);
	memset(seen, 0, SEEN_MAX);
	fflush(NULL);
	waitpid(begin(in, o, e, argv, argc), &status, 0);
	content(o, &out);
	content(e, &err);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#define weir(...) weir_in("", __VA_ARGS__, NULL)

static void has(const char *where, const char *what)
{
	if (!strstr(where, what))
		fail_msg("\"%s\" is not in:\n%s", what, where);
}

/* --- the tests --- */

static void creates(void **state)
{
	setenv("FROM_HERE", "yes", 1);
	assert_int_equal(weir("create", "--name", "demo", "--egress", "a.example:443", "--env", "K=v=w",
				 "--env", "FROM_HERE", "--disk", "2048"), 0);
	assert_string_equal(out.p, BOX "\n");
	assert_string_equal(err.p, "");
	has(seen, "POST /v1/sandboxes {\"shape\":\"s-1vcpu-256mb\",\"name\":\"demo\","
		  "\"egress\":[\"a.example:443\"],\"disk_mib\":2048,"
		  "\"envs\":{\"K\":\"v=w\",\"FROM_HERE\":\"yes\"}}");
	assert_int_equal(weir("create", "--json"), 0);
	has(out.p, "\"id\":\"" BOX "\"");
}

static void says_what_to_do(void **state)
{
	assert_int_equal(weir("create", "--shape", "huge"), CLI_FAILED);
	has(err.p, "weir: shape: unknown shape: huge\n");
	has(err.p, "shapes: s-1vcpu-256mb, s-0.5vcpu-1gb\n");
	assert_int_equal(weir("show", "nobody"), CLI_NOT_FOUND);
	has(err.p, "there is no sandbox \"nobody\"\n      \"weir ls\" lists your sandboxes\n");
	assert_int_equal(weir("--url", "http://127.0.0.1:1", "ls"), CLI_UNREACHABLE);
	has(err.p, "nobody answers at http://127.0.0.1:1\n");
	has(err.p, "root starts it with \"weird\"");
	assert_int_equal(weir("create", "--env", "NOT_SET_HERE"), CLI_USAGE);
	assert_int_equal(weir("key", "rm", "key-1"), CLI_NO_ACCESS);
	has(err.p, "only for admins");
	setenv("WEIR_API_KEY", "bad-key", 1);
	assert_int_equal(weir("ls"), CLI_NO_ACCESS);
	has(err.p, "does not know the API key from WEIR_API_KEY");
	assert_null(strstr(err.p, "bad-key"));
	setenv("WEIR_API_KEY", "good-key", 1);
}

static void lists(void **state)
{
	assert_int_equal(weir("ls"), 0);
	has(out.p, "NAME       STATUS   SHAPE");
	has(out.p, "demo       running  s-1vcpu-256mb");
	has(out.p, "other?[2J  paused "); /* a name cannot speak to the terminal */
	assert_null(strstr(out.p, "destroyed"));
	assert_int_equal(weir("ls", "--all"), 0);
	has(out.p, "destroyed");
	assert_int_equal(weir("ls", "-q"), 0);
	assert_string_equal(out.p, "demo\nother?[2J\n");
	assert_int_equal(weir("show", "demo"), 0);
	has(out.p, "may reach    a.example:443\n");
	has(out.p, "sent         2.0 KiB in 3 packets\n");
	has(out.p, "denied       7 default\n");
	assert_null(strstr(out.p, "floor"));
	assert_int_equal(weir("shapes"), 0);
	has(out.p, "s-0.5vcpu-1gb  0.5 ");
	assert_int_equal(weir("rootfs", "ls"), 0);
	has(out.p, "devbox:1  yes");
	assert_int_equal(weir("rootfs", "pulls"), 0);
	has(out.p, "docker.example/a:1  queued  3 ");
	assert_int_equal(weir("key", "list"), 0);
	has(out.p, "key-1  ci    yes");
}

/* The name of a live sandbox, although a dead one of the same name is listed before it; an id needs
 * no question. */
static void finds_by_name(void **state)
{
	assert_int_equal(weir("egress", "get", "demo"), 0);
	has(seen, "GET /v1/sandboxes/" BOX "/egress ");
	assert_int_equal(weir("egress", "get", BOX), 0);
	assert_null(strstr(seen, "limit="));
	assert_int_equal(weir("egress", "get", "SB_01JQ"), CLI_NOT_FOUND);
}

static void executes(void **state)
{
	assert_int_equal(weir("exec", "demo", "--", "ls", "-l", "a b"), 42);
	assert_string_equal(out.p, "out put\n");
	assert_string_equal(err.p, "err");
	has(seen, "{\"cmd\":\"ls\",\"args\":[\"-l\",\"a b\"]}");
	assert_int_equal(weir_in("given", "exec", "-i", "--env", "A=b", "demo", "cat", NULL), 0);
	assert_string_equal(out.p, "got it");
	has(seen, "\"stdin\":\"given\",\"env\":{\"A\":\"b\"}}");
	assert_int_equal(weir("exec", "demo", "missing"), 127);
	assert_string_equal(err.p, "weir: missing: not found\n");
	assert_int_equal(weir("exec", "demo", "cut"), CLI_EXEC_FAILED);
	assert_string_equal(out.p, "half");
	assert_int_equal(weir_in("\xff", "exec", "-i", "demo", "cat", NULL), CLI_EXEC_FAILED);
	has(err.p, "standard input is not UTF-8 text");
	assert_int_equal(weir("exec", "nobody", "true"), CLI_EXEC_FAILED);
}

static void runs(void **state)
{
	assert_int_equal(weir("run", "--egress", "a.example", "--", "curl", "-s", "https://evil.example"), 42);
	assert_string_equal(out.p, "out put\n");
	has(err.p, "refused: tcp evil?.example:443  no rule names it  (3 times)\n");
	has(seen, "\"name\":\"run-");
	has(seen, "DELETE /v1/sandboxes/" BOX);
	assert_int_equal(weir("run", "--quiet", "--keep", "--name", "k", "true"), 42);
	assert_null(strstr(err.p, "refused"));
	assert_null(strstr(seen, "DELETE"));
}

static void interrupted(const char *const *words, int n, int signal, int status, const char *wanted)
{
	char *argv[8] = { (char *)"weir" };
	int fds[2], got;
	char first[6];
	pid_t pid;

	for (int i = 0; i < n; i++)
		argv[i + 1] = (char *)words[i];
	memset(seen, 0, SEEN_MAX);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fflush(NULL);
	pid = begin(STDIN_FILENO, fds[1], STDERR_FILENO, argv, n + 1);
	fd_close(fds[1]);
	assert_int_equal(fd_read_all(fds[0], first, sizeof(first)), 0); /* "begun\n": it runs */
	kill(pid, signal);
	waitpid(pid, &got, 0);
	fd_close(fds[0]);
	assert_true(WIFEXITED(got));
	assert_int_equal(WEXITSTATUS(got), status);
	if (wanted)
		has(seen, wanted);
}

static void ends_on_signals(void **state)
{
	static const char *const run[] = { "run", "forever" }, *const exec[] = { "exec", "demo", "forever" };

	interrupted(run, 2, SIGINT, 130, "DELETE /v1/sandboxes/" BOX);
	interrupted(run, 2, SIGTERM, 143, "DELETE /v1/sandboxes/" BOX);
	interrupted(exec, 3, SIGINT, 130, NULL);
	interrupted(exec, 3, SIGTERM, 143, NULL);
}

static void egress(void **state)
{
	assert_int_equal(weir("egress", "get", "demo"), 0);
	assert_string_equal(out.p, "a.example:443\nb.example\n");
	assert_int_equal(weir("egress", "set", "demo", "x", "y"), 0);
	has(seen, "PUT /v1/sandboxes/" BOX "/egress {\"egress\":[\"x\",\"y\"]}");
	assert_string_equal(out.p, "new\n");
	assert_int_equal(weir("egress", "add", "demo", "B.example", "c"), 0);
	has(seen, "{\"egress\":[\"a.example:443\",\"b.example\",\"c\"]}");
	assert_int_equal(weir("egress", "rm", "demo", "b.example"), 0);
	has(seen, "{\"egress\":[\"a.example:443\"]}");
	/* the last rule is what keeps it closed */
	assert_int_equal(weir("egress", "rm", "demo", "b.example", "a.example:443"), CLI_FAILED);
	has(err.p, "a list without rules allows everything");
	assert_null(strstr(seen, "PUT"));
	assert_int_equal(weir("egress", "rm", "demo", "zzz"), CLI_NOT_FOUND);
	assert_int_equal(weir("egress", "explain", "demo", "a.example:443"), 0);
	assert_string_equal(out.p, "allow  rule 1, a.example:443\n");
	assert_int_equal(weir("egress", "explain", "demo", "evil.example:80"), CLI_DENY);
	assert_string_equal(out.p, "deny  no rule names it\n");
}

static void denials(void **state)
{
	assert_int_equal(weir("denials", "demo"), 0);
	assert_string_equal(out.p, "09:30:00  udp 192.0.2.1:53  floor\n"
				   "09:31:00  tcp evil?.example:443  no rule names it  (3 times)\n"
				   "2 more were counted, not listed\n");
	has(seen, "denials?limit=50");
	assert_int_equal(weir("denials", "-f", "demo"), 0);
	assert_string_equal(out.p, "09:31:00  tcp evil.example:443  no\n");
}

static void copies(void **state)
{
	char dir[] = "/tmp/weir-test-cp-XXXXXX", path[128], target[160];
	auto_buf struct buf text = BUF_MAX(4096);

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a b", dir);
	assert_int_equal(file_replace(AT_FDCWD, path, STR("data"), 0644, false), 0);
	assert_int_equal(weir("cp", path, "demo:/srv/"), 0);
	has(seen, "PUT /v1/sandboxes/" BOX "/files?path=%2Fsrv%2Fa%20b data\n");
	assert_int_equal(weir_in("piped", "cp", "-", "demo:/srv/x", NULL), 0);
	has(seen, "path=%2Fsrv%2Fx piped\n");
	assert_int_equal(weir("cp", "demo:/etc/motd", "-"), 0);
	assert_string_equal(out.p, "hello from inside\n");
	assert_int_equal(weir("cp", "demo:/etc/motd", dir), 0);
	snprintf(target, sizeof(target), "%s/motd", dir);
	assert_int_equal(file_read(AT_FDCWD, target, &text), 0);
	assert_string_equal(buf_cstr(&text), "hello from inside\n");
	unlink(target);
	/* what is not there leaves nothing here */
	assert_int_equal(weir("cp", "demo:/none", target), CLI_NOT_FOUND);
	has(err.p, "path: no such file");
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(weir("cp", "a", "b"), CLI_USAGE);
	assert_int_equal(weir("cp", "demo:/a", "demo:/b"), CLI_USAGE);
	assert_int_equal(weir("cp", "demo:relative", "b"), CLI_USAGE);
}

static void the_rest(void **state)
{
	assert_int_equal(weir("rm", "--no-wait", "demo", "nobody"), CLI_NOT_FOUND);
	has(seen, "DELETE /v1/sandboxes/" BOX);
	assert_int_equal(weir("pause", "--no-wait", "demo"), 0);
	assert_int_equal(weir("resume", "demo"), 0);
	assert_int_equal(weir("rootfs", "build", "devbox:1"), CLI_FAILED);
	assert_string_equal(out.p, "step 1\n");
	has(seen, "POST /v1/rootfs/build {\"name\":\"devbox:1\"}");
	assert_int_equal(weir("key", "create", "n", "--admin"), 0);
	assert_string_equal(out.p, "secret-once\n");
	has(seen, "{\"name\":\"n\",\"admin\":true}");
	assert_int_equal(weir("version"), 0);
	has(out.p, "; runtimes: container\n");
	assert_int_equal(weir("--url", url, "doctor"), 0);
	has(out.p, "ok   rootfs       devbox:1 is there\n");
	assert_int_equal(weir("--help"), 0);
	has(out.p, "  egress explain   ");
}

static int done(void **state)
{
	buf_done(&out);
	buf_done(&err);
	return teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(creates),	  cmocka_unit_test(says_what_to_do),
		cmocka_unit_test(lists),	  cmocka_unit_test(finds_by_name),
		cmocka_unit_test(executes),	  cmocka_unit_test(runs),
		cmocka_unit_test(ends_on_signals), cmocka_unit_test(egress),
		cmocka_unit_test(denials),	  cmocka_unit_test(copies),
		cmocka_unit_test(the_rest),
	};

	return cmocka_run_group_tests_name("cmd/weir", tests, setup, done);
}

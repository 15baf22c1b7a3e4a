/*
 * The agent, seen from the gateway: the real program in a sandbox of namespaces (sandbox.h), a
 * blocking client that speaks frames, and one test per promise of doc/protocol-agent.md.
 */
#include "../unit.h"
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include "base/fd.h"
#include "sandbox.h"
#include "wire/frame.h"

static pid_t agent_pid;

/* --- a client --- */

struct peer {
	int fd;
	struct buf in;
	size_t used; /* of in: the frame handed out last */
};

#define auto_peer _cleanup_(peer_done)

static void peer_done(struct peer *p)
{
	fd_close(p->fd);
	buf_done(&p->in);
	p->fd = -1;
}

static struct peer dial(void)
{
	struct peer p = { .fd = sandbox_dial_from(WEIR_LINK_GATEWAY), .in = BUF_MAX(1 << 20) };

	assert_true(p.fd >= 0);
	return p;
}

static void say(struct peer *p, uint8_t type, const union frame_body *m)
{
	auto_buf struct buf out = BUF_MAX(4 << 20);

	assert_int_equal(frame_encode(&out, type, m), 0);
	assert_int_equal(fd_write_all(p->fd, out.p, out.n), 0);
}

static void say_raw(struct peer *p, uint8_t type, struct str data)
{
	auto_buf struct buf out = BUF_MAX(FRAME_HEADER + FRAME_MAX);

	assert_int_equal(frame_add(&out, type, 0, data), 0);
	assert_int_equal(fd_write_all(p->fd, out.p, out.n), 0);
}

/* 1: a frame; 0: the agent closed; -1: an error or nothing for 20 s. */
static int hear(struct peer *p, struct frame *f)
{
	if (p->used)
		buf_consume(&p->in, p->used);
	p->used = 0;
	for (;;) {
		struct str rest = buf_str(&p->in);
		int r = frame_next(&rest, f);
		ssize_t k;

		assert_true(r >= 0);
		if (r > 0) {
			p->used = p->in.n - rest.n;
			return 1;
		}
		assert_int_equal(buf_room(&p->in, 65536), 0);
		k = read(p->fd, p->in.p + p->in.n, 65536);
		if (k <= 0)
			return (int)k;
		p->in.n += (size_t)k;
	}
}

static union frame_body expect(struct peer *p, uint8_t type)
{
	union frame_body m;
	struct frame f;

	assert_int_equal(hear(p, &f), 1);
	if (f.type == FRAME_ERROR && type != FRAME_ERROR)
		fail_msg(STR_FMT, STR_ARG(f.body));
	assert_int_equal(f.type, type);
	assert_int_equal(frame_decode(type, f.body, &m), 0);
	return m;
}

static bool error_says(const union frame_body *m, const char *words)
{
	return m->error.text.n && memmem(m->error.text.p, m->error.text.n, words, strlen(words));
}

struct result {
	struct buf out, err;
	uint32_t code, signal;
	char error[FRAME_SENTENCE_MAX + 1];
};

#define auto_result _cleanup_(result_done)

static void result_done(struct result *r)
{
	buf_done(&r->out);
	buf_done(&r->err);
}

static void start(struct peer *p, const char *const *argv, const char *const *env, const char *cwd,
	uint32_t flags)
{
	struct str a[16], e[16];
	union frame_body m = { .exec = { .argv = { a, 0 }, .env = { e, 0 }, .cwd = str_c(cwd),
		.flags = flags } };

	while (*argv)
		a[m.exec.argv.n++] = str_c(*argv++);
	while (env && *env)
		e[m.exec.env.n++] = str_c(*env++);
	say(p, FRAME_EXEC, &m);
}

static void collect(struct peer *p, struct result *r)
{
	union frame_body m;
	struct frame f;

	*r = (struct result){ .out = BUF_MAX(64 << 20), .err = BUF_MAX(64 << 20), .code = 999 };
	while (hear(p, &f) == 1) {
		if (f.type == FRAME_STDOUT)
			buf_add_str(&r->out, f.body);
		else if (f.type == FRAME_STDERR)
			buf_add_str(&r->err, f.body);
		else if (f.type == FRAME_EXIT) {
			assert_int_equal(frame_decode(FRAME_EXIT, f.body, &m), 0);
			r->code = m.exit.code;
			r->signal = m.exit.signal;
			assert_int_equal(str_copy(r->error, sizeof(r->error), m.exit.error), 0);
			assert_int_equal(hear(p, &f), 0); /* the last frame */
			return;
		} else {
			assert_int_equal(f.type, FRAME_STARTED);
		}
	}
	fail_msg("%s", "the connection ended without EXIT");
}

static struct result run_with(const char *const *argv, const char *const *env, const char *cwd)
{
	auto_peer struct peer p = dial();
	struct result r;

	start(&p, argv, env, cwd, 0);
	say(&p, FRAME_END, NULL);
	collect(&p, &r);
	return r;
}

static struct result run(const char *const *argv)
{
	return run_with(argv, NULL, "");
}

static struct result sh(const char *script)
{
	return run((const char *const[]){ "sh", "-c", script, NULL });
}

static void assert_sh(const char *script, const char *want)
{
	auto_result struct result r = sh(script);

	if (!str_eq(buf_str(&r.out), str_c(want)))
		fail_msg("%s\ngot '" STR_FMT "' '" STR_FMT "' want '%s'", script,
			STR_ARG(buf_str(&r.out)), STR_ARG(buf_str(&r.err)), want);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Ask again until the script succeeds; a hang is the test runner's limit. */
static void wait_for(const char *script)
{
	for (;;) {
		auto_result struct result r = sh(script);

		if (r.code == 0)
			return;
		usleep(10000);
	}
}

static void assert_alive(void)
{
	auto_peer struct peer p = dial();

	say(&p, FRAME_PING, NULL);
	expect(&p, FRAME_OK);
}

/* --- commands --- */

static void ping(void **state)
{
	struct frame f;
	auto_peer struct peer p = dial();

	say(&p, FRAME_PING, NULL);
	expect(&p, FRAME_OK);
	assert_int_equal(hear(&p, &f), 0);
}

static void exit_codes(void **state)
{
	auto_result struct result a = run((const char *const[]){ "true", NULL }), b = sh("exit 7"),
				  c = sh("kill -9 $$"), d = sh("echo out; echo err >&2");

	assert_int_equal(a.code, 0);
	assert_int_equal(a.out.n + a.err.n, 0);
	assert_int_equal(b.code, 7);
	assert_int_equal(c.code, 137);
	assert_int_equal(c.signal, 9);
	assert_true(str_eq(buf_str(&d.out), STR("out\n")));
	assert_true(str_eq(buf_str(&d.err), STR("err\n")));
	result_done(&b);
	result_done(&c);
	result_done(&d);
}

static void start_failures(void **state)
{
	auto_result struct result no = run((const char *const[]){ "no-such-program", NULL });
	auto_result struct result dir = run((const char *const[]){ "/etc", NULL });
	auto_result struct result cwd =
		run_with((const char *const[]){ "true", NULL }, NULL, "/no/such/place");

	assert_int_equal(no.code, 127);
	assert_string_equal(no.error, "no-such-program: not found");
	assert_int_equal(dir.code, 126);
	assert_true(strstr(dir.error, "cannot be executed") != NULL);
	assert_int_equal(cwd.code, 126);
	assert_true(strstr(cwd.error, "working directory") != NULL);

	assert_sh("printf '#!/no/such/interpreter\\n' > /root/s; chmod +x /root/s", "");
	auto_result struct result bad = run((const char *const[]){ "/root/s", NULL });
	assert_int_equal(bad.code, 127);
	assert_true(strstr(bad.error, "interpreter") != NULL);

	auto_result struct result empty = run((const char *const[]){ "", NULL });
	assert_int_equal(empty.code, 127);
}

static void surroundings(void **state)
{
	assert_sh("pwd; umask; id -u", "/root\n0022\n0\n");
	assert_sh("echo $HOME $USER $LANG $PATH", "/root root C.UTF-8 /usr/local/sbin:"
		"/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
	assert_sh("ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3 "); /* 3: the directory itself */
	assert_sh("grep -E 'SigBlk|SigIgn' /proc/self/status",
		"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	assert_sh("test $(ps -o sid= -p $$ 2>/dev/null || echo same) && echo ok", "ok\n");
	auto_result struct result cwd =
		run_with((const char *const[]){ "pwd", NULL }, NULL, "/usr/lib");
	assert_true(str_eq(buf_str(&cwd.out), STR("/usr/lib\n")));
}

static void path_of_the_command(void **state)
{
	const char *const env[] = { "PATH=/nowhere:/root/bin:/usr/bin:/bin", "A=1=2", "HOME=/x", NULL };
	auto_result struct result a, b, c;

	assert_sh("mkdir -p /root/bin; printf '#!/bin/sh\\necho mine\\n' > /root/bin/mine; "
		"chmod +x /root/bin/mine; echo > /root/bin/sh", "");
	a = run_with((const char *const[]){ "mine", NULL }, env, "");
	assert_true(str_eq(buf_str(&a.out), STR("mine\n")));
	/* /root/bin/sh may not be executed: the search goes on. */
	b = run_with((const char *const[]){ "sh", "-c", "echo $A $HOME", NULL }, env, "");
	assert_true(str_eq(buf_str(&b.out), STR("1=2 /x\n")));
	c = run_with((const char *const[]){ "ls", NULL }, (const char *const[]){ "PATH=", NULL }, "/");
	assert_int_equal(c.code, 127);
}

static void arguments_verbatim(void **state)
{
	static char big[120000];
	auto_result struct result a = run(
		(const char *const[]){ "printf", "%s|", "a b", "", "new\nline", "\xc3\xa4*$x", NULL });
	auto_result struct result b;
	auto_peer struct peer p = dial();

	assert_true(str_eq(buf_str(&a.out), STR("a b||new\nline|\xc3\xa4*$x|")));
	/* Longer than a frame: several frames make one message. */
	memset(big, 'x', sizeof(big) - 1);
	start(&p, (const char *const[]){ "printf", "%s", big, NULL }, NULL, "", 0);
	collect(&p, &b);
	assert_int_equal(b.out.n, sizeof(big) - 1);
}

static void standard_input(void **state)
{
	auto_peer struct peer p = dial(), q = dial();
	auto_result struct result r, s;
	static char block[50000];
	size_t sent = 0;
	pid_t pid;

	memset(block, 'i', sizeof(block));
	start(&p, (const char *const[]){ "cat", NULL }, NULL, "", 0);
	/* A writer beside the reader: cat's output must be able to stop its input. */
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 100; i++)
			say_raw(&p, FRAME_DATA, str_n(block, sizeof(block)));
		say(&p, FRAME_END, NULL);
		_exit(0);
	}
	collect(&p, &r);
	waitpid(pid, NULL, 0);
	assert_int_equal(r.out.n, 100 * sizeof(block));
	assert_int_equal(r.code, 0);

	/* A command that closes its input early does not mind what still comes. */
	start(&q, (const char *const[]){ "head", "-c", "3", NULL }, NULL, "", 0);
	while (sent < 1000000 && send(q.fd, NULL, 0, MSG_NOSIGNAL) >= 0) {
		say_raw(&q, FRAME_DATA, str_n(block, sizeof(block)));
		sent += sizeof(block);
	}
	say(&q, FRAME_END, NULL);
	collect(&q, &s);
	assert_true(str_eq(buf_str(&s.out), STR("iii")));
	assert_int_equal(s.code, 0);
}

static void stuck_reader_stops_only_itself(void **state)
{
	auto_peer struct peer p = dial();
	auto_result struct result r;

	start(&p, (const char *const[]){ "sh", "-c", "yes | head -c 40000000; echo done >&2", NULL },
		NULL, "", 0);
	for (int i = 0; i < 20; i++)
		assert_sh("echo hello", "hello\n");
	collect(&p, &r);
	assert_int_equal(r.out.n, 40000000);
	assert_true(str_eq(buf_str(&r.err), STR("done\n")));
}

static void background_redirected_returns_at_once(void **state)
{
	double took = 2;

	/* Not after the silence of 2 s; one of ten, since a busy machine may hold any of them up. */
	for (int i = 0; took > 1.5 && i < 10; i++) {
		double t = seconds();

		assert_sh("sleep 30 >/dev/null 2>&1 & echo started", "started\n");
		took = seconds() - t;
	}
	assert_true(took < 1.5);
}

static void background_holding_pipes_is_left(void **state)
{
	double t = seconds();

	/* It writes only after the command has been answered, and lives on. */
	assert_sh("(until test -e /root/go; do sleep 0.05; done; echo late; echo late >&2; "
		  "echo ok > /root/survived) & echo started",
		"started\n");
	assert_true(seconds() - t > 1.9);
	assert_sh("echo > /root/go", "");
	wait_for("test -s /root/survived");
}

static void output_after_the_end_still_counts(void **state)
{
	/* The shell ends at once; its child speaks within the silence, three times. */
	assert_sh("(for i in 1 2 3; do sleep 0.8; echo $i; done) &", "1\n2\n3\n");
}

static void disconnect_kills_the_group(void **state)
{
	struct frame f;
	struct peer p = dial();

	start(&p, (const char *const[]){ "sh", "-c",
		"trap '' TERM; setsid sleep 301 & sleep 302 & echo up; sleep 303", NULL },
		NULL, "", FRAME_EXEC_KILL);
	do
		assert_int_equal(hear(&p, &f), 1);
	while (f.type != FRAME_STDOUT);
	wait_for("grep -qa 301 /proc/[0-9]*/cmdline");
	peer_done(&p);
	wait_for("! grep -qa 'sleep.30[23]' /proc/[0-9]*/cmdline");
	/* Who made a session of its own has detached and stays. */
	wait_for("grep -qa 'sleep.301' /proc/[0-9]*/cmdline");
}

static void disconnect_without_kill_lets_it_run(void **state)
{
	struct peer p = dial();

	start(&p, (const char *const[]){ "sh", "-c",
		"sleep 0.3; echo more; echo more; echo ok > /root/ran", NULL }, NULL, "", 0);
	expect(&p, FRAME_STARTED);
	peer_done(&p);
	wait_for("test -s /root/ran");
}

static void kill_frame(void **state)
{
	auto_peer struct peer p = dial();
	auto_result struct result r;

	start(&p, (const char *const[]){ "sleep", "300", NULL }, NULL, "", 0);
	expect(&p, FRAME_STARTED);
	say(&p, FRAME_KILL, &(union frame_body){ .kill = { .signal = SIGTERM } });
	collect(&p, &r);
	assert_int_equal(r.code, 128 + SIGTERM);
	assert_int_equal(r.signal, SIGTERM);
}

/* --- files --- */

static void put(struct peer *p, const char *path, uint32_t mode, struct str data)
{
	say(p, FRAME_PUT, &(union frame_body){ .put = { .path = str_c(path), .mode = mode } });
	while (data.n) {
		struct str piece = str_n(data.p, MIN(data.n, (size_t)FRAME_MAX));

		say_raw(p, FRAME_DATA, piece);
		data = str_skip(data, piece.n);
	}
	say(p, FRAME_END, NULL);
}

static void assert_put(const char *path, uint32_t mode, struct str data)
{
	auto_peer struct peer p = dial();

	put(&p, path, mode, data);
	assert_int_equal(expect(&p, FRAME_OK).ok.bytes, data.n);
}

static uint32_t put_error(const char *path, const char *words)
{
	auto_peer struct peer p = dial();
	union frame_body m;

	put(&p, path, 0, STR("x"));
	m = expect(&p, FRAME_ERROR);
	if (!error_says(&m, words))
		fail_msg("want '%s' in '" STR_FMT "'", words, STR_ARG(m.error.text));
	return m.error.code;
}

static void assert_get(const char *path, struct str want)
{
	auto_peer struct peer p = dial();
	auto_buf struct buf got = BUF_MAX(64 << 20);
	struct frame f;

	say(&p, FRAME_GET, &(union frame_body){ .get = { .path = str_c(path) } });
	assert_int_equal(expect(&p, FRAME_OK).ok.bytes, want.n);
	while (hear(&p, &f) == 1 && f.type == FRAME_DATA)
		buf_add_str(&got, f.body);
	assert_int_equal(f.type, FRAME_END);
	assert_true(str_eq(buf_str(&got), want));
}

static uint32_t get_error(const char *path)
{
	auto_peer struct peer p = dial();

	say(&p, FRAME_GET, &(union frame_body){ .get = { .path = str_c(path) } });
	return expect(&p, FRAME_ERROR).error.code;
}

static void files_come_and_go(void **state)
{
	size_t n = 5000000;
	auto_free char *big = malloc(n);

	for (size_t i = 0; i < n; i++)
		big[i] = (char)(i * 7919 >> 5);
	assert_put("/root/a/b/c/file", 0, STR("hello"));
	assert_get("/root/a/b/c/file", STR("hello"));
	assert_sh("stat -c %a:%u /root/a/b /root/a/b/c/file", "755:0\n644:0\n");
	assert_put("/root/empty", 0, STR(""));
	assert_get("/root/empty", STR(""));
	assert_put("/root/big", 0, str_n(big, n));
	assert_get("/root/big", str_n(big, n));
	assert_put("/root/run", 0755, STR("#!/bin/sh\n"));
	assert_put("/root/run", 0600, STR("#!/bin/sh\necho ran\n")); /* the mode it has is kept */
	assert_sh("stat -c %a /root/run; /root/run; ls -a /root | grep -c weir-put",
		"755\nran\n0\n");
	memset(big, 0, n);
	assert_sh("truncate -s 3000000 /root/sparse", "");
	assert_get("/root/sparse", str_n(big, 3000000));
}

/* The frame under way when the file ends was announced whole, so it stays whole. */
static void file_that_shrinks_while_it_is_read(void **state)
{
	const uint64_t size = 40000000, left = 30000001;
	auto_peer struct peer p = dial();
	union frame_body m;
	struct frame f;
	uint64_t got = 0;

	assert_sh("truncate -s 40000000 /root/shrinks", "");
	say(&p, FRAME_GET, &(union frame_body){ .get = { .path = STR("/root/shrinks") } });
	assert_int_equal(expect(&p, FRAME_OK).ok.bytes, size);
	assert_sh("truncate -s 30000001 /root/shrinks", ""); /* more than sockets hold is unread */
	while (hear(&p, &f) == 1 && f.type == FRAME_DATA)
		got += f.body.n;
	assert_int_equal(f.type, FRAME_ERROR);
	assert_int_equal(frame_decode(FRAME_ERROR, f.body, &m), 0);
	assert_int_equal(m.error.code, EIO);
	assert_true(error_says(&m, "became shorter"));
	assert_in_range(got, left, left + FRAME_MAX - 1);
	assert_sh("rm /root/shrinks", "");
}

static void links_are_followed(void **state)
{
	assert_sh("mkdir -p /root/l/real; ln -s real/file /root/l/link; ln -s /root/l/real /root/l/dir;"
		  "ln -s loop /root/l/loop", "");
	assert_put("/root/l/link", 0, STR("one")); /* it dangled */
	assert_sh("cat /root/l/real/file; test -L /root/l/link && echo link", "onelink\n");
	assert_put("/root/l/dir/other", 0, STR("two"));
	assert_get("/root/l/real/other", STR("two"));
	assert_int_equal(put_error("/root/l/loop", "too many symbolic links"), ELOOP);
	assert_int_equal(put_error("/root/l/dir", "is a directory"), EISDIR);
}

static void what_is_no_file(void **state)
{
	assert_sh("mkfifo /root/fifo; mkdir /root/d", "");
	assert_int_equal(put_error("/root/d", "is a directory"), EISDIR);
	assert_int_equal(put_error("/root/d/", "is a directory"), EISDIR);
	assert_int_equal(put_error("/root/fifo", "not a regular file"), EINVAL);
	assert_int_equal(put_error("/dev/null", "not a regular file"), EINVAL);
	assert_int_equal(put_error("/dev/null/x/y", "not a directory"), ENOTDIR);
	assert_int_equal(put_error("/dev/null/x", "not a directory"), ENOTDIR);
	assert_int_equal(get_error("/root/d"), EISDIR);
	assert_int_equal(get_error("/root/fifo"), EINVAL); /* and does not wait for a writer */
	assert_int_equal(get_error("/dev/zero"), EINVAL);
	assert_int_equal(get_error("/root/none"), ENOENT);
}

static void truncated_upload_leaves_nothing(void **state)
{
	struct peer p = dial();

	assert_put("/root/t/kept", 0, STR("old"));
	say(&p, FRAME_PUT, &(union frame_body){ .put = { .path = STR("/root/t/kept") } });
	say_raw(&p, FRAME_DATA, STR("new"));
	/* What is received has no name, but somebody has it open. */
	wait_for("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q '/root/t/#'");
	peer_done(&p);
	wait_for("! ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q '/root/t/#'");
	assert_sh("ls -A /root/t", "kept\n");
	assert_get("/root/t/kept", STR("old"));
}

/* The answer says that it is whole: running it at once must not find it open for writing. */
static void what_was_uploaded_runs_at_once(void **state)
{
	auto_buf struct buf program = BUF_MAX(1 << 20);

	assert_int_equal(file_read(AT_FDCWD, "/bin/true", &program), 0);
	for (int i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "/root/run-%d", i);
		assert_put(name, 0755, buf_str(&program));
		auto_result struct result r = run((const char *[]){ name, NULL });

		assert_int_equal(r.code, 0);
	}
	assert_sh("rm /root/run-*", "");
}

static void disk_full(void **state)
{
	static char block[300000];
	auto_peer struct peer p = dial();
	union frame_body m;

	assert_sh("mkdir /run/full && head -c 900000 /dev/zero > /run/full/pad", "");
	put(&p, "/run/full/file", 0, str_n(block, sizeof(block)));
	m = expect(&p, FRAME_ERROR);
	assert_int_equal(m.error.code, ENOSPC);
	assert_true(error_says(&m, "cannot write the file: No space left"));
	assert_sh("ls -a /run/full | tail -n +3; rm -r /run/full", "pad\n");
}

/* --- wake --- */

static void wake(void **state)
{
	struct str env[] = { STR("GREETING=hi there"), STR("LANG=de_DE.UTF-8") };
	struct str keys[] = { STR("ssh-ed25519 AAAA one"), STR("ssh-ed25519 BBBB two") };
	const uint8_t ip4[] = { 10, 60, 0, 9 };
	union frame_body m = { .wake = { .hostname = STR("brave-otter"), .ip4 = str_n(ip4, 4),
		.env = { env, 2 }, .ssh_keys = { keys, 2 } } };

	assert_sh("mkdir -p /root/.ssh; echo theirs > /root/.ssh/authorized_keys; "
		"echo '1.2.3.4 mine' > /etc/hosts", "");
	for (int i = 0; i < 2; i++) { /* said twice, it changes nothing */
		auto_peer struct peer p = dial();

		say(&p, FRAME_WAKE, &m);
		expect(&p, FRAME_OK);
		assert_sh("uname -n; cat /etc/hostname; grep -c brave-otter /etc/hosts; "
			"grep 10.60.0.9 /etc/hosts; grep mine /etc/hosts; echo $GREETING; echo $LANG",
			"brave-otter\nbrave-otter\n1\n10.60.0.9\tbrave-otter\n1.2.3.4 mine\nhi there\n"
			"de_DE.UTF-8\n");
		assert_sh("stat -c %a /root/.ssh/authorized_keys; grep -v '^#' "
			"/root/.ssh/authorized_keys",
			"600\nssh-ed25519 AAAA one\nssh-ed25519 BBBB two\ntheirs\n");
	}
	/* The next wake replaces the environment; an exec's own goes over it. */
	auto_peer struct peer p = dial();
	auto_result struct result r;

	m.wake.env.n = 1;
	say(&p, FRAME_WAKE, &m);
	expect(&p, FRAME_OK);
	r = run_with((const char *const[]){ "sh", "-c", "echo $GREETING $LANG", NULL },
		(const char *const[]){ "GREETING=own", NULL }, "");
	assert_true(str_eq(buf_str(&r.out), STR("own C.UTF-8\n")));
}

/* --- self-signals --- */

static int http(const char *request)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(1029),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[512];
	size_t n = 0;
	ssize_t k;

	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(fd_write_all(fd, request, strlen(request)), 0);
	while ((k = read(fd, answer + n, sizeof(answer) - 1 - n)) > 0)
		n += (size_t)k;
	answer[n] = '\0';
	assert_int_equal(strncmp(answer, "HTTP/1.1 ", 9), 0);
	assert_non_null(strstr(answer, "\r\n\r\n"));
	return (int)strtol(answer + 9, NULL, 10);
}

#define POST(target) "POST " target " HTTP/1.1\r\nHost: 127.0.0.1:1029\r\n\r\n"

static void self_signals(void **state)
{
	char long_reason[800] = "POST /self/pause?reason=";
	struct peer old, w;
	union frame_body m;
	bool before = false;

	assert_int_equal(http(POST("/self/pause")), 503); /* nobody listens */
	old = dial();
	say(&old, FRAME_WATCH, NULL);
	expect(&old, FRAME_OK);
	w = dial();
	say(&w, FRAME_WATCH, NULL);
	expect(&w, FRAME_OK);
	assert_int_equal(hear(&old, &(struct frame){ 0 }), 0); /* the newest watcher is the one */

	/* The answer comes before the signal; one of twenty shows it, as this process may be late. */
	for (int i = 0; !before && i < 20; i++) {
		double t = seconds();

		assert_int_equal(
			http(POST("/self/pause?x=1&reason=lunch+time%21%0a&y=%zz")), 202);
		before = poll(&(struct pollfd){ .fd = w.fd, .events = POLLIN }, 1, 0) == 0;
		m = expect(&w, FRAME_SIGNAL);
		assert_true(seconds() - t > 0.19);
		assert_int_equal(m.signal.kind, FRAME_SIGNAL_PAUSE);
		assert_true(str_eq(m.signal.reason, STR("lunch time! ")));
	}
	assert_true(before);

	assert_int_equal(http(POST("/self/delete")), 202);
	m = expect(&w, FRAME_SIGNAL);
	assert_int_equal(m.signal.kind, FRAME_SIGNAL_DELETE);
	assert_int_equal(m.signal.reason.n, 0);

	for (int i = 0; i < 200; i++) /* 200 letters of two bytes each: 128 are kept */
		memcpy(long_reason + 24 + i * 2, "\xc3\xa4", 3);
	memcpy(long_reason + 24 + 400, " HTTP/1.0\r\n\r\n", 14);
	assert_int_equal(http(long_reason), 202);
	m = expect(&w, FRAME_SIGNAL);
	assert_int_equal(m.signal.reason.n, 256);

	assert_int_equal(http("GET /self/pause HTTP/1.1\r\n\r\n"), 405);
	assert_int_equal(http(POST("/self/")), 404);
	assert_int_equal(http(POST("/self/pause/")), 404);
	assert_int_equal(http("nonsense\r\n\r\n"), 400);
	assert_int_equal(http("POST /self/pause\r\n\r\n"), 400);

	assert_sh("echo park > /run/self; printf 'junk\\nretire\\n' > /run/self", "");
	assert_int_equal(expect(&w, FRAME_SIGNAL).signal.kind, FRAME_SIGNAL_PAUSE);
	assert_int_equal(expect(&w, FRAME_SIGNAL).signal.kind, FRAME_SIGNAL_DELETE);

	/* Promised while the watcher goes away: kept for the next one. */
	assert_int_equal(http(POST("/self/pause?reason=kept")), 202);
	peer_done(&w);
	w = dial();
	say(&w, FRAME_WATCH, NULL);
	expect(&w, FRAME_OK);
	m = expect(&w, FRAME_SIGNAL);
	assert_true(str_eq(m.signal.reason, STR("kept")));
	peer_done(&w);
	peer_done(&old);
	while (http(POST("/self/x")) == 202)
		;
}

static void self_endpoint_bounds(void **state)
{
	static char big[5000];
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(1029),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int idle[40];

	memset(big, 'h', sizeof(big) - 1);
	memcpy(big, "POST / HTTP/1.1\r\n", 17);
	assert_int_equal(http(big), 431);
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++) { /* more than are served at once */
		idle[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(idle[i], (struct sockaddr *)&sa, sizeof(sa)), 0);
	}
	assert_alive();
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		close(idle[i]);
	assert_int_equal(http(POST("/self/pause")), 503);
}

/* --- tunnels --- */

static int loopback_listener(int family, uint16_t *port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = family == AF_INET6 ? sizeof(v6) : sizeof(v4);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, family == AF_INET6 ? (void *)&v6 : (void *)&v4, n) < 0 || listen(fd, 8) < 0) {
		close(fd);
		return -1;
	}
	getsockname(fd, family == AF_INET6 ? (void *)&v6 : (void *)&v4, &n);
	*port = ntohs(family == AF_INET6 ? v6.sin6_port : v4.sin_port);
	return fd;
}

static void tunnel(void **state)
{
	uint16_t port = 0;
	auto_fd int l = loopback_listener(AF_INET, &port);
	auto_peer struct peer p = dial();
	struct frame f;
	char text[16];
	int s;

	say(&p, FRAME_CONNECT, &(union frame_body){ .connect = { .port = port } });
	expect(&p, FRAME_OK);
	s = accept(l, NULL, NULL);
	say_raw(&p, FRAME_DATA, STR("ping"));
	say(&p, FRAME_END, NULL);
	assert_int_equal(fd_read_all(s, text, 4), 0);
	assert_int_equal(read(s, text + 4, 1), 0); /* half-closed: we may still answer */
	assert_int_equal(fd_write_all(s, "pong", 4), 0);
	assert_int_equal(hear(&p, &f), 1);
	assert_true(f.type == FRAME_DATA && str_eq(f.body, STR("pong")));
	close(s);
	expect(&p, FRAME_END);
	assert_int_equal(hear(&p, &f), 0);
}

static void tunnel_bulk(void **state)
{
	static char block[60000];
	uint16_t port = 0;
	auto_fd int l = loopback_listener(AF_INET, &port);
	auto_peer struct peer p = dial();
	size_t want = 200 * sizeof(block), got = 0;
	struct frame f;
	pid_t echo, writer;

	say(&p, FRAME_CONNECT, &(union frame_body){ .connect = { .port = port } });
	expect(&p, FRAME_OK);
	echo = fork();
	if (echo == 0) { /* slow to begin, so that every buffer on the way fills up */
		int s = accept(l, NULL, NULL);
		char b[4096];
		ssize_t k;

		usleep(200000);
		while ((k = read(s, b, sizeof(b))) > 0)
			if (fd_write_all(s, b, (size_t)k) < 0)
				_exit(1);
		_exit(0);
	}
	writer = fork();
	if (writer == 0) {
		for (int i = 0; i < 200; i++)
			say_raw(&p, FRAME_DATA, str_n(block, sizeof(block)));
		say(&p, FRAME_END, NULL);
		_exit(0);
	}
	while (hear(&p, &f) == 1 && f.type == FRAME_DATA)
		got += f.body.n;
	assert_int_equal(f.type, FRAME_END);
	assert_int_equal(got, want);
	waitpid(echo, NULL, 0);
	waitpid(writer, NULL, 0);
}

static void tunnel_refusals(void **state)
{
	const uint16_t ports[] = { 1028, 1029, 9 };
	uint16_t port = 0;
	auto_fd int six = loopback_listener(AF_INET6, &port);

	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		auto_peer struct peer p = dial();

		say(&p, FRAME_CONNECT, &(union frame_body){ .connect = { .port = ports[i] } });
		assert_int_equal(
			expect(&p, FRAME_ERROR).error.code, ports[i] == 9 ? ECONNREFUSED : EACCES);
	}
	if (six >= 0) { /* a server on ::1 alone is found too */
		auto_peer struct peer p = dial();

		say(&p, FRAME_CONNECT, &(union frame_body){ .connect = { .port = port } });
		expect(&p, FRAME_OK);
	}
}

/* --- bounds and strangers --- */

static void malformed(void **state)
{
	static const char *const bad[] = {
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x01\x00\x00\x00\xff\xff\xff\xff",  /* too long */
		"\x20\x00\x00\x00\x00\x00\x00\x01x", /* DATA as the first frame */
		"\x01\x00\x00\x00\x00\x00\x00\x01x", /* an EXEC that is no list of fields */
		"\x06\x00\x00\x00\x00\x00\x00\x01x", /* a PING with a body */
	};
	const size_t sizes[] = { 27, 8, 9, 9, 9 };
	struct frame f;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		auto_peer struct peer p = dial();
		int r;

		assert_int_equal(fd_write_all(p.fd, bad[i], sizes[i]), 0);
		r = hear(&p, &f);
		if (r == 1)
			assert_int_equal(f.type, FRAME_ERROR);
	}
	assert_alive();
}

static void strangers(void **state)
{
	const uint32_t from[] = { INADDR_LOOPBACK, WEIR_LINK_SANDBOX };

	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		struct peer p = { .fd = sandbox_dial_from(from[i]), .in = BUF_MAX(1 << 20) };
		struct frame f;

		assert_true(p.fd >= 0);
		assert_true(hear(&p, &f) <= 0); /* closed without a word */
		peer_done(&p);
	}
	assert_alive();
}

static void many_connections(void **state)
{
	int fds[700]; /* more than are served at once: the rest waits, nothing breaks */

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = sandbox_dial_from(WEIR_LINK_GATEWAY);
		assert_true(fds[i] >= 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	assert_alive();
}

static void many_commands(void **state)
{
	struct peer p[100];

	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		char text[32];

		snprintf(text, sizeof(text), "sleep 0.1; echo %zu", i);
		p[i] = dial();
		start(&p[i], (const char *const[]){ "sh", "-c", text, NULL }, NULL, "", 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		auto_result struct result r;
		char text[32];

		snprintf(text, sizeof(text), "%zu\n", i);
		collect(&p[i], &r);
		assert_true(str_eq(buf_str(&r.out), str_c(text)));
		peer_done(&p[i]);
	}
}

static void no_descriptors_left(void **state)
{
	struct rlimit few, old;
	struct peer idle[30];
	bool refused = false;

	assert_int_equal(prlimit(agent_pid, RLIMIT_NOFILE, NULL, &old), 0);
	few = (struct rlimit){ 24, old.rlim_max };
	assert_int_equal(prlimit(agent_pid, RLIMIT_NOFILE, &few, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		idle[i] = dial();
	for (size_t i = 0; i < 3 && !refused; i++) { /* the first ones have been accepted */
		struct result r;

		start(&idle[i], (const char *const[]){ "true", NULL }, NULL, "", 0);
		collect(&idle[i], &r);
		refused = strstr(r.error, "too many descriptors") != NULL;
		result_done(&r);
	}
	assert_true(refused);
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		peer_done(&idle[i]);
	assert_alive();
	assert_int_equal(prlimit(agent_pid, RLIMIT_NOFILE, &old, NULL), 0);
}

static bool write_text(const char *dir, const char *file, const char *text)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return file_write_kernel(AT_FDCWD, path, str_c(text)) == 0;
}

/* The sandbox's limit of processes is reached: commands and files say so, the agent lives. */
static void no_processes_left(void **state)
{
	static const char *const roots[] = { "/sys/fs/cgroup/pids", "/sys/fs/cgroup" };
	char dir[200], pid[16];
	const char *root = NULL;

	snprintf(pid, sizeof(pid), "%d", agent_pid);
	for (size_t i = 0; i < ARRAY_SIZE(roots) && !root; i++) {
		snprintf(dir, sizeof(dir), "%s/weir-test-%d", roots[i], getpid());
		if (mkdir(dir, 0755) < 0)
			continue;
		if (write_text(dir, "pids.max", "1") && write_text(dir, "cgroup.procs", pid))
			root = roots[i];
		else
			rmdir(dir);
	}
	if (!root) {
		print_message("no pids cgroup to use here\n");
		skip();
	}
	auto_result struct result r = run((const char *const[]){ "true", NULL });
	assert_int_equal(r.code, 126);
	assert_non_null(strstr(r.error, "limit of processes"));
	assert_int_equal(put_error("/root/none", "limit of processes"), EAGAIN);
	assert_alive();
	assert_true(write_text(dir, "pids.max", "max"));
	assert_sh("echo back", "back\n");
	write_text(root, "cgroup.procs", pid);
	while (rmdir(dir) < 0 && errno == EBUSY)
		usleep(10000);
}

static void orphans_are_reaped(void **state)
{
	for (int i = 0; i < 20; i++)
		assert_sh("(sh -c 'sleep 0.05; exit 3' >/dev/null 2>&1 &) ; echo", "\n");
	wait_for("! grep -qs '^State:.Z' /proc/[0-9]*/status");
}

static void stays_small(void **state)
{
	auto_result struct result r = sh("grep VmRSS /proc/1/status | tr -dc 0-9");
	uint64_t kib = 0;

	assert_int_equal(str_u64(buf_str(&r.out), 1024, &kib), 0); /* after all of the above */
	print_message("agent: %u KiB resident\n", (unsigned int)kib);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ping),
		cmocka_unit_test(exit_codes),
		cmocka_unit_test(start_failures),
		cmocka_unit_test(surroundings),
		cmocka_unit_test(path_of_the_command),
		cmocka_unit_test(arguments_verbatim),
		cmocka_unit_test(standard_input),
		cmocka_unit_test(stuck_reader_stops_only_itself),
		cmocka_unit_test(background_redirected_returns_at_once),
		cmocka_unit_test(background_holding_pipes_is_left),
		cmocka_unit_test(output_after_the_end_still_counts),
		cmocka_unit_test(disconnect_kills_the_group),
		cmocka_unit_test(disconnect_without_kill_lets_it_run),
		cmocka_unit_test(kill_frame),
		cmocka_unit_test(files_come_and_go),
		cmocka_unit_test(file_that_shrinks_while_it_is_read),
		cmocka_unit_test(links_are_followed),
		cmocka_unit_test(what_is_no_file),
		cmocka_unit_test(truncated_upload_leaves_nothing),
		cmocka_unit_test(what_was_uploaded_runs_at_once),
		cmocka_unit_test(disk_full),
		cmocka_unit_test(wake),
		cmocka_unit_test(self_signals),
		cmocka_unit_test(self_endpoint_bounds),
		cmocka_unit_test(tunnel),
		cmocka_unit_test(tunnel_bulk),
		cmocka_unit_test(tunnel_refusals),
		cmocka_unit_test(malformed),
		cmocka_unit_test(strangers),
		cmocka_unit_test(many_connections),
		cmocka_unit_test(many_commands),
		cmocka_unit_test(no_descriptors_left),
		cmocka_unit_test(no_processes_left),
		cmocka_unit_test(orphans_are_reaped),
		cmocka_unit_test(stays_small),
	};
	int program = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1, listener, r;

	if (program < 0) {
		fprintf(stderr, "usage: %s WEIR-AGENT\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	sandbox_enter();
	listener = sandbox_listener();
	agent_pid = sandbox_agent(program, listener);
	close(listener);
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	kill(agent_pid, SIGKILL);
	waitpid(agent_pid, NULL, 0);
	return r;
}

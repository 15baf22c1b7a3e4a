/*
 * The api role's side of the conversation (api/agent.c). First against an agent played by this
 * test, which says what no agent should; then against the real one. Both in a sandbox of
 * namespaces (sandbox.h), over loopback, bound to it as to a link.
 */
#include "../unit.h"
#include "api/agent.h"
#include "base/fd.h"
#include "role.h"
#include "wire/frame.h"

#define DRIBBLE_MS 15

static void turn(unsigned int times)
{
	while (times--)
		uv_run(&loop, UV_RUN_NOWAIT);
}

/* --- what an owner hears --- */

struct heard {
	struct buf out, err;
	unsigned int outputs, ends, opens, drains, signals;
	bool ok, free_on_output, pause_on_output;
	struct err error;
	struct agent_exit exit;
	uint64_t size, bytes;
	char reason[600];
	enum agent_signal what;
};

#define HEARD ((struct heard){ .out = BUF_MAX(64 << 20), .err = BUF_MAX(64 << 20) })

static void heard_done(struct heard *h)
{
	buf_done(&h->out);
	buf_done(&h->err);
}
#define auto_heard _cleanup_(heard_done)

static void ended(struct heard *h, const struct err *err)
{
	h->ends++;
	h->ok = !err;
	if (err)
		h->error = *err;
}

static void on_output(struct agent_exec *x, int stream, struct str data, void *arg)
{
	struct heard *h = arg;

	h->outputs++;
	if (h->free_on_output)
		agent_exec_free(x);
	else if (h->pause_on_output)
		agent_exec_pause(x, true);
	buf_add_str(stream == 1 ? &h->out : &h->err, data); /* valid until we return */
}

static void on_exec_end(struct agent_exec *x, const struct agent_exit *exit, const struct err *err,
	void *arg)
{
	struct heard *h = arg;

	ended(h, err);
	if (exit)
		h->exit = *exit;
}

static const struct agent_exec_ops exec_ops = { on_output, on_exec_end };

static void on_drain(struct agent_put *x, void *arg)
{
	((struct heard *)arg)->drains++;
}

static void on_put_end(struct agent_put *x, uint64_t bytes, const struct err *err, void *arg)
{
	struct heard *h = arg;

	ended(h, err);
	h->bytes = bytes;
}

static const struct agent_put_ops put_ops = { on_drain, on_put_end };

static void on_open(struct agent_get *x, uint64_t size, void *arg)
{
	struct heard *h = arg;

	h->opens++;
	h->size = size;
}

static void on_data(struct agent_get *x, struct str data, void *arg)
{
	struct heard *h = arg;

	h->outputs++;
	if (h->pause_on_output)
		agent_get_pause(x, true);
	buf_add_str(&h->out, data);
}

static void on_get_end(struct agent_get *x, const struct err *err, void *arg)
{
	ended(arg, err);
}

static const struct agent_get_ops get_ops = { on_open, on_data, on_get_end };

static void on_done(const struct err *err, void *arg)
{
	ended(arg, err);
}

static void on_signal(struct agent_watch *w, enum agent_signal what, struct str reason, void *arg)
{
	struct heard *h = arg;

	h->signals++;
	h->what = what;
	assert_int_equal(str_copy(h->reason, sizeof(h->reason), reason), 0);
}

static struct agent_exec *exec_one(struct heard *h, const struct str *argv, size_t n, struct str in)
{
	struct agent_exec_spec spec = { .argv = argv, .n_argv = n, .stdin_data = in,
		.kill_on_close = true };
	struct agent_exec *x = NULL;
	struct err err;

	assert_int_equal(agent_exec_start(&loop, &lo, &spec, &exec_ops, h, &x, &err), 0);
	return x;
}

#define EXEC(h, in, ...)                                                                           \
	exec_one(h, (const struct str[]){ __VA_ARGS__ },                                           \
		sizeof((const struct str[]){ __VA_ARGS__ }) / sizeof(struct str), in)

/* --- the played agent: accepts, says its lines to everyone, then as told --- */

static struct played {
	uv_tcp_t listener;
	struct buf lines;
	bool close, dribble, flood;
	unsigned int accepted, open;
} played;

struct client {
	uv_tcp_t tcp;
	uv_timer_t timer;
	uv_write_t write;
	unsigned int handles;
	size_t dribbled;
	bool writing;
};

static void on_client_closed(uv_handle_t *handle)
{
	struct client *k = handle->data;

	if (--k->handles == 0) {
		played.open--;
		free(k);
	}
}

static void client_close(struct client *k)
{
	if (uv_is_closing((uv_handle_t *)&k->tcp))
		return;
	uv_close((uv_handle_t *)&k->tcp, on_client_closed);
	uv_close((uv_handle_t *)&k->timer, on_client_closed);
}

static void client_alloc(uv_handle_t *handle, size_t n, uv_buf_t *ret)
{
	static char sink[65536];

	*ret = uv_buf_init(sink, sizeof(sink));
}

static void client_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	if (n < 0)
		client_close(s->data);
}

static void client_say(struct client *k);

static void on_said(uv_write_t *w, int status)
{
	struct client *k = container_of(w, struct client, write);

	k->writing = false;
	if (status < 0 || (played.close && !played.flood))
		client_close(k);
	else if (played.flood)
		client_say(k);
}

static void client_say(struct client *k)
{
	uv_buf_t b = uv_buf_init(played.lines.p, (unsigned int)played.lines.n);

	k->writing = true;
	uv_write(&k->write, (uv_stream_t *)&k->tcp, &b, 1, on_said);
}

static void on_dribble(uv_timer_t *t)
{
	struct client *k = t->data;
	uv_buf_t b = uv_buf_init(played.lines.p + k->dribbled, 1);

	if (k->dribbled < played.lines.n && uv_try_write((uv_stream_t *)&k->tcp, &b, 1) == 1)
		k->dribbled++;
}

static void on_accept(uv_stream_t *s, int status)
{
	struct client *k = calloc(1, sizeof(*k));

	played.accepted++;
	played.open++;
	k->handles = 2;
	uv_tcp_init(&loop, &k->tcp);
	uv_timer_init(&loop, &k->timer);
	k->tcp.data = k->timer.data = k;
	uv_accept(s, (uv_stream_t *)&k->tcp);
	uv_read_start((uv_stream_t *)&k->tcp, client_alloc, client_read);
	if (played.dribble)
		uv_timer_start(&k->timer, on_dribble, 0, DRIBBLE_MS);
	else if (played.lines.n)
		client_say(k);
	else if (played.close)
		client_close(k);
}

static void play(const char *lines, size_t n)
{
	buf_reset(&played.lines);
	played.close = played.dribble = played.flood = false;
	played.accepted = 0;
	buf_add(&played.lines, lines, n);
}

static void line(uint8_t type, const union frame_body *m)
{
	static const union frame_body none;

	assert_int_equal(frame_encode(&played.lines, type, m ? m : &none), 0);
}

static void line_raw(uint8_t type, struct str data)
{
	assert_int_equal(frame_add(&played.lines, type, 0, data), 0);
}

static const union frame_body started = { .started = { .pid = 7 } };
static const union frame_body exit_3 = { .exit = { .code = 3 } };

/* An exec against these lines: how does it end? */
static void exec_hears(struct heard *h)
{
	struct agent_exec *x = EXEC(h, STR_NONE, STR("true"));

	run_until(h->ends);
	agent_exec_free(x);
	run_until(played.open == 0);
	assert_int_equal(h->ends, 1);
}

static void assert_upstream(void)
{
	auto_heard struct heard h = HEARD;

	exec_hears(&h);
	assert_false(h.ok);
	assert_int_equal(h.error.kind, ERR_UPSTREAM);
	assert_true(h.error.text[0]);
}

static void exec_against_liars(void **state)
{
	auto_heard struct heard h = HEARD, e = HEARD;

	play("HTTP/1.1 200 OK\r\n\r\n", 19);
	assert_upstream();
	play("\x22\x00\x00\x00\x00\x01\x00\x01", 8); /* one byte more than a frame may have */
	assert_upstream();
	play("", 0);
	played.close = true; /* says nothing and leaves */
	assert_upstream();
	play("", 0);
	line_raw(FRAME_STDOUT, STR("before STARTED"));
	assert_upstream();
	play("", 0);
	line(FRAME_STARTED, &started);
	line(FRAME_STARTED, &started);
	assert_upstream();
	play("", 0);
	line(FRAME_STARTED, &started);
	played.close = true; /* no EXIT */
	assert_upstream();
	play("", 0);
	line(FRAME_OK, NULL);
	assert_upstream();
	play("\x25\x00\x00\x00\x00\x00\x00\x0c\x01\x00\x00\x00\x00\x00\x00\x04\x00\x00\x01\x2c", 20);
	assert_upstream(); /* EXIT with code 300 */

	play("", 0); /* an honest end, then lies: the end is what counts, once */
	line(FRAME_STARTED, &started);
	line_raw(FRAME_STDOUT, STR("hi"));
	line(FRAME_EXIT, &exit_3);
	line(FRAME_EXIT, &exit_3);
	buf_add_c(&played.lines, "garbage garbage garbage");
	exec_hears(&h);
	assert_true(h.ok);
	assert_int_equal(h.exit.code, 3);
	assert_true(str_eq(buf_str(&h.out), STR("hi")));

	play("", 0); /* its words are made fit to print */
	line(FRAME_ERROR, &(union frame_body){ .error = { ENOENT, STR("gone\n\x1b[31m") } });
	exec_hears(&e);
	assert_int_equal(e.error.kind, ERR_NOT_FOUND);
	assert_string_equal(e.error.text, "gone??[31m");
}

static void dribbling(void **state)
{
	play("\x22\x00\x00\x00\x00\x00\x10\x00", 8);
	for (int i = 0; i < 4096; i++)
		buf_add_c(&played.lines, "x");
	played.dribble = true; /* it would take 60 s, never 1 s without a byte */
	assert_upstream();
}

static void flooding_is_held_back(void **state)
{
	auto_heard struct heard h = HEARD;
	struct agent_exec *x;
	unsigned int before;

	/* Paused at each output: exactly one comes per resume, whatever is on its way. */
	play("", 0);
	line(FRAME_STARTED, &started);
	for (int i = 0; i < 100; i++)
		line_raw(FRAME_STDOUT, STR("0123456789abcdef"));
	h.pause_on_output = true;
	x = EXEC(&h, STR_NONE, STR("true"));
	run_until(h.outputs == 1);
	for (unsigned int i = 1; i < 50; i++) {
		turn(5);
		assert_int_equal(h.outputs, i);
		before = h.outputs;
		agent_exec_pause(x, false);
		assert_int_equal(h.outputs, before); /* never inside the call */
		run_until(h.outputs == i + 1);
	}
	agent_exec_free(x);
	run_until(played.open == 0);
	assert_int_equal(h.ends, 0); /* freed: no more callbacks */
}

static void freed_inside_callbacks(void **state)
{
	auto_heard struct heard h = HEARD;

	play("", 0);
	line(FRAME_STARTED, &started);
	for (int i = 0; i < 10; i++)
		line_raw(FRAME_STDERR, STR("again"));
	line(FRAME_EXIT, &exit_3);
	h.free_on_output = true;
	EXEC(&h, STR_NONE, STR("true"));
	run_until(h.outputs);
	run_until(played.open == 0);
	assert_int_equal(h.outputs, 1);
	assert_int_equal(h.ends, 0);
	assert_true(str_eq(buf_str(&h.err), STR("again")));
	agent_exec_free(NULL);
}

static struct agent_get *get_one(struct heard *h, const char *path)
{
	struct agent_get *x = NULL;
	struct err err;

	assert_int_equal(agent_get_start(&loop, &lo, str_c(path), &get_ops, h, &x, &err), 0);
	return x;
}

static void get_hears(struct heard *h)
{
	struct agent_get *x = get_one(h, "/f");

	run_until(h->ends);
	agent_get_free(x);
	run_until(played.open == 0);
	assert_int_equal(h->ends, 1);
}

static void get_against_liars(void **state)
{
	const union frame_body five = { .ok = { .bytes = 5, .mode = 0644 } };

	for (int lie = 0; lie < 5; lie++) {
		auto_heard struct heard h = HEARD;

		play("", 0);
		if (lie != 0)
			line(FRAME_OK, &five);
		if (lie == 1)
			line_raw(FRAME_DATA, STR("sixsix"));
		if (lie == 2)
			line_raw(FRAME_DATA, STR("four"));
		if (lie == 3)
			line(FRAME_OK, &five);
		if (lie == 4)
			line_raw(FRAME_STDOUT, STR("five!"));
		line(FRAME_END, NULL);
		get_hears(&h);
		assert_false(h.ok);
		assert_int_equal(h.error.kind, ERR_UPSTREAM);
	}
}

/* A file may take as long as it likes while bytes come: here longer than may pass without any. */
static void get_from_one_that_falls_silent(void **state)
{
	const union frame_body more = { .ok = { .bytes = 9, .mode = 0644 } };
	auto_heard struct heard h = HEARD;

	play("", 0);
	line(FRAME_OK, &more);
	for (int i = 0; i < 8; i++)
		line_raw(FRAME_DATA, STR("x"));
	played.dribble = true;
	assert_true(played.lines.n * DRIBBLE_MS > FILE_MS);
	get_hears(&h);
	assert_true(str_eq(buf_str(&h.out), STR("xxxxxxxx")));
	assert_false(h.ok);
	assert_int_equal(h.error.code, -ETIMEDOUT);
}

static void put_against_liars(void **state)
{
	for (int lie = 0; lie < 3; lie++) {
		auto_heard struct heard h = HEARD;
		struct agent_put *x = NULL;
		struct err err;

		play("", 0);
		if (lie == 0) /* done before we are */
			line(FRAME_OK, &(union frame_body){ .ok = { .bytes = 4 } });
		if (lie == 1)
			line(FRAME_OK, &(union frame_body){ .ok = { .bytes = 5 } });
		if (lie == 2)
			line(FRAME_ERROR,
				&(union frame_body){ .error = { ENOSPC, STR("no space") } });
		assert_int_equal(
			agent_put_start(&loop, &lo, STR("/f"), 0, &put_ops, &h, &x, &err), 0);
		assert_int_equal(agent_put_write(x, STR("four")), 1);
		if (lie == 1)
			assert_int_equal(agent_put_finish(x), 0);
		run_until(h.ends);
		assert_false(h.ok);
		assert_int_equal(h.error.kind, lie == 2 ? ERR_TOO_LARGE : ERR_UPSTREAM);
		assert_true(agent_put_write(x, STR("more")) < 0);
		assert_true(agent_put_finish(x) < 0);
		agent_put_free(x);
		run_until(played.open == 0);
	}
}

static void signals_in_floods(void **state)
{
	auto_heard struct heard h = HEARD;
	struct agent_watch *w = NULL;

	play("", 0);
	line(FRAME_OK, NULL);
	for (int i = 0; i < 1000; i++)
		line(FRAME_SIGNAL, &(union frame_body){ .signal = { 1, STR("again\n") } });
	assert_int_equal(agent_watch_start(&loop, &lo, on_signal, &h, &w), 0);
	run_until(played.accepted && played.open == 0);
	assert_int_equal(h.signals, 16);
	assert_string_equal(h.reason, "again?");
	agent_watch_free(w);
	turn(5);
	assert_int_equal(h.signals, 16);

	/* It comes back by itself after a lost connection. */
	play("", 0);
	line(FRAME_OK, NULL);
	played.close = true;
	assert_int_equal(agent_watch_start(&loop, &lo, on_signal, &h, &w), 0);
	run_until(played.accepted >= 3);
	agent_watch_free(w);
	run_until(played.open == 0);
}

static void wake_times_out(void **state)
{
	auto_heard struct heard h = HEARD;
	struct agent_wake_spec spec = { .hostname = STR("x") };
	struct err err;

	play("", 0); /* accepts and stays silent, as a frozen sandbox does */
	assert_int_equal(agent_wake(&loop, &lo, &spec, 100, on_done, &h, &err), 0);
	run_until(h.ends);
	assert_int_equal(h.error.code, -ETIMEDOUT);
	run_until(played.open == 0);
}

static void bad_arguments(void **state)
{
	auto_heard struct heard h = HEARD;
	const struct agent_link none = { .link = "nolink0" }, empty = { 0 };
	const struct agent_env env = { STR("A=B"), STR("c") };
	struct str argv = STR("true"), nul = str_n("a\0b", 3);
	struct agent_exec_spec spec = { .argv = &argv, .n_argv = 1 };
	struct agent_exec *x = NULL;
	struct agent_get *g = NULL;
	struct agent_put *p = NULL;
	struct err err = { 0 };

	assert_true(agent_exec_start(&loop, &none, &spec, &exec_ops, &h, &x, &err) < 0);
	assert_int_equal(err.kind, ERR_UPSTREAM);
	assert_true(agent_exec_start(&loop, &empty, &spec, &exec_ops, &h, &x, &err) < 0);
	spec.env = &env;
	spec.n_env = 1;
	assert_int_equal(agent_exec_start(&loop, &lo, &spec, &exec_ops, &h, &x, &err), -EINVAL);
	assert_int_equal(err.kind, ERR_INVALID);
	spec.n_env = 0;
	spec.argv = &nul;
	assert_int_equal(agent_exec_start(&loop, &lo, &spec, &exec_ops, &h, &x, &err), -EINVAL);
	spec.n_argv = 0;
	assert_int_equal(agent_exec_start(&loop, &lo, &spec, &exec_ops, &h, &x, &err), -EINVAL);
	assert_int_equal(
		agent_get_start(&loop, &lo, STR("relative"), &get_ops, &h, &g, &err), -EINVAL);
	assert_string_equal(err.field, "path");
	assert_int_equal(agent_put_start(&loop, &lo, STR(""), 0, &put_ops, &h, &p, &err), -EINVAL);
	assert_null(x);
	assert_int_equal(h.ends, 0);
	turn(5);
}

/* --- the real agent --- */

static void real_exec(void **state)
{
	auto_heard struct heard a = HEARD, b = HEARD, c = HEARD;
	struct agent_exec *x = EXEC(&a, STR("to upper"), STR("sh"), STR("-c"),
		STR("tr a-z A-Z; echo err >&2; exit 5"));

	run_until(a.ends);
	assert_true(a.ok);
	assert_int_equal(a.exit.code, 5);
	assert_true(str_eq(buf_str(&a.out), STR("TO UPPER")));
	assert_true(str_eq(buf_str(&a.err), STR("err\n")));
	agent_exec_free(x);

	x = EXEC(&b, STR_NONE, STR("no-such"));
	run_until(b.ends);
	assert_int_equal(b.exit.code, 127);
	assert_string_equal(b.exit.error, "no-such: not found");
	agent_exec_free(x);

	x = EXEC(&c, STR_NONE, STR("sleep"), STR("300"));
	turn(10);
	assert_int_equal(agent_exec_kill(x, SIGINT), 0);
	run_until(c.ends);
	assert_int_equal(c.exit.signal, SIGINT);
	assert_int_equal(c.exit.code, 130);
	agent_exec_free(x);
}

static void real_big_stdin(void **state)
{
	auto_heard struct heard h = HEARD;
	size_t n = 8 << 20;
	auto_free char *big = calloc(1, n);
	struct agent_exec *x = EXEC(&h, str_n(big, n), STR("cat"));

	run_until(h.ends);
	assert_true(h.ok);
	assert_int_equal(h.out.n, n);
	agent_exec_free(x);
}

static void real_open_stdin(void **state)
{
	auto_heard struct heard h = HEARD;
	struct str argv[] = { STR("cat") };
	struct agent_exec_spec spec = { .argv = argv, .n_argv = 1, .stdin_open = true };
	struct agent_exec *x = NULL;

	assert_int_equal(agent_exec_start(&loop, &lo, &spec, &exec_ops, &h, &x, NULL), 0);
	assert_int_equal(agent_exec_stdin(x, STR("one "), false), 0);
	run_until(h.out.n == 4);
	assert_int_equal(agent_exec_stdin(x, STR("two"), true), 0);
	assert_int_equal(agent_exec_stdin(x, STR("three"), false), -EPIPE);
	run_until(h.ends);
	assert_true(str_eq(buf_str(&h.out), STR("one two")));
	agent_exec_free(x);
}

static void real_backpressure(void **state)
{
	auto_heard struct heard h = HEARD;
	struct agent_exec *x;

	h.pause_on_output = true;
	x = EXEC(&h, STR_NONE, STR("sh"), STR("-c"), STR("yes | head -c 3000000; echo end >&2"));
	while (!h.ends) {
		agent_exec_pause(x, false);
		uv_run(&loop, UV_RUN_ONCE);
	}
	assert_int_equal(h.out.n, 3000000);
	assert_true(str_eq(buf_str(&h.err), STR("end\n")));
	agent_exec_free(x);
}

static void real_files(void **state)
{
	auto_heard struct heard p = HEARD, g = HEARD, none = HEARD, full = HEARD;
	size_t n = 3000000, sent = 0;
	auto_free char *big = malloc(n);
	struct agent_put *x = NULL;
	struct agent_get *y;

	memset(big, 'f', n);
	assert_int_equal(
		agent_put_start(&loop, &lo, STR("/root/up/file"), 0600, &put_ops, &p, &x, NULL), 0);
	while (sent < n) {
		size_t k = MIN(n - sent, (size_t)100000);
		int r = agent_put_write(x, str_n(big + sent, k));

		assert_true(r >= 0);
		sent += k;
		if (r == 0) {
			unsigned int before = p.drains;

			run_until(p.drains > before);
		}
	}
	assert_true(p.drains > 0);
	assert_int_equal(agent_put_finish(x), 0);
	run_until(p.ends);
	assert_true(p.ok);
	assert_int_equal(p.bytes, n);
	agent_put_free(x);

	y = get_one(&g, "/root/up/file");
	g.pause_on_output = true;
	run_until(g.opens);
	assert_int_equal(g.size, n);
	while (!g.ends) {
		agent_get_pause(y, false);
		uv_run(&loop, UV_RUN_ONCE);
	}
	assert_true(str_eq(buf_str(&g.out), str_n(big, n)));
	agent_get_free(y);

	y = get_one(&none, "/root/none");
	run_until(none.ends);
	assert_int_equal(none.error.kind, ERR_NOT_FOUND);
	agent_get_free(y);

	/* More than fits: the agent's sentence arrives although we were still sending. */
	assert_int_equal(
		agent_put_start(&loop, &lo, STR("/run/file"), 0, &put_ops, &full, &x, NULL), 0);
	while (!full.ends) {
		if (agent_put_write(x, str_n(big, n)) < 0)
			break;
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	run_until(full.ends);
	assert_int_equal(full.error.kind, ERR_TOO_LARGE);
	assert_non_null(strstr(full.error.text, "No space left"));
	agent_put_free(x);
}

static void real_wake_and_watch(void **state)
{
	auto_heard struct heard h = HEARD, w = HEARD, a = HEARD;
	const struct agent_env env = { STR("COLOUR"), STR("sea green") };
	struct str key = STR("ssh-ed25519 KEY me");
	struct agent_wake_spec spec = { .hostname = STR("quiet-heron"), .ip4 = ip_v4(0x0a3c0001),
		.env = &env, .n_env = 1, .ssh_keys = &key, .n_ssh_keys = 1 };
	struct agent_watch *watch = NULL;
	struct agent_exec *x;

	assert_int_equal(agent_wake(&loop, &lo, &spec, 5000, on_done, &h, NULL), 0);
	run_until(h.ends);
	assert_true(h.ok);
	x = EXEC(&a, STR_NONE, STR("sh"), STR("-c"),
		STR("uname -n; echo $COLOUR; grep -c 10.60.0.1 /etc/hosts; cat .ssh/authorized_keys | "
		    "grep me"));
	run_until(a.ends);
	assert_true(str_eq(buf_str(&a.out),
		STR("quiet-heron\nsea green\n1\nssh-ed25519 KEY me\n")));
	agent_exec_free(x);

	assert_int_equal(agent_watch_start(&loop, &lo, on_signal, &w, &watch), 0);
	while (!w.signals) { /* until the watcher is there, writing is without effect */
		auto_heard struct heard b = HEARD;

		x = EXEC(&b, STR_NONE, STR("sh"), STR("-c"), STR("echo retire > /run/self; sleep 0.3"));
		run_until(b.ends);
		agent_exec_free(x);
	}
	assert_int_equal(w.what, AGENT_SIGNAL_DELETE);
	agent_watch_free(watch);
}

static void idle_handle(uv_handle_t *h, void *arg)
{
	if (h != (uv_handle_t *)&dog)
		++*(unsigned int *)arg;
}

/* Everything freed is gone from the loop. */
static void nothing_is_left(void **state)
{
	unsigned int handles = 0;

	turn(10);
	uv_walk(&loop, idle_handle, &handles);
	assert_int_equal(handles, 0);
}

static int start_playing(void **state)
{
	uv_loop_init(&loop);
	uv_timer_init(&loop, &dog);
	uv_tcp_init(&loop, &played.listener);
	played.lines = BUF_MAX(1 << 20);
	assert_int_equal(uv_tcp_open(&played.listener, sandbox_listener()), 0);
	return uv_listen((uv_stream_t *)&played.listener, 64, on_accept);
}

static int stop_playing(void **state)
{
	uv_close((uv_handle_t *)&played.listener, NULL);
	uv_close((uv_handle_t *)&dog, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	buf_done(&played.lines);
	return uv_loop_close(&loop);
}


int main(int argc, char **argv)
{
	const struct CMUnitTest lies[] = {
		cmocka_unit_test(exec_against_liars),
		cmocka_unit_test(dribbling),
		cmocka_unit_test(flooding_is_held_back),
		cmocka_unit_test(freed_inside_callbacks),
		cmocka_unit_test(get_against_liars),
		cmocka_unit_test(get_from_one_that_falls_silent),
		cmocka_unit_test(put_against_liars),
		cmocka_unit_test(signals_in_floods),
		cmocka_unit_test(wake_times_out),
		cmocka_unit_test(bad_arguments),
	};
	const struct CMUnitTest real[] = {
		cmocka_unit_test(real_exec),
		cmocka_unit_test(real_big_stdin),
		cmocka_unit_test(real_open_stdin),
		cmocka_unit_test(real_backpressure),
		cmocka_unit_test(real_files),
		cmocka_unit_test(real_wake_and_watch),
		cmocka_unit_test(nothing_is_left),
	};
	int r;

	if (role_begin(argc, argv))
		return 2;
	r = cmocka_run_group_tests(lies, start_playing, stop_playing);
	return cmocka_run_group_tests(real, start_agent, stop_agent) || r;
}

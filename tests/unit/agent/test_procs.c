/*
 * Processes that outlive their connection: api/procs.c against the real agent, one test per promise
 * of its header.
 */
#include "../unit.h"
#include "agent/ring.h"
#include "api/procs.h"
#include "base/buf.h"
#include "role.h"

/* --- what an owner hears --- */

struct heard {
	struct buf out[4];    /* by stream */
	char order[64];	      /* which stream each piece came by */
	unsigned int pieces, gaps, started, ends;
	uint64_t first, next; /* offsets */
	bool paused, exited;
	struct err err;
	struct agent_exit exit;
};

static struct heard heard_new(void)
{
	struct heard h = { 0 };

	for (int i = 0; i < 4; i++)
		h.out[i] = BUF_MAX(64 << 20);
	return h;
}

static void heard_done(struct heard *h)
{
	for (int i = 0; i < 4; i++)
		buf_done(&h->out[i]);
}
#define auto_heard _cleanup_(heard_done)

static void on_started(struct proc *x, uint32_t pid, void *arg)
{
	((struct heard *)arg)->started++;
	assert_true(pid > 1);
}

static void on_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	struct heard *h = arg;

	if (!h->pieces)
		h->first = offset;
	else if (offset != h->next)
		h->gaps++;
	assert_true(data.n > 0 && (!h->pieces || offset >= h->next));
	h->next = offset + data.n;
	if (h->pieces < sizeof(h->order) - 1)
		h->order[h->pieces] = "?oes"[stream];
	h->pieces++;
	buf_add_str(&h->out[stream], data);
	if (h->paused)
		proc_pause(x, true);
}

static void on_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct heard *h = arg;

	h->ends++;
	if (exit) {
		h->exited = true;
		h->exit = *exit;
	}
	if (err)
		h->err = *err;
	proc_free(x);
}

static const struct proc_ops ops = { .on_started = on_started, .on_output = on_output,
	.on_end = on_end };

/* --- asking in one line --- */

struct told {
	unsigned int n, ends;
	struct proc_info last;
	char ids[512], note[64], error[128];
	struct err err;
};

static void on_info(const struct proc_info *info, const struct err *err, void *arg)
{
	struct told *t = arg;

	if (!info) {
		t->ends++;
		if (err)
			t->err = *err;
		return;
	}
	t->n++;
	t->last = *info;
	if (strlen(t->ids) + info->id.n + 2 < sizeof(t->ids))
		snprintf(t->ids + strlen(t->ids), sizeof(t->ids) - strlen(t->ids), STR_FMT " ",
			STR_ARG(info->id));
	assert_int_equal(str_copy(t->note, sizeof(t->note), info->note), 0);
	assert_int_equal(str_copy(t->error, sizeof(t->error), info->error), 0);
}

static struct told list(const char *label, const char *id)
{
	struct told t = { 0 };
	struct proc_ask *x;

	assert_int_equal(procs_list(&loop, &lo, str_c(label), str_c(id), on_info, &t, &x, NULL), 0);
	run_until(t.ends);
	assert_int_equal(t.err.code, 0);
	return t;
}

static struct told change(struct proc_change how)
{
	struct told t = { 0 };
	struct proc_ask *x;

	assert_int_equal(proc_change(&loop, &lo, &how, on_info, &t, &x, NULL), 0);
	run_until(t.ends);
	return t;
}

static struct proc *attach(struct heard *h, struct proc_attach how)
{
	struct proc *x;

	assert_int_equal(proc_attach(&loop, &lo, &how, &ops, h, &x, NULL), 0);
	return x;
}

static struct proc *begin(struct heard *h, const char *id, const char *script, bool attached,
	struct proc_spec spec)
{
	const struct str argv[] = { STR("sh"), STR("-c"), str_c(script) };
	struct proc *x;

	spec.id = str_c(id);
	spec.argv = argv;
	spec.n_argv = 3;
	assert_int_equal(proc_start(&loop, &lo, &spec, attached, false, &ops, h, &x, NULL), 0);
	return x;
}

/* Started, and left alone. */
static void run_alone(const char *id, const char *script, struct proc_spec spec)
{
	auto_heard struct heard h = heard_new();

	begin(&h, id, script, false, spec);
	run_until(h.ends);
	assert_int_equal(h.started, 1);
	assert_false(h.exited);
}

/* All of its output to its end. */
static void follow(struct heard *h, const char *id, uint64_t from)
{
	attach(h, (struct proc_attach){ .id = str_c(id), .from = from, .follow = true });
	run_until(h->ends);
	assert_int_equal(h->err.code, 0);
	assert_true(h->exited);
}

static void type(const char *id, const char *text, bool close)
{
	auto_heard struct heard h = heard_new();

	attach(&h, (struct proc_attach){ .id = str_c(id), .from = PROC_FROM_END, .input = str_c(text),
		.close = close });
	run_until(h.ends);
	assert_int_equal(h.err.code, 0);
}

static void assert_out(const struct heard *h, int stream, const char *want)
{
	if (!str_eq(buf_str(&h->out[stream]), str_c(want)))
		fail_msg("got '" STR_FMT "' want '%s'", STR_ARG(buf_str(&h->out[stream])), want);
}

/* --- tests --- */

static void told_to_the_end(void **state)
{
	auto_heard struct heard h = heard_new();
	struct told t;

	begin(&h, "a1", "echo one; echo two >&2; exit 3", true,
		(struct proc_spec){ .label = STR("a"), .note = STR("{\"x\":1}") });
	run_until(h.ends);
	assert_int_equal(h.started, 1);
	assert_out(&h, PROC_OUT, "one\n");
	assert_out(&h, PROC_ERR, "two\n");
	assert_int_equal(h.exit.code, 3);
	assert_int_equal(h.first, 0);
	t = list("a", "");
	assert_int_equal(t.n, 1);
	assert_string_equal(t.note, "{\"x\":1}");
	assert_false(t.last.running);
	assert_int_equal(t.last.code, 3);
	assert_int_equal(t.last.newest, 8);
	assert_true(t.last.ended_ms >= t.last.started_ms && t.last.started_ms);
	assert_int_equal(list("b", "").n, 0);
	assert_int_equal(list("", "a1").n, 1);
}

static void outlives_its_connection(void **state)
{
	auto_heard struct heard early = heard_new(), whole = heard_new(), late = heard_new();

	run_alone("b1", "echo one; read x; echo two $x; read y; exit 4", (struct proc_spec){
		.stdin_open = true });
	attach(&early, (struct proc_attach){ .id = STR("b1"), .follow = true });
	run_until(early.out[PROC_OUT].n == 4);
	type("b1", "go\n", false);
	run_until(early.out[PROC_OUT].n == 11);
	assert_true(list("", "b1").last.running);
	type("b1", "", true);
	run_until(early.ends);
	assert_int_equal(early.exit.code, 4);
	follow(&whole, "b1", 0);
	assert_out(&whole, PROC_OUT, "one\ntwo go\n");
	follow(&late, "b1", 8);
	assert_out(&late, PROC_OUT, "go\n");
	assert_int_equal(late.first, 8);
}

static void not_started(void **state)
{
	const struct str argv[] = { STR("no-such-program") };
	struct proc_spec spec = { .id = STR("c1"), .argv = argv, .n_argv = 1 };
	auto_heard struct heard h = heard_new(), g = heard_new(), again = heard_new();
	struct proc *x;

	assert_int_equal(proc_start(&loop, &lo, &spec, true, false, &ops, &h, &x, NULL), 0);
	run_until(h.ends);
	assert_int_equal(h.started, 0);
	assert_int_equal(h.exit.code, 127);
	assert_string_equal(h.exit.error, "no-such-program: not found");
	assert_int_equal(list("", "c1").n, 0);
	attach(&g, (struct proc_attach){ .id = STR("c1") });
	run_until(g.ends);
	assert_int_equal(g.err.kind, ERR_NOT_FOUND);
	run_alone("c2", ":", (struct proc_spec){ 0 });
	begin(&again, "c2", ":", true, (struct proc_spec){ 0 });
	run_until(again.ends);
	assert_int_equal(again.err.code, -EEXIST);
}

/* What never started is no more before its child is reaped: the next one takes its id, and its
 * memory. */
static void not_started_again_and_again(void **state)
{
	const struct str argv[] = { STR("no-such-program") };
	struct proc_spec spec = { .id = STR("again"), .argv = argv, .n_argv = 1 };

	for (int i = 0; i < 300; i++) {
		auto_heard struct heard h = heard_new(), g = heard_new();
		struct proc *x;

		assert_int_equal(proc_start(&loop, &lo, &spec, true, false, &ops, &h, &x, NULL), 0);
		run_until(h.ends);
		assert_int_equal(h.exit.code, 127);
		begin(&g, "again", "exit 3", true, (struct proc_spec){ 0 });
		run_until(g.ends);
		assert_int_equal(g.exit.code, 3);
		change((struct proc_change){ .id = STR("again"), .forget = true });
		run_until(list("", "again").n == 0);
	}
}

static void the_last_bytes_are_kept(void **state)
{
	auto_heard struct heard h = heard_new(), part = heard_new();

	run_alone("d1", "i=0; while [ $i -lt 10000 ]; do echo 123456789; i=$((i+1)); done",
		(struct proc_spec){ .keep = 4096 });
	follow(&h, "d1", 0);
	heard_done(&h);
	h = heard_new(); /* and once more, when it has ended */
	follow(&h, "d1", 0);
	assert_int_equal(h.next, 100000);
	assert_int_equal(h.first, 100000 - 4096);
	assert_int_equal(h.out[PROC_OUT].n, 4096);
	follow(&part, "d1", 99990);
	assert_out(&part, PROC_OUT, "123456789\n");
}

#define FLOOD "i=0; while [ $i -lt 40000 ]; do echo 1234567890123456789012345678901234567890123456789; i=$((i+1)); done"

static void a_paced_reader_misses_nothing(void **state)
{
	struct str argv[] = { STR("sh"), STR("-c"), STR(FLOOD) };
	struct proc_spec spec = { .id = STR("e1"), .argv = argv, .n_argv = 3, .keep = 4096 };
	auto_heard struct heard h = heard_new(), g = heard_new();
	struct proc *x, *y;
	struct told t;

	h.paused = true;
	assert_int_equal(proc_start(&loop, &lo, &spec, true, true, &ops, &h, &x, NULL), 0);
	run_until(h.pieces);
	t = list("", "e1");
	assert_true(t.last.running);
	h.paused = false;
	proc_pause(x, false);
	run_until(h.ends);
	assert_int_equal(h.gaps, 0);
	assert_int_equal(h.out[PROC_OUT].n, 40000 * 50);

	/* The control: one that is not waited for, and more than the sockets' buffers hold. */
	argv[2] = STR("exec head -c 67108864 /dev/zero");
	spec.id = STR("e2");
	g.paused = true;
	assert_int_equal(proc_start(&loop, &lo, &spec, true, false, &ops, &g, &y, NULL), 0);
	run_until(g.pieces && !list("", "e2").last.running);
	g.paused = false;
	proc_pause(y, false);
	run_until(g.ends);
	assert_true(g.exited);
	assert_int_equal(g.next, 64 << 20);
	assert_true(g.gaps > 0 || g.first > 0);
}

static void terminal(void **state)
{
	auto_heard struct heard h = heard_new();
	struct proc *x;
	struct told t;

	x = begin(&h, "f1", "stty -echo; tty >/dev/null && stty size; read x; stty size; "
			    "trap 'echo stopped; exit 5' INT; echo ready; while :; do read y; done",
		true, (struct proc_spec){ .pty = true, .rows = 10, .cols = 20 });
	run_until(h.out[PROC_OUT].n >= 7);
	assert_out(&h, PROC_OUT, "10 20\r\n");
	assert_int_equal(proc_resize(x, 33, 44), 0);
	assert_int_equal(proc_write(x, STR("\n"), false), 1);
	run_until(h.out[PROC_OUT].n >= 21);
	assert_out(&h, PROC_OUT, "10 20\r\n33 44\r\nready\r\n");
	t = list("", "f1");
	assert_true(t.last.pty);
	assert_int_equal(t.last.rows, 33);
	proc_write(x, STR("\3"), false);
	run_until(h.ends);
	assert_int_equal(h.exit.code, 5);
	assert_int_equal(h.out[PROC_ERR].n, 0);
}

static void one_after_the_other(void **state)
{
	struct proc_spec spec = { .label = STR("q"), .queue = true, .stdin_open = true };
	auto_heard struct heard a = heard_new(), b = heard_new(), c = heard_new(), d = heard_new();
	struct proc *second;
	struct told t;

	begin(&a, "q1", "read x; exit 1", true, spec);
	run_until(a.started);
	second = begin(&b, "q2", "exit 2", true, spec);
	begin(&c, "q3", "exit 3", true, spec);
	begin(&d, "q4", "exit 4", true, spec);
	run_until(list("q", "").n == 4);
	t = list("", "q2");
	assert_true(t.last.waiting && !t.last.running);
	proc_free(second); /* who leaves while it waits has it not run */
	run_until(list("", "q2").n == 0);
	t = change((struct proc_change){ .id = STR("q3"), .signal = SIGKILL });
	assert_true(t.last.waiting);
	run_until(c.ends);
	assert_int_equal(c.exit.code, 137);
	assert_int_equal(c.started + d.started + b.started, 0);
	type("q1", "\n", false);
	run_until(a.ends && d.ends);
	assert_int_equal(a.exit.code, 1);
	assert_int_equal(d.exit.code, 4);
	assert_int_equal(b.started, 0);
}

static void time_limits(void **state)
{
	auto_heard struct heard h = heard_new(), idle = heard_new();
	struct told t;

	begin(&h, "t1", "sleep 60 & wait", true, (struct proc_spec){ .timeout_ms = 50 });
	run_until(h.ends);
	assert_int_equal(h.exit.signal, SIGKILL);
	assert_string_equal(h.exit.error, "killed after its time limit of 50 ms");
	t = list("", "t1");
	assert_true(t.last.timed_out);
	begin(&idle, "t2", "read x; sleep 60", true,
		(struct proc_spec){ .idle_ms = 50, .stdin_open = true });
	run_until(idle.ends);
	assert_int_equal(idle.exit.signal, SIGKILL);
}

static void signals(void **state)
{
	auto_heard struct heard h = heard_new(), g = heard_new();

	begin(&h, "s1", "trap 'exit 9' TERM; echo up; while :; do sleep 60 & wait; done", true,
		(struct proc_spec){ 0 });
	run_until(h.out[PROC_OUT].n);
	change((struct proc_change){ .id = STR("s1"), .signal = SIGTERM });
	run_until(h.ends);
	assert_int_equal(h.exit.code, 9);
	begin(&g, "s2", "trap '' TERM; echo up; while :; do sleep 60 & wait; done", true,
		(struct proc_spec){ 0 });
	run_until(g.out[PROC_OUT].n);
	change((struct proc_change){ .id = STR("s2"), .signal = SIGTERM, .grace_ms = 50,
		.forget = true });
	assert_int_equal(list("", "s2").n, 0);
	run_until(g.ends);
	assert_int_equal(g.exit.signal, SIGKILL);
	assert_int_equal(change((struct proc_change){ .id = STR("s2") }).err.kind, ERR_NOT_FOUND);
}

/* What was printed before something was told on descriptor 3 stands before it. */
static void the_side_comes_behind(void **state)
{
	auto_heard struct heard h = heard_new();
	unsigned int seen = 0;

	begin(&h, "p1", "i=0; while [ $i -lt 20 ]; do echo out; echo err >&2; echo side >&3; "
			"read x; i=$((i+1)); done", true,
		(struct proc_spec){ .side = true, .stdin_open = true });
	while (seen < 20) {
		run_until(h.out[PROC_SIDE].n == (seen + 1) * 5);
		assert_int_equal(h.out[PROC_OUT].n, (seen + 1) * 4);
		assert_int_equal(h.out[PROC_ERR].n, (seen + 1) * 4);
		assert_int_equal(h.order[h.pieces - 1], 's');
		type("p1", "\n", false);
		seen++;
	}
	run_until(h.ends);
}

static void survivors_keep_writing(void **state)
{
	auto_heard struct heard h = heard_new(), g = heard_new();

	begin(&h, "v1", "mkfifo /root/v; (read x </root/v; echo late) & echo early", true,
		(struct proc_spec){ 0 });
	run_until(h.ends);
	assert_int_equal(h.exit.code, 0);
	assert_out(&h, PROC_OUT, "early\n");
	run_alone("v2", "echo >/root/v", (struct proc_spec){ 0 });
	run_until(list("", "v1").last.newest == 11);
	follow(&g, "v1", 0);
	assert_out(&g, PROC_OUT, "early\nlate\n");
}

static void brief(void **state)
{
	auto_heard struct heard h = heard_new(), g = heard_new();

	begin(&h, "w1", "echo one", true, (struct proc_spec){ .brief = true });
	run_until(h.ends);
	assert_out(&h, PROC_OUT, "one\n");
	follow(&g, "w1", 0);
	assert_int_equal(g.pieces, 0);
	assert_int_equal(g.exit.code, 0);
}

static void input_has_a_bound(void **state)
{
	auto_heard struct heard h = heard_new(), last = heard_new();
	struct str mib = { calloc(1, 1 << 20), 1 << 20 };
	unsigned int took = 0;

	run_alone("i1", "read x <&3", (struct proc_spec){ .stdin_open = true });
	run_alone("i2", "sleep 600", (struct proc_spec){ .stdin_open = true });
	for (int i = 0; i < 8; i++) {
		auto_heard struct heard g = heard_new();

		attach(&g, (struct proc_attach){ .id = STR("i2"), .input = mib });
		run_until(g.ends);
		if (g.err.code) {
			assert_int_equal(g.err.code, -EAGAIN);
			assert_int_equal(g.err.kind, ERR_CAPACITY);
			break;
		}
		took++;
	}
	assert_int_equal(took, 4); /* STDIN_MAX, and a pipe's worth */
	run_until(!list("", "i1").last.running);
	attach(&h, (struct proc_attach){ .id = STR("i1"), .input = STR("x") });
	run_until(h.ends);
	assert_int_equal(h.err.code, -EPIPE);
	change((struct proc_change){ .id = STR("i2"), .signal = SIGKILL });
	follow(&last, "i2", 0);
	free((void *)(uintptr_t)mib.p);
}

static void as_another_user(void **state)
{
	auto_heard struct heard h = heard_new(), g = heard_new();

	begin(&h, "u1", "id -u; id -g; id -G", true, (struct proc_spec){ .uid = 4321, .cwd = STR("/") });
	run_until(h.ends);
	assert_out(&h, PROC_OUT, "4321\n4321\n4321\n");
	begin(&g, "u2", "id -u; id -g", true,
		(struct proc_spec){ .uid = 4321, .gid = 5, .has_gid = true, .cwd = STR("/") });
	run_until(g.ends);
	assert_out(&g, PROC_OUT, "4321\n5\n");
}

/* As many as an agent keeps: the next is refused while all run, and the oldest ended gives way. */
static void table_is_bounded(void **state)
{
	struct told t = list("", "");
	unsigned int n = 0;
	char id[16];

	for (; n < 300; n++) {
		auto_heard struct heard h = heard_new();

		snprintf(id, sizeof(id), "z%u", n);
		begin(&h, id, "read x", false, (struct proc_spec){ .stdin_open = true,
			.label = STR("z") });
		run_until(h.ends);
		if (h.err.code) {
			assert_int_equal(h.err.kind, ERR_CAPACITY);
			break;
		}
	}
	assert_int_equal(n, 256);
	assert_int_equal(list("z", "").n, 256);
	assert_true(t.n > 0); /* those who had ended before gave way */
	assert_int_equal(list("", "").n, 256);
	type("z7", "", true);
	run_until(!list("", "z7").last.running);
	run_alone("last", ":", (struct proc_spec){ 0 });
	assert_int_equal(list("", "z7").n, 0);
	for (unsigned int i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "z%u", i);
		change((struct proc_change){ .id = str_c(id), .signal = SIGKILL, .forget = true });
	}
	assert_int_equal(list("z", "").n, 0); /* whether or not the last is dead by now */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(told_to_the_end),
		cmocka_unit_test(outlives_its_connection),
		cmocka_unit_test(not_started),
		cmocka_unit_test(not_started_again_and_again),
		cmocka_unit_test(the_last_bytes_are_kept),
		cmocka_unit_test(a_paced_reader_misses_nothing),
		cmocka_unit_test(terminal),
		cmocka_unit_test(one_after_the_other),
		cmocka_unit_test(time_limits),
		cmocka_unit_test(signals),
		cmocka_unit_test(the_side_comes_behind),
		cmocka_unit_test(survivors_keep_writing),
		cmocka_unit_test(brief),
		cmocka_unit_test(input_has_a_bound),
		cmocka_unit_test(as_another_user),
		cmocka_unit_test(table_is_bounded),
	};

	if (role_begin(argc, argv))
		return 2;
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, start_agent, stop_agent);
}

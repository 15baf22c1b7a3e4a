/* Frames and messages: what is written reads back as it was, and no other form is read. */
#include "../unit.h"
#include "wire/frame.h"

static struct frame only(const struct buf *b)
{
	struct str rest = buf_str(b);
	struct frame f = { 0 };

	assert_int_equal(frame_next(&rest, &f), 1);
	assert_int_equal(rest.n, 0);
	return f;
}

static void frames_read_back(void **state)
{
	auto_buf struct buf b = BUF_MAX(1 << 20);
	struct str rest;
	struct frame f;

	assert_int_equal(frame_add(&b, FRAME_DATA, 0, STR("abc")), 0);
	assert_int_equal(frame_add(&b, FRAME_END, 0, STR_NONE), 0);
	for (size_t cut = 0; cut < FRAME_HEADER + 3; cut++) { /* every shorter piece says: more */
		rest = str_n(b.p, cut);
		assert_int_equal(frame_next(&rest, &f), 0);
		assert_int_equal(rest.n, cut);
	}
	rest = buf_str(&b);
	assert_int_equal(frame_next(&rest, &f), 1);
	assert_int_equal(f.type, FRAME_DATA);
	assert_true(str_eq(f.body, STR("abc")));
	assert_int_equal(frame_next(&rest, &f), 1);
	assert_int_equal(f.type, FRAME_END);
	assert_int_equal(f.body.n, 0);
	assert_int_equal(frame_next(&rest, &f), 0);
}

static void bad_headers(void **state)
{
	static const uint8_t bad[][FRAME_HEADER] = {
		{ 0, 0, 0, 0, 0, 0, 0, 0 },		     /* no such type */
		{ FRAME_GO + 1, 0, 0, 0, 0, 0, 0, 0 },
		{ FRAME_CHANGE + 1, 0, 0, 0, 0, 0, 0, 0 },
		{ FRAME_DATA, 0, 0, 0, 0, 0, 0, 0 },	     /* data is never empty */
		{ FRAME_END, 0, 0, 0, 0, 0, 0, 1 },	     /* and an end always is */
		{ FRAME_PING, 0, 0, 0, 0, 0, 0, 1 },
		{ FRAME_EXEC, 0, 0, 1, 0, 0, 0, 1 },	     /* zero is zero */
		{ FRAME_EXEC, 2, 0, 0, 0, 0, 0, 1 },	     /* unknown flag */
		{ FRAME_EXEC, FRAME_MORE, 0, 0, 0, 0, 0xff, 0xff }, /* a piece that is not full */
		{ FRAME_GET, FRAME_MORE, 0, 0, 0, 1, 0, 0 }, /* a message that has no pieces */
		{ FRAME_EXEC, 0, 0, 0, 0, 1, 0, 1 },	     /* one byte more than a frame has */
		{ FRAME_EXEC, 0, 0, 0, 0xff, 0xff, 0xff, 0xff },
	};
	auto_buf struct buf b = BUF_MAX(1 << 20);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct str rest = str_n(bad[i], FRAME_HEADER);
		struct frame f;

		assert_int_equal(frame_next(&rest, &f), -EBADMSG);
	}
	assert_int_equal(frame_add(&b, FRAME_DATA, 0, STR_NONE), -EINVAL);
	assert_int_equal(frame_add(&b, 99, 0, STR("x")), -EINVAL);
	assert_int_equal(b.n, 0);
}

static void lists_equal(const struct frame_list *a, const struct frame_list *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_true(str_eq(a->v[i], b->v[i]));
}

static void messages_read_back(void **state)
{
	struct str argv[] = { STR("sh"), STR(""), STR("a b\n\xff") }, env[] = { STR("A="), STR("B=c=d") };
	union frame_body x = { .exec = { { argv, 3 }, { env, 2 }, STR("/srv"), FRAME_EXEC_KILL } };
	union frame_body w = { .wake = { STR("otter"), str_n("\x0a\x3c\x00\x01", 4),
		str_n("0123456789abcdef", 16), 1234567890123456789, STR("\0seed"), { env, 2 },
		{ argv, 1 }, str_n("\x0a\x2a\0\x01", 4), str_n("fedcba9876543210", 16) } };
	union frame_body e = { .exit = { 255, 64, STR("why") } }, got;
	auto_buf struct buf b = BUF_MAX(1 << 20);
	struct frame f;

	assert_int_equal(frame_encode(&b, FRAME_EXEC, &x), 0);
	f = only(&b);
	assert_int_equal(frame_decode(f.type, f.body, &got), 0);
	lists_equal(&got.exec.argv, &x.exec.argv);
	lists_equal(&got.exec.env, &x.exec.env);
	assert_true(str_eq(got.exec.cwd, x.exec.cwd));
	assert_int_equal(got.exec.flags, FRAME_EXEC_KILL);
	frame_body_done(FRAME_EXEC, &got);

	buf_reset(&b);
	assert_int_equal(frame_encode(&b, FRAME_WAKE, &w), 0);
	f = only(&b);
	assert_int_equal(frame_decode(f.type, f.body, &got), 0);
	assert_true(str_eq(got.wake.hostname, w.wake.hostname));
	assert_true(str_eq(got.wake.ip4, w.wake.ip4));
	assert_true(str_eq(got.wake.ip6, w.wake.ip6));
	assert_true(got.wake.wall_ns == w.wake.wall_ns);
	assert_true(str_eq(got.wake.entropy, w.wake.entropy));
	assert_true(str_eq(got.wake.overlay, w.wake.overlay));
	assert_true(str_eq(got.wake.machine, w.wake.machine));
	lists_equal(&got.wake.env, &w.wake.env);
	lists_equal(&got.wake.ssh_keys, &w.wake.ssh_keys);
	frame_body_done(FRAME_WAKE, &got);

	buf_reset(&b);
	assert_int_equal(frame_encode(&b, FRAME_EXIT, &e), 0);
	f = only(&b);
	assert_int_equal(frame_decode(f.type, f.body, &got), 0);
	assert_int_equal(got.exit.code, 255);
	assert_int_equal(got.exit.signal, 64);
	assert_true(str_eq(got.exit.error, e.exit.error));
}

static void processes_read_back(void **state)
{
	struct str argv[] = { STR("sh"), STR("-i") }, env[] = { STR("A=1") };
	union frame_body s = { .start = { { argv, 2 }, { env, 1 }, STR("/srv"), FRAME_START_FLAGS,
		STR("id"), STR("label"), STR("note"), 24u << 16 | 80, 1, 2, 3, 4, 5 } };
	union frame_body a = { .attach = { STR("id"), 77, FRAME_ATTACH_FLAGS, STR("in\0put") } };
	union frame_body p = { .proc = { STR("id"), STR("label"), STR("note"), FRAME_PROC_FLAGS, 9, 8, 7,
		6, 255, 15, STR("why"), 5, 4 } }, got;
	auto_buf struct buf b = BUF_MAX(1 << 20);
	struct frame f;

	assert_int_equal(frame_encode(&b, FRAME_START, &s), 0);
	f = only(&b);
	assert_int_equal(frame_decode(f.type, f.body, &got), 0);
	lists_equal(&got.start.argv, &s.start.argv);
	assert_true(str_eq(got.start.note, s.start.note));
	assert_int_equal(got.start.size, s.start.size);
	assert_int_equal(got.start.keep, 3);
	assert_int_equal(got.start.gid, 5);
	frame_body_done(FRAME_START, &got);

	buf_reset(&b);
	assert_int_equal(frame_encode(&b, FRAME_ATTACH, &a), 0);
	f = only(&b);
	assert_int_equal(frame_decode(f.type, f.body, &got), 0);
	assert_int_equal(got.attach.from, 77);
	assert_true(str_eq(got.attach.input, a.attach.input));

	buf_reset(&b);
	assert_int_equal(frame_encode(&b, FRAME_PROC, &p), 0);
	f = only(&b);
	assert_int_equal(frame_decode(f.type, f.body, &got), 0);
	assert_int_equal(got.proc.ended_ms, 6);
	assert_int_equal(got.proc.oldest, 5);
	assert_int_equal(got.proc.newest, 4);
	assert_true(str_eq(got.proc.error, p.proc.error));
}

static void what_cannot_be_said(void **state)
{
	struct str nul = str_n("a\0b", 3), none = STR("NOVALUE"), noname = STR("=x"), ok = STR("x");
	const struct {
		uint8_t type;
		union frame_body m;
	} bad[] = {
		{ FRAME_EXEC, { .started = { 0 } } }, /* no argv */
		{ FRAME_EXEC, { .exec = { .argv = { &nul, 1 } } } },
		{ FRAME_EXEC, { .exec = { .argv = { &ok, 1 }, .env = { &none, 1 } } } },
		{ FRAME_EXEC, { .exec = { .argv = { &ok, 1 }, .env = { &noname, 1 } } } },
		{ FRAME_EXEC, { .exec = { .argv = { &ok, 1 }, .cwd = STR("relative") } } },
		{ FRAME_EXEC, { .exec = { .argv = { &ok, 1 }, .flags = 2 } } },
		{ FRAME_PUT, { .put = { .path = STR("relative") } } },
		{ FRAME_PUT, { .put = { .path = STR("/x"), .mode = 010000 } } },
		{ FRAME_GET, { .started = { 0 } } },
		{ FRAME_GET, { .get = { .path = str_n("/a\0b", 4) } } },
		{ FRAME_WAKE, { .wake = { .ip4 = STR("123") } } },
		{ FRAME_WAKE, { .wake = { .overlay = STR("12345") } } },
		{ FRAME_WAKE, { .wake = { .machine = STR("short") } } },
		{ FRAME_CONNECT, { .connect = { .port = 65536 } } },
		{ FRAME_CONNECT, { .started = { 0 } } },
		{ FRAME_EXIT, { .exit = { .code = 256 } } },
		{ FRAME_ERROR, { .error = { .code = 0, .text = STR("x") } } },
		{ FRAME_ERROR, { .error = { .code = 1 } } },
		{ FRAME_SIGNAL, { .signal = { .kind = 3 } } },
		{ FRAME_KILL, { .kill = { .signal = 65 } } },
		{ FRAME_START, { .start = { .argv = { &ok, 1 } } } }, /* no id */
		{ FRAME_START, { .start = { .argv = { &ok, 1 }, .id = ok, .flags = 256 } } },
		{ FRAME_ATTACH, { .attach = { .flags = FRAME_ATTACH_END } } },
		{ FRAME_ATTACH, { .attach = { .id = ok, .flags = 16 } } },
		{ FRAME_CONTROL, { .control = { .id = ok, .signal = 65 } } },
		{ FRAME_TREE, { .tree = { .op = FRAME_TREE_REPLACE + 1, .path = STR("/") } } },
		{ FRAME_TREE, { .tree = { .op = FRAME_TREE_STAT, .path = STR("x") } } },
		{ FRAME_RESIZE, { .resize = { 0 } } },
		{ FRAME_ENTRY, { .entry = { .path = STR("/x"), .kind = 0 } } },
		{ FRAME_NOTIFY, { .notify = { .path = STR("x") } } },
		{ FRAME_NOTIFY, { .notify = { .path = STR("/x"), .flags = 2 } } },
		{ FRAME_CHANGE, { .change = { .path = STR("/x") } } },
		{ FRAME_CHANGE, { .change = { .path = STR("/x"), .what = FRAME_INVALIDATED + 1 } } },
		{ FRAME_DATA, { .started = { 0 } } }, /* raw, no message */
		{ 77, { .started = { 0 } } },
	};
	auto_buf struct buf b = BUF_MAX(1 << 20);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(frame_encode(&b, bad[i].type, &bad[i].m), -EINVAL);
	assert_int_equal(b.n, 0);
}

#define FIELD(tag, n) (char)(tag), 0, 0, 0, 0, 0, 0, (char)(n)

static void other_spellings_are_refused(void **state)
{
	static const struct {
		uint8_t type;
		size_t n;
		char body[40];
	} bad[] = {
		{ FRAME_GET, 0, "" },					   /* required */
		{ FRAME_GET, 9, { FIELD(1, 2), '/' } },			   /* cut short */
		{ FRAME_GET, 7, { FIELD(1, 2) } },
		{ FRAME_GET, 10, { FIELD(4, 2), '/', 'x' } },		   /* no such field */
		{ FRAME_GET, 10, { FIELD(0, 2), '/', 'x' } },
		{ FRAME_GET, 10, { FIELD((char)200, 2), '/', 'x' } },
		{ FRAME_GET, 10, { 1, 0, 0, 1, 0, 0, 0, 2, '/', 'x' } },   /* zero is zero */
		{ FRAME_GET, 18, { FIELD(1, 1), '/', FIELD(1, 1), '/' } }, /* twice */
		{ FRAME_PUT, 13, { FIELD(2, 4), 0, 0, 1, 0 } },		   /* without the required one */
		{ FRAME_PUT, 21, { FIELD(2, 4), 0, 0, 1, 0, FIELD(1, 1), '/' } }, /* out of order */
		{ FRAME_PUT, 21, { FIELD(1, 1), '/', FIELD(2, 4), 0, 0, 0, 0 } }, /* optional, zero */
		{ FRAME_PUT, 20, { FIELD(1, 1), '/', FIELD(2, 3), 0, 0, 1 } },	  /* three bytes */
		{ FRAME_EXIT, 20, { FIELD(1, 4), 0, 0, 0, 0, FIELD(3, 0) } },	  /* optional, empty */
		{ FRAME_PING, 1, "x" },
		{ FRAME_SLEEP, 1, "x" },
		{ FRAME_GO, 0, "" },
		{ FRAME_STDOUT, 1, "x" },
	};
	union frame_body m;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			frame_decode(bad[i].type, str_n(bad[i].body, bad[i].n), &m), -EBADMSG);
	assert_int_equal(frame_decode(FRAME_PING, STR_NONE, &m), 0);
	frame_body_done(FRAME_EXEC, &m);
}

static void long_messages_come_in_pieces(void **state)
{
	size_t n = 200000;
	auto_free char *big = malloc(n);
	struct str argv[] = { STR("x"), str_n(big, n) };
	union frame_body m = { .exec = { .argv = { argv, 2 } } }, got;
	auto_buf struct buf b = BUF_MAX(4 << 20);
	struct frame_join j = FRAME_JOIN;
	struct str rest;
	struct frame f;
	int pieces = 0, r;

	memset(big, 'v', n);
	assert_int_equal(frame_encode(&b, FRAME_EXEC, &m), 0);
	rest = buf_str(&b);
	do {
		assert_int_equal(frame_next(&rest, &f), 1);
		r = frame_join(&j, &f);
		pieces++;
	} while (r == 0);
	assert_int_equal(r, 1);
	assert_int_equal(pieces, 4);
	assert_int_equal(rest.n, 0);
	assert_int_equal(frame_decode(j.type, buf_str(&j.body), &got), 0);
	assert_int_equal(got.exec.argv.v[1].n, n);
	frame_body_done(FRAME_EXEC, &got);
	/* Another type, or nothing, in the middle. */
	assert_int_equal(
		frame_join(&j, &(struct frame){ .type = FRAME_WAKE, .body = STR("x") }), -EBADMSG);
	assert_int_equal(frame_join(&j, &(struct frame){ .type = FRAME_EXEC }), -EBADMSG);
	buf_done(&j.body);
}

static void bounds(void **state)
{
	size_t n = FRAME_LIST_MAX + 1;
	auto_free struct str *v = calloc(n, sizeof(*v));
	auto_free char *big = calloc(1, FRAME_REQUEST_MAX);
	struct str one;
	union frame_body m = { .exec = { .argv = { v, n } } }, got;
	auto_buf struct buf b = BUF_MAX(8 << 20), body = BUF_MAX(8 << 20);
	struct frame_join j = FRAME_JOIN;
	struct str rest;
	struct frame f;
	int r;

	assert_int_equal(frame_encode(&b, FRAME_EXEC, &m), -EINVAL);
	m.exec.argv.n--;
	assert_int_equal(frame_encode(&b, FRAME_EXEC, &m), 0);
	rest = buf_str(&b);
	do {
		assert_int_equal(frame_next(&rest, &f), 1);
		r = frame_join(&j, &f);
	} while (r == 0);
	assert_int_equal(frame_decode(FRAME_EXEC, buf_str(&j.body), &got), 0);
	assert_int_equal(got.exec.argv.n, FRAME_LIST_MAX);
	frame_body_done(FRAME_EXEC, &got);
	buf_add_str(&body, buf_str(&j.body)); /* one entry more */
	buf_add(&body, "\1\0\0\0\0\0\0\0", 8);
	assert_int_equal(frame_decode(FRAME_EXEC, buf_str(&body), &got), -EBADMSG);
	buf_done(&j.body);

	memset(big, 'x', FRAME_REQUEST_MAX);
	one = str_n(big, FRAME_REQUEST_MAX);
	m.exec.argv = (struct frame_list){ &one, 1 };
	assert_int_equal(frame_encode(&b, FRAME_EXEC, &m), -EFBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_read_back),
		cmocka_unit_test(bad_headers),
		cmocka_unit_test(messages_read_back),
		cmocka_unit_test(processes_read_back),
		cmocka_unit_test(what_cannot_be_said),
		cmocka_unit_test(other_spellings_are_refused),
		cmocka_unit_test(long_messages_come_in_pieces),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The event stream of execd: what a client reads, however the output was cut. */
#include "../unit.h"
#include "api/opensandbox/events.h"

static void told(struct str data, size_t piece, struct buf *out)
{
	struct lines l = LINES;

	while (data.n) {
		struct str s = str_n(data.p, MIN(piece, data.n));

		lines_add(&l, out, "stdout", 7, s);
		data = str_skip(data, s.n);
	}
	lines_flush(&l, out, "stdout", 7);
	lines_done(&l);
}

#define LINE(text) "{\"type\":\"stdout\",\"timestamp\":7,\"text\":\"" text "\"}\n\n"

static void lines_however_cut(void **state)
{
	static const struct {
		struct str data;
		const char *want;
	} cases[] = {
		{ STR("one\ntwo"), LINE("one") LINE("two") },
		{ STR("one\n\ntwo\n"), LINE("one") LINE("\\n") LINE("two") },
		{ STR("a\r\nb\rc\r\r\nd"), LINE("a") LINE("b") LINE("c") LINE("\\n") LINE("d") },
		{ STR("\n"), LINE("\\n") },
		{ STR("a\xff" "b\xe2\x82\xac\n"), LINE("a\xef\xbf\xbd" "b\xe2\x82\xac") },
		{ STR("say \"x\"\n"), LINE("say \\\"x\\\"") },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t piece = 1; piece <= cases[i].data.n; piece++) {
			auto_buf struct buf out = BUF_MAX(1 << 16);

			told(cases[i].data, piece, &out);
			assert_true(buf_cstr(&out));
			assert_string_equal(out.p, cases[i].want);
		}
}

/* A line without an end: told in pieces of a bounded size, none of which splits a character. */
static void long_lines(void **state)
{
	auto_buf struct buf in = BUF_MAX(1 << 20), out = BUF_MAX(1 << 20);
	struct str rest;
	size_t chars = 0;

	buf_add_c(&in, "x");
	for (int i = 0; i < 20000; i++)
		buf_add_c(&in, "\xe2\x82\xac");
	told(buf_str(&in), 5000, &out);
	for (rest = buf_str(&out); rest.n;) {
		struct str line = str_cut(&rest, '\n');

		assert_true(line.n < EVENT_LINE_MAX + 100);
		assert_null(memmem(line.p, line.n, "\xef\xbf\xbd", 3));
		for (size_t i = 0; i + 2 < line.n; i++)
			chars += memcmp(line.p + i, "\xe2\x82\xac", 3) == 0;
	}
	assert_int_equal(chars, 20000);
}

static void ends(void **state)
{
	static const struct {
		int code, signal;
		const char *want;
	} cases[] = {
		{ 0, 0, "{\"type\":\"execution_complete\",\"timestamp\":9,\"execution_time\":5}\n\n" },
		{ 127, 0, "{\"type\":\"error\",\"timestamp\":9,\"error\":{\"ename\":\"CommandExecError\","
			  "\"evalue\":\"127\",\"traceback\":[\"exit status 127\"]}}\n\n" },
		{ 137, 9, "{\"type\":\"error\",\"timestamp\":9,\"error\":{\"ename\":\"CommandExecError\","
			  "\"evalue\":\"-1\",\"traceback\":[\"signal: killed\"]}}\n\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_buf struct buf out = BUF_MAX(4096);

		event_exit(&out, 9, 5, cases[i].code, cases[i].signal);
		assert_true(buf_cstr(&out));
		assert_string_equal(out.p, cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_however_cut),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

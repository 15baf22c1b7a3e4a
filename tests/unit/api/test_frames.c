/* createos/frames: lines are bounded, characters stay whole, however the bytes are cut. */
#include <jansson.h>
#include "api/createos/frames.h"
#include "../unit.h"

/* The texts of all lines joined; checks each line's form and length. */
static void join(struct buf *lines, const char *stream, struct buf *out)
{
	struct str rest = buf_str(lines);

	while (rest.n) {
		struct str line = str_cut(&rest, '\n');
		json_t *j = json_loadb(line.p, line.n, 0, NULL);

		assert_true(line.n < 65536);
		assert_non_null(j);
		assert_int_equal(json_object_size(j), 1);
		buf_add(out, json_string_value(json_object_get(j, stream)),
			json_string_length(json_object_get(j, stream)));
		json_decref(j);
	}
}

static void check(struct str raw, size_t cut, struct str want)
{
	auto_buf struct buf lines = BUF_MAX(1u << 22), got = BUF_MAX(1u << 22);
	struct frames_carry c = { 0 };

	for (struct str rest = raw; rest.n; rest = str_skip(rest, cut))
		frames_output(&lines, "stdout", &c, str_n(rest.p, MIN(rest.n, cut)));
	frames_flush(&lines, "stdout", &c);
	assert_int_equal(c.n, 0);
	assert_int_equal(buf_failed(&lines), 0);
	join(&lines, "stdout", &got);
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.p, want.p, want.n);
}

static void characters_stay_whole(void **state)
{
	struct str text = STR("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x8c\x8a" "b\n\"\\\t\x01");

	for (size_t cut = 1; cut <= text.n; cut++)
		check(text, cut, text);
}

static void what_is_no_utf8_is_replaced(void **state)
{
	for (size_t cut = 1; cut < 6; cut++) {
		check(STR("a\xff" "b"), cut, STR("a\xef\xbf\xbd" "b"));
		check(STR("\xc3" "b"), cut, STR("\xef\xbf\xbd" "b"));
		check(STR("\xe2\x82"), cut, STR("\xef\xbf\xbd\xef\xbf\xbd"));
		check(STR("\x80\x80"), cut, STR("\xef\xbf\xbd\xef\xbf\xbd"));
	}
}

static void lines_are_bounded(void **state)
{
	static char worst[200000];

	memset(worst, 1, sizeof(worst)); /* six bytes each when escaped */
	check(str_n(worst, sizeof(worst)), sizeof(worst), str_n(worst, sizeof(worst)));
}

static void ends(void **state)
{
	auto_buf struct buf out = BUF_MAX(4096);

	frames_error(&out, STR("a \"b\""));
	frames_exit(&out, 127);
	assert_string_equal(buf_cstr(&out), "{\"error\":\"a \\\"b\\\"\"}\n{\"exit_code\":127}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(characters_stay_whole),
		cmocka_unit_test(what_is_no_utf8_is_replaced), cmocka_unit_test(lines_are_bounded),
		cmocka_unit_test(ends) };

	return cmocka_run_group_tests_name("api/frames", tests, NULL, NULL);
}

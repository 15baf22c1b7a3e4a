/* cmd/cli/print: tables line up, and no control byte gets through. */
#include "cmd/cli/cli.h"
#include "../unit.h"

static void aligned(void **state)
{
	static const char *const heads[] = { "NAME", "STATUS", "X" };
	struct table *t = table_new(heads, 3);
	auto_buf struct buf out = BUF_MAX(4096);

	table_cell(t, "a");
	table_cell(t, "running");
	table_cell(t, "1");
	table_cell(t, "h\xc3\xa9llo-w\xc3\xb6rld");
	table_cell(t, "ok");
	table_cell(t, "");
	table_print(t, false, &out);
	assert_string_equal(buf_cstr(&out), "NAME         STATUS   X\n"
					    "a            running  1\n"
					    "h\xc3\xa9llo-w\xc3\xb6rld  ok       -\n");
	table_free(t);
}

static void coloured(void **state)
{
	static const char *const heads[] = { "S" };
	struct table *t = table_new(heads, 1);
	auto_buf struct buf out = BUF_MAX(4096);

	table_cell_tone(t, tone_of_status("running"), "running");
	table_print(t, true, &out);
	assert_string_equal(buf_cstr(&out), "\033[1mS\033[0m\n\033[32mrunning\033[0m\n");
	table_free(t);
}

static void empty_table(void **state)
{
	static const char *const heads[] = { "A", "B" };
	struct table *t = table_new(heads, 2);
	auto_buf struct buf out = BUF_MAX(4096);

	table_print(t, false, &out);
	assert_string_equal(buf_cstr(&out), "A  B\n");
	table_free(t);
}

static void no_control_bytes(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "plain text", "plain text" },
		{ "\033[2Jgone\r\n\t\x7f", "?[2Jgone????" },
		{ "c1 \xc2\x9b\x33m", "c1 ?3m" },
		{ "\xc3\xa9", "\xc3\xa9" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_buf struct buf out = BUF_MAX(256);

		print_clean(&out, str_c(cases[i].in));
		assert_string_equal(buf_cstr(&out), cases[i].out);
	}
}

static void json_without_control_bytes(void **state)
{
	json_t *in = json_pack("{s:s}", "name", "\xc2\x9b\x33m \x7f \033 \xc3\x9b \xc2\xa0 \xe2\x82\x9b");
	auto_free char *text = json_dumps(in, JSON_COMPACT);
	auto_buf struct buf out = BUF_MAX(256);
	json_t *again;

	print_escaped(&out, str_c(text));
	assert_string_equal(buf_cstr(&out), "{\"name\":\"\\u009b3m \\u007f \\u001B "
					    "\xc3\x9b \xc2\xa0 \xe2\x82\x9b\"}");
	again = json_loads(buf_cstr(&out), 0, NULL); /* and it says what it said before */
	assert_true(json_equal(in, again));
	json_decref(again);
	json_decref(in);
}

static void small_texts(void **state)
{
	assert_string_equal(age_of("2026-01-05T09:30:00Z", 1767605400 + 45).s, "45s");
	assert_string_equal(age_of("2026-01-05T09:30:00.123Z", 1767605400 + 600).s, "10m");
	assert_string_equal(age_of("2026-01-05T09:30:00Z", 1767605400 + 86400).s, "24h");
	assert_string_equal(age_of("2026-01-05T09:30:00Z", 1767605400 + 86400 * 9).s, "9d");
	assert_string_equal(age_of("2026-01-05T09:30:00Z", 1).s, "0s");
	assert_string_equal(age_of("soon", 1).s, "-");
	assert_string_equal(bytes_text(0).s, "0 B");
	assert_string_equal(bytes_text(1023).s, "1023 B");
	assert_string_equal(bytes_text(1536).s, "1.5 KiB");
	assert_string_equal(bytes_text(256ull << 20).s, "256 MiB");
	assert_string_equal(bytes_text(10ull << 30).s, "10.0 GiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(aligned), cmocka_unit_test(coloured),
		cmocka_unit_test(empty_table), cmocka_unit_test(no_control_bytes),
		cmocka_unit_test(json_without_control_bytes),
		cmocka_unit_test(small_texts) };

	return cmocka_run_group_tests_name("cmd/print", tests, NULL, NULL);
}

/* wire/json: what is refused and in which words, and that the writer cannot write nonsense. */
#include "wire/json.h"
#include "../unit.h"

struct req {
	struct str name, bytes;
	bool on, on_seen;
	uint32_t count;
	int64_t big;
	json_t *list, *map, *raw;
};

#define AT(m) .offset = offsetof(struct req, m), .seen_offset = -1
static const struct json_field fields[] = {
	{ "name", JK_STR, AT(name), .required = true, .min = 1, .max = 5 },
	{ "on", JK_BOOL, .offset = offsetof(struct req, on),
		.seen_offset = offsetof(struct req, on_seen) },
	{ "count", JK_U32, AT(count), .min = 60, .max = 86400 },
	{ "big", JK_I64, AT(big) },
	{ "list", JK_STR_LIST, AT(list), .max = 3 },
	{ "map", JK_STR_MAP, AT(map), .max = 2 },
	{ "raw", JK_RAW, AT(raw) },
	{ "bytes", JK_BYTES, AT(bytes) },
};

static int read_req(const char *text, struct req *q, json_t **j, struct err *err)
{
	int r = json_parse(str_c(text), j, err);

	memset(q, 0, sizeof(*q));
	return r < 0 ? r : json_decode(*j, fields, ARRAY_SIZE(fields), q, err);
}

static void good(void **state)
{
	auto_json json_t *j = NULL;
	struct err err;
	struct req q;

	assert_int_equal(read_req("{\"name\":\"a\xc3\xa9\",\"on\":true,\"count\":60,\"big\":-9,"
				  "\"list\":[\"x\",\"y\"],\"map\":{\"K\":\"v\"},\"raw\":[1],"
				  "\"bytes\":\"a\\u0000b\",\"unknown\":{}}", &q, &j, &err), 0);
	assert_true(str_eq_c(q.name, "a\xc3\xa9"));
	assert_true(q.on && q.on_seen);
	assert_int_equal(q.count, 60);
	assert_int_equal(q.big, -9);
	assert_int_equal(json_array_size(q.list), 2);
	assert_string_equal(json_string_value(json_object_get(q.map, "K")), "v");
	assert_true(json_is_array(q.raw));
	assert_true(str_eq(q.bytes, str_n("a\0b", 3)));
}

static void null_is_absent(void **state)
{
	auto_json json_t *j = NULL;
	struct err err;
	struct req q;

	assert_int_equal(read_req("{\"name\":\"a\",\"on\":null,\"list\":null}", &q, &j, &err), 0);
	assert_false(q.on_seen);
	assert_null(q.list);
}

static void bad(void **state)
{
	static const struct {
		const char *text, *field, *says;
	} cases[] = {
		{ "", "name", "required" },
		{ "{}", "name", "required" },
		{ "[]", "body", "expected an object, got an array" },
		{ "{\"name\":null}", "name", "required" },
		{ "{\"name\":3}", "name", "expected a string, got a number" },
		{ "{\"name\":\"\"}", "name", "must not be empty" },
		{ "{\"name\":\"abcdef\"}", "name", "must have 1 to 5 bytes, got 6" },
		{ "{\"name\":\"a\",\"on\":1}", "on", "expected true or false, got a number" },
		{ "{\"name\":\"a\",\"count\":59}", "count", "must be between 60 and 86400" },
		{ "{\"name\":\"a\",\"count\":60.5}", "count", "expected an integer, got a fraction" },
		{ "{\"name\":\"a\",\"count\":-1}", "count", "must be between 60 and 86400" },
		{ "{\"name\":\"a\",\"list\":\"x\"}", "list",
			"expected an array of strings, got a string" },
		{ "{\"name\":\"a\",\"list\":[\"x\",\"y\",7]}", "list[2]",
			"expected a string, got a number" },
		{ "{\"name\":\"a\",\"list\":[\"\",\"\",\"\",\"\"]}", "list",
			"must have at most 3 entries, got 4" },
		{ "{\"name\":\"a\",\"map\":{\"K\":[]}}", "map.K", "expected a string, got an array" },
		{ "{\"name\":\"a\",\"name\":\"b\"}", "body",
			"invalid JSON at line 1, column 18: a key appears twice in one object" },
		{ "{\"name\":\"a\\u0000b\"}", "name", "must not contain a NUL character" },
		{ "{\"name\":\"a\",\"list\":[\"x\",\"\\u0000\"]}", "list[1]",
			"must not contain a NUL character" },
		{ "{\"name\":\"a\",\"map\":{\"K\":\"\\u0000\"}}", "map.K",
			"must not contain a NUL character" },
		{ "{\"name\":\"a\"} x", "body",
			"invalid JSON at line 1, column 14: something follows after its end" },
		{ "{\"name\":\"\xff\"}", "body", "invalid JSON at line 1, column 9: not UTF-8" },
		{ "{\"name\"", "body", "invalid JSON at line 1, column 7: it ends too early" },
		{ "nonsense", "body", "invalid JSON at line 1, column 8: unexpected text" },
		{ "{\"big\":99999999999999999999}", "body",
			"invalid JSON at line 1, column 27: a number is out of range" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_json json_t *j = NULL;
		struct err err = { 0 };
		struct req q;

		assert_true(read_req(cases[i].text, &q, &j, &err) < 0);
		assert_string_equal(err.field, cases[i].field);
		assert_string_equal(err.text, cases[i].says);
		assert_int_equal(err.kind, ERR_INVALID);
	}
}

/* Depth and values are refused before the parser allocates for them; text inside strings is free. */
static void limits(void **state)
{
	auto_buf struct buf b = BUF_MAX(1u << 20);
	auto_json json_t *j = NULL;
	struct err err;

	for (int i = 0; i < JSON_DEPTH_MAX + 1; i++)
		buf_add_c(&b, "[");
	assert_int_equal(json_parse(buf_str(&b), &j, &err), -E2BIG);
	buf_reset(&b);
	buf_add_c(&b, "[1");
	for (int i = 0; i < 200000; i++)
		buf_add_c(&b, ",1");
	buf_add_c(&b, "]");
	assert_int_equal(json_parse(buf_str(&b), &j, &err), -E2BIG);
	buf_reset(&b);
	buf_add_c(&b, "[\"\\\"");
	for (int i = 0; i < 300000; i++)
		buf_add_c(&b, "[,");
	buf_add_c(&b, "\"]");
	assert_int_equal(json_parse(buf_str(&b), &j, &err), 0);
}

static void writes(void **state)
{
	auto_buf struct buf b = BUF_MAX(4096);
	struct jw w = JW(&b);

	jw_obj(&w, NULL);
	jw_c(&w, "a", "x\"\\\n\x01\x7f");
	jw_arr(&w, "l");
	jw_i64(&w, NULL, -1);
	jw_u64(&w, NULL, UINT64_MAX);
	jw_obj(&w, NULL);
	jw_end(&w);
	jw_arr_end(&w);
	jw_ms(&w, "ms", 1234567);
	jw_bool(&w, "t", true);
	jw_raw(&w, "r", STR("[]"));
	jw_end(&w);
	assert_string_equal(buf_cstr(&b), "{\"a\":\"x\\\"\\\\\\n\\u0001\\u007f\",\"l\":[-1,"
					  "18446744073709551615,{}],\"ms\":1.234,\"t\":true,\"r\":[]}");
}

/* Every pair of bytes, quoted, is JSON, and well-formed pairs come back unchanged. */
static void any_bytes(void **state)
{
	for (unsigned int i = 0; i < 65536; i++) {
		char in[2] = { (char)(i >> 8), (char)i };
		auto_buf struct buf b = BUF_MAX(64);
		struct jw w = JW(&b);
		auto_json json_t *j = NULL;

		jw_str(&w, NULL, str_n(in, 2));
		j = json_loadb(b.p, b.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(j);
		if (str_utf8(str_n(in, 2))) {
			assert_int_equal(json_string_length(j), 2);
			assert_memory_equal(json_string_value(j), in, 2);
		}
	}
}

static void foreign_bytes(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" }, /* a surrogate */
		{ "\xf4\x90\x80\x80z", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"" },
		{ "\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"" }, /* cut short */
		{ "\xe2\x82\xac", "\"\xe2\x82\xac\"" },
		{ "", "\"\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_buf struct buf b = BUF_MAX(64);
		struct jw w = JW(&b);

		jw_c(&w, NULL, cases[i].in);
		assert_string_equal(buf_cstr(&b), cases[i].out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),		 cmocka_unit_test(null_is_absent),
		cmocka_unit_test(bad),		 cmocka_unit_test(limits),
		cmocka_unit_test(writes),	 cmocka_unit_test(any_bytes),
		cmocka_unit_test(foreign_bytes),
	};

	return cmocka_run_group_tests_name("wire/json", tests, NULL, NULL);
}

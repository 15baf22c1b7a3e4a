/* wire: whatever allocation fails, a parser succeeds or says -ENOMEM, and leaves nothing. */
#include "base/buf.h"
#include "wire/config.h"
#include "wire/frame.h"
#include "wire/json.h"
#include "../nth.h"

/* --- JSON --- */

struct ask {
	struct str name;
	json_t *rules, *env;
	uint32_t disk;
};
#define F(n, k, f) { .name = n, .kind = k, .offset = offsetof(struct ask, f), .seen_offset = -1,     \
	.max = 1 << 20 }
static const struct json_field fields[] = { F("name", JK_STR, name), F("rules", JK_STR_LIST, rules),
	F("env", JK_STR_MAP, env), F("disk", JK_U32, disk) };

static int json_in(void *arg)
{
	auto_json json_t *j = NULL;
	struct ask ask = { 0 };
	struct err err = { 0 };
	int r = json_parse(STR("{\"name\":\"a\",\"rules\":[\"a.test\",\"*.b.test:443\",\"10.0.0.0/8\"],"
			       "\"env\":{\"A\":\"1\",\"B\":\"\\u00e4\"},\"disk\":64,\"else\":[{},[]]}"),
		&j, &err);

	if (r == 0)
		r = json_decode(j, fields, ARRAY_SIZE(fields), &ask, &err);
	if (r < 0 && !err.text[0])
		return 1; /* an error without a sentence */
	return r;
}

static int json_out(void *arg)
{
	auto_buf struct buf b = BUF_MAX(65536);
	struct jw w = JW(&b);

	jw_obj(&w, NULL);
	jw_arr(&w, "list");
	for (int i = 0; i < 500; i++)
		jw_str(&w, NULL, STR("\"a\" \xff"));
	jw_arr_end(&w);
	jw_end(&w);
	return buf_failed(&b);
}

static void json(void **state)
{
	json_set_alloc_funcs(nth_malloc, nth_free);
	nth_each("json_parse, json_decode", json_in, NULL, 20);
	nth_each("jw", json_out, NULL, 3);
}

/* --- frames --- */

static int frames(void *arg)
{
	struct str argv[] = { STR("bash"), STR("-c"), STR("true") }, env[] = { STR("A=1"), STR("B=2") };
	union frame_body m = { .exec = { .argv = { argv, 3 }, .env = { env, 2 } } }, got;
	auto_buf struct buf out = BUF_MAX(65536);
	struct frame_join join = FRAME_JOIN;
	struct str in;
	struct frame f;
	int r = frame_encode(&out, FRAME_EXEC, &m), k = 0;

	if (r < 0)
		return r;
	in = buf_str(&out);
	while (k == 0 && frame_next(&in, &f) > 0)
		k = frame_join(&join, &f);
	r = k < 0 ? k : frame_decode(join.type, buf_str(&join.body), &got);
	if (r == 0) {
		r = got.exec.argv.n == 3 && got.exec.env.n == 2 ? 0 : 1;
		frame_body_done(join.type, &got);
	}
	buf_done(&join.body);
	return r;
}

static void frame(void **state)
{
	nth_each("frame", frames, NULL, 3);
}

/* --- configuration --- */

static int config(void *arg)
{
	auto_buf struct buf complaints = BUF_MAX(4096), out = BUF_MAX(65536);
	struct config *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	config_defaults(c);
	r = config_read(c, "t", STR("daemon.name = x\nfloor.deny = 10.0.0.0/8, 192.0.2.0/24\n"
				    "dns.upstream = 9.9.9.9, 8.8.8.8\n"), &complaints);
	if (r == 0)
		r = config_print(c, true, &out);
	free(c);
	return MIN(r, 0);
}

static void configuration(void **state)
{
	nth_each("config", config, NULL, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(json), cmocka_unit_test(frame),
		cmocka_unit_test(configuration) };

	return cmocka_run_group_tests_name("wire/nth", tests, NULL, NULL);
}

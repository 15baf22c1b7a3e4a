/*
 * JSON in and out. Whatever is accepted can be written and read back equal; whatever bytes are
 * written as a string are JSON; the decoder leaves limits it was given unbroken.
 */
#include "wire/json.h"

struct req {
	struct str name;
	bool on, seen;
	uint32_t count;
	int64_t big;
	json_t *list, *map, *raw;
};

#define AT(m) .offset = offsetof(struct req, m), .seen_offset = -1
static const struct json_field fields[] = {
	{ "name", JK_STR, AT(name), .max = 22 },
	{ "ingress_enabled", JK_BOOL, .offset = offsetof(struct req, on),
		.seen_offset = offsetof(struct req, seen) },
	{ "auto_pause_after_seconds", JK_U32, AT(count), .min = 60, .max = 86400 },
	{ "big", JK_I64, AT(big) },
	{ "egress", JK_STR_LIST, AT(list), .max = 8 },
	{ "envs", JK_STR_MAP, AT(map), .max = 8 },
	{ "cmd", JK_RAW, AT(raw) },
};

static void check_read(struct str in)
{
	auto_json json_t *j = NULL, *again = NULL;
	struct err err = { 0 };
	struct req q = { 0 };
	char *text;

	if (json_parse(in, &j, &err) < 0) {
		if (!err.text[0])
			abort();
		return;
	}
	text = json_dumps(j, JSON_COMPACT);
	if (!text || json_parse(str_c(text), &again, &err) < 0 || !json_equal(j, again))
		abort();
	free(text);
	if (json_decode(j, fields, ARRAY_SIZE(fields), &q, &err) < 0) {
		if (!err.text[0] || !err.field[0])
			abort();
		return;
	}
	if (q.name.n > 22 || (q.name.n && memchr(q.name.p, '\0', q.name.n)) || (q.count && (q.count < 60 || q.count > 86400)) ||
		json_array_size(q.list) > 8 || json_object_size(q.map) > 8)
		abort();
}

static void check_written(struct str in)
{
	auto_buf struct buf b = BUF_MAX(8u << 20);
	auto_json json_t *j = NULL;
	struct jw w = JW(&b);

	jw_str(&w, NULL, in);
	if (buf_failed(&b))
		abort();
	j = json_loadb(b.p, b.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (!j)
		abort();
	if (str_utf8(in) && !str_eq(str_n(json_string_value(j), json_string_length(j)), in))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1u << 20)
		return 0;
	check_read(str_n(data, size));
	check_written(str_n(data, size));
	return 0;
}

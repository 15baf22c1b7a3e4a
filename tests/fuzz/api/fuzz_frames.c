/* Output frames: first byte: how the rest is cut. Lines parse, are bounded, and joined they are the
 * output with what is no UTF-8 replaced, however it was cut. */
#include <jansson.h>
#include "../fuzz.h"
#include "api/createos/frames.h"

static void play(struct str raw, size_t cut, struct buf *text)
{
	auto_buf struct buf lines = BUF_MAX(16u << 20);
	struct frames_carry c = { 0 };
	struct str rest;

	for (rest = raw; rest.n; rest = str_skip(rest, cut))
		frames_output(&lines, "stderr", &c, str_n(rest.p, MIN(rest.n, cut)));
	frames_flush(&lines, "stderr", &c);
	CHECK(!buf_failed(&lines) && !c.n);
	for (rest = buf_str(&lines); rest.n;) {
		struct str line = str_cut(&rest, '\n');
		json_t *j = json_loadb(line.p, line.n, JSON_ALLOW_NUL, NULL);
		json_t *v = json_object_get(j, "stderr");

		CHECK(v && line.n < 65536);
		buf_add(text, json_string_value(v), json_string_length(v));
		json_decref(j);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf whole = BUF_MAX(16u << 20), cut = BUF_MAX(16u << 20);
	struct str raw = str_n(data, size);

	if (size < 2 || size > 65536)
		return 0;
	raw = str_skip(raw, 1);
	play(raw, raw.n, &whole);
	play(raw, 1 + data[0] % 64u, &cut);
	CHECK(str_utf8(buf_str(&whole)));
	CHECK(str_eq(buf_str(&whole), buf_str(&cut)));
	if (str_utf8(raw))
		CHECK(str_eq(raw, buf_str(&whole)));
	return 0;
}

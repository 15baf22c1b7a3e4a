/*
 * A whole conversation's bytes, cut into frames, joined and decoded. What decodes, encodes to the
 * very bytes it came from: there is one spelling.
 */
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void body_check(uint8_t type, struct str body)
{
	auto_buf struct buf again = BUF_MAX(4 << 20), joined = BUF_MAX(FRAME_REQUEST_MAX);
	union frame_body m;
	struct str rest;
	struct frame f;

	if (frame_decode(type, body, &m) < 0)
		return;
	if (frame_encode(&again, type, &m) < 0)
		abort();
	rest = buf_str(&again);
	while (rest.n) {
		if (frame_next(&rest, &f) != 1 || f.type != type)
			abort();
		buf_add_str(&joined, f.body);
	}
	if (!str_eq(buf_str(&joined), body))
		abort();
	frame_body_done(type, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_n(data, size);
	struct frame_join j = FRAME_JOIN;
	struct frame f;

	/* Bodies also without their frame: the shortest way to the decoder. */
	if (size)
		body_check(data[0], str_skip(in, 1));
	while (frame_next(&in, &f) == 1) {
		auto_buf struct buf again = BUF_MAX(FRAME_HEADER + FRAME_MAX);

		if (frame_add(&again, f.type, f.flags, f.body) < 0 ||
			memcmp(again.p, f.body.p - FRAME_HEADER, again.n) != 0)
			abort();
		body_check(f.type, f.body);
		if (frame_join(&j, &f) == 1)
			body_check(j.type, buf_str(&j.body));
	}
	buf_done(&j.body);
	return 0;
}

/* wire/ws: what a client may send, and what it must not. */
#include "../unit.h"
#include "wire/ws.h"

/* A masked frame: its two first bytes, a mask of 1 2 3 4, and the body masked. */
static struct str frame(struct buf *b, unsigned int head, unsigned int length, const char *more,
	size_t n_more, struct str body)
{
	static const uint8_t mask[4] = { 1, 2, 3, 4 };

	buf_reset(b);
	buf_u8(b, (uint8_t)head);
	buf_u8(b, (uint8_t)(0x80 | length));
	buf_add(b, more, n_more);
	buf_add(b, mask, sizeof(mask));
	for (size_t i = 0; i < body.n; i++)
		buf_u8(b, (uint8_t)body.p[i] ^ mask[i % 4]);
	return buf_str(b);
}

static int next(struct buf *b, size_t max, struct ws_frame *f, size_t *taken)
{
	return ws_next(b->p, b->n, max, f, taken);
}

static void whole_and_in_part(void **state)
{
	auto_buf struct buf b = BUF_MAX(1u << 20);
	struct ws_frame f;
	size_t taken = 0;
	char x[128];

	frame(&b, 0x81, 5, "", 0, STR("hello"));
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(ws_next(b.p, n, 100, &f, &taken), 0);
	assert_int_equal(next(&b, 100, &f, &taken), 1);
	assert_int_equal(taken, b.n);
	assert_true(f.last && f.op == WS_TEXT && str_eq_c(f.body, "hello"));

	memset(x, 'x', sizeof(x));
	frame(&b, 0x02, 126, "\0\x80", 2, str_n(x, sizeof(x)));
	assert_int_equal(next(&b, 128, &f, &taken), 1);
	assert_true(!f.last && f.op == WS_BINARY && f.body.n == 128);
	frame(&b, 0x02, 126, "\0\x80", 2, STR(""));
	assert_int_equal(next(&b, 127, &f, &taken), -EFBIG);
}

static void refused(void **state)
{
	static const struct {
		unsigned int head, length;
		const char *more;
		size_t n_more;
	} bad[] = {
		{ 0xc1, 0, "", 0 },	       /* a reserved bit */
		{ 0x83, 0, "", 0 },	       /* an unknown operation */
		{ 0x09, 0, "", 0 },	       /* a ping in pieces */
		{ 0x89, 126, "\0\x7e", 2 },    /* a ping too long */
		{ 0x81, 126, "\0\x7d", 2 },    /* a length longer than it need be */
		{ 0x81, 127, "\0\0\0\0\0\0\xff\xff", 8 },
	};
	auto_buf struct buf b = BUF_MAX(65536);
	struct ws_frame f;
	size_t taken;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		frame(&b, bad[i].head, bad[i].length, bad[i].more, bad[i].n_more, STR_NONE);
		assert_int_equal(next(&b, 1000, &f, &taken), -EBADMSG);
	}
	assert_int_equal(ws_next((char[]){ (char)0x81, 0 }, 2, 10, &f, &taken), -EBADMSG); /* no mask */
	frame(&b, 0x81, 127, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, STR_NONE);
	assert_int_equal(next(&b, SIZE_MAX / 2, &f, &taken), -EFBIG);
}

static void written(void **state)
{
	static const size_t sizes[] = { 0, 125, 126, 65535, 65536 }, heads[] = { 2, 2, 4, 4, 10 };
	auto_buf struct buf body = BUF_MAX(1u << 20), out = BUF_MAX(1u << 20);

	buf_room(&body, 65536);
	memset(body.p, 'y', 65536);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		buf_reset(&out);
		assert_int_equal(ws_add(&out, WS_TEXT, str_n(body.p, sizes[i])), 0);
		assert_int_equal(out.n, heads[i] + sizes[i]);
		assert_int_equal((uint8_t)out.p[0], 0x81);
		assert_int_equal((uint8_t)out.p[1] & 0x80, 0);
	}
	assert_int_equal(ws_add(&out, WS_PING, str_n(body.p, 126)), -EINVAL);
	buf_reset(&out);
	assert_int_equal(ws_add_close(&out, 1000, str_n(body.p, 300)), 0);
	assert_int_equal(out.n, 2 + WS_CONTROL_MAX);
	assert_memory_equal(out.p + 2, "\x03\xe8", 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(whole_and_in_part),
		cmocka_unit_test(refused), cmocka_unit_test(written) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

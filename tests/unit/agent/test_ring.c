/* The ring against a list of what was ever added, through every order of sizes and streams. */
#include "../unit.h"
#include "agent/ring.c"

#define EVER (1u << 20)

static uint8_t bytes[EVER], streams[EVER];

static uint32_t seed = 1;
static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

static void check(const struct ring *r, uint64_t n)
{
	uint64_t at = 0, from;
	uint8_t stream = 0;
	struct str s;

	assert_int_equal(r->end, n);
	assert_true(r->end - r->start <= r->cap);
	for (from = 0; (s = ring_read(r, &at, &stream)).n; at += s.n) {
		assert_true(at >= from && at + s.n <= n);
		for (size_t i = 0; i < s.n; i++) {
			assert_int_equal((uint8_t)s.p[i], bytes[at + i]);
			assert_int_equal(stream, streams[at + i]);
		}
		from = at + s.n;
	}
	assert_int_equal(at, n);
	if (n > r->start) { /* from the middle of a segment */
		at = r->start + (n - r->start) / 2;
		s = ring_read(r, &at, &stream);
		assert_true(s.n && (uint8_t)s.p[0] == bytes[at] && stream == streams[at]);
	}
}

static void told_as_added(void **state)
{
	static const struct {
		size_t max;
		uint32_t piece, streams;
	} runs[] = { { 4096, 100, 1 }, { 4096, 9000, 3 }, { 65536, 3, 3 }, { 1 << 18, 5000, 2 },
		{ 1 << 18, 1, 2 } };

	for (size_t k = 0; k < ARRAY_SIZE(runs); k++) {
		struct ring r = ring_new(runs[k].max);
		uint64_t n = 0;

		for (unsigned int i = 0; i < 9000; i++) {
			size_t size = 1 + roll(runs[k].piece);
			uint8_t stream = (uint8_t)roll(runs[k].streams);

			if (n + size > EVER)
				break;
			for (size_t j = 0; j < size; j++) {
				bytes[n + j] = (uint8_t)roll(256);
				streams[n + j] = stream;
			}
			ring_add(&r, stream, str_n(bytes + n, size));
			n += size;
			if (i % 97 == 0 || i < 50)
				check(&r, n);
		}
		check(&r, n);
		assert_true(r.cap <= MAX(runs[k].max, (size_t)RING_MIN));
		assert_true(r.n_segs <= RING_SEGS_MAX);
		if (runs[k].piece > 1)
			assert_true(r.start > 0); /* some went */
		ring_done(&r);
		assert_int_equal(rings_bytes(), 0);
		assert_int_equal(r.start, n);
	}
}

static void room_spares_the_floor(void **state)
{
	struct ring r = ring_new(8192);
	uint8_t stream;
	uint64_t at = 0;

	assert_int_equal(ring_room(&r, 0), 8192);
	ring_add(&r, 0, str_n(bytes, 5000));
	assert_int_equal(ring_room(&r, 0), 3192);
	assert_int_equal(ring_room(&r, 5000), 8192);
	ring_add(&r, 0, str_n(bytes, 3192));
	assert_int_equal(ring_room(&r, 0), 0);
	assert_true(ring_read(&r, &at, &stream).n && at == 0);
	ring_add(&r, 0, str_n(bytes, 1)); /* the control: one more than there was room for */
	at = 0;
	ring_read(&r, &at, &stream);
	assert_int_equal(at, 1);
	ring_done(&r);
}

/* All rings together: who comes late keeps little, and nobody nothing. */
static void all_together(void **state)
{
	static char mib[1 << 20];
	struct ring r[24];
	size_t n = ARRAY_SIZE(r);

	for (size_t i = 0; i < n; i++) {
		r[i] = ring_new(1 << 20);
		ring_add(&r[i], 0, str_n(mib, sizeof(mib)));
		assert_true(r[i].cap >= RING_MIN);
	}
	assert_int_equal(r[0].cap, 1 << 20);
	assert_int_equal(r[n - 1].cap, RING_MIN);
	assert_true(rings_bytes() <= RINGS_MAX + n * RING_MIN);
	for (size_t i = 0; i < n; i++)
		ring_done(&r[i]);
	assert_int_equal(rings_bytes(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(told_as_added),
		cmocka_unit_test(room_spares_the_floor),
		cmocka_unit_test(all_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

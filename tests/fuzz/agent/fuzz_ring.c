/*
 * A ring of output against a plain list of all that was ever added. Each step is two bytes: what to do
 * (its low bits the stream), and how much. What is read stands at its offset, comes by its stream,
 * and is never older than what the ring says it keeps; memory stays within its bounds.
 */
#include "../fuzz.h"
#include "agent/ring.h"

#define STEPS_MAX 600u
#define TOTAL_MAX (STEPS_MAX * 255u * 64u)

static char bytes[TOTAL_MAX];
static uint8_t streams[TOTAL_MAX];

static void read_all(const struct ring *r, uint64_t from)
{
	uint64_t at = from, before;
	uint8_t stream = 0;

	for (;;) {
		struct str s;

		before = at;
		s = ring_read(r, &at, &stream);
		CHECK(at >= before && at <= MAX(r->end, before));
		if (!s.n)
			break;
		CHECK(at >= r->start && at + s.n <= r->end);
		for (size_t i = 0; i < s.n; i++)
			CHECK(s.p[i] == bytes[at + i] && streams[at + i] == stream);
		at += s.n;
	}
	CHECK(at >= r->end || from >= r->end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ring r = ring_new(size ? (size_t)data[0] * 256 : 0);
	uint64_t total = 0;
	bool forgotten = false;

	for (size_t i = 1; i + 1 < size && i < 2 * STEPS_MAX; i += 2) {
		uint8_t what = data[i], n = data[i + 1];
		size_t length = (what & 64) ? n * 64u : n;

		switch (what >> 4 & 3) {
		case 0:
		case 1:
			for (size_t k = 0; k < length; k++) {
				bytes[total + k] = (char)(total + k + what);
				streams[total + k] = what & 3;
			}
			ring_add(&r, what & 3, str_n(bytes + total, length));
			total += length;
			forgotten = false;
			break;
		case 2:
			read_all(&r, total - MIN(total, (uint64_t)length));
			break;
		case 3:
			if (n == 255) {
				ring_done(&r);
				forgotten = true;
			}
			CHECK(ring_room(&r, r.end) <= r.max);
			break;
		}
		CHECK(r.end == total && r.start <= r.end && r.end - r.start <= r.max);
		CHECK(!forgotten || r.start == r.end);
		CHECK(rings_bytes() == r.cap && r.cap <= MAX(r.max, (size_t)RING_MIN));
	}
	read_all(&r, 0);
	ring_done(&r);
	CHECK(rings_bytes() == 0);
	return 0;
}

/* A record's file: what is accepted is complete, and reads the same after it was written again. */
#include "../fuzz.h"
#include "sandbox/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct record once, twice;
	auto_buf struct buf out = BUF_MAX(2 * RECORD_MAX);
	struct err err;

	if (size > RECORD_MAX || record_decode(str_n(data, size), &once, &err) < 0)
		return 0;
	CHECK(record_id_ok(once.id) && once.slot && once.link[0] && once.runtime[0] && once.boot);
	CHECK(once.ip4.family == 4 && (!once.ip6.family || once.ip6.family == 6));
	CHECK(record_encode(&once, &out) == 0);
	CHECK(record_decode(buf_str(&out), &twice, &err) == 0);
	CHECK(strcmp(once.id, twice.id) == 0 && once.slot == twice.slot && once.boot == twice.boot);
	CHECK(once.ifindex == twice.ifindex && once.dead == twice.dead);
	CHECK(strcmp(once.link, twice.link) == 0 && strcmp(once.rt, twice.rt) == 0);
	return 0;
}

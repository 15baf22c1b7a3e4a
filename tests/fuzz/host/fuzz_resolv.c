/* resolv.conf, as somebody's DHCP wrote it: what is found is at most RESOLV_MAX different addresses,
 * and the text handed to the edge says the same. */
#include "../fuzz.h"
#include "host/resolv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct resolv once = { .n = 0 };
	auto_buf struct buf text = BUF_MAX(4096);
	struct str rest;

	resolv_parse(str_n(data, size), 53, &once);
	CHECK(once.n <= RESOLV_MAX);
	for (unsigned int i = 0; i < once.n; i++)
		for (unsigned int k = 0; k < i; k++)
			CHECK(!ip_eq(once.r[i].ip, once.r[k].ip));
	CHECK(resolv_text(&once, &text) == 0);
	rest = buf_str(&text);
	for (unsigned int i = 0; i < once.n; i++) {
		struct str line = str_cut(&rest, '\n'), word = str_cut(&line, ' ');
		struct ip ip;

		CHECK(str_eq(word, STR("nameserver")) && ip_from(str_cut(&line, ' '), &ip) == 0);
		CHECK(ip_eq(ip, once.r[i].ip));
	}
	CHECK(!rest.n);
	return 0;
}

/* ULIDs: see the header. */
#include <sys/random.h>
#include "base/clock.h"
#include "base/ulid.h"

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

void random_bytes(void *p, size_t n)
{
	uint8_t *at = p;

	while (n) {
		ssize_t k = getrandom(at, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			abort(); /* no randomness: nothing we issue would be safe */
		at += k;
		n -= (size_t)k;
	}
}

struct ulid ulid_new(uint64_t wall_ns)
{
	uint64_t ms = wall_ns / NS_PER_MS;
	uint8_t raw[16];
	struct ulid u;

	for (int i = 5; i >= 0; i--, ms >>= 8)
		raw[i] = (uint8_t)ms;
	random_bytes(raw + 6, 10);
	/* 128 bits from the top: the first letter carries three of them. */
	for (int letter = 0, bit = -2; letter < ULID_LEN; letter++, bit += 5) {
		unsigned int v = 0;

		for (int k = bit; k < bit + 5; k++)
			v = v << 1 | (k < 0 ? 0u : (raw[k / 8] >> (7 - k % 8) & 1u));
		u.s[letter] = alphabet[v];
	}
	u.s[ULID_LEN] = '\0';
	return u;
}

int ulid_from(struct str s, struct ulid *ret)
{
	struct ulid u;

	if (s.n != ULID_LEN)
		return -EINVAL;
	for (size_t i = 0; i < ULID_LEN; i++) {
		char c = s.p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!c || !strchr(alphabet, c))
			return -EINVAL;
		u.s[i] = c;
	}
	if (u.s[0] > '7')
		return -EINVAL; /* more than 128 bits */
	u.s[ULID_LEN] = '\0';
	*ret = u;
	return 0;
}

void ulid_raw(const struct ulid *u, uint8_t ret[static 16])
{
	memset(ret, 0, 16);
	for (int letter = 0, bit = -2; letter < ULID_LEN; letter++, bit += 5) {
		const char *at = strchr(alphabet, u->s[letter]);
		unsigned int v = at ? (unsigned int)(at - alphabet) : 0;

		for (int k = MAX(bit, 0); k < bit + 5; k++)
			ret[k / 8] |= (uint8_t)((v >> (bit + 4 - k) & 1u) << (7 - k % 8));
	}
}

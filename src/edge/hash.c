/* SipHash with one compression and three finalization rounds (Aumasson and Bernstein, 2012). */
#include "edge/hash.h"

static uint64_t k0, k1;

static uint64_t load64(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

void hash_seed(const uint8_t key[16])
{
	k0 = load64(key, 8);
	k1 = load64(key + 8, 8);
}

static inline uint64_t rotl(uint64_t v, int by)
{
	return v << by | v >> (64 - by);
}

struct sip {
	uint64_t a, b, c, d;
};

static inline void sip_round(struct sip *s)
{
	s->a += s->b;
	s->c += s->d;
	s->b = rotl(s->b, 13) ^ s->a;
	s->d = rotl(s->d, 16) ^ s->c;
	s->a = rotl(s->a, 32);
	s->c += s->b;
	s->a += s->d;
	s->b = rotl(s->b, 17) ^ s->c;
	s->d = rotl(s->d, 21) ^ s->a;
	s->c = rotl(s->c, 32);
}

uint64_t hash_bytes(const void *data, size_t n)
{
	const uint8_t *p = data;
	size_t whole = n & ~(size_t)7;
	struct sip s = { k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
		k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573) };
	uint64_t m;

	for (size_t i = 0; i < whole; i += 8) {
		memcpy(&m, p + i, 8);
		s.d ^= m;
		sip_round(&s);
		s.a ^= m;
	}
	m = load64(p + whole, n - whole) | (uint64_t)n << 56;
	s.d ^= m;
	sip_round(&s);
	s.a ^= m;
	s.c ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}

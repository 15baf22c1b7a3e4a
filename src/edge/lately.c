/* Findings that still hold: see the header. */
#include "base/clock.h"
#include "edge/lately.h"

_Static_assert(sizeof(struct lately_key) == 48, "no padding: keys are compared as bytes");

/* Both numbers are counted up from one by us, so nobody can aim; neighbours shall spread. */
static size_t pair_of(const struct lately_key *key)
{
	uint64_t mixed = (key->life * UINT64_C(0x9e3779b97f4a7c15)) ^ key->serial;

	return (size_t)(mixed * UINT64_C(0xbf58476d1ce4e5b9) >> 32) % (LATELY_PLACES / 2) * 2;
}

bool lately_found(const struct lately *l, const struct lately_key *key, uint64_t now)
{
	size_t at = pair_of(key);

	for (size_t i = at; i < at + 2; i++)
		if (l->places[i].until > now &&
			memcmp(&l->places[i].key, key, sizeof(*key)) == 0)
			return true;
	return false;
}

void lately_add(struct lately *l, const struct lately_key *key, uint64_t now)
{
	size_t at = pair_of(key);

	at += l->places[at + 1].until < l->places[at].until;
	l->places[at].key = *key;
	l->places[at].until = now + LATELY_FOR;
}

void lately_forget(struct lately *l)
{
	memset(l, 0, sizeof(*l));
}

/* The cache: see the header. A hash table for finding, a list in order of age for leaving. */
#include "base/clock.h"
#include "edge/hash.h"
#include "edge/cache.h"

#define SPARED_MAX 32

struct entry {
	UT_hash_handle hh;
	struct entry *prev, *next; /* youngest first */
	struct answer *answer;
	uint64_t expires, serial;
	size_t bytes;
	bool hit; /* asked for since its turn to leave came last */
	uint16_t n;
	uint8_t raw[];
};

struct cache {
	struct entry *table, *queue;
	uint64_t last_serial;
	uint32_t n, max;
	size_t bytes, bytes_max;
};

void question_from(const struct dns_query *q, struct ip resolver, uint32_t slot,
	struct question *ret)
{
	uint8_t *at = ret->raw;

	at[0] = resolver.family;
	memcpy(at + 1, resolver.a, sizeof(resolver.a));
	memcpy(at + 17, &slot, sizeof(slot));
	dns_store16(at + 21, q->type);
	at[23] = (uint8_t)((q->dnssec_ok ? 1 : 0) | (q->flags & DNS_CD ? 2 : 0));
	at += 24;
	for (uint8_t i = 0; i < q->name.n; i++) {
		uint8_t c = q->name.w[i];

		at[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
	}
	ret->n = (uint16_t)(24 + q->name.n);
}

struct cache *cache_new(uint32_t entries)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->max = MAX(entries, 1u);
	c->bytes_max = (size_t)c->max * CACHE_BYTES_PER_ENTRY;
	return c;
}

static void drop(struct cache *c, struct entry *e)
{
	HASH_DEL(c->table, e);
	DL_DELETE(c->queue, e);
	c->n--;
	c->bytes -= e->bytes;
	answer_unref(e->answer);
	free(e);
}

struct cache *cache_free(struct cache *c)
{
	if (!c)
		return NULL;
	while (c->queue)
		drop(c, c->queue);
	free(c);
	return NULL;
}

static struct entry *find(struct cache *c, const struct question *q)
{
	struct entry *e;

	HASH_FIND(hh, c->table, q->raw, q->n, e);
	return e;
}

struct answer *cache_get(struct cache *c, const struct question *q, uint64_t now,
	uint64_t *ret_serial)
{
	struct entry *e = find(c, q);

	if (!e)
		return NULL;
	if (now >= e->expires) {
		drop(c, e);
		return NULL;
	}
	e->hit = true;
	*ret_serial = e->serial;
	return e->answer;
}

/* The next to leave; at most SPARED_MAX are spared for it, so that a put stays short. */
static void drop_oldest(struct cache *c)
{
	struct entry *e = c->queue->prev; /* the head's prev is the tail */

	for (int i = 0; i < SPARED_MAX && e->hit && e != c->queue; i++) {
		e->hit = false;
		DL_DELETE(c->queue, e);
		DL_PREPEND(c->queue, e);
		e = c->queue->prev;
	}
	drop(c, e);
}

void cache_put(struct cache *c, const struct question *q, struct answer *a, uint64_t now)
{
	struct entry *e = find(c, q);
	size_t bytes = sizeof(*e) + q->n + sizeof(*a) + a->n_addrs * sizeof(*a->addrs) +
		a->n_ttls * sizeof(*a->ttls) + a->body_n;

	if (e)
		drop(c, e);
	if (a->ttl == 0 || bytes > CACHE_ANSWER_MAX)
		return;
	e = calloc(1, sizeof(*e) + q->n);
	if (!e)
		return;
	e->n = q->n;
	memcpy(e->raw, q->raw, q->n);
	HASH_ADD_KEYPTR(hh, c->table, e->raw, e->n, e);
	if (!table_has(e)) { /* no memory for the table */
		free(e);
		return;
	}
	e->answer = answer_ref(a);
	e->expires = now + a->ttl * NS_PER_SEC;
	e->bytes = bytes;
	e->serial = ++c->last_serial;
	DL_PREPEND(c->queue, e);
	c->n++;
	c->bytes += bytes;
	while (c->n > c->max || c->bytes > c->bytes_max)
		drop_oldest(c);
}

uint32_t cache_count(const struct cache *c)
{
	return c->n;
}

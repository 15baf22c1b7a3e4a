/*
 * Answers of our own resolvers, kept for their TTL and shared by all sandboxes: what may be told
 * to whom is decided on every answer, never stored here. Answers of resolvers that a policy names
 * explicitly never enter: such a resolver could be the sandbox's accomplice.
 *
 * Bounded twice, by entries and by bytes. The oldest goes first, but one that was asked for since
 * its turn came last is spared once more: a hit writes one flag and moves nothing.
 */
#pragma once
#include "edge/answer.h"

#define CACHE_BYTES_PER_ENTRY 1024u /* on average; an answer of a few addresses takes 300 */
#define CACHE_ANSWER_MAX      8192u /* larger answers are not kept */

/* A question as a key: what makes two questions the same. */
struct question {
	uint16_t n;
	uint8_t raw[24 + DNS_NAME_MAX];
};
/* resolver.family 0: ours, slot 0. Otherwise the resolver asked and for whom. */
void question_from(const struct dns_query *q, struct ip resolver, uint32_t slot,
	struct question *ret);

struct cache;
struct cache *cache_new(uint32_t entries); /* NULL: no memory */
struct cache *cache_free(struct cache *c);
/* Borrowed, alive at `now`; NULL if there is none. *ret_serial: a number no other entry has had. */
struct answer *cache_get(struct cache *c, const struct question *q, uint64_t now,
	uint64_t *ret_serial);
/* Keeps a reference of its own. Failure to keep is no failure. */
void cache_put(struct cache *c, const struct question *q, struct answer *a, uint64_t now);
uint32_t cache_count(const struct cache *c);

/*
 * What was found out a moment ago and still holds.
 *
 * Most queries repeat one that was answered just now: the same sandbox, the same question, the
 * same answer in the cache. If then the name could be asked and every address be told, and all were
 * pinned, the answer can go out without asking the policy, the floor or the kernel's maps again.
 * Answers of which something was held back always take the long way, which reports it. A finding
 * holds until
 *
 *   the sandbox changes	a version of its policy comes or goes, a name or an address it had
 *				learned is let go, a pin fails: all counted in tenant.changes
 *   the answer changes		each entry of the cache has a serial of its own
 *   the floor changes		looked after every RESOLVER_SWEEP_MS: all findings end
 *   LATELY_FOR has passed	a fallback, and addresses in use stay the last to make room
 *
 * Pins do not run out meanwhile: they outlive the answer in the cache by PIN_GRACE.
 *
 * A fixed table for all sandboxes, two places per key. Who floods it makes others' next query take
 * the long way, which is the same answer.
 */
#pragma once
#include "base/ip.h"

#define LATELY_PLACES 8192u
#define LATELY_FOR    (5 * NS_PER_SEC)

struct lately_key {
	uint64_t life; /* of the sandbox: never reused */
	uint64_t changes;
	uint64_t serial; /* of the cached answer */
	struct ip dst;	 /* the resolver that was meant */
	uint8_t tcp;
	uint8_t zero[6];
};
struct lately {
	struct {
		struct lately_key key;
		uint64_t until;
	} places[LATELY_PLACES];
};

bool lately_found(const struct lately *l, const struct lately_key *key, uint64_t now);
void lately_add(struct lately *l, const struct lately_key *key, uint64_t now);
void lately_forget(struct lately *l); /* everything */

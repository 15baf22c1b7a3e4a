/*
 * Who may call whom inside a private network.
 *
 * An ordered list of rules, each an action, two ends, protocols and ports; the first that matches a
 * call decides, else the default does. An end is one member or any. Ports are the called one's, and
 * belong to TCP and UDP: a rule with ports says nothing of other protocols. Rules speak of who begins;
 * answers are the kernel program's business (datapath/calls.bpf.h).
 *
 * Here ends are slots; which member is in which slot is the api role's knowledge (api/calls.c).
 *
 * Two readings must agree, and tests hold them equal: calls_reference(), straight from the list, and
 * calls_compile(), keys for the kernel's map. Pure, like the rest of this room.
 */
#pragma once
#include "base/err.h"
#include "bpf/maps.h"

#define CALLS_RULES_MAX 64u
#define CALLS_PORTS_MAX 16u   /* ranges of one rule */
#define CALLS_KEYS_MAX	2048u /* of one network: none can fill the kernel's map */

#define CALLS_ANYONE 0u
#define CALLS_NOBODY UINT32_MAX /* a member that is not there: the rule matches nothing */

enum calls_proto { /* bits */
	CALLS_TCP = 1,
	CALLS_UDP = 2,
	CALLS_ICMP = 4,
	CALLS_OTHER = 8,
	CALLS_EVERY = 15
};

struct calls_range {
	uint16_t lo, hi;
};
struct calls_rule {
	uint32_t from, to; /* slots, or CALLS_… */
	uint8_t action;	   /* enum weir_verdict */
	uint8_t protos;
	uint16_t n_ports; /* 0: every port */
	struct calls_range ports[CALLS_PORTS_MAX];
};
struct calls {
	uint8_t fallback; /* enum weir_verdict */
	uint32_t n;
	struct calls_rule rules[CALLS_RULES_MAX];
};

/* Nothing but what is above: counts, actions, protocols, ordered ranges, no ports without TCP or UDP. */
bool calls_valid(const struct calls *c);
/* Does everybody call everybody, whoever is there? Such a network needs no version. */
bool calls_open(const struct calls *c);

struct calls_verdict {
	uint8_t verdict;
	uint16_t rule; /* or WEIR_RULE_NONE: the default */
};
/* port: 0 for protocols without. */
struct calls_verdict calls_reference(const struct calls *c, uint32_t from, uint32_t to,
	uint8_t proto, uint16_t port);

struct calls_image {
	struct weir_call_key *keys; /* under the version given */
	struct weir_call *values;
	size_t n, cap;
};
/* -E2BIG with a sentence: the rules make too many keys. */
int calls_compile(const struct calls *c, uint32_t version, struct calls_image *ret,
	struct err *err);
void calls_image_done(struct calls_image *img);

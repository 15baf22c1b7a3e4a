/*
 * Why would this be let through, or not? The answer a person gets: the verdict, the rule that
 * decides, and a sentence. Built from the reference evaluator, so it says what the kernel does.
 */
#pragma once
#include "policy/floor.h"
#include "policy/policy.h"

struct policy_question {
	const struct name *host; /* NULL: by address alone */
	struct ip addr;		 /* family 0: the host's addresses are not known */
	uint8_t proto;		 /* IPPROTO_TCP or IPPROTO_UDP */
	uint16_t port;
	const struct name *names; /* names learned of addr, beside host */
	size_t n_names;
};
struct policy_answer {
	uint8_t verdict;
	enum weir_reason reason;
	enum weir_floor floor;
	uint16_t rule;	   /* or WEIR_RULE_NONE */
	bool by_address;   /* host without address, and a rule before the deciding one asks for it */
	char text[400];
};
void policy_explain(const struct policy *p, const struct policy_knobs *knobs,
	const struct policy_floor *floor, const struct policy_question *q,
	struct policy_answer *ret);

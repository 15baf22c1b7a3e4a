/*
 * One port table: which rule decides each TCP and UDP port, given the rules that apply to an
 * address. Shared by the prefixes of a policy and by pins; nobody else includes it.
 */
#pragma once
#include "policy/policy.h"

struct ports_table {
	struct weir_decision decision;	   /* `table` is 0 until the caller numbers it */
	struct policy_port_entry *entries; /* empty unless decision.ports is WEIR_PORTS_TABLE */
	size_t n, cap;
};

/* `rules`: indices of the rules that apply, ascending. `max`: entries allowed, else -E2BIG. */
int ports_build(const struct policy *p, const uint32_t *rules, size_t n, size_t max,
	struct ports_table *ret);
void ports_done(struct ports_table *t);

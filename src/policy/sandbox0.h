/*
 * sandbox0's network policy: a mode and six lists, or a mode and ordered traffic rules.
 *
 *	allow-all	each of the three denied lists denies what any of its entries matches;
 *			everything else passes; the allowed lists are kept and do nothing
 *	block-all	one allow rule of all non-empty allowed lists together: a listed host, at a
 *			listed address, on a listed port; the denied lists are kept and do nothing
 *	trafficRules	the first whose every list matches decides; the mode is the default
 *
 * "*.x" covers x itself and any depth below it; "*" alone covers nothing. A port without protocol
 * is TCP. What does nothing is checked all the same: flipping the mode puts it in force.
 */
#pragma once
#include "policy/floor.h"
#include "policy/policy.h"

#define SANDBOX0_LIST_MAX  1024u /* entries of one list */
#define SANDBOX0_RULES_MAX 256u

struct sandbox0_port {
	int64_t port, end;   /* end 0: that port alone */
	struct str protocol; /* "tcp", "udp" in any case; empty: tcp */
};
struct sandbox0_lists {
	const struct str *domains, *cidrs;
	const struct sandbox0_port *ports;
	size_t n_domains, n_cidrs, n_ports;
};
struct sandbox0_rule {
	bool allow;
	struct sandbox0_lists match;
};
struct sandbox0_ask {
	bool block_all;
	struct sandbox0_lists allowed, denied; /* or: */
	const struct sandbox0_rule *rules;
	size_t n_rules;
};

/* Errors are about field "network" and name the entry: egress.allowedCidrs[2] "10.0.0/8": … */
int sandbox0_policy(const struct sandbox0_ask *ask, const struct policy_floor *floor,
	struct policy **ret, struct err *err);

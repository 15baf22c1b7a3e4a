/*
 * OpenSandbox's policy: a default action and an ordered list of {action, target}.
 *
 *	name		exactly that name
 *	*.name		any depth below it, not the name itself
 *	address, CIDR	host bits are cleared
 *
 * There is no port in a rule. The platform's own lists, deny.always and allow.always, come before
 * the user's. Names and addresses are judged by different orders: the first *name* rule that
 * matches decides about a name, in the order deny.always, allow.always, the user's list; for an
 * *address* every denial counts before any allowance, and what a name's answer opened comes
 * between the two. Port 853 (DNS over TLS and QUIC) is closed before all, and with it TCP port 443 where
 * the operator wants no DNS over HTTPS and names no resolvers; that is no reason to refuse an ICMP echo
 * (policy_rule_is_dialects()). As one ordered list:
 *
 *	deny	port 853; and 443
 *	deny	port 443 of the resolvers that the operator names instead
 *	deny	each denied address or network, the platform's first
 *	allow or deny each name, in list order
 *	allow	each allowed address or network, the platform's first
 *	default
 *
 * An allowed target wholly inside the floor is refused; in the platform's lists that is not looked
 * at, for the floor wins whatever they say.
 */
#pragma once
#include "policy/floor.h"
#include "policy/policy.h"

#define OPENSANDBOX_RULES_MAX 4096u /* of the user's */
#define OPENSANDBOX_ALWAYS_MAX 1024u /* in each of the platform's lists */

struct opensandbox_rule {
	bool allow;
	struct str target;
};
struct opensandbox_always { /* targets, read from the platform's files by opensandbox_always_line() */
	const struct str *deny, *allow;
	size_t n_deny, n_allow;
	bool block_doh;		  /* TCP port 443 is closed */
	const struct prefix *doh; /* there only; none: everywhere */
	size_t n_doh;
};
/* What of a line of such a file is a target: STR_NONE for a blank line or a comment. -EINVAL with a
 * reason in *why for what does not read as one. */
int opensandbox_always_line(struct str line, struct str *ret, const char **why);

/* always may be NULL. Errors are about field "networkPolicy" and name the entry: egress[3].target
 * "a b": names consist of … */
int opensandbox_policy(bool default_allow, const struct opensandbox_rule *rules, size_t n,
	const struct opensandbox_always *always, const struct policy_floor *floor,
	struct policy **ret, struct err *err);

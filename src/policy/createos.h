/*
 * CreateOS's egress list: an allowlist of at most 256 entries.
 *
 *	*				everything; makes the whole list "allow all"
 *	host  host:port			a name; without port every TCP and UDP port
 *	*.host  *.host:port		any depth below it, not the name itself
 *	ip  ip:port			an address; a port means TCP and UDP
 *	cidr  cidr:port			a network; host bits are cleared, not refused, because people
 *					write the address of a machine and the length of its network
 *	2001:db8::1  [2001:db8::1]:443  IPv6, bracketed where a port follows;
 *	2001:db8::/32  [2001:db8::/32]:443  "[2001:db8::]/32" is not a form
 *
 * An empty list allows everything. Space around an entry and upper case do not matter. An entry
 * wholly inside the floor is refused; one that merely overlaps it is taken, and the floor wins.
 */
#pragma once
#include "policy/floor.h"
#include "policy/policy.h"

#define CREATEOS_RULES_MAX 256u

/* Errors are about field "egress" and name the entry: egress[3] "foo:99999": port must be … */
int createos_policy(const struct str *rules, size_t n, const struct policy_floor *floor,
	struct policy **ret, struct err *err);

/*
 * The floor: destinations that no user's rule can open, and that only the operator's
 * floor.allow does. A list of prefixes, each with its kind; the longest prefix around an
 * address decides, and WEIR_FLOOR_NONE as its kind opens. Thus floor.allow 192.168.0.0/16
 * opens a network, yet the host's own address in it, a longer prefix, stays closed.
 *
 * IPv6 addresses that carry an IPv4 one (NAT64 64:ff9b::/96 and 64:ff9b:1::/48, 6to4, Teredo,
 * IPv4-compatible ::/96) would let a packet reach an IPv4 address past every rule about it.
 * They are floor as a whole. An operator who runs NAT64 opens 64:ff9b::/96; what the IPv4 floor
 * closes stays closed there too, because each of its prefixes has a longer twin inside. An
 * IPv4-mapped address (::ffff:a.b.c.d) reads as IPv4 everywhere in user space; on the wire it
 * is refused by the kernel program.
 */
#pragma once
#include "base/err.h"
#include "base/ip.h"
#include "bpf/maps.h"

#define POLICY_FLOOR_MAX 1024u

struct policy_floor_entry {
	struct prefix prefix;
	uint8_t floor; /* enum weir_floor; NONE opens */
};
struct policy_floor {
	uint32_t n;
	struct policy_floor_entry e[POLICY_FLOOR_MAX];
};

/* What the daemon knows; family 0 in a range: not in use. */
struct policy_floor_spec {
	struct prefix range4, range6, overlay4;
	const struct prefix *host, *deny, *allow; /* host: own addresses, in full length */
	size_t n_host, n_deny, n_allow;
};
/* On one and the same prefix host wins over the built-in list, deny over host, allow over deny. */
int policy_floor_build(const struct policy_floor_spec *spec, struct policy_floor *ret,
	struct err *err);
/* Add, or change the kind of, one prefix. -E2BIG when full. */
int policy_floor_add(struct policy_floor *f, struct prefix prefix, enum weir_floor floor);
enum weir_floor policy_floor_find(const struct policy_floor *f, struct ip addr);
/* The kind of floor that the whole prefix lies in, or NONE if any part of it is open. */
enum weir_floor policy_floor_covers(const struct policy_floor *f, struct prefix prefix);

/* RFC 1918, CGNAT (100.64.0.0/10), benchmarking (198.18.0.0/15), ULA, and NAT64 of these: what a
 * public name has no business resolving to. */
bool policy_is_private(struct ip addr);

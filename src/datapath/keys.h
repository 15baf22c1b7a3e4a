/* Policy entries as map keys: the one place that knows how prefix lengths are counted. */
#pragma once
#include "base/ip.h"
#include "policy/policy.h"

static inline struct weir_addr key_addr(struct ip ip)
{
	struct weir_addr a;

	memcpy(a.a, ip.a, sizeof(a.a));
	return a;
}

static inline struct weir_prefix_key key_prefix(uint32_t policy, struct prefix p)
{
	return (struct weir_prefix_key){ .prefixlen = 32u + p.len,
		.scope = weir_scope(policy, p.ip.family == 6), .addr = key_addr(p.ip) };
}

static inline struct weir_pin_key key_pin(uint32_t policy, struct ip ip)
{
	return (struct weir_pin_key){ .scope = weir_scope(policy, ip.family == 6),
		.addr = key_addr(ip) };
}

static inline struct weir_port_key key_port(uint32_t policy, const struct policy_port_entry *e)
{
	return (struct weir_port_key){ .prefixlen = 80u + e->port_bits, .policy = policy,
		.table = e->table, .proto = e->proto,
		.port = { (uint8_t)(e->port >> 8), (uint8_t)e->port } };
}

static inline struct weir_floor_key key_floor(struct prefix p)
{
	return (struct weir_floor_key){ .prefixlen = 32u + p.len, .family = p.ip.family,
		.addr = key_addr(p.ip) };
}

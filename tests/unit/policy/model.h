/*
 * The kernel's lookups in user space: pin, longest prefix, default, port table, over an image
 * instead of maps. As slow as it is plain.
 */
#pragma once
#include <netinet/in.h>
#include "policy/policy.h"

struct model_pin {
	struct ip addr;
	struct policy_pin_image img;
};
struct model_verdict {
	uint8_t verdict;
	uint16_t rule;
	bool named, missing; /* missing: a table without an entry for the port */
};

static inline const struct policy_port_entry *model_port(const struct policy_port_entry *e, size_t n,
	uint32_t table, uint8_t proto, uint16_t port)
{
	const struct policy_port_entry *best = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned int shift = 16u - e[i].port_bits;

		if (e[i].table == table && e[i].proto == proto &&
			(unsigned int)port >> shift == (unsigned int)e[i].port >> shift &&
			(!best || e[i].port_bits > best->port_bits))
			best = &e[i];
	}
	return best;
}

static inline struct weir_decision model_decision(const struct policy_image *img, struct ip addr)
{
	const struct policy_prefix_entry *best = NULL;

	for (size_t i = 0; i < img->n_prefixes; i++)
		if (prefix_has(img->prefixes[i].prefix, addr) &&
			(!best || img->prefixes[i].prefix.len > best->prefix.len))
			best = &img->prefixes[i];
	return best ? best->decision : img->header.fallback;
}

static inline struct model_verdict model_lookup(const struct policy_image *img,
	const struct model_pin *pin, struct ip addr, uint8_t proto, uint16_t port)
{
	struct weir_decision d = pin ? pin->img.decision : model_decision(img, addr);
	const struct policy_port_entry *e;

	if (d.ports & WEIR_PORTS_RANGE)
		return weir_range_has(&d, proto, port) ?
			(struct model_verdict){ !!(d.ports & WEIR_PORTS_ALLOW), d.rule, true, false } :
			(struct model_verdict){ !!(d.ports & WEIR_PORTS_ELSE), WEIR_RULE_NONE,
				false, false };
	if (!d.ports)
		return (struct model_verdict){ d.verdict, d.rule, false, false };
	e = pin ? model_port(pin->img.ports, pin->img.n_ports, d.table, proto, port) :
		  model_port(img->ports, img->n_ports, d.table, proto, port);
	if (!e)
		return (struct model_verdict){ .missing = true };
	return (struct model_verdict){ e->value.verdict, e->value.rule, e->value.named, false };
}

static inline bool model_all_ports(const struct policy_image *img, const struct model_pin *pin,
	struct ip addr)
{
	struct weir_decision d = pin ? pin->img.decision : model_decision(img, addr);

	return d.verdict == WEIR_ALLOW;
}

/* policy_reference_all_ports() in reasonable time: verdicts change only where a range begins or
 * ends, so asking there and beside asks everywhere. */
static inline bool reference_all_ports(const struct policy *p, struct ip addr,
	const struct name *names, size_t n_names)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP };

	for (uint32_t i = 0; i <= p->n_ports; i++) {
		uint32_t lo = i < p->n_ports ? p->ports[i].lo : 0;
		uint32_t hi = i < p->n_ports ? p->ports[i].hi : 65535;
		const uint32_t at[] = { lo - 1, lo, hi, hi + 1, 25 };

		for (size_t k = 0; k < ARRAY_SIZE(at) * 2; k++) {
			struct policy_verdict v = policy_reference(p, addr, protos[k % 2],
				(uint16_t)at[k / 2], names, n_names);

			if (at[k / 2] <= 65535 && v.verdict == WEIR_DENY &&
				!policy_rule_is_dialects(p, v.rule))
				return false;
		}
	}
	return true;
}

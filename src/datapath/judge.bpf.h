/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The verdict on a packet, apart from flows: floor, then pin, prefix or default, then ports,
 * then the clauses about TCP 25 and about what has no ports. Knows nothing of directions,
 * links and time, so BPF_PROG_TEST_RUN can ask it what it thinks.
 */
#pragma once
#include "datapath/packet.bpf.h"

struct verdict {
	__u8 allow; /* enum weir_verdict */
	__u8 reason;
	__u8 detail;
	__u8 zero;
	__u32 rule;
	__u32 net, version; /* of a private network whose rules decided */
};

static __always_inline void refuse(struct verdict *v, enum weir_reason reason, __u8 detail)
{
	v->allow = WEIR_DENY;
	v->reason = reason;
	v->detail = detail;
	v->rule = WEIR_RULE_NONE;
	v->net = 0;
}

static __always_inline void decide(struct verdict *v, __u8 allow, __u16 rule)
{
	v->allow = allow;
	v->reason = rule == WEIR_RULE_NONE ? WEIR_R_DEFAULT : WEIR_R_RULE;
	v->detail = 0;
	v->rule = rule;
}

/* Which part of the floor holds the address; WEIR_FLOOR_NONE: none. */
static __noinline __u32 floor_find(const struct packet *p)
{
	const __u32 *x = (const __u32 *)&p->remote;
	struct weir_floor_key key = { .family = p->family };
	__u32 *floor;

	/* ::ffff:a.b.c.d has no business on the wire: it would be a second spelling of IPv4. */
	if (p->family == 6 && x[0] == 0 && x[1] == 0 && x[2] == bpf_htonl(0xffff))
		return WEIR_FLOOR_EMBEDDED;
	key.prefixlen = 32 + (p->family == 4 ? 32 : 128);
	key.addr = p->remote;
	floor = bpf_map_lookup_elem(&weir_floor, &key);
	return floor ? *floor : WEIR_FLOOR_NONE;
}

/* Pin, else longest prefix, else the default. */
static __noinline int decision_find(__u32 policy_id, const struct packet *p,
	struct weir_decision *ret)
{
	__u32 scope = weir_scope(policy_id, p->family == 6);
	struct weir_policy *policy;
	struct weir_decision *d;
	struct weir_pin *pin;
	struct {
		struct weir_prefix_key prefix;
		struct weir_pin_key pin;
	} key;

	key.pin.scope = scope;
	key.pin.addr = p->remote;
	pin = bpf_map_lookup_elem(&weir_pins, &key.pin);
	if (pin) {
		*ret = pin->decision;
		return 0;
	}
	key.prefix.prefixlen = 32 + (p->family == 4 ? 32 : 128);
	key.prefix.scope = scope;
	key.prefix.addr = p->remote;
	d = bpf_map_lookup_elem(&weir_prefixes, &key.prefix);
	if (d) {
		*ret = *d;
		return 0;
	}
	policy = bpf_map_lookup_elem(&weir_policies, &policy_id);
	if (!policy)
		return -1;
	*ret = policy->fallback;
	return 0;
}

static __always_inline int has_ports(const struct packet *p)
{
	return (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP) && p->frag != FRAG_LATER;
}

static __always_inline int is_smtp(const struct packet *p)
{
	return p->proto == IPPROTO_TCP && p->remote_port == bpf_htons(25);
}

/* A packet with ports, given the decision for its address. */
static __noinline void judge_ports(__u32 policy_id, const struct packet *p,
	const struct weir_decision *d, int smtp, struct verdict *v)
{
	struct weir_port_key key = { .prefixlen = 96, .policy = policy_id, .table = d->table,
		.proto = p->proto };
	struct weir_port *port;
	int named = 0;

	if (d->ports & WEIR_PORTS_RANGE) {
		named = weir_range_has(d, p->proto, bpf_ntohs(p->remote_port));
		if (named)
			decide(v, !!(d->ports & WEIR_PORTS_ALLOW), d->rule);
		else
			decide(v, !!(d->ports & WEIR_PORTS_ELSE), WEIR_RULE_NONE);
	} else if (d->ports & WEIR_PORTS_TABLE) {
		__builtin_memcpy(key.port, &p->remote_port, 2);
		port = bpf_map_lookup_elem(&weir_ports, &key);
		if (!port) { /* tables cover every port: this one is being taken down */
			refuse(v, WEIR_R_DEFAULT, 0);
			return;
		}
		named = port->named;
		decide(v, port->verdict, port->rule);
	} else {
		decide(v, d->verdict, d->rule);
	}
	if (v->allow == WEIR_ALLOW && is_smtp(p) && !named && !smtp) {
		v->allow = WEIR_DENY;
		v->reason = WEIR_R_SMTP;
	}
}

/* Of the address as a whole: every port, or none. */
static __always_inline void judge_whole(const struct weir_decision *d, struct verdict *v)
{
	int allow_rule = (d->ports & (WEIR_PORTS_RANGE | WEIR_PORTS_ALLOW)) ==
		(WEIR_PORTS_RANGE | WEIR_PORTS_ALLOW);

	decide(v, d->verdict, allow_rule ? WEIR_RULE_NONE : d->rule);
}

/* Given the policy's header: the verdict once the address's decision is known. */
static __always_inline void judge_address(__u32 policy_id, const struct weir_policy *policy,
	const struct packet *p, const struct weir_decision *d, struct verdict *v)
{
	if (p->frag == FRAG_LATER && policy->restrictive)
		refuse(v, WEIR_R_FRAGMENT, 0);
	else if (has_ports(p))
		judge_ports(policy_id, p, d, policy->smtp, v);
	else if (p->frag != FRAG_LATER && p->icmp != ICMP_ASK && p->icmp != ICMP_ANSWER &&
		!policy->other_protocols)
		refuse(v, WEIR_R_PROTOCOL, 0);
	else
		judge_whole(d, v);
}

/* The verdict for a packet of a sandbox under this policy. The header of a policy is written
 * last and deleted first, so one that is still there at the end proves that the version was
 * whole all along. */
static __noinline void judge(__u32 policy_id, const struct packet *p, struct verdict *v)
{
	struct weir_policy *policy;
	struct weir_decision d;
	__u32 floor;

	floor = floor_find(p);
	if (floor != WEIR_FLOOR_NONE) {
		refuse(v, WEIR_R_FLOOR, floor);
		return;
	}
	policy = bpf_map_lookup_elem(&weir_policies, &policy_id);
	if (policy && decision_find(policy_id, p, &d) == 0) {
		judge_address(policy_id, policy, p, &d, v);
		if (bpf_map_lookup_elem(&weir_policies, &policy_id))
			return;
	}
	refuse(v, WEIR_R_QUARANTINE, 0);
}

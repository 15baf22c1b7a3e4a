/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Private networks: from a member's link straight to another's.
 *
 * A sandbox's overlay address is the range's first plus its slot, so the address names the link and
 * nothing is looked up but the two sets of network numbers. bpf_redirect_peer() puts the packet into
 * the receiver's namespace without its own program having run (to_sandbox is on the way that is not
 * taken), so everything that speaks for the receiver is asked here: that it lives, that its policy
 * is committed, that it is a member now, and that the port is not its agent's. A tap has no peer: what
 * is for a machine goes out of its link with a mark that to_sandbox knows.
 *
 * Among members of a network without rules there is no state: a sandbox that leaves is out of reach
 * with the next packet. Rules and their flows are in calls.bpf.h.
 */
#pragma once
#include "datapath/calls.bpf.h"

/* The slot that an address of the overlay stands for; 0: none. */
static __always_inline __u32 overlay_slot(const struct weir_addr *a)
{
	struct weir_config *c = config_get();
	__u32 ip = bpf_ntohl(addr_ip4(a)), slot;

	if (!c || !c->overlay4_mask || (ip & c->overlay4_mask) != c->overlay4)
		return 0;
	slot = ip - c->overlay4;
	return slot <= WEIR_SLOTS_MAX ? slot : 0;
}

static __always_inline int is_overlay(const struct packet *p)
{
	struct weir_config *c = config_get();

	return p->family == 4 && c && c->overlay4_mask &&
		(bpf_ntohl(addr_ip4(&p->remote)) & c->overlay4_mask) == c->overlay4;
}

/* The sandbox's side of the packet is its own overlay address. */
static __always_inline int is_own_overlay(const struct packet *p, __u32 slot)
{
	return p->family == 4 && slot && overlay_slot(&p->local) == slot;
}

static __always_inline int is_agent_port(const struct packet *p)
{
	return p->proto == IPPROTO_TCP && p->frag != FRAG_LATER &&
		p->remote_port == bpf_htons(WEIR_AGENT_PORT);
}

/* Protocols that no policy could judge pass here only where they pass elsewhere. */
static __always_inline int is_usual(const struct packet *p, __u32 policy_id)
{
	struct weir_policy *policy;

	if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP)
		return 1;
	if (p->proto == IPPROTO_ICMP && p->icmp != ICMP_OTHER) /* redirects are among the others */
		return 1;
	policy = bpf_map_lookup_elem(&weir_policies, &policy_id);
	return policy && policy->other_protocols;
}

/* The slot that the packet is for, if anybody lives there, and not for its agent; 0: none. */
static __noinline __u32 overlay_peer(const struct packet *p)
{
	__u32 to = overlay_slot(&p->remote);
	struct weir_slot *s = bpf_map_lookup_elem(&weir_slots, &to);

	if (!s || !s->ifindex || !*(volatile __u32 *)&s->policy || is_agent_port(p))
		return 0;
	return to;
}

/* An ICMP error speaks of what its receiver sent to its sender, and of nothing else: a member has no
 * say in its fellow's conversations with others. */
static __noinline int overlay_quoted(struct __sk_buff *skb, const struct packet *p)
{
	struct packet q = { 0 };

	return quoted_read(skb, p, &q, 1) == 0 && addr_eq(&q.local, &p->local) &&
		addr_eq(&q.remote, &p->remote);
}

/* The slot that the packet may go to, or 0 with the refusal. flows: 0 asks for the verdict alone. */
static __noinline __u32 overlay_judge(struct __sk_buff *skb, const struct where *w,
	const struct packet *p, struct verdict *v, int flows)
{
	struct way_ask q = { .from = w->slot, .to = overlay_peer(p) };
	int way = q.to ? way_find(&q) : WAY_NONE;

	refuse(v, WEIR_R_OVERLAY, WEIR_OVERLAY_STRANGERS);
	if (way == WAY_NONE)
		return 0;
	refuse(v, WEIR_R_PROTOCOL, 0);
	if (!is_usual(p, w->policy))
		return 0;
	refuse(v, WEIR_R_UNSOLICITED, 0);
	if (p->icmp == ICMP_ERROR && !overlay_quoted(skb, p))
		return 0;
	if (way != WAY_OPEN && !(flows ? call_admit(skb, w, p, &q, v) : call_judge(p, &q, v)))
		return 0;
	v->allow = WEIR_ALLOW;
	v->reason = WEIR_R_NONE;
	v->detail = 0;
	return q.to;
}

/* Count and send on. The MACs become what the receiver would see of its gateway. */
static __noinline int overlay_send(struct __sk_buff *skb, __u32 from, __u32 to)
{
	const struct {
		__u8 dest[6], source[6];
	} macs = { WEIR_MAC_SANDBOX, WEIR_MAC_GATEWAY };
	struct weir_slot *s = bpf_map_lookup_elem(&weir_slots, &to);
	__u32 ifindex = s ? s->ifindex : 0;

	if (!ifindex || bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0) < 0)
		return TC_ACT_SHOT;
	count_overlay(skb, from, to);
	if (!s->tap)
		return bpf_redirect_peer(ifindex, 0);
	skb->mark = WEIR_MARK_OVERLAY; /* to_sandbox is on this way, and lets it pass */
	return bpf_redirect(ifindex, 0);
}

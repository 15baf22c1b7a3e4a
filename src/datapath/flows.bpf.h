/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Flows: what a sandbox was allowed to begin, so that answers need no second judgement, an
 * expired DNS answer cuts nothing, and a tightened policy cuts everything it refuses.
 *
 * An entry is *current* while it carries the slot's policy id and the floor's generation. A
 * packet of a stale entry is judged again and the entry renewed, or removed (WEIR_R_CUT). Only a
 * SYN begins a TCP flow, and a SYN is always judged; an echo reply begins nothing. The entry's idle time depends on its state:
 *
 *	NEW	no answer yet: TCP		120 s
 *		UDP and others			 60 s
 *	OPEN	answered: TCP			  2 h 15 min (above the usual keep-alive)
 *		UDP and others			180 s
 *	CLOSING	RST, or FIN from both sides	 30 s
 *
 * None of these is shorter than what the host's connection tracking has for the same state
 * (host/nft.h sees to the two that would be longer there), so what masquerading holds for a
 * sandbox is never more than its entries here, and one count bounds both. For that reason entries
 * of a slot's former sandbox (keys carry the slot's epoch, they are not found) are counted on
 * against their user until they have run out like any other, or the host has forgotten what they
 * stand for (weir_slot.gone), which it is made to as soon as the sandbox is gone.
 *
 * Bounds. A sandbox has at most weir_config.flows_per_slot, a user's sandboxes together have at
 * most flows_max of their share, and of what is left to all of them (weir_shares[0]) a sandbox may
 * hold a quarter and a user half: whoever comes late finds less, never nothing.
 */
#pragma once
#include "datapath/judge.bpf.h"

#define SECOND 1000000000ull
#define FIN_OUT 1
#define FIN_IN	2

/* An entry was made since the collector wrote 0 here: it need not walk a table that was empty then and
 * still is. Written after the entry, so who clears it and then walks finds the entry or this. */
volatile __u32 weir_begun;

struct where { /* what the hooks know of a packet's sandbox */
	__u32 slot;
	__u32 policy; /* read once */
	__u64 now;
	struct weir_slot *s;
};

static __always_inline void flow_key(const struct where *w, const struct packet *p,
	struct weir_flow_key *key)
{
	key->slot = w->slot;
	key->family = p->family;
	key->proto = p->proto;
	key->epoch = w->s->epoch;
	key->remote = p->remote;
	key->local_port = p->local_port;
	key->remote_port = p->remote_port;
}

/* Later fragments have no ports; the datagram's identification stands for them. */
static __always_inline void flow_key_fragment(const struct where *w, const struct packet *p,
	struct weir_flow_key *key)
{
	key->slot = w->slot;
	key->family = p->family;
	key->proto = IPPROTO_FRAGMENT;
	key->epoch = w->s->epoch;
	key->remote = p->remote;
	key->local_port = p->frag_id;
	key->remote_port = p->frag_id >> 16;
}

static __always_inline __u32 floor_generation(void)
{
	struct weir_config *c = config_get();

	return c ? c->floor : 0;
}

static __always_inline int flow_is_current(const struct weir_flow *f, const struct where *w)
{
	return f->policy == w->policy && f->floor == floor_generation();
}

/* A count that was set while it was counted may be off by a few: less than none is none. */
static __always_inline __u32 count_of(__u32 n)
{
	return n & 1u << 31 ? 0 : n;
}

/* May this slot have one more? CPUs that ask at the same time may exceed a bound by their number. */
static __noinline int shares_allow(const struct weir_slot *s)
{
	struct weir_share *all = share_get(WEIR_SHARE_ALL), *mine;
	struct weir_config *c = config_get();
	__u32 left, used;

	if (!s || !c || !all || count_of(all->flows) >= all->flows_max)
		return 0;
	left = all->flows_max - count_of(all->flows);
	mine = s->share ? share_get(s->share) : NULL;
	used = mine ? count_of(mine->flows) : 0;
	if (mine && (used >= mine->flows_max || used >= left / 2))
		return 0;
	used = count_of(s->flows);
	return used < c->flows_per_slot && used < left / 4;
}

static __noinline int shares_add(__u32 share, int n)
{
	struct weir_share *all = share_get(WEIR_SHARE_ALL), *mine = share ? share_get(share) : NULL;

	if (all)
		__sync_fetch_and_add(&all->flows, n);
	if (mine)
		__sync_fetch_and_add(&mine->flows, n);
	return 0;
}

static __noinline int flow_create(const struct where *w, const struct weir_flow_key *key,
	__u16 rule)
{
	struct weir_flow f = { .policy = w->policy, .rule = rule, .floor = floor_generation(),
		.share = w->s->share, .last_seen = w->now, .touched = w->now };

	if (shares_allow(w->s) && bpf_map_update_elem(&weir_flows, key, &f, BPF_NOEXIST) == 0) {
		__sync_fetch_and_add(&w->s->flows, 1);
		shares_add(f.share, 1);
		weir_begun = 1;
		return 0;
	}
	/* two CPUs, one flow: the other was first, and all is well */
	return bpf_map_lookup_elem(&weir_flows, key) ? 0 : -1;
}

static __noinline void flow_remove(const struct where *w, const struct weir_flow_key *key,
	__u32 share)
{
	if (bpf_map_delete_elem(&weir_flows, key) == 0) {
		__sync_fetch_and_add(&w->s->flows, -1);
		shares_add(share, -1);
	}
}

/* A packet of an allowed flow went by. */
static __noinline void flow_touch(const struct where *w, const struct packet *p,
	struct weir_flow *f, int inbound)
{
	if (!f)
		return;
	f->last_seen = w->now;
	if (p->proto == IPPROTO_TCP) {
		if (p->tcp_flags & TCP_FIN)
			f->flags |= inbound ? FIN_IN : FIN_OUT;
		if (p->tcp_flags & TCP_RST || f->flags == (FIN_IN | FIN_OUT))
			f->state = WEIR_FLOW_CLOSING;
	}
	if (inbound && f->state == WEIR_FLOW_NEW)
		f->state = WEIR_FLOW_OPEN;
	if (w->now - f->touched > SECOND) {
		struct weir_pin_key key = { .scope = weir_scope(w->policy, p->family == 6),
			.addr = p->remote };
		struct weir_pin *pin = bpf_map_lookup_elem(&weir_pins, &key);

		f->touched = w->now;
		if (pin)
			pin->last_used = w->now;
	}
}

/* Judge a flow's packet anew. 0: allowed, entry renewed. Else refused, entry gone. */
static __noinline int flow_renew(const struct where *w, const struct packet *p,
	const struct weir_flow_key *key, struct weir_flow *f, struct verdict *v)
{
	judge(w->policy, p, v);
	if (v->allow != WEIR_ALLOW) {
		flow_remove(w, key, f ? f->share : 0);
		return -1;
	}
	if (f) {
		f->policy = w->policy;
		f->floor = floor_generation();
		f->rule = v->rule;
	}
	return 0;
}

/* A packet from the sandbox that has passed everything stateless. 0: let it through. */
static __noinline int flow_out(const struct where *w, const struct packet *p, struct verdict *v)
{
	int syn = p->proto == IPPROTO_TCP &&
		(p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	struct weir_flow_key key = { 0 };
	struct weir_flow *f;

	if (p->frag == FRAG_LATER) { /* by address alone, or not at all */
		judge(w->policy, p, v);
		return v->allow == WEIR_ALLOW ? 0 : -1;
	}
	flow_key(w, p, &key);
	f = bpf_map_lookup_elem(&weir_flows, &key);
	if (!f) {
		if ((p->proto == IPPROTO_TCP && !syn) || p->icmp == ICMP_ANSWER) {
			refuse(v, WEIR_R_UNSOLICITED, 0);
			return -1;
		}
		judge(w->policy, p, v);
		if (v->allow != WEIR_ALLOW)
			return -1;
		if (flow_create(w, &key, v->rule) < 0) {
			refuse(v, WEIR_R_FLOW_LIMIT, 0);
			return -1;
		}
		return 0;
	}
	if (syn || !flow_is_current(f, w)) {
		if (flow_renew(w, p, &key, f, v) < 0) {
			if (!syn)
				v->reason = WEIR_R_CUT;
			return -1;
		}
		if (syn) {
			f->state = WEIR_FLOW_NEW;
			f->flags = 0;
		}
	}
	flow_touch(w, p, f, 0);
	return 0;
}

/* A packet towards the sandbox. 0: it answers a flow. */
static __noinline int flow_in(const struct where *w, const struct packet *p, struct verdict *v)
{
	struct weir_flow_key key = { 0 };
	struct weir_flow *f;

	if (p->frag == FRAG_LATER)
		flow_key_fragment(w, p, &key);
	else
		flow_key(w, p, &key);
	f = bpf_map_lookup_elem(&weir_flows, &key);
	if (!f) {
		refuse(v, WEIR_R_UNSOLICITED, 0);
		return -1;
	}
	if (p->frag == FRAG_LATER) /* lives for seconds; the first fragment was judged */
		return 0;
	if (!flow_is_current(f, w) && flow_renew(w, p, &key, f, v) < 0) {
		v->reason = WEIR_R_CUT;
		return -1;
	}
	flow_touch(w, p, f, 1);
	if (p->frag == FRAG_FIRST) {
		flow_key_fragment(w, p, &key);
		if (!bpf_map_lookup_elem(&weir_flows, &key))
			flow_create(w, &key, v->rule);
	}
	return 0;
}

/* The packet that an ICMP error quotes, read as one of the sandbox's. `outbound`: the error is,
 * so what it quotes came in. Only plain headers are quoted by honest stacks for our flows. */
static __noinline int quoted_read(struct __sk_buff *skb, const struct packet *p,
	struct packet *q, int outbound)
{
	__u32 at = p->l4 + 8;
	__u16 port[4];

	q->family = p->family;
	if (p->family == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) < 0 || ip.version != 4 ||
			ip.ihl != 5 || ip.frag_off & bpf_htons(0x1fff))
			return -1;
		q->proto = ip.protocol;
		addr_set_ip4(&q->local, outbound ? ip.daddr : ip.saddr);
		addr_set_ip4(&q->remote, outbound ? ip.saddr : ip.daddr);
		at += sizeof(ip);
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) < 0 || ip.version != 6)
			return -1;
		q->proto = ip.nexthdr;
		__builtin_memcpy(&q->local, outbound ? &ip.daddr : &ip.saddr, 16);
		__builtin_memcpy(&q->remote, outbound ? &ip.saddr : &ip.daddr, 16);
		at += sizeof(ip);
	}
	if (bpf_skb_load_bytes(skb, at, port, sizeof(port)) < 0)
		return -1;
	if (q->proto == IPPROTO_TCP || q->proto == IPPROTO_UDP)
		ports_set(q, port[0], port[1], !outbound);
	else if (q->proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		q->local_port = port[2]; /* echo id */
	return 0;
}

/* Does the ICMP error quote a packet of a current flow? Errors leave only for the flow's own
 * peer; they may come from any router. */
static __noinline int flow_quoted(struct __sk_buff *skb, const struct where *w,
	const struct packet *p, int outbound)
{
	struct weir_flow_key key = { 0 };
	struct packet q = { 0 };
	struct weir_flow *f;

	if (quoted_read(skb, p, &q, outbound) < 0 || !addr_eq(&q.local, &p->local) ||
		(outbound && !addr_eq(&q.remote, &p->remote)))
		return 0;
	flow_key(w, &q, &key);
	f = bpf_map_lookup_elem(&weir_flows, &key);
	return f && flow_is_current(f, w);
}

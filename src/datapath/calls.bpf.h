/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Who may call whom inside a private network that has rules.
 *
 * Rules speak of calls: the first packet of a conversation. What was allowed is remembered as a flow
 * of the caller, so the answers pass, and both directions pass on without the rules being asked again
 * while the version that allowed it is in force in a network that both still share. When that changes,
 * the flow is judged anew: the next packet of what is refused now is refused.
 *
 * A SYN and an echo request are always calls of their own, so a flow never lets the called one call
 * back. Another TCP segment without a flow passes if the rules let its receiver call this port: it can
 * begin nothing, and conversations that are older than the network's rules go on.
 *
 * An ICMP error passes with a flow of either side, a later fragment with the first one.
 */
#pragma once
#include "datapath/flows.bpf.h"

enum way {
	WAY_NONE,    /* no network in common */
	WAY_REFUSED, /* the rules of `net` refuse, or nothing was asked of them */
	WAY_OPEN,    /* one without rules */
	WAY_CURRENT, /* one whose rules in force are `version` */
	WAY_ALLOWED, /* one whose rules allow it: `rule` of `version` */
};

struct way_ask { /* and answer */
	__u32 from, to; /* slots */
	__u32 what;	/* call_what(); 0: rules are not asked */
	__u32 version;	/* 0, or that of a flow */
	__u32 net, rule;
	__u32 refused; /* version of `net` that refuses */
};

/* Protocol and port in one word that is never 0. */
static __always_inline __u32 call_what(__u8 proto, __u16 port)
{
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP)
		return (__u32)proto << 16 | bpf_ntohs(port);
	return proto == IPPROTO_ICMP ? IPPROTO_ICMP << 16 : 1u << 24;
}

/* The first rule that fits as index << 1 | verdict, or -1. Four looks: each end by itself or as any
 * member; the lowest index wins. */
__noinline int calls_rule(__u32 version, __u32 from, __u32 to, __u32 what)
{
	struct weir_call_key key = { .prefixlen = 120, .version = version, .proto = what >> 16,
		.port = { what >> 8, what } };
	int first = -1;

#pragma unroll
	for (__u32 i = 0; i < 4; i++) {
		struct weir_call *c;

		key.from = i & 1 ? 0 : from;
		key.to = i & 2 ? 0 : to;
		c = bpf_map_lookup_elem(&weir_calls, &key);
		if (c && (first < 0 || c->rule < first >> 1))
			first = c->rule << 1 | (c->verdict & 1);
	}
	return first;
}

static __always_inline int set_has(const struct weir_member *set, __u32 net)
{
#pragma unroll
	for (__u32 i = 0; i < WEIR_NETS_MAX; i++)
		if (set->net[i] == net)
			return 1;
	return 0;
}

/* enum way. A global function, which the verifier walks once, whatever leads to it. */
__noinline int way_find(struct way_ask *q)
{
	struct weir_member *mine, *theirs;
	int found = WAY_NONE;
	__u32 from, to;

	if (!q)
		return WAY_NONE;
	from = q->from;
	to = q->to;
	mine = bpf_map_lookup_elem(&weir_members, &from);
	theirs = bpf_map_lookup_elem(&weir_members, &to);
	if (!mine || !theirs)
		return WAY_NONE;
#pragma unroll
	for (__u32 i = 0; i < WEIR_NETS_MAX; i++) {
		__u32 net = mine->net[i], verdict, rule = WEIR_RULE_NONE;
		struct weir_net *n;

		if (!net)
			return found;
		n = set_has(theirs, net) ? bpf_map_lookup_elem(&weir_nets, &net) : NULL;
		if (!n)
			continue;
		if (!n->version && n->fallback == WEIR_ALLOW)
			return WAY_OPEN;
		if (n->version && n->version == q->version)
			return WAY_CURRENT;
		verdict = n->fallback;
		if (q->what) {
			int first = calls_rule(n->version, from, to, q->what);

			if (first >= 0) {
				verdict = first & 1;
				rule = first >> 1;
			}
		}
		if (q->what && verdict == WEIR_ALLOW) {
			q->net = net;
			q->rule = rule;
			q->version = n->version;
			return WAY_ALLOWED;
		}
		if (found == WAY_NONE) {
			q->net = net;
			q->rule = rule;
			q->refused = n->version;
			found = WAY_REFUSED;
		}
	}
	return found;
}

static __always_inline int way_is_current(struct way_ask *q, const struct weir_flow *f)
{
	q->version = f->policy;
	q->what = 0;
	return way_find(q) == WAY_CURRENT;
}

static __always_inline int way_allows(struct way_ask *q, __u8 proto, __u16 port)
{
	q->version = 0;
	q->what = call_what(proto, port);
	return way_find(q) == WAY_ALLOWED;
}

/* The flow of a call from the packet's sender: its own port here, the other's there. */
static __always_inline void call_key(const struct where *w, const struct packet *p, __u8 proto,
	__u16 here, __u16 there, struct weir_flow_key *key)
{
	key->slot = w->slot;
	key->family = WEIR_FLOW_CALL;
	key->proto = proto;
	key->epoch = w->s->epoch;
	key->remote = p->remote;
	key->local_port = here;
	key->remote_port = there;
}

/* The flow of a call from its receiver, which the packet answers. Echoes have one number for both. */
static __always_inline void call_key_back(__u32 to, const struct weir_slot *s, const struct packet *p,
	__u8 proto, __u16 here, __u16 there, struct weir_flow_key *key)
{
	key->slot = to;
	key->family = WEIR_FLOW_CALL;
	key->proto = proto;
	key->epoch = s->epoch;
	key->remote = p->local;
	key->local_port = proto == IPPROTO_ICMP ? here : there;
	key->remote_port = proto == IPPROTO_ICMP ? 0 : here;
}

/* Does a flow of either side stand for what the ICMP error quotes? */
static __noinline int call_quoted(struct __sk_buff *skb, const struct where *w,
	const struct packet *p, struct way_ask *q)
{
	struct weir_flow_key key = { 0 };
	struct weir_flow *f;
	struct weir_slot *s;
	struct packet about = { 0 };
	__u32 to = q->to;

	s = bpf_map_lookup_elem(&weir_slots, &to);
	if (!s || !w->s || quoted_read(skb, p, &about, 1) < 0)
		return 0;
	call_key(w, p, about.proto, about.local_port, about.remote_port, &key);
	f = bpf_map_lookup_elem(&weir_flows, &key);
	if (f && way_is_current(q, f))
		return 1;
	call_key_back(to, s, p, about.proto, about.local_port, about.remote_port, &key);
	f = bpf_map_lookup_elem(&weir_flows, &key);
	return f && way_is_current(q, f);
}

/* The flow stands under the version of the answer from now on, or begins with it. 0: it does not fit. */
static __noinline int call_keep(const struct where *w, const struct packet *p,
	const struct weir_flow_key *key, const struct way_ask *q)
{
	struct weir_flow *f = bpf_map_lookup_elem(&weir_flows, key);
	struct where under = *w;

	if (f) {
		f->policy = q->version;
		f->rule = q->rule;
		if (p->tcp_flags & TCP_SYN) { /* the ports are used again */
			f->state = WEIR_FLOW_NEW;
			f->flags = 0;
		}
		flow_touch(w, p, f, 0);
		return 1;
	}
	under.policy = q->version;
	return under.s && flow_create(&under, key, q->rule) == 0;
}

/* Later fragments have no ports: they go where the first one went. */
static __noinline int call_fragment(const struct where *w, const struct packet *p, struct way_ask *q)
{
	struct weir_flow_key key = { 0 };
	struct weir_flow *f;

	if (!w->s)
		return 0;
	flow_key_fragment(w, p, &key);
	key.family = WEIR_FLOW_CALL;
	if (p->frag == FRAG_FIRST)
		return call_keep(w, p, &key, q);
	f = bpf_map_lookup_elem(&weir_flows, &key);
	return f && way_is_current(q, f);
}

/* By a flow that is there. */
static __noinline int call_known(const struct where *w, const struct packet *p, struct way_ask *q,
	int begins)
{
	struct weir_flow_key key = { 0 };
	struct weir_flow *f;
	struct weir_slot *s;
	__u32 to = q->to;

	if (begins || !w->s)
		return 0;
	call_key(w, p, p->proto, p->local_port, p->remote_port, &key);
	f = p->icmp == ICMP_ANSWER ? NULL : bpf_map_lookup_elem(&weir_flows, &key);
	if (f && way_is_current(q, f)) {
		flow_touch(w, p, f, 0);
		return 1;
	}
	s = bpf_map_lookup_elem(&weir_slots, &to);
	if (!s)
		return 0;
	call_key_back(to, s, p, p->proto, p->local_port, p->remote_port, &key);
	f = bpf_map_lookup_elem(&weir_flows, &key);
	if (!f)
		return 0;
	if (!way_is_current(q, f)) { /* is the call that this answers still allowed? */
		struct way_ask back = { .from = to, .to = w->slot };

		if (!way_allows(&back, p->proto, key.remote_port))
			return 0;
		q->version = f->policy = back.version;
		f->rule = back.rule;
	}
	flow_touch(w, p, f, 1);
	return 1;
}

/* A packet between members of networks that all have rules; q says which ends. 0: refused, v says why. */
static __noinline int call_admit(struct __sk_buff *skb, const struct where *w,
	const struct packet *p, struct way_ask *q, struct verdict *v)
{
	int begins = p->icmp == ICMP_ASK || (p->proto == IPPROTO_TCP &&
		(p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN);
	struct weir_flow_key key = { 0 };

	if (!w->s)
		return 0;
	if (p->frag == FRAG_LATER) {
		refuse(v, WEIR_R_FRAGMENT, 0);
		return call_fragment(w, p, q);
	}
	if (p->icmp == ICMP_ERROR) {
		refuse(v, WEIR_R_UNSOLICITED, 0);
		return call_quoted(skb, w, p, q);
	}
	if (call_known(w, p, q, begins)) {
		if (p->frag == FRAG_FIRST)
			call_fragment(w, p, q);
		return 1;
	}
	refuse(v, WEIR_R_OVERLAY, WEIR_OVERLAY_RULES);
	if (p->icmp != ICMP_ANSWER && way_allows(q, p->proto, p->remote_port)) {
		call_key(w, p, p->proto, p->local_port, p->remote_port, &key);
		refuse(v, WEIR_R_FLOW_LIMIT, 0);
		return call_keep(w, p, &key, q) &&
			(p->frag != FRAG_FIRST || call_fragment(w, p, q));
	}
	v->net = q->net;
	v->version = q->refused;
	v->rule = q->rule;
	if (p->proto == IPPROTO_TCP && !(p->tcp_flags & TCP_SYN) && p->tcp_flags & TCP_ACK) {
		struct way_ask back = { .from = q->to, .to = w->slot };

		return way_allows(&back, p->proto, p->local_port);
	}
	return 0;
}

/* The same as far as it can be told without flows: as a call of its own. */
static __noinline int call_judge(const struct packet *p, struct way_ask *q, struct verdict *v)
{
	int allowed = way_allows(q, p->proto, p->remote_port);

	refuse(v, WEIR_R_OVERLAY, WEIR_OVERLAY_RULES);
	v->net = q->net;
	v->version = q->refused;
	v->rule = q->rule;
	return allowed;
}

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the program tells: exact counters per slot, and an event per denial as far as the slot's
 * rate allows. Denials that are not told are counted, so events + events_suppressed is exactly
 * the sum of denials. Refusals that the sandbox sees have a rate as well: a flood costs us one
 * packet each, not two.
 */
#pragma once
#include "datapath/judge.bpf.h"

#define EVENT_GAP   (1000000000ull / WEIR_EVENTS_PER_SEC)
#define REFUSAL_GAP (1000000000ull / WEIR_REFUSALS_PER_SEC)
#define BURST	    (1000000000ull)
#define CAS_TRIES   4 /* contenders are CPUs working for one sandbox; the loser's event is counted */

/* A bucket in one word: the time at which it would be full again. */
static __always_inline int token(__u64 *full_at, __u64 gap, __u64 now)
{
	for (int i = 0; i < CAS_TRIES; i++) {
		__u64 seen = *(volatile __u64 *)full_at;
		__u64 from = seen > now ? seen : now;

		if (from + gap > now + BURST)
			return 0;
		if (__sync_val_compare_and_swap(full_at, seen, from + gap) == seen)
			return 1;
	}
	return 0;
}

static __noinline void tell_denied(__u32 slot_id, struct weir_slot *slot, const struct packet *p,
	const struct verdict *v, int inbound)
{
	struct weir_counters *c = counters_get(slot_id);
	__u64 now = bpf_ktime_get_ns();
	struct weir_event *e = NULL;

	if (!c || !slot)
		return;
	if (v->reason < WEIR_R_MAX)
		c->denied[v->reason]++;
	if (token(&slot->next_event, EVENT_GAP, now))
		e = bpf_ringbuf_reserve(&weir_events, sizeof(*e), 0);
	if (!e) {
		c->events_suppressed++;
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->ktime = now;
	e->slot = slot_id;
	e->policy = v->net ? v->version : slot->policy;
	e->reason = v->reason;
	e->detail = v->detail;
	e->family = p->family;
	e->proto = p->proto;
	e->rule = v->rule;
	e->inbound = inbound;
	e->local_port = bpf_ntohs(p->local_port);
	e->remote_port = bpf_ntohs(p->remote_port);
	e->remote = p->remote;
	e->net = v->net;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline __u64 wire_packets(struct __sk_buff *skb)
{
	return skb->gso_segs ? skb->gso_segs : 1;
}

static __always_inline void count_out(struct __sk_buff *skb, __u32 slot_id)
{
	struct weir_counters *c = counters_get(slot_id);

	if (!c)
		return;
	c->out_packets += wire_packets(skb);
	c->out_bytes += skb->len - L3;
}

static __always_inline void count_in(struct __sk_buff *skb, __u32 slot_id)
{
	struct weir_counters *c = counters_get(slot_id);

	if (!c)
		return;
	c->in_packets += wire_packets(skb);
	c->in_bytes += skb->len - L3;
}

/* Before the packet is sent on: both ends at once, since the receiver's program does not see it. */
static __always_inline void count_overlay(struct __sk_buff *skb, __u32 from, __u32 to)
{
	struct weir_counters *out = counters_get(from), *in = counters_get(to);

	if (!out || !in)
		return;
	out->overlay_out_packets += wire_packets(skb);
	out->overlay_out_bytes += skb->len - L3;
	in->overlay_in_packets += wire_packets(skb);
	in->overlay_in_bytes += skb->len - L3;
}

static __always_inline void count_ingress_out(struct __sk_buff *skb, __u32 slot_id)
{
	struct weir_counters *c = counters_get(slot_id);

	if (!c)
		return;
	c->ingress_out_packets += wire_packets(skb);
	c->ingress_out_bytes += skb->len - L3;
}

static __always_inline void count_ingress_in(struct __sk_buff *skb, __u32 slot_id)
{
	struct weir_counters *c = counters_get(slot_id);

	if (!c)
		return;
	c->ingress_in_packets += wire_packets(skb);
	c->ingress_in_bytes += skb->len - L3;
}

static __always_inline void count_dns(struct __sk_buff *skb, __u32 slot_id)
{
	struct weir_counters *c = counters_get(slot_id);

	if (c)
		c->dns_packets += wire_packets(skb);
}

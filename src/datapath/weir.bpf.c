/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The datapath: two classifiers on the router's end of every sandbox link.
 *
 * from_sandbox (ingress), in this order; the first that applies ends it:
 *	a refusal of our own on its way to the remote		pass
 *	no slot for this link					drop
 *	chatter of an idle stack (discovery, reports)		drop, untold
 *	not the sandbox's own MAC, address, or ARP question	SPOOF
 *	an answer of the agent to the gateway			pass, uncounted
 *	no policy committed					QUARANTINE
 *	from its own overlay address to another sandbox's	sent on, or OVERLAY (overlay.bpf.h)
 *	an answer on a connection that the edge began		pass, counted as ingress
 *	port 53, to whatever address				steer to the DNS proxy
 *	anything else to the gateway				GATEWAY
 *	a known, current flow					pass
 *	floor, then the policy (judge.bpf.h)			pass and remember, or refuse
 *
 * to_sandbox (egress):
 *	a refusal of our own, an overlay packet for a tap	pass
 *	the gateway's conversation with the agent		pass, uncounted
 *	the edge's connections, if the slot takes any		pass, counted as ingress
 *	an answer of the DNS proxy				pass
 *	an answer to a known flow, or an ICMP error about it	pass
 *	the rest						UNSOLICITED
 *
 * "Steered" means marked, so that an ip rule routes it to the router itself, and given to a
 * socket of the edge role, so that the original destination stays in the packet. A TCP segment
 * other than the first finds its socket by itself. Without a socket the packet is dropped, never
 * forwarded.
 *
 * Loads on Linux 6.1 and later with clang 14, from UAPI headers alone.
 */
#include <stddef.h>
#include <linux/pkt_cls.h>
#include "datapath/maps.bpf.h"
#include "datapath/packet.bpf.h"
#include "datapath/judge.bpf.h"
#include "datapath/tell.bpf.h"
#include "datapath/forge.bpf.h"
#include "datapath/flows.bpf.h"
#include "datapath/overlay.bpf.h"

/* The kernel is told the half of our licence that it knows. */
char weir_license[] SEC("license") = "GPL";

#define PORT_DNS 53

/* What the stateless part of from_sandbox makes of a packet. */
enum course {
	COURSE_REFUSE,	/* the verdict says why */
	COURSE_SILENT,	/* drop, tell nobody */
	COURSE_ROUTER,	/* for the router itself */
	COURSE_OVERLAY,	/* to a sandbox of a private network, perhaps */
	COURSE_INGRESS,	/* to the edge, which asked */
	COURSE_DNS,
	COURSE_JUDGE,
};

struct arp_ip4 { /* <linux/if_arp.h> needs the C library's headers */
	__be16 hardware, protocol;
	__u8 hardware_len, protocol_len;
	__be16 op;
	__u8 sha[6];
	__u8 spa[4];
	__u8 tha[6];
	__u8 tpa[4];
} __attribute__((packed, aligned(4)));

static __always_inline int mac_eq(const __u8 *a, const __u8 *b)
{
	const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline int where_find(struct __sk_buff *skb, struct where *w)
{
	__u32 ifindex = skb->ifindex, *slot = bpf_map_lookup_elem(&weir_links, &ifindex);

	if (!slot)
		return -1;
	w->slot = *slot;
	w->s = bpf_map_lookup_elem(&weir_slots, &w->slot);
	if (!w->s || w->s->ifindex != ifindex)
		return -1;
	w->policy = *(volatile __u32 *)&w->s->policy;
	w->now = bpf_ktime_get_coarse_ns(); /* flows and rates live by seconds; a tick is exact enough */
	return 0;
}

/* The only ARP a sandbox may send: who has 169.254.77.1? */
static __noinline int arp_is_ours(struct __sk_buff *skb, const struct weir_slot *s)
{
	const __u8 sandbox[8] = WEIR_MAC_SANDBOX;
	struct arp_ip4 arp;
	__u32 spa, tpa;

	if (!s || bpf_skb_load_bytes(skb, L3, &arp, sizeof(arp)) < 0)
		return 0;
	__builtin_memcpy(&spa, arp.spa, 4);
	__builtin_memcpy(&tpa, arp.tpa, 4);
	return arp.hardware == bpf_htons(1) && arp.protocol == bpf_htons(ETH_P_IP) &&
		arp.hardware_len == 6 && arp.protocol_len == 4 && arp.op == bpf_htons(1) &&
		mac_eq(arp.sha, sandbox) && tpa == bpf_htonl(WEIR_LINK_GATEWAY) &&
		(spa == s->ip4 || spa == bpf_htonl(WEIR_LINK_SANDBOX));
}

static __always_inline int is_gateway(const struct packet *p)
{
	return p->family == 4 ? addr_ip4(&p->remote) == bpf_htonl(WEIR_LINK_GATEWAY) :
				addr_is_link6(&p->remote, 1);
}

static __always_inline int is_link_address(const struct packet *p)
{
	return p->family == 4 ? addr_ip4(&p->local) == bpf_htonl(WEIR_LINK_SANDBOX) :
				addr_is_link6(&p->local, 2);
}

/* Is the sandbox's side of the packet its own address? */
static __always_inline int is_own(const struct packet *p, const struct weir_slot *s)
{
	const __u32 *ip6 = (const __u32 *)&s->ip6;

	if (p->family == 4)
		return addr_ip4(&p->local) == s->ip4 && s->ip4;
	return (ip6[0] | ip6[1] | ip6[2] | ip6[3]) && addr_eq(&p->local, &s->ip6);
}

/* The link address is the same on every link, so it may only answer: from the agent's port, to
 * the gateway, and not with a SYN of its own. */
static __always_inline int is_agent_answer(const struct packet *p)
{
	return is_link_address(p) && is_gateway(p) && p->proto == IPPROTO_TCP && !p->frag &&
		p->local_port == bpf_htons(WEIR_AGENT_PORT) &&
		(p->tcp_flags & (TCP_ACK | TCP_RST)) != 0;
}

/* On a connection between the gateway and the sandbox's own address, if the slot takes any. The
 * agent listens on the link address; its port stays closed here whoever listens there. */
static __always_inline int is_ingress(const struct packet *p, const struct weir_slot *s)
{
	return s->ingress && p->family == 4 && p->proto == IPPROTO_TCP && !p->frag &&
		is_gateway(p) && is_own(p, s) && p->local_port != bpf_htons(WEIR_AGENT_PORT);
}

/* Who connects is the edge, never the sandbox: what has no ACK and no RST is no answer. */
static __always_inline int is_ingress_answer(const struct packet *p, const struct weir_slot *s)
{
	return is_ingress(p, s) && (p->tcp_flags & (TCP_ACK | TCP_RST)) != 0;
}

/* Multicast, loopback and "this host" have no DNS to steer. */
static __always_inline int is_unicast(const struct packet *p)
{
	const __u32 *x = (const __u32 *)&p->remote;
	__u8 first = p->remote.a[0];

	if (p->family == 4)
		return first != 0 && first != 127 && first < 224;
	return first != 0xff && (x[0] | x[1] | x[2] | (x[3] & ~bpf_htonl(1)));
}

/* All that can be said of a packet from the sandbox without looking at flows. */
static __noinline enum course classify(struct __sk_buff *skb, const struct where *w,
	struct packet *p, struct verdict *v)
{
	const __u8 sandbox[8] = WEIR_MAC_SANDBOX, gateway[8] = WEIR_MAC_GATEWAY;
	enum weir_reason reason;
	struct ethhdr eth;
	int overlay;

	refuse(v, WEIR_R_MALFORMED, 0);
	if (!w->s || load(skb, 0, &eth, sizeof(eth)) < 0)
		return COURSE_REFUSE;
	refuse(v, WEIR_R_SPOOF, 0);
	if (!mac_eq(eth.h_source, sandbox) || skb->vlan_present)
		return COURSE_REFUSE;
	if (eth.h_proto == bpf_htons(ETH_P_ARP))
		return arp_is_ours(skb, w->s) ? COURSE_ROUTER : COURSE_REFUSE;
	reason = packet_read(skb, p, 1);
	if (p->icmp == ICMP_CHATTER && p->remote.a[0] == 0xff)
		return COURSE_SILENT;
	if (reason == WEIR_R_NONE && is_agent_answer(p))
		return COURSE_ROUTER;
	/* Its overlay address speaks to the overlay only. */
	overlay = is_overlay(p) && is_own_overlay(p, w->slot);
	if (p->family && !overlay && !is_own(p, w->s))
		return COURSE_REFUSE;
	if (reason != WEIR_R_NONE) {
		refuse(v, reason, 0);
		return COURSE_REFUSE;
	}
	if (!mac_eq(eth.h_dest, gateway) && is_unicast(p))
		return COURSE_REFUSE; /* a unicast packet has one way to go */
	if (w->policy == 0) {
		refuse(v, WEIR_R_QUARANTINE, 0);
		return COURSE_REFUSE;
	}
	if (overlay)
		return COURSE_OVERLAY;
	if (is_ingress_answer(p, w->s))
		return COURSE_INGRESS;
	if (has_ports(p) && p->remote_port == bpf_htons(PORT_DNS) && is_unicast(p)) {
		if (!p->frag)
			return COURSE_DNS;
		refuse(v, WEIR_R_FRAGMENT, 0);
		return COURSE_REFUSE;
	}
	if (is_gateway(p)) {
		refuse(v, WEIR_R_GATEWAY, 0);
		return COURSE_REFUSE;
	}
	return COURSE_JUDGE;
}

/* map: a constant where this is inlined, as the verifier wants it. */
static __always_inline int steer_into(struct __sk_buff *skb, void *map, __u32 socket)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(map, &socket);
	long r;

	if (!sk)
		return -1;
	r = bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	return r;
}

static __noinline int steer_tcp(struct __sk_buff *skb, __u32 socket)
{
	return steer_into(skb, &weir_dns_tcp, socket);
}

static __noinline int steer_udp(struct __sk_buff *skb, __u32 socket)
{
	return steer_into(skb, &weir_dns_udp, socket);
}

/* Hand a query to a worker of the edge role: one and the same for a sandbox, because what a worker
 * learned of names it keeps to itself. 0: done. */
static __noinline int steer(struct __sk_buff *skb, const struct packet *p, __u32 slot)
{
	struct weir_config *c = config_get();
	__u32 socket;

	if (!c || c->dns_workers == 0)
		return -1;
	socket = slot % c->dns_workers * 2 + (p->family == 6);
	skb->mark = WEIR_MARK_DNS;
	if (p->proto == IPPROTO_UDP)
		return steer_udp(skb, socket);
	if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return 0;
	return steer_tcp(skb, socket);
}

/* May this refusal be told to the sandbox? */
static __always_inline int is_answered(const struct where *w, const struct packet *p,
	const struct verdict *v)
{
	__u32 id = w->policy;
	struct weir_policy *policy;

	switch (v->reason) {
	case WEIR_R_RULE:
	case WEIR_R_DEFAULT:
	case WEIR_R_FLOOR:
	case WEIR_R_GATEWAY:
	case WEIR_R_SMTP:
	case WEIR_R_PROTOCOL:
	case WEIR_R_UNSOLICITED:
	case WEIR_R_FLOW_LIMIT:
	case WEIR_R_CUT:
	case WEIR_R_OVERLAY:
		break;
	default:
		return 0;
	}
	if (!is_unicast(p))
		return 0;
	policy = bpf_map_lookup_elem(&weir_policies, &id);
	return policy && policy->reject;
}

static __noinline int refuse_out(struct __sk_buff *skb, const struct where *w,
	const struct packet *p, const struct verdict *v)
{
	tell_denied(w->slot, w->s, p, v, 0);
	if (v->reason == WEIR_R_CUT && p->proto == IPPROTO_TCP)
		return reset_both(skb, p, 0);
	if (w->s && is_answered(w, p, v) && token(&w->s->next_refusal, REFUSAL_GAP, w->now))
		return answer_refusal(skb, p);
	return TC_ACT_SHOT;
}

SEC("tc")
int weir_from_sandbox(struct __sk_buff *skb)
{
	struct verdict v = { 0 };
	struct packet p = { 0 };
	struct where w = { 0 };
	__u32 peer;

	if (skb->mark == WEIR_MARK_REFUSAL) {
		skb->mark = 0;
		return TC_ACT_OK;
	}
	if (where_find(skb, &w) < 0)
		return TC_ACT_SHOT;
	switch (classify(skb, &w, &p, &v)) {
	case COURSE_SILENT:
		return TC_ACT_SHOT;
	case COURSE_ROUTER:
		return TC_ACT_OK;
	case COURSE_OVERLAY:
		peer = overlay_judge(skb, &w, &p, &v, 1);
		if (peer)
			return overlay_send(skb, w.slot, peer);
		break;
	case COURSE_INGRESS:
		count_ingress_out(skb, w.slot);
		return TC_ACT_OK;
	case COURSE_DNS:
		if (steer(skb, &p, w.slot) < 0) {
			refuse(&v, WEIR_R_GATEWAY, 0);
			tell_denied(w.slot, w.s, &p, &v, 0);
			return TC_ACT_SHOT;
		}
		count_dns(skb, w.slot);
		return TC_ACT_OK;
	case COURSE_JUDGE:
		if (p.icmp == ICMP_ERROR ? flow_quoted(skb, &w, &p, 1) :
					   flow_out(&w, &p, &v) == 0) {
			count_out(skb, w.slot);
			return TC_ACT_OK;
		}
		if (p.icmp == ICMP_ERROR)
			refuse(&v, WEIR_R_UNSOLICITED, 0);
		break;
	case COURSE_REFUSE:
		break;
	}
	return refuse_out(skb, &w, &p, &v);
}

/* Made by the router itself, not forwarded. */
static __always_inline int is_local(struct __sk_buff *skb)
{
	return skb->ingress_ifindex == 0;
}

static __always_inline int is_dns_answer(const struct packet *p)
{
	return has_ports(p) && p->remote_port == bpf_htons(PORT_DNS);
}

/* Later fragments of a DNS answer follow its first. */
static __noinline int is_dns_fragment(const struct where *w, const struct packet *p)
{
	struct weir_flow_key key = { 0 };

	if (!p->frag)
		return 0;
	flow_key_fragment(w, p, &key);
	if (p->frag == FRAG_LATER)
		return bpf_map_lookup_elem(&weir_flows, &key) != NULL;
	return flow_create(w, &key, WEIR_RULE_NONE) == 0;
}

SEC("tc")
int weir_to_sandbox(struct __sk_buff *skb)
{
	struct verdict v = { 0 };
	struct packet p = { 0 };
	struct where w = { 0 };

	if (skb->mark == WEIR_MARK_REFUSAL || skb->mark == WEIR_MARK_OVERLAY)
		return TC_ACT_OK;
	if (where_find(skb, &w) < 0)
		return TC_ACT_SHOT;
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return is_local(skb) ? TC_ACT_OK : TC_ACT_SHOT;
	if (skb->mark == WEIR_MARK_ANSWER && is_local(skb)) { /* needs no reading */
		count_dns(skb, w.slot);
		return TC_ACT_OK;
	}
	refuse(&v, packet_read(skb, &p, 0), 0);
	if (p.icmp == ICMP_CHATTER)
		return TC_ACT_SHOT; /* the router's own chatter: neighbours are permanent */
	if (v.reason != WEIR_R_NONE)
		goto refused;
	if (is_local(skb) && is_gateway(&p) && is_link_address(&p) && !is_dns_answer(&p) &&
		p.icmp != ICMP_ERROR)
		return TC_ACT_OK;
	if (is_local(skb) && w.policy && is_ingress(&p, w.s)) {
		count_ingress_in(skb, w.slot);
		return TC_ACT_OK;
	}
	if (is_local(skb) && (is_dns_answer(&p) ? !p.frag || is_dns_fragment(&w, &p) :
						  p.frag == FRAG_LATER && is_dns_fragment(&w, &p))) {
		count_dns(skb, w.slot);
		return TC_ACT_OK;
	}
	refuse(&v, w.policy ? WEIR_R_UNSOLICITED : WEIR_R_QUARANTINE, 0);
	if (w.policy == 0 || !is_own(&p, w.s))
		goto refused;
	if (p.icmp == ICMP_ERROR ? flow_quoted(skb, &w, &p, 0) : flow_in(&w, &p, &v) == 0) {
		count_in(skb, w.slot);
		return TC_ACT_OK;
	}
refused:
	tell_denied(w.slot, w.s, &p, &v, 1);
	if (v.reason == WEIR_R_CUT && p.proto == IPPROTO_TCP)
		return reset_both(skb, &p, 1);
	return TC_ACT_SHOT;
}

/* The verdict alone, for BPF_PROG_TEST_RUN: no link, no flows, no socket. The slot's policy
 * comes in as its number in skb->mark. */
SEC("tc")
int weir_verdict_test(struct __sk_buff *skb)
{
	struct where w = { .slot = skb->mark };
	struct verdict v = { 0 };
	struct packet p = { 0 };

	w.s = bpf_map_lookup_elem(&weir_slots, &w.slot);
	if (!w.s)
		return -1;
	w.policy = w.s->policy;
	switch (classify(skb, &w, &p, &v)) {
	case COURSE_JUDGE:
		judge(w.policy, &p, &v);
		break;
	case COURSE_OVERLAY:
		overlay_judge(skb, &w, &p, &v, 0);
		break;
	case COURSE_DNS:
	case COURSE_INGRESS:
	case COURSE_ROUTER:
		refuse(&v, WEIR_R_NONE, 0);
		v.allow = WEIR_ALLOW;
		break;
	case COURSE_SILENT:
		refuse(&v, WEIR_R_NONE, 0);
		break;
	case COURSE_REFUSE:
		break;
	}
	return WEIR_TEST_RESULT(v.allow, v.reason, v.detail, v.rule & 0xffff);
}

static __u64 flow_patience(const struct weir_flow_key *key, const struct weir_flow *f)
{
	if (f->state == WEIR_FLOW_CLOSING || key->proto == IPPROTO_FRAGMENT)
		return WEIR_FLOW_LASTS_NS;
	if (f->state == WEIR_FLOW_NEW)
		return key->proto == IPPROTO_TCP ? 120 * SECOND : 60 * SECOND;
	return key->proto == IPPROTO_TCP ? 8100 * SECOND : 180 * SECOND;
}

#define EPOCHS_BACK 1024

/* Of a sandbox that is gone, and the host tracks nothing for it? Epochs wrap: the last few are meant,
 * never the one in use. */
static __always_inline int flow_is_gone(const struct weir_flow_key *key, const struct weir_slot *s)
{
	return s && !(s->ifindex && s->epoch == key->epoch) && (__u16)(s->gone - key->epoch) < EPOCHS_BACK;
}

static long collect_one(void *map, struct weir_flow_key *key, struct weir_flow *f,
	struct weir_collect *c)
{
	__u32 slot = key->slot;
	struct weir_slot *s = bpf_map_lookup_elem(&weir_slots, &slot);
	__u32 share = f->share;
	__u64 end = f->last_seen + flow_patience(key, f);

	if (c->now <= end && !flow_is_gone(key, s)) {
		c->live++;
		if (end < c->due)
			c->due = end;
		return 0;
	}
	if (bpf_map_delete_elem(&weir_flows, key) == 0) {
		c->removed++;
		shares_add(share, -1);
		if (s && s->epoch == key->epoch && s->ifindex)
			__sync_fetch_and_add(&s->flows, -1);
	}
	return 0;
}

/* The collector: removes what is idle or gone. A SYSCALL program, so it holds up no packet; but it
 * looks at a million buckets, some tens of milliseconds, in which nothing else runs on its CPU where
 * the kernel does not preempt itself. So datapath_collect() runs it when there may be something. */
SEC("syscall")
int weir_collect(struct weir_collect *ctx)
{
	struct weir_collect c = { .now = ctx->now, .due = ~0ull };

	bpf_for_each_map_elem(&weir_flows, collect_one, &c, 0);
	*ctx = c;
	return 0;
}

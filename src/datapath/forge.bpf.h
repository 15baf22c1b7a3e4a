/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Refusals that say so: the refused packet is rewritten in place into a TCP reset or an ICMP
 * unreachable message.
 *
 * Checksums. A packet from a local stack often carries only the sum of its pseudo-header, the
 * rest left to the device (CHECKSUM_PARTIAL), and stays so when its tail is changed. The program
 * cannot see the flag, but the check field gives it away. Then:
 *   TCP    the check field stays at its place: store the new pseudo-header sum in it.
 *   ICMP   a device would finish the sum at the place of UDP's check field, which is the unused
 *          half-word of an unreachable message, so that all from the ICMP header on sums to
 *          what it began with. IPv4: beginning with 0 makes a valid ICMP checksum out of
 *          anything. IPv6: beginning with the pseudo-header sum does.
 * Otherwise the full checksum is computed here.
 *
 * IPv6 packets with extension headers, and fragments, are refused silently.
 */
#pragma once
#include "datapath/packet.bpf.h"

enum towards { TO_SANDBOX, TO_REMOTE };

struct pseudo { /* IPv4 and IPv6 sum alike: addresses, length, protocol */
	struct weir_addr source, dest;
	__be32 len, proto;
};

static __always_inline __u16 csum_fold(__s64 sum)
{
	__u32 s = (__u32)sum;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return s;
}

/* Sum of the pseudo-header; addresses of IPv4 are zero behind their four bytes. Its order does
 * not matter to the sum, so neither does the direction. */
static __noinline __u32 pseudo_sum(const struct packet *p, __u32 len, __u8 proto)
{
	struct pseudo ph = { p->local, p->remote, bpf_htonl(len), bpf_htonl(proto) };

	return bpf_csum_diff(NULL, 0, (__be32 *)&ph, sizeof(ph), 0);
}

/* Is the check field at this offset just the pseudo-header sum? */
static __always_inline int is_partial(struct __sk_buff *skb, const struct packet *p, __u32 check_at)
{
	__u16 check;

	if (bpf_skb_load_bytes(skb, check_at, &check, sizeof(check)) < 0)
		return 0;
	return check == csum_fold(pseudo_sum(p, p->end - p->l4, p->proto));
}

static __always_inline int can_answer(const struct packet *p)
{
	return !p->frag && p->l4 == L3 + (p->family == 4 ? sizeof(struct iphdr) :
								 sizeof(struct ipv6hdr));
}

/* Ethernet and IP headers for a message of `len` bytes behind them. */
static __noinline int forge_headers(struct __sk_buff *skb, const struct packet *p,
	enum towards towards, __u32 len, __u8 proto)
{
	struct ethhdr eth = { WEIR_MAC_SANDBOX, WEIR_MAC_GATEWAY, skb->protocol };
	const __u8 gateway[] = WEIR_MAC_GATEWAY, sandbox[] = WEIR_MAC_SANDBOX;

	if (towards == TO_REMOTE) {
		__builtin_memcpy(eth.h_dest, gateway, 6);
		__builtin_memcpy(eth.h_source, sandbox, 6);
	}
	if (bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0) < 0)
		return -1;
	if (p->family == 4) {
		struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = proto,
			.frag_off = bpf_htons(0x4000) };

		ip.tot_len = bpf_htons(sizeof(ip) + len);
		ip.saddr = addr_ip4(towards == TO_SANDBOX ? &p->remote : &p->local);
		ip.daddr = addr_ip4(towards == TO_SANDBOX ? &p->local : &p->remote);
		ip.check = ~csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
		return bpf_skb_store_bytes(skb, L3, &ip, sizeof(ip), 0);
	}
	struct ipv6hdr ip = { .version = 6, .hop_limit = 64, .nexthdr = proto,
		.payload_len = bpf_htons(len) };

	__builtin_memcpy(&ip.saddr, towards == TO_SANDBOX ? &p->remote : &p->local, 16);
	__builtin_memcpy(&ip.daddr, towards == TO_SANDBOX ? &p->local : &p->remote, 16);
	return bpf_skb_store_bytes(skb, L3, &ip, sizeof(ip), 0);
}

/* What a reset needs of the segment it answers, read before the packet is rewritten. */
struct segment {
	__u32 seq, ack; /* network order */
	__u32 len;	/* in sequence space */
	__u8 flags;
	__u8 partial;
	__u8 zero[2];
};

static __noinline int segment_read(struct __sk_buff *skb, const struct packet *p,
	struct segment *s)
{
	struct tcphdr tcp;

	if (p->proto != IPPROTO_TCP || !can_answer(p) ||
		bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof(tcp)) < 0)
		return -1;
	s->seq = tcp.seq;
	s->ack = tcp.ack_seq;
	s->flags = p->tcp_flags;
	s->len = p->end - p->l4 - 4u * tcp.doff + !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
	s->partial = is_partial(skb, p, p->l4 + offsetof(struct tcphdr, check));
	return 0;
}

/* Turn the packet into a reset that its receiver accepts. `back`: to who sent the segment, as
 * an answer to it; else on to its destination, in its place. */
static __noinline int forge_reset(struct __sk_buff *skb, const struct packet *p,
	const struct segment *s, enum towards towards, int back)
{
	struct tcphdr tcp = { .doff = 5, .rst = 1 };
	__u32 sum = pseudo_sum(p, sizeof(tcp), IPPROTO_TCP);

	tcp.source = towards == TO_SANDBOX ? p->remote_port : p->local_port;
	tcp.dest = towards == TO_SANDBOX ? p->local_port : p->remote_port;
	if (!back) {
		tcp.seq = s->seq;
		tcp.ack_seq = s->ack;
		tcp.ack = !!(s->flags & TCP_ACK);
	} else if (s->flags & TCP_ACK) {
		tcp.seq = s->ack;
	} else {
		tcp.ack = 1;
		tcp.ack_seq = bpf_htonl(bpf_ntohl(s->seq) + s->len);
	}
	if (s->partial)
		tcp.check = csum_fold(sum);
	else
		tcp.check = ~csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&tcp, sizeof(tcp), sum));
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(tcp), 0) < 0 ||
		forge_headers(skb, p, towards, sizeof(tcp), IPPROTO_TCP) < 0)
		return -1;
	return bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), 0);
}

struct unreachable4 {
	struct icmp_head icmp;
	__u8 quoted[sizeof(struct iphdr) + 8];
};
struct unreachable6 {
	struct icmp_head icmp;
	__u8 quoted[sizeof(struct ipv6hdr) + 8];
};

static __noinline int forge_unreachable4(struct __sk_buff *skb, const struct packet *p)
{
	struct unreachable4 m = { .icmp.type = 3 };

	/* "port unreachable" is what a connected UDP socket reports as ECONNREFUSED; else
	 * "administratively prohibited" */
	m.icmp.code = p->proto == IPPROTO_UDP ? 3 : 13;
	if (bpf_skb_load_bytes(skb, L3, m.quoted, sizeof(m.quoted)) < 0)
		return -1;
	m.icmp.checksum = ~csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&m, sizeof(m), 0));
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(m), 0) < 0 ||
		forge_headers(skb, p, TO_SANDBOX, sizeof(m), IPPROTO_ICMP) < 0)
		return -1;
	return bpf_skb_store_bytes(skb, p->l4, &m, sizeof(m), 0);
}

static __noinline int forge_unreachable6(struct __sk_buff *skb, const struct packet *p)
{
	struct unreachable6 m = { .icmp.type = 1 };
	__u32 sum = pseudo_sum(p, sizeof(m), IPPROTO_ICMPV6);

	m.icmp.code = p->proto == IPPROTO_UDP ? 4 : 1; /* port; administratively prohibited */
	if (p->proto == IPPROTO_UDP &&
		is_partial(skb, p, p->l4 + offsetof(struct udphdr, check)))
		m.icmp.more = csum_fold(sum);
	if (bpf_skb_load_bytes(skb, L3, m.quoted, sizeof(m.quoted)) < 0)
		return -1;
	m.icmp.checksum = ~csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&m, sizeof(m), sum));
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(m), 0) < 0 ||
		forge_headers(skb, p, TO_SANDBOX, sizeof(m), IPPROTO_ICMPV6) < 0)
		return -1;
	return bpf_skb_store_bytes(skb, p->l4, &m, sizeof(m), 0);
}

/* Answer a refused packet of the sandbox. Returns a TC action: the packet is dropped, or has
 * become the answer and goes back out of the link. */
static __noinline int answer_refusal(struct __sk_buff *skb, const struct packet *p)
{
	int r = -1;

	if (!can_answer(p) || p->icmp == ICMP_ERROR || p->icmp == ICMP_ANSWER ||
		p->tcp_flags & TCP_RST)
		return TC_ACT_SHOT;
	if (p->proto == IPPROTO_TCP) {
		struct segment s = { 0 };

		if (segment_read(skb, p, &s) == 0)
			r = forge_reset(skb, p, &s, TO_SANDBOX, 1);
	} else if (p->family == 4) {
		r = forge_unreachable4(skb, p);
	} else {
		r = forge_unreachable6(skb, p);
	}
	if (r < 0)
		return TC_ACT_SHOT;
	skb->mark = WEIR_MARK_REFUSAL;
	return bpf_redirect(skb->ifindex, 0);
}

/* End a TCP flow on both sides, from a packet of it. Returns a TC action for the packet, which
 * has become the reset in its own direction; the other went out as a clone. */
static __noinline int reset_both(struct __sk_buff *skb, const struct packet *p, int inbound)
{
	enum towards ahead = inbound ? TO_SANDBOX : TO_REMOTE;
	enum towards behind = inbound ? TO_REMOTE : TO_SANDBOX;
	struct segment s = { 0 };

	if (p->tcp_flags & TCP_RST || segment_read(skb, p, &s) < 0)
		return TC_ACT_SHOT;
	if (forge_reset(skb, p, &s, behind, 1) < 0)
		return TC_ACT_SHOT;
	skb->mark = WEIR_MARK_REFUSAL;
	bpf_clone_redirect(skb, skb->ifindex, inbound ? BPF_F_INGRESS : 0);
	skb->mark = 0;
	return forge_reset(skb, p, &s, ahead, 0) < 0 ? TC_ACT_SHOT : TC_ACT_OK;
}

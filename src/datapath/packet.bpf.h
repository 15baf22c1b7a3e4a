/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * One packet, read once into a struct that the rest of the program judges.
 *
 * Addresses and ports are named from the sandbox's side (local, remote), so one judgement
 * serves both directions. What cannot be read for certain is refused, not guessed: IPv4
 * options (source routes among them), IPv6 routing headers, more than EXT_MAX extension
 * headers, first fragments too short for their ports, a header beyond the declared length.
 */
#pragma once
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include "datapath/maps.bpf.h"

#define L3	14u /* offset of the IP header; links are Ethernet */
#define EXT_MAX 6

enum fragment { FRAG_NONE, FRAG_FIRST, FRAG_LATER };

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct icmp_head { /* both families; <linux/icmp.h> needs the C library's headers */
	__u8 type, code;
	__u16 checksum;
	__u16 id, more; /* echo: id and sequence; errors: unused, or an MTU */
};

/* ICMP types, by what they are to us. */
enum icmp_class { ICMP_NONE, ICMP_ASK, ICMP_ANSWER, ICMP_ERROR, ICMP_CHATTER, ICMP_OTHER };

struct packet {
	__u8 family; /* 4 or 6 */
	__u8 proto;
	__u8 frag;
	__u8 tcp_flags;
	__u8 icmp; /* enum icmp_class */
	__u8 icmp_type;
	__u16 l4;  /* offset of the transport header */
	__u32 end; /* offset of the datagram's end, as its header declares */
	__u32 frag_id;
	__u16 local_port, remote_port; /* network order; ICMP echo: id and 0 */
	struct weir_addr local, remote;
};

static __always_inline int addr_eq(const struct weir_addr *a, const struct weir_addr *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static __always_inline __u32 addr_ip4(const struct weir_addr *a) /* network order */
{
	return *(const __u32 *)a;
}

static __always_inline void addr_set_ip4(struct weir_addr *a, __u32 ip4)
{
	__u32 *x = (__u32 *)a;

	x[0] = ip4;
	x[1] = x[2] = x[3] = 0;
}

/* fe80::77:1 (the gateway) and fe80::77:2 (the sandbox) */
static __always_inline int addr_is_link6(const struct weir_addr *a, __u32 last)
{
	const __u32 *x = (const __u32 *)a;

	return x[0] == bpf_htonl(0xfe800000) && x[1] == 0 && x[2] == bpf_htonl(0) &&
		x[3] == bpf_htonl(0x00770000 | last);
}

static __always_inline enum icmp_class icmp4_class(__u8 type)
{
	switch (type) {
	case 8:
		return ICMP_ASK;
	case 0:
		return ICMP_ANSWER;
	case 3: /* unreachable, time exceeded, parameter problem */
	case 11:
	case 12:
		return ICMP_ERROR;
	default:
		return ICMP_OTHER;
	}
}

static __always_inline enum icmp_class icmp6_class(__u8 type)
{
	switch (type) {
	case 128:
		return ICMP_ASK;
	case 129:
		return ICMP_ANSWER;
	case 1: /* unreachable, too big, time exceeded, parameter problem */
	case 2:
	case 3:
	case 4:
		return ICMP_ERROR;
	case 131: /* what any idle stack sends: listener reports, router and neighbour solicitation */
	case 132:
	case 133:
	case 135:
	case 143:
		return ICMP_CHATTER;
	default:
		return ICMP_OTHER;
	}
}

static __always_inline void ports_set(struct packet *p, __u16 source, __u16 dest, int outbound)
{
	p->local_port = outbound ? source : dest;
	p->remote_port = outbound ? dest : source;
}

/* n bytes, n a constant. Headers nearly always lie in the packet's linear part, where reading them
 * costs a comparison; the helper finds them anywhere. */
static __always_inline long load(struct __sk_buff *skb, __u32 at, void *to, __u32 n)
{
	void *from = (void *)(long)skb->data + at, *end = (void *)(long)skb->data_end;

	if (from + n > end)
		return bpf_skb_load_bytes(skb, at, to, n);
	__builtin_memcpy(to, from, n);
	return 0;
}

/* The transport header of an unfragmented packet or a first fragment. */
static __always_inline enum weir_reason read_l4(struct __sk_buff *skb, struct packet *p,
	int outbound)
{
	if (p->proto == IPPROTO_TCP) {
		struct tcphdr tcp;

		if (p->l4 + sizeof(tcp) > p->end ||
			load(skb, p->l4, &tcp, sizeof(tcp)) < 0 || tcp.doff < 5)
			return WEIR_R_MALFORMED;
		ports_set(p, tcp.source, tcp.dest, outbound);
		p->tcp_flags = ((__u8 *)&tcp)[13];
	} else if (p->proto == IPPROTO_UDP) {
		struct udphdr udp;

		if (p->l4 + sizeof(udp) > p->end ||
			load(skb, p->l4, &udp, sizeof(udp)) < 0)
			return WEIR_R_MALFORMED;
		ports_set(p, udp.source, udp.dest, outbound);
	} else if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6) {
		struct icmp_head icmp;

		if (p->l4 + sizeof(icmp) > p->end ||
			load(skb, p->l4, &icmp, sizeof(icmp)) < 0)
			return WEIR_R_MALFORMED;
		if ((p->proto == IPPROTO_ICMP) != (p->family == 4))
			return WEIR_R_PROTOCOL;
		p->icmp_type = icmp.type;
		p->icmp = p->family == 4 ? icmp4_class(icmp.type) : icmp6_class(icmp.type);
		if (p->icmp == ICMP_ASK || p->icmp == ICMP_ANSWER)
			p->local_port = icmp.id;
	}
	return WEIR_R_NONE;
}

static __always_inline enum weir_reason read_ip4(struct __sk_buff *skb, struct packet *p,
	int outbound)
{
	struct iphdr ip;
	__u16 off;

	if (load(skb, L3, &ip, sizeof(ip)) < 0 || ip.version != 4 || ip.ihl < 5)
		return WEIR_R_MALFORMED;
	p->family = 4;
	p->proto = ip.protocol;
	addr_set_ip4(&p->local, outbound ? ip.saddr : ip.daddr);
	addr_set_ip4(&p->remote, outbound ? ip.daddr : ip.saddr);
	if (ip.ihl > 5)
		return WEIR_R_PROTOCOL;
	p->l4 = L3 + sizeof(ip);
	p->end = L3 + bpf_ntohs(ip.tot_len);
	if (p->end < p->l4 || p->end > skb->len)
		return WEIR_R_MALFORMED;
	off = bpf_ntohs(ip.frag_off);
	if (off & 0x3fff) { /* more fragments, or an offset */
		p->frag = off & 0x1fff ? FRAG_LATER : FRAG_FIRST;
		p->frag_id = ip.id;
		if ((off & 0x1fff) == 1) /* would overwrite a transport header */
			return WEIR_R_FRAGMENT;
	}
	return p->frag == FRAG_LATER ? WEIR_R_NONE : read_l4(skb, p, outbound);
}

static __always_inline enum weir_reason read_ip6(struct __sk_buff *skb, struct packet *p,
	int outbound)
{
	struct ipv6hdr ip;
	__u32 at = L3 + sizeof(ip);
	__u8 next;

	if (load(skb, L3, &ip, sizeof(ip)) < 0 || ip.version != 6)
		return WEIR_R_MALFORMED;
	p->family = 6;
	__builtin_memcpy(&p->local, outbound ? &ip.saddr : &ip.daddr, 16);
	__builtin_memcpy(&p->remote, outbound ? &ip.daddr : &ip.saddr, 16);
	p->end = at + bpf_ntohs(ip.payload_len);
	if (p->end > skb->len)
		return WEIR_R_MALFORMED;
	next = ip.nexthdr;
	for (int i = 0; i < EXT_MAX; i++) {
		__u8 ext[8];

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
			break;
		if (at + sizeof(ext) > p->end || load(skb, at, ext, sizeof(ext)) < 0)
			return WEIR_R_MALFORMED;
		if (next != IPPROTO_FRAGMENT) {
			next = ext[0];
			at += 8 * (ext[1] + 1u);
			continue;
		}
		if (p->frag)
			return WEIR_R_MALFORMED;
		next = ext[0];
		at += sizeof(ext);
		if (!(ext[2] | (ext[3] & 0xf9))) /* an atomic fragment: whole */
			continue;
		p->frag = ext[2] | (ext[3] & 0xf8) ? FRAG_LATER : FRAG_FIRST;
		p->frag_id = (__u32)ext[4] << 24 | (__u32)ext[5] << 16 | (__u32)ext[6] << 8 | ext[7];
		if (p->frag == FRAG_LATER)
			break;
	}
	p->proto = next;
	if (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT ||
		next == IPPROTO_ROUTING || next == IPPROTO_AH) {
		if (p->frag != FRAG_LATER)
			return WEIR_R_PROTOCOL;
	}
	if (at > p->end)
		return WEIR_R_MALFORMED;
	p->l4 = at;
	return p->frag == FRAG_LATER ? WEIR_R_NONE : read_l4(skb, p, outbound);
}

/* Read an IP packet. p is zeroed by the caller. */
static __noinline enum weir_reason packet_read(struct __sk_buff *skb, struct packet *p,
	int outbound)
{
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return read_ip4(skb, p, outbound);
	case bpf_htons(ETH_P_IPV6):
		return read_ip6(skb, p, outbound);
	default:
		return WEIR_R_PROTOCOL;
	}
}

/*
 * What the kernel program and the roles agree on: map keys and values, verdicts,
 * reasons, events and marks. Included by the BPF program (with __u8 and friends
 * from <linux/types.h>) and by user space. Every struct is free of implicit
 * padding, so keys can be compared as bytes.
 *
 * Model. A sandbox is known in the kernel by its *slot*, a number from 1 to
 * SLOTS_MAX that also fixes its addresses (range + slot) and user ids. The slot's
 * `struct weir_slot` names the *policy id* in force. A policy id is new for every
 * version and never reused; every key of a policy carries it, so a new version is
 * written beside the old, `policy` of the slot is flipped in one store, and the
 * old keys are deleted afterwards. Policy id 0 is quarantine: management traffic
 * passes, nothing else.
 *
 * Judgement of (slot, remote address, protocol, port), after the floor:
 *   exact pin of (policy, address), else longest prefix of (policy, address),
 *   else the policy's default. A pin or prefix has either one verdict for every
 *   port or a port table: longest-prefix match over (policy, table, proto, port),
 *   so a range of ports costs at most 30 keys and a lookup is flat. Where one rule with one
 *   range is all there is to say, as in most policies, the decision itself holds the range.
 *
 * Private networks, apart from all this: each sandbox has one overlay address, `overlay4` + slot. A
 * packet between two of them passes if their slots' sets of network numbers (weir_members) meet, and
 * goes from link to link without the router in between. Numbers are never reused. A network without
 * rules (weir_nets: version 0, allow) asks no more; in others the first rule of weir_calls that fits
 * decides, else the network's default, and a flow lets the answers back. One network that lets a
 * packet through is enough.
 *
 * Ingress, apart from it as well: where the slot says so, the edge's connections to the sandbox's
 * address pass, and what the sandbox answers on them. The router's own sockets are the only record:
 * a segment that is no SYN begins nothing there.
 *
 * Who writes: the host role writes all maps; the edge role writes `weir_pins`, `weir_ports` and
 * `weir_names` (through inherited descriptors); the program writes flows, counters
 * and pins' last_used. `weir_slots` is mapped into the host role's memory, so that
 * flipping a policy is one store that touches nothing the program keeps beside it.
 */
#pragma once
#include <linux/types.h>

#ifndef WEIR_LATER
#define WEIR_LATER 0 /* 1: the build to come, as far as a test needs one (tests/later) */
#endif
/*
 * Raise when a layout below changes, or what it means: older pins are not obeyed. The second is that of
 * what belongs to the lives of sandboxes and nobody could make anew: weir_slots, weir_links,
 * weir_flows, weir_shares, weir_names and both counters. While it stays the same, a build with
 * another first takes these maps over: policies are written anew, and connections go on.
 */
#define WEIR_MAPS_VERSION  (4 + WEIR_LATER)
#define WEIR_LIVES_VERSION 1

#define WEIR_AGENT_PORT	  1028 /* TCP on 169.254.77.2 */
#define WEIR_LINK_SANDBOX 0xa9fe4d02u /* 169.254.77.2 */
#define WEIR_LINK_GATEWAY 0xa9fe4d01u /* 169.254.77.1 */
/* fe80::77:1 is the gateway on every link, fe80::77:2 the sandbox. */
#define WEIR_MARK_DNS	  0x57450053u /* steered to the DNS proxy: ip rule fwmark -> local table */
#define WEIR_TABLE_DNS	  5300	      /* that routing table */
#define WEIR_MARK_ANSWER  0x574500a5u /* what leaves the DNS proxy's sockets of UDP; only root marks */
#define WEIR_MARK_REFUSAL 0x574500ffu /* a refusal the program forged itself: it passes its own hooks.
				       * Marks do not survive the way out of a sandbox */
#define WEIR_MARK_OVERLAY 0x574500feu /* judged on its sender's link already, on its way into a tap */
#define WEIR_MAC_GATEWAY  { 0x02, 0x57, 0x45, 0x49, 0x52, 0x01 }
#define WEIR_MAC_SANDBOX  { 0x02, 0x57, 0x45, 0x49, 0x52, 0x02 }

enum weir_verdict { WEIR_DENY = 0, WEIR_ALLOW = 1 };

/* Why a packet was refused, or let through. Named in policy/reason.c for people. */
enum weir_reason {
	WEIR_R_NONE = 0,
	WEIR_R_RULE,	     /* a rule of the policy decided: `rule` says which */
	WEIR_R_DEFAULT,	     /* no rule matched: the policy's default */
	WEIR_R_QUARANTINE,   /* no policy committed yet */
	WEIR_R_SPOOF,	     /* not its own source: MAC, IPv4, IPv6, ARP */
	WEIR_R_FLOOR,	     /* `detail` holds enum weir_floor */
	WEIR_R_GATEWAY,	     /* the gateway answers only DNS and the agent's replies */
	WEIR_R_FRAGMENT,     /* ports hidden by fragmentation */
	WEIR_R_PROTOCOL,     /* a protocol that cannot be judged */
	WEIR_R_SMTP,	     /* TCP 25 without a rule that names it */
	WEIR_R_MALFORMED,    /* headers do not parse */
	WEIR_R_UNSOLICITED,  /* towards the sandbox, no flow of its own */
	WEIR_R_FLOW_LIMIT,   /* the flow entries of the sandbox, or its user, are used up */
	WEIR_R_CUT,	     /* established, and the new policy refuses it */
	WEIR_R_NAME,	     /* DNS: no rule allows the name (edge role) */
	WEIR_R_REBIND,	     /* DNS: a forbidden address was removed from an answer (edge role) */
	WEIR_R_DNS_LIMIT,    /* DNS: query rate limit (edge role) */
	WEIR_R_DNS_INVALID,  /* DNS: not a query that can be judged (edge role) */
	WEIR_R_OVERLAY,	     /* `detail` holds enum weir_overlay */
	WEIR_R_MAX
};

enum weir_floor {
	WEIR_FLOOR_NONE = 0,
	WEIR_FLOOR_SANDBOX,   /* another sandbox's address */
	WEIR_FLOOR_HOST,      /* an address of the host or of the router namespace */
	WEIR_FLOOR_OVERLAY,   /* private networks, except through membership */
	WEIR_FLOOR_LINKLOCAL, /* 169.254.0.0/16, fe80::/10: metadata among them */
	WEIR_FLOOR_LOOPBACK,
	WEIR_FLOOR_MULTICAST, /* multicast and broadcast */
	WEIR_FLOOR_ZERO,      /* 0.0.0.0/8, ::/128 */
	WEIR_FLOOR_OPERATOR,  /* floor.deny */
	WEIR_FLOOR_EMBEDDED,  /* IPv6 that carries an IPv4 address: NAT64, 6to4, Teredo, ::/96 */
	WEIR_FLOOR_MAX
};

enum weir_overlay {
	WEIR_OVERLAY_STRANGERS = 0, /* no shared private network */
	WEIR_OVERLAY_RULES,	    /* the rules of the one they share (`net`) refuse */
};

#define WEIR_RULE_NONE 0xffffu /* no rule: a default decided */

/* An address of either family as part of a key. */
struct weir_addr {
	__u8 a[16]; /* IPv4 in the first four */
};

/* A verdict as it stands in pins, prefixes, ports and policies. */
struct weir_decision {
	__u8 verdict; /* enum weir_verdict. With ports: is EVERY port allowed? (ICMP echo, hidden
		       * ports) */
	__u8 ports;   /* 0, or WEIR_PORTS_… */
	__u16 rule;   /* index of the rule in the policy, or WEIR_RULE_NONE. With a table: the rule
		       * that forbids some port; with a range: the rule it is of */
	union {
		__u32 table; /* port table; the edge role's have the top bit set */
		struct {
			__u16 lo, hi;
		} range;
	};
};

/* weir_decision.ports: the port decides. */
#define WEIR_PORTS_TABLE 1 /* look in weir_ports under `table` */
#define WEIR_PORTS_RANGE 2 /* the rule's if in `range` and of one of these protocols, else default */
#define WEIR_PORTS_TCP	 4
#define WEIR_PORTS_UDP	 8
#define WEIR_PORTS_ALLOW 16 /* what the rule says of the range */
#define WEIR_PORTS_ELSE	 32 /* what the default says of the rest */

/* weir_version: array[1]. Who made the maps. The same in all builds: it is read before any other. */
struct weir_version {
	__u32 maps;  /* WEIR_MAPS_VERSION */
	__u32 lives; /* WEIR_LIVES_VERSION */
};

/* weir_config: array[1]. */
struct weir_config {
	__u32 dns_workers; /* sockets in use in weir_dns_*; 0: port 53 is dropped */
	__u32 floor;	   /* generation of weir_floor: flows judged under another are judged again */
	__u32 flows_per_slot;
	__u32 overlay4, overlay4_mask; /* host order; mask 0: there is none */
};

/* weir_slots: array[slot], mapped. */
struct weir_slot {
	__u32 policy;	    /* id in force; 0 quarantines. Read once per packet; flipped in one store */
	__u32 ifindex;	    /* of the link in the router namespace; 0: no link */
	__u32 ip4;	    /* network order: own source address */
	__u32 flows;	    /* live flow entries, kept by the program */
	struct weir_addr ip6; /* zero: no IPv6 on this link */
	__u64 next_event;   /* rate bound of denial events: when the bucket will be full again */
	__u64 next_refusal; /* the same of refusals that the sandbox is told of */
	__u16 epoch;	    /* which life of this slot: part of flow keys */
	__u16 gone;	    /* the last life that is over and whose connections the host has forgotten */
	__u32 share;	    /* weir_shares: all sandboxes of a user carry the same; 0: none */
	__u32 ingress;	    /* 1: the edge may connect to its address */
	__u32 tap;	    /* 1: the link is a tap, which has no peer to put a packet into */
};

/* weir_members: hash[slot]. Which private networks it is in; no entry: none. Replaced whole, so the
 * program sees the old set or the new one. */
#define WEIR_NETS_MAX 8u /* of one sandbox */
struct weir_member {
	__u32 n;
	__u32 net[WEIR_NETS_MAX]; /* ascending; zero behind the last */
};

/* weir_nets: hash[network number]. A network that is not here lets nobody through. A version is a
 * policy id that is no policy's: keys of the next are written beside these, then this entry flips. */
struct weir_net {
	__u32 version;	/* of its rules in weir_calls; 0: it has none */
	__u32 fallback; /* enum weir_verdict: when no rule fits */
};

/* weir_calls: LPM trie. Who may call whom. prefixlen counts bits from `version` on: 104 for every
 * port, to 120 for one. */
struct weir_call_key {
	__u32 prefixlen;
	__u32 version;
	__u32 from, to; /* slots; 0: any member */
	__u8 proto;	/* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP; 0: any other */
	__u8 port[2];	/* network order */
	__u8 zero;
};
struct weir_call {
	__u16 rule; /* the lowest of all that fit decides */
	__u8 verdict;
	__u8 zero;
};

/* weir_policies: hash[policy id]. */
struct weir_policy {
	struct weir_decision fallback; /* when neither pin nor prefix matches */
	__u8 other_protocols;	       /* enum weir_verdict for protocols other than TCP, UDP, ICMP */
	__u8 smtp;		       /* allow TCP 25 by default rules too */
	__u8 reject;		       /* 1: answer refusals with RST / ICMP, 0: drop silently */
	__u8 restrictive;	       /* 0 only when default allow: then fragments may pass by address */
	__u32 pad;
};

/* weir_links: hash[ifindex] -> slot. The link names the sandbox, never an address. */

/* weir_prefixes: LPM trie. prefixlen counts bits from `scope` on: 32 + address length. */
struct weir_prefix_key {
	__u32 prefixlen;
	__u32 scope; /* weir_scope() */
	struct weir_addr addr;
};

/* weir_pins: hash. */
struct weir_pin_key {
	__u32 scope;
	struct weir_addr addr;
};
struct weir_pin {
	struct weir_decision decision;
	__u64 last_used; /* bpf_ktime_get_ns(), touched at most once a second while in use */
};

/* weir_names: hash. Which names led to an address, for the edge role that comes next: with them a
 * later policy can be asked about pins that it did not make. The program does not look here. */
struct weir_name_key {
	__u8 box[32]; /* the sandbox's id, padded with zeros */
	struct weir_addr addr;
	__u32 family;
	__u32 pad;
	__u64 hash; /* of the name */
};
struct weir_name {
	__u64 expires; /* bpf_ktime_get_ns() */
	struct weir_addr from; /* who said so; from_family 0: our own resolver */
	__u32 from_family;
	__u32 n;
	char s[256];
};

/* weir_ports: LPM trie. prefixlen counts bits from `policy` on: 64 + 16 + 0..16. */
struct weir_port_key {
	__u32 prefixlen;
	__u32 policy;
	__u32 table;
	__u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 zero;
	__u8 port[2]; /* network order */
};
struct weir_port {
	__u8 verdict;
	__u8 named; /* 1: the rule has a port condition; opens TCP 25 */
	__u16 rule;
};

/* weir_floor: LPM trie over { prefixlen; family 4|6; addr }, value enum weir_floor (NONE opens). */
struct weir_floor_key {
	__u32 prefixlen;
	__u32 family;
	struct weir_addr addr;
};

/* weir_flows: hash. The sandbox's view; its own address is implied by the slot. */
struct weir_flow_key {
	__u32 slot;
	__u8 family; /* 4 or 6; WEIR_FLOW_CALL: within a private network, `remote` an overlay address */
	__u8 proto; /* IPPROTO_FRAGMENT: later fragments of an answer whose first one passed */
	__u16 epoch; /* of the slot: flows of its former sandbox are not found */
	struct weir_addr remote;
	__u16 local_port; /* network order; ICMP: echo id; fragments: their identification */
	__u16 remote_port; /* network order; ICMP: 0 */
};
#define WEIR_FLOW_CALL 104
struct weir_flow {
	__u32 policy;	 /* the policy id, or version of a network's rules, that allowed it last */
	__u16 rule;
	__u8 state;	 /* enum weir_flow_state */
	__u8 flags;	 /* the FINs seen: 1 from the sandbox, 2 towards it */
	__u32 floor;	 /* weir_config.floor under which it was allowed */
	__u32 share;	 /* that it is counted against, also when the slot is another's by now */
	__u64 last_seen; /* bpf_ktime_get_ns() */
	__u64 touched;	 /* when its pin was last refreshed */
};
/* weir_shares: hash[share]. What the sandboxes of one user have together; entry 0 is everybody's. */
struct weir_share {
	__u32 flows; /* entries of weir_flows, kept by the program */
	__u32 flows_max;
};
#define WEIR_SHARE_ALL 0u

enum weir_flow_state { WEIR_FLOW_NEW = 0, WEIR_FLOW_OPEN, WEIR_FLOW_CLOSING };

/* weir_counters: per-CPU array[slot]. */
struct weir_counters {
	__u64 out_packets, out_bytes; /* allowed, from the sandbox; DNS and management excluded.
				       * Bytes from the IP header on; packets as on the wire */
	__u64 in_packets, in_bytes;   /* allowed, to the sandbox */
	__u64 dns_packets;
	__u64 overlay_out_packets, overlay_out_bytes; /* to and from members of its private networks: */
	__u64 overlay_in_packets, overlay_in_bytes;   /* in none of the counters above */
	__u64 ingress_out_packets, ingress_out_bytes; /* with the edge, on connections that it began: */
	__u64 ingress_in_packets, ingress_in_bytes;   /* the same */
	__u64 denied[WEIR_R_MAX];     /* exact, by reason */
	__u64 events_suppressed;      /* denials that the rate bound kept out of the ring */
};

/* weir_dns_counters: array[slot], mapped by the edge role, which alone writes it: what it refused,
 * WEIR_R_NAME first. The program's own denied[] of these reasons stays zero. */
#define WEIR_R_EDGE_FIRST WEIR_R_NAME
#define WEIR_R_EDGE_N	  (WEIR_R_DNS_INVALID - WEIR_R_NAME + 1)
struct weir_dns_counters {
	__u64 queries;
	__u64 denied[WEIR_R_EDGE_N]; /* exact */
};

/* weir_events: ring buffer of these. */
struct weir_event {
	__u64 ktime; /* bpf_ktime_get_ns() */
	__u32 slot;
	__u32 policy; /* with `net`: the version of its rules */
	__u8 reason; /* enum weir_reason */
	__u8 detail; /* enum weir_floor for WEIR_R_FLOOR, weir_overlay for WEIR_R_OVERLAY */
	__u8 family; /* 4, 6, or 0 */
	__u8 proto;
	__u16 rule;
	__u8 inbound; /* 1: towards the sandbox */
	__u8 zero;
	__u16 local_port, remote_port; /* host order */
	__u32 net; /* WEIR_OVERLAY_RULES: the network's number */
	struct weir_addr remote;
};

static inline __u32 weir_scope(__u32 policy, int is6)
{
	return policy << 1 | (is6 ? 1u : 0u); /* ids stay below 2^31 */
}

/* Of a decision with WEIR_PORTS_RANGE: is this one of its ports? `port` in host order. */
static inline int weir_range_has(const struct weir_decision *d, __u8 proto, __u16 port)
{
	return (d->ports & (proto == 6 ? WEIR_PORTS_TCP : WEIR_PORTS_UDP)) && port >= d->range.lo &&
		port <= d->range.hi;
}

/* weir_dns_tcp, weir_dns_udp: sockmaps. Worker w has its IPv4 socket at 2w, IPv6 at 2w + 1. */
#define WEIR_DNS_WORKERS_MAX 64u

/* weir_collect: a SYSCALL program with this context, which walks all flows. */
struct weir_collect {
	__u64 now; /* clock_mono_ns() */
	/* Filled by the program: */
	__u64 due;	     /* no live entry runs out before, if no packet comes */
	__u32 live, removed; /* entries */
};
/* An entry that a packet begins or touches runs out so much later, at the soonest. */
#define WEIR_FLOW_LASTS_NS 30000000000ull

/* weir_verdict_test: a classifier for BPF_PROG_TEST_RUN. skb->mark carries the slot; what it
 * returns is this, packed. */
#define WEIR_TEST_RESULT(verdict, reason, detail, rule) \
	((__u32)(verdict) << 28 | (__u32)(reason) << 20 | (__u32)(detail) << 16 | (__u32)(rule))

#define WEIR_SLOTS_MAX	  65000u    /* addresses of a /16 less the ends; also bounds uid ranges */
#define WEIR_PREFIXES_MAX 1048576u
#define WEIR_PINS_MAX	  1048576u
#define WEIR_PORTS_MAX	  1048576u
#define WEIR_NAMES_MAX	  262144u
#define WEIR_FLOWS_MAX	  1048576u
#define WEIR_NETWORKS_MAX 262144u
#define WEIR_CALLS_MAX	  1048576u
#define WEIR_EVENTS_PER_SEC 20u	    /* per slot, burst of the same size */
#define WEIR_REFUSALS_PER_SEC 1000u /* per slot; more are dropped in silence: each costs a packet */
#define WEIR_EVENT_RING	  (1u << 20)

/*
 * The network of one slot: the link between a sandbox and the router, in one of two kinds.
 *
 * VETH, for containers: an anonymous namespace and a pair of devices.
 *
 *	slot namespace                         router namespace
 *	eth0  169.254.77.2/32, own/32          w<N>  no address at all
 *	      overlay/32
 *	      fe80::77:2, own6/128
 *	default via 169.254.77.1 src own       own/32 via 169.254.77.2 onlink dev w<N>
 *	        via fe80::77:1                 own6/128 via fe80::77:2 onlink dev w<N>
 *	overlays via 169.254.77.1 src overlay
 *	                                       lo    169.254.77.1/32, once
 *
 * The gateway is the same on every link, and the kernel keeps routes to one destination in one
 * list: with an address on each link, a lookup of 169.254.77.2 walked a thousand entries at a
 * thousand sandboxes, for each packet. So no link has an address. The gateway's IPv4 address is on
 * lo; its IPv6 address is on nothing, as only DNS is sent there, and that is steered. Whoever
 * speaks to 169.254.77.2 binds to the link, and for want of a route the kernel takes it at its
 * word.
 *
 * The overlay address, for private networks, stands from the beginning, whether the sandbox joins one
 * or not: joining is then a matter of the kernel's tables alone, and nothing inside changes. Only what
 * goes to other overlay addresses carries it, so everything else keeps the address it has.
 *
 * MACs are constants and neighbours permanent, so the machine's neighbour table plays no part. The
 * link is made inside the two namespaces directly: no daemon of the host ever sees it. It comes up
 * with nothing attached; the caller attaches the tc programs before anything else may live here.
 *
 * The agent's listening socket is made here too, bound to eth0: a connection from inside the
 * sandbox arrives by loopback and finds nobody.
 *
 * TAP, for machines: w<N> is a tap, and whoever holds its descriptor is the other end. What stands
 * on eth0 above the machine does by itself, from what it is told at its start; the router's side,
 * and what the programs on the link let pass, is the same. The device stays
 * while nobody holds it: that of a paused machine keeps its programs, its policy and its place.
 */
#pragma once
#include "host/link.h"

enum slotnet_kind { SLOTNET_VETH, SLOTNET_TAP };

struct slotnet_plan {
	enum slotnet_kind kind;
	const char *link;   /* name in the router namespace, never used before */
	struct ip ip4, ip6; /* ip6.family 0: no IPv6 at all on this link */
	struct ip overlay;
	struct prefix overlays; /* of all sandboxes */
	uint32_t mtu;
};
struct slotnet {
	int ns, agent_fd; /* VETH */
	int tap;	  /* TAP; what a kind has not is negative */
	uint32_t ifindex; /* in the router namespace */
};
#define SLOTNET_NONE ((struct slotnet){ .ns = -EBADF, .agent_fd = -EBADF, .tap = -EBADF })
/* Our descriptors of it: the link stays if a sandbox has its own. */
void slotnet_done(struct slotnet *n);

/* Once in the router namespace, before the first slot. Stands already: 0. */
int slotnet_gateway(struct rtnl *router, struct err *err);

/* TAP, whose holder has ended: the other end again. */
int slotnet_tap(int router_ns, const char *link, struct err *err);

/* router: a socket in the router namespace router_ns. On failure nothing is left. */
int slotnet_make(struct rtnl *router, int router_ns, const struct slotnet_plan *plan,
	struct slotnet *ret, struct err *err);

/*
 * The network of one slot: an anonymous namespace and the link between it and the router.
 *
 *	slot namespace                         router namespace
 *	eth0  169.254.77.2/32, own/32          w<N>  169.254.77.1/30
 *	      fe80::77:2, own6/128                   fe80::77:1
 *	default via 169.254.77.1 src own       own/32 via 169.254.77.2 dev w<N>
 *
 * MACs are constants and neighbours permanent, so the machine's neighbour table plays no part. The
 * link is made inside the two namespaces directly: no daemon of the host ever sees it. It comes up
 * with nothing attached; the caller attaches the tc programs before anything else may live here.
 *
 * The agent's listening socket is made here too, bound to eth0: a connection from inside the
 * sandbox arrives by loopback and finds nobody.
 */
#pragma once
#include "host/link.h"

struct slotnet_plan {
	const char *link;   /* name in the router namespace, never used before */
	struct ip ip4, ip6; /* ip6.family 0: no IPv6 at all on this link */
	uint32_t mtu;
};
struct slotnet {
	int ns, agent_fd;
	uint32_t ifindex; /* in the router namespace */
};

/* router: a socket in the router namespace router_ns. On failure nothing is left. */
int slotnet_make(struct rtnl *router, int router_ns, const struct slotnet_plan *plan,
	struct slotnet *ret, struct err *err);

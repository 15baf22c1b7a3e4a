/*
 * The one way between the host's namespace and the router's: a veth pair, `<name>0` outside and
 * `uplink` inside, with the last /30 of net.range4 and, where the host has IPv6, the last /126 of
 * net.range6. The host routes both ranges to it; the router's default routes point out of it.
 *
 * `outside` is the set of the host's interfaces that lead on: those of its default routes, or,
 * without any, those that carry a global address. Forwarding is turned on for the uplink and for
 * them, and what was changed is noted in <run>/sysctl (host/sysctl.h). IPv6 counts as present when
 * an outside interface carries an address of global scope or an IPv6 default route; it is looked
 * at once, at start.
 */
#pragma once
#include "host/link.h"

#define UPLINK_OUTSIDE_MAX 8

struct uplink {
	char name[IF_NAMESIZE];
	bool ipv6;
	uint32_t mtu; /* the least of outside: links get the same, so no path is narrower inside */
	struct ip host4, router4, host6, router6; /* ends of the uplink */
	struct ip probe4, probe4_peer; /* the /30 below: a moment's use at start (probe.h) */
	uint32_t slots;		       /* addresses that net.range4 leaves for slots: 1..slots */
	uint32_t ifindex;	       /* in the host's namespace */
	unsigned int n_outside;
	char outside[UPLINK_OUTSIDE_MAX][IF_NAMESIZE];
};

/* The arithmetic: names and addresses from the configuration. */
int uplink_plan(const char *name, struct prefix range4, struct prefix range6, struct uplink *ret,
	struct err *err);
/* What the host's namespace offers: outside, mtu, ipv6 (only if wanted). host: a socket there. */
int uplink_look(struct uplink *u, struct rtnl *host, bool want_ipv6, struct err *err);
/* Make it, or leave it as it is if it stands (after a restart). memo: the file for sysctls. */
int uplink_make(struct uplink *u, struct rtnl *host, struct rtnl *router, int router_ns,
	struct prefix range4, struct prefix range6, const char *memo, struct err *err);

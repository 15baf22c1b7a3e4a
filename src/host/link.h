/*
 * Links, addresses, routes, neighbours and rules: one function per object, each a request that the
 * kernel has acknowledged when it returns. All act in the namespace of the given socket.
 */
#pragma once
#include <net/if.h>
#include "host/rtnl.h"

struct link_end {
	const char *name;
	const uint8_t *mac; /* 6 bytes; NULL: the kernel's choice */
};
/* A veth pair: `here` in the socket's namespace, `there` in namespace `there_ns`, both down. */
int link_veth(struct rtnl *n, struct link_end here, struct link_end there, int there_ns,
	uint32_t mtu, struct err *err);
int link_index(struct rtnl *n, const char *name); /* -ENODEV if there is none */
/* A tap in the calling thread's namespace, with offload headers; its descriptor. It stays
 * without one. */
int link_tap(struct link_end here, struct err *err);
/* A descriptor of one that nobody has any more; waits while a killed process lets go of it, 3 s at
 * most, then -EBUSY. */
int link_tap_again(const char *name, struct err *err);
int link_mtu(struct rtnl *n, uint32_t ifindex, uint32_t mtu, struct err *err);
int link_up(struct rtnl *n, uint32_t ifindex, struct err *err);
int link_del(struct rtnl *n, const char *name, struct err *err); /* -ENODEV: none */

/* Deleting one link waits 15 to 30 ms for RCU, deleting a group waits once. */
int link_set_group(struct rtnl *n, uint32_t ifindex, uint32_t group, struct err *err);
int link_del_group(struct rtnl *n, uint32_t group, struct err *err);

struct link_info {
	uint32_t ifindex, mtu;
	char name[IF_NAMESIZE];
};
typedef int (*link_fn)(const struct link_info *l, void *arg);
int link_each(struct rtnl *n, link_fn fn, void *arg);

/* Address of this length, usable at once (no duplicate detection), without the kernel's own route
 * to the prefix when `no_route`. Present already: 0. */
int link_addr(struct rtnl *n, uint32_t ifindex, struct ip ip, uint8_t len, bool no_route,
	struct err *err);
/* All addresses of the namespace. */
struct link_addr_info {
	uint32_t ifindex;
	struct ip ip;
	uint8_t len, scope; /* RT_SCOPE_* */
};
typedef int (*link_addr_fn)(const struct link_addr_info *a, void *arg);
int link_addr_each(struct rtnl *n, link_addr_fn fn, void *arg);

struct link_route {
	struct prefix to;
	uint32_t ifindex;
	struct ip via, src; /* family 0: none. via is reachable on the link, whatever its address */
	uint32_t table;	    /* 0: main */
	bool local;	    /* type local: delivered here */
};
int link_route(struct rtnl *n, const struct link_route *route, struct err *err); /* replaces */
int link_neigh(struct rtnl *n, uint32_t ifindex, struct ip ip, const uint8_t mac[6],
	struct err *err); /* permanent: exempt from the table's size limit */
/* What carries the mark (0: everything) looks into the table. Present already: 0. */
int link_rule(struct rtnl *n, uint8_t family, uint32_t mark, uint32_t table, uint32_t priority,
	struct err *err);
/* The rule of that priority that looks into the table for everything. Absent already: 0. */
int link_rule_del(struct rtnl *n, uint8_t family, uint32_t table, uint32_t priority,
	struct err *err);
/* Interfaces of default routes of a family in the main table; at most max, returns how many. */
int link_defaults(struct rtnl *n, uint8_t family, uint32_t *ret, unsigned int max);

/*
 * The host's own addresses, as a sorted list that is kept current: they belong to the floor, which
 * no user rule opens. A netlink socket tells of changes; the list is then read anew and the
 * differences told one by one.
 */
#pragma once
#include "host/link.h"

#define ADDRS_MAX 512 /* half of what the floor holds; a start refuses more */

struct addrs {
	unsigned int n;
	struct ip ip[ADDRS_MAX];
};
/* Addresses of the socket's namespace except those on loopback, which the floor holds anyway. */
int addrs_read(struct rtnl *n, struct addrs *ret);
/* Call fn for each address in one list and not in the other. */
typedef int (*addrs_fn)(struct ip ip, bool added, void *arg);
int addrs_diff(const struct addrs *old, const struct addrs *now, addrs_fn fn, void *arg);

/* A socket that becomes readable when addresses of the calling thread's namespace change. */
int addrs_watch(void);
/* Empty it; true if anything was there (or lost). */
bool addrs_changed(int watch);

/*
 * A route-netlink socket, and the two things done with it: a request that is
 * acknowledged, and a dump. The socket belongs to the namespace it was opened in, so one opened
 * inside the router namespace works there from anywhere.
 *
 * Messages are built with libmnl in the struct's own buffer: rtnl_new() starts one, rtnl_do() sends
 * it and waits for the acknowledgement, which the kernel gives at once. The kernel's own sentence
 * (extended acknowledgement) is put into err when there is one.
 */
#pragma once
#include <libmnl/libmnl.h>
#include "base/err.h"
#include "base/ip.h"

#define RTNL_BUF 8192 /* the largest request here is under 400 bytes */

struct rtnl {
	struct mnl_socket *nl;
	uint32_t seq;
	char buf[RTNL_BUF];
};

int rtnl_open(struct rtnl *n); /* in the calling thread's namespace */
int rtnl_open_bus(struct rtnl *n, int bus); /* another than NETLINK_ROUTE (track.c) */
void rtnl_done(struct rtnl *n);
#define RTNL_NONE ((struct rtnl){ .nl = NULL })
#define auto_rtnl _cleanup_(rtnl_done)

/* Begin a request with `extra` zeroed bytes of family header; flags beside NLM_F_REQUEST. */
struct nlmsghdr *rtnl_new(
	struct rtnl *n, uint16_t type, uint16_t flags, size_t extra, void *ret_header);
int rtnl_do(struct rtnl *n, struct nlmsghdr *h, struct err *err);
/* Dump: each answer goes to fn, which returns 0 to go on or a negative errno. */
typedef int (*rtnl_fn)(const struct nlmsghdr *h, void *arg);
int rtnl_dump(struct rtnl *n, struct nlmsghdr *h, rtnl_fn fn, void *arg);
/* One object asked for: its single answer goes to fn. */
int rtnl_get(struct rtnl *n, struct nlmsghdr *h, rtnl_fn fn, void *arg);

/* Is it one of these, with its family header whole? */
static inline bool rtnl_is(const struct nlmsghdr *h, uint16_t type, size_t header)
{
	return h->nlmsg_type == type && mnl_nlmsg_get_payload_len(h) >= header;
}

void rtnl_put_ip(struct nlmsghdr *h, uint16_t attr, struct ip ip);

/* The host's own addresses: see the header. */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "host/addrs.h"

static int note(const struct link_addr_info *a, void *arg)
{
	struct addrs *to = arg;
	unsigned int at;

	if (a->scope == RT_SCOPE_HOST)
		return 0;
	for (at = to->n; at && ip_cmp(to->ip[at - 1], a->ip) > 0; at--)
		;
	if (at && ip_eq(to->ip[at - 1], a->ip))
		return 0;
	if (to->n == ADDRS_MAX)
		return -E2BIG;
	memmove(to->ip + at + 1, to->ip + at, (to->n - at) * sizeof(to->ip[0]));
	to->ip[at] = a->ip;
	to->n++;
	return 0;
}

int addrs_read(struct rtnl *n, struct addrs *ret)
{
	ret->n = 0;
	return link_addr_each(n, note, ret);
}

int addrs_diff(const struct addrs *old, const struct addrs *now, addrs_fn fn, void *arg)
{
	unsigned int i = 0, k = 0;
	int r = 0;

	while ((i < old->n || k < now->n) && r == 0) {
		int c = i == old->n ? 1 : k == now->n ? -1 : ip_cmp(old->ip[i], now->ip[k]);

		if (c < 0) {
			r = fn(old->ip[i++], false, arg);
		} else if (c > 0) {
			r = fn(now->ip[k++], true, arg);
		} else {
			i++;
			k++;
		}
	}
	return r;
}

int addrs_watch(void)
{
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
	auto_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&nl, sizeof(nl)) < 0)
		return -errno;
	return take_fd(fd);
}

bool addrs_changed(int watch)
{
	char dummy[4096];
	bool any = false;

	for (;;) {
		ssize_t k = recv(watch, dummy, sizeof(dummy), 0);

		if (k < 0 && errno != ENOBUFS && errno != EINTR)
			return any;
		any = true;
	}
}

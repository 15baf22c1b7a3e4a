/* The uplink: see the header. */
#include <linux/rtnetlink.h>
#include "host/netns.h"
#include "host/sysctl.h"
#include "host/uplink.h"

int uplink_plan(const char *name, struct prefix range4, struct prefix range6, struct uplink *ret,
	struct err *err)
{
	uint32_t size, last;

	*ret = (struct uplink){ .mtu = 1500 };
	if (range4.ip.family != 4 || range4.len < 12 || range4.len > 24)
		return err_field(err, -EINVAL, ERR_INVALID, "net.range4",
			"expected an IPv4 prefix of /12 to /24");
	if ((size_t)snprintf(ret->name, sizeof(ret->name), "%s0", name) >= sizeof(ret->name))
		return err_field(
			err, -EINVAL, ERR_INVALID, "daemon.name", "too long for a link's name");
	size = 1u << (32 - range4.len);
	last = size - 4; /* the last /30; the one before it is the probe's */
	ret->host4 = ip_plus(range4.ip, last + 1);
	ret->router4 = ip_plus(range4.ip, last + 2);
	ret->probe4 = ip_plus(range4.ip, last - 3);
	ret->probe4_peer = ip_plus(range4.ip, last - 2);
	ret->slots = last - 5;
	if (range6.ip.family == 6) {
		struct ip end = range6.ip;

		memset(end.a + 8, 0xff, 8); /* a /64: its last /126 ends in ...ffff */
		end.a[15] = 0xfd;
		ret->host6 = end;
		end.a[15] = 0xfe;
		ret->router6 = end;
	}
	return 0;
}

struct look {
	struct uplink *u;
	struct rtnl *host;
	uint32_t ifindex[UPLINK_OUTSIDE_MAX]; /* of outside interfaces */
	int n;
	uint32_t mtu;
	bool global6;
};

static int note_global(const struct link_addr_info *a, void *arg)
{
	struct look *l = arg;

	if (a->scope != RT_SCOPE_UNIVERSE || a->ip.family != 4)
		return 0;
	for (int i = 0; i < l->n; i++)
		if (l->ifindex[i] == a->ifindex)
			return 0;
	if (l->n < UPLINK_OUTSIDE_MAX)
		l->ifindex[l->n++] = a->ifindex;
	return 0;
}

static int note_ipv6(const struct link_addr_info *a, void *arg)
{
	struct look *l = arg;

	for (int i = 0; i < l->n && a->ip.family == 6 && a->scope == RT_SCOPE_UNIVERSE; i++)
		if (l->ifindex[i] == a->ifindex)
			l->global6 = true;
	return 0;
}

static int note_link(const struct link_info *i, void *arg)
{
	struct look *l = arg;

	for (int k = 0; k < l->n; k++) {
		struct uplink *u = l->u;

		if (l->ifindex[k] != i->ifindex || strcmp(i->name, u->name) == 0 ||
			u->n_outside == UPLINK_OUTSIDE_MAX)
			continue;
		memcpy(u->outside[u->n_outside++], i->name, sizeof(i->name));
		l->mtu = l->mtu ? MIN(l->mtu, i->mtu) : i->mtu;
	}
	return 0;
}

int uplink_look(struct uplink *u, struct rtnl *host, bool want_ipv6, struct err *err)
{
	struct look l = { .u = u, .host = host };
	uint32_t default6;
	int r;

	l.n = link_defaults(host, 4, l.ifindex, UPLINK_OUTSIDE_MAX);
	r = l.n;
	if (l.n == 0)
		r = link_addr_each(host, note_global, &l);
	u->n_outside = 0;
	if (r >= 0)
		r = link_each(host, note_link, &l);
	if (r >= 0)
		r = link_addr_each(host, note_ipv6, &l);
	if (r >= 0)
		r = link_defaults(host, 6, &default6, 1);
	if (r < 0)
		return err_sys(err, r, "look at the host's interfaces");
	u->ipv6 = want_ipv6 && (l.global6 || r > 0);
	/* 1280 is IPv6's least; beyond 1500 nothing is gained that a path outside would keep. */
	u->mtu = l.mtu ? MAX(1280u, MIN(l.mtu, 1500u)) : 1500u;
	return 0;
}

/* IPv6 forwards per interface where the kernel can (force_forwarding), else for all of them;
 * the latter makes a host deaf to router advertisements unless accept_ra is 2. */
static int forward6(const struct uplink *u, const char *memo, struct err *err)
{
	char key[128], ra[16];
	int r;

	snprintf(key, sizeof(key), "net/ipv6/conf/%s/force_forwarding", u->name);
	if (sysctl_exists(key)) {
		r = sysctl_set(key, "1", err);
		for (unsigned int i = 0; i < u->n_outside && r == 0; i++) {
			snprintf(key, sizeof(key), "net/ipv6/conf/%s/force_forwarding",
				u->outside[i]);
			r = sysctl_borrow(memo, key, "1", err);
		}
		return r;
	}
	for (unsigned int i = 0; i < u->n_outside; i++) {
		snprintf(key, sizeof(key), "net/ipv6/conf/%s/accept_ra", u->outside[i]);
		if (sysctl_get(key, ra, sizeof(ra)) == 0 && strcmp(ra, "1") == 0) {
			r = sysctl_borrow(memo, key, "2", err);
			if (r < 0)
				return r;
		}
	}
	return sysctl_borrow(memo, "net/ipv6/conf/all/forwarding", "1", err);
}

static int forward(const struct uplink *u, const char *memo, struct err *err)
{
	char key[128];
	int r;

	snprintf(key, sizeof(key), "net/ipv4/conf/%s/forwarding", u->name);
	r = sysctl_set(key, "1", err);
	for (unsigned int i = 0; i < u->n_outside && r == 0; i++) {
		snprintf(key, sizeof(key), "net/ipv4/conf/%s/forwarding", u->outside[i]);
		r = sysctl_borrow(memo, key, "1", err);
	}
	return r < 0 || !u->ipv6 ? r : forward6(u, memo, err);
}

static const struct prefix all4 = { .ip = { .family = 4 } }, all6 = { .ip = { .family = 6 } };

static int router_end(const struct uplink *u, struct rtnl *router, struct err *err)
{
	int i = link_index(router, "uplink"), r;
	struct link_route out = {
		.to = all4, .ifindex = (uint32_t)i, .via = u->host4, .src = u->router4
	};
	struct ip local;

	if (i < 0)
		return err_sys(err, i, "find the router's end of %s", u->name);
	if ((r = link_addr(router, out.ifindex, u->router4, 30, false, err)) < 0 ||
		(u->ipv6 &&
			(r = link_addr(router, out.ifindex, u->router6, 126, false, err)) < 0) ||
		(r = link_up(router, out.ifindex, err)) < 0 ||
		(r = link_route(router, &out, err)) < 0)
		return r;
	if (!u->ipv6)
		return 0;
	/* Solicitations for forwarded packets leave from a link-local address, or not at all; the
	 * router namespace makes none by itself. */
	if ((r = ip_from(STR("fe80::77:3"), &local)) < 0 ||
		(r = link_addr(router, out.ifindex, local, 64, false, err)) < 0)
		return r;
	out = (struct link_route){
		.to = all6, .ifindex = (uint32_t)i, .via = u->host6, .src = u->router6
	};
	return link_route(router, &out, err);
}

int uplink_make(struct uplink *u, struct rtnl *host, struct rtnl *router, int router_ns,
	struct prefix range4, struct prefix range6, const char *memo, struct err *err)
{
	int r, i = link_index(host, u->name);
	struct link_route in = { .to = range4, .via = u->router4 };

	if (i >= 0 && link_index(router, "uplink") < 0) {
		/* The other end is in a router namespace that is no longer ours. */
		r = link_del(host, u->name, err);
		if (r < 0)
			return r;
		i = -ENODEV;
	}
	if (i < 0) {
		r = link_veth(host, (struct link_end){ u->name, NULL },
			(struct link_end){ "uplink", NULL }, router_ns, u->mtu, err);
		if (r < 0)
			return err_wrap(err, r, "make the uplink %s", u->name);
		i = link_index(host, u->name);
		if (i < 0)
			return err_sys(err, i, "find %s", u->name);
	}
	u->ifindex = in.ifindex = (uint32_t)i;
	if ((r = link_addr(host, u->ifindex, u->host4, 30, false, err)) < 0 ||
		(u->ipv6 && (r = link_addr(host, u->ifindex, u->host6, 126, false, err)) < 0) ||
		(r = link_up(host, u->ifindex, err)) < 0 || (r = router_end(u, router, err)) < 0 ||
		(r = link_route(host, &in, err)) < 0)
		return err_wrap(err, r, "uplink %s", u->name);
	if (u->ipv6) {
		in = (struct link_route){ .to = range6, .ifindex = u->ifindex, .via = u->router6 };
		r = link_route(host, &in, err);
		if (r < 0)
			return err_wrap(err, r, "uplink %s", u->name);
	}
	return forward(u, memo, err);
}

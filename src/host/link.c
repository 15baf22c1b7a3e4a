/* Links, addresses, routes, neighbours and rules: see the header. */
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sys/socket.h>
#include "host/link.h"

static uint8_t af(uint8_t family)
{
	return family == 4 ? AF_INET : AF_INET6;
}

static void put_end(struct nlmsghdr *h, struct link_end e, uint32_t mtu)
{
	mnl_attr_put_strz(h, IFLA_IFNAME, e.name);
	if (e.mac)
		mnl_attr_put(h, IFLA_ADDRESS, 6, e.mac);
	if (mtu)
		mnl_attr_put_u32(h, IFLA_MTU, mtu);
	/* One queue each way: the default is one per processor, and memory for it. */
	mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, 1);
}

int link_veth(struct rtnl *n, struct link_end here, struct link_end there, int there_ns,
	uint32_t mtu, struct err *err)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(
		n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*ifi), &ifi);
	struct nlattr *info, *data, *peer;

	ifi->ifi_family = AF_UNSPEC;
	put_end(h, here, mtu);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
	ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	put_end(h, there, mtu);
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)there_ns);
	mnl_attr_nest_end(h, peer);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return rtnl_do(n, h, err);
}

int link_mtu(struct rtnl *n, uint32_t ifindex, uint32_t mtu, struct err *err)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(n, RTM_NEWLINK, 0, sizeof(*ifi), &ifi);

	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	mnl_attr_put_u32(h, IFLA_MTU, mtu);
	return rtnl_do(n, h, err);
}

static int parse_link(const struct nlmsghdr *h, struct link_info *ret)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	if (!rtnl_is(h, RTM_NEWLINK, sizeof(*ifi)))
		return -EBADMSG;
	*ret = (struct link_info){ .ifindex = (uint32_t)ifi->ifi_index };
	mnl_attr_for_each(a, h, sizeof(*ifi))
	{
		if (mnl_attr_get_type(a) == IFLA_IFNAME && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
			snprintf(ret->name, sizeof(ret->name), "%s", mnl_attr_get_str(a));
		else if (mnl_attr_get_type(a) == IFLA_MTU && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
			ret->mtu = mnl_attr_get_u32(a);
	}
	return 0;
}

static int take_link(const struct nlmsghdr *h, void *arg)
{
	return parse_link(h, arg);
}

int link_index(struct rtnl *n, const char *name)
{
	struct link_info l;
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(n, RTM_GETLINK, 0, sizeof(*ifi), &ifi);
	int r;

	ifi->ifi_family = AF_UNSPEC;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	r = rtnl_get(n, h, take_link, &l);
	return r < 0 ? r : (int)l.ifindex;
}

int link_up(struct rtnl *n, uint32_t ifindex, struct err *err)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(n, RTM_NEWLINK, 0, sizeof(*ifi), &ifi);

	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	ifi->ifi_flags = ifi->ifi_change = IFF_UP;
	return rtnl_do(n, h, err);
}

int link_del(struct rtnl *n, const char *name, struct err *err)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(n, RTM_DELLINK, 0, sizeof(*ifi), &ifi);

	ifi->ifi_family = AF_UNSPEC;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return rtnl_do(n, h, err);
}

int link_set_group(struct rtnl *n, uint32_t ifindex, uint32_t group, struct err *err)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(n, RTM_NEWLINK, 0, sizeof(*ifi), &ifi);

	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	mnl_attr_put_u32(h, IFLA_GROUP, group);
	return rtnl_do(n, h, err);
}

int link_del_group(struct rtnl *n, uint32_t group, struct err *err)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(n, RTM_DELLINK, 0, sizeof(*ifi), &ifi);

	ifi->ifi_family = AF_UNSPEC;
	mnl_attr_put_u32(h, IFLA_GROUP, group);
	return rtnl_do(n, h, err);
}

struct each {
	link_fn link;
	link_addr_fn addr;
	void *arg;
};

static int each_link(const struct nlmsghdr *h, void *arg)
{
	struct each *e = arg;
	struct link_info l;
	int r = parse_link(h, &l);

	return r < 0 ? r : e->link(&l, e->arg);
}

int link_each(struct rtnl *n, link_fn fn, void *arg)
{
	struct each e = { .link = fn, .arg = arg };
	struct ifinfomsg *ifi;
	struct nlmsghdr *h = rtnl_new(n, RTM_GETLINK, 0, sizeof(*ifi), &ifi);

	ifi->ifi_family = AF_UNSPEC;
	return rtnl_dump(n, h, each_link, &e);
}

int link_addr(
	struct rtnl *n, uint32_t ifindex, struct ip ip, uint8_t len, bool no_route, struct err *err)
{
	struct ifaddrmsg *ifa;
	struct nlmsghdr *h = rtnl_new(
		n, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*ifa), &ifa);
	uint32_t flags = IFA_F_PERMANENT | (no_route ? IFA_F_NOPREFIXROUTE : 0);
	int r;

	if (ip.family == 6)
		flags |= IFA_F_NODAD;
	ifa->ifa_family = af(ip.family);
	ifa->ifa_prefixlen = len;
	ifa->ifa_index = ifindex;
	rtnl_put_ip(h, IFA_LOCAL, ip);
	rtnl_put_ip(h, IFA_ADDRESS, ip);
	mnl_attr_put_u32(h, IFA_FLAGS, flags);
	r = rtnl_do(n, h, err);
	return r == -EEXIST ? 0 : r;
}

static int each_addr(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(h);
	struct link_addr_info i;
	struct each *e = arg;
	const struct nlattr *a;
	bool local = false;
	uint8_t family;

	if (!rtnl_is(h, RTM_NEWADDR, sizeof(*ifa)) ||
		(ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6))
		return 0;
	family = ifa->ifa_family == AF_INET ? 4 : 6;
	if (ifa->ifa_prefixlen > (family == 4 ? 32 : 128))
		return -EBADMSG;
	i = (struct link_addr_info){
		.ifindex = ifa->ifa_index, .len = ifa->ifa_prefixlen, .scope = ifa->ifa_scope
	};
	mnl_attr_for_each(a, h, sizeof(*ifa))
	{
		uint16_t type = mnl_attr_get_type(a);

		if (type != IFA_LOCAL && (type != IFA_ADDRESS || local))
			continue;
		if (mnl_attr_get_payload_len(a) != (family == 4 ? 4 : 16))
			return -EBADMSG;
		i.ip = ip_raw(family, mnl_attr_get_payload(a));
		local = type == IFA_LOCAL;
	}
	return i.ip.family ? e->addr(&i, e->arg) : 0;
}

int link_addr_each(struct rtnl *n, link_addr_fn fn, void *arg)
{
	struct each e = { .addr = fn, .arg = arg };
	struct ifaddrmsg *ifa;
	struct nlmsghdr *h = rtnl_new(n, RTM_GETADDR, 0, sizeof(*ifa), &ifa);

	ifa->ifa_family = AF_UNSPEC;
	return rtnl_dump(n, h, each_addr, &e);
}

int link_route(struct rtnl *n, const struct link_route *route, struct err *err)
{
	uint32_t table = route->table ? route->table : RT_TABLE_MAIN;
	struct rtmsg *rt;
	struct nlmsghdr *h = rtnl_new(
		n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*rt), &rt);

	rt->rtm_family = af(route->to.ip.family);
	rt->rtm_dst_len = route->to.len;
	rt->rtm_table = table < 256 ? (uint8_t)table : RT_TABLE_UNSPEC;
	rt->rtm_protocol = RTPROT_STATIC;
	rt->rtm_type = route->local ? RTN_LOCAL : RTN_UNICAST;
	rt->rtm_scope = route->local	    ? RT_SCOPE_HOST
			: route->via.family ? RT_SCOPE_UNIVERSE
					    : RT_SCOPE_LINK;
	if (route->via.family)
		rt->rtm_flags = RTNH_F_ONLINK;
	if (route->to.len)
		rtnl_put_ip(h, RTA_DST, route->to.ip);
	mnl_attr_put_u32(h, RTA_TABLE, table);
	mnl_attr_put_u32(h, RTA_OIF, route->ifindex);
	if (route->via.family)
		rtnl_put_ip(h, RTA_GATEWAY, route->via);
	if (route->src.family)
		rtnl_put_ip(h, RTA_PREFSRC, route->src);
	return rtnl_do(n, h, err);
}

int link_neigh(
	struct rtnl *n, uint32_t ifindex, struct ip ip, const uint8_t mac[6], struct err *err)
{
	struct ndmsg *nd;
	struct nlmsghdr *h = rtnl_new(
		n, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*nd), &nd);

	nd->ndm_family = af(ip.family);
	nd->ndm_ifindex = (int)ifindex;
	nd->ndm_state = NUD_PERMANENT;
	rtnl_put_ip(h, NDA_DST, ip);
	mnl_attr_put(h, NDA_LLADDR, 6, mac);
	return rtnl_do(n, h, err);
}

static struct nlmsghdr *rule_new(struct rtnl *n, uint16_t type, uint16_t flags, uint8_t family,
	uint32_t table, uint32_t priority)
{
	struct fib_rule_hdr *rule;
	struct nlmsghdr *h = rtnl_new(n, type, flags, sizeof(*rule), &rule);

	rule->family = af(family);
	rule->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(h, FRA_PRIORITY, priority);
	mnl_attr_put_u32(h, FRA_TABLE, table);
	return h;
}

int link_rule(struct rtnl *n, uint8_t family, uint32_t mark, uint32_t table, uint32_t priority,
	struct err *err)
{
	struct nlmsghdr *h = rule_new(n, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, family, table,
		priority);
	int r;

	if (mark) {
		mnl_attr_put_u32(h, FRA_FWMARK, mark);
		mnl_attr_put_u32(h, FRA_FWMASK, UINT32_MAX);
	}
	r = rtnl_do(n, h, err);
	return r == -EEXIST ? 0 : r;
}

int link_rule_del(struct rtnl *n, uint8_t family, uint32_t table, uint32_t priority,
	struct err *err)
{
	int r = rtnl_do(n, rule_new(n, RTM_DELRULE, 0, family, table, priority), err);

	return r == -ENOENT ? 0 : r;
}

struct defaults {
	uint32_t *ifindex;
	unsigned int n, max;
};

static void note_default(struct defaults *d, uint32_t ifindex)
{
	for (unsigned int i = 0; i < d->n; i++)
		if (d->ifindex[i] == ifindex)
			return;
	if (ifindex && d->n < d->max)
		d->ifindex[d->n++] = ifindex;
}

static int each_default(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	if (!rtnl_is(h, RTM_NEWROUTE, sizeof(*rt)) || rt->rtm_dst_len || rt->rtm_table != RT_TABLE_MAIN ||
		rt->rtm_type != RTN_UNICAST)
		return 0;
	mnl_attr_for_each(a, h, sizeof(*rt))
	{
		if (mnl_attr_get_type(a) == RTA_OIF && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
			note_default(arg, mnl_attr_get_u32(a));
		else if (mnl_attr_get_type(a) == RTA_MULTIPATH) {
			const struct rtnexthop *nh = mnl_attr_get_payload(a);
			int left = mnl_attr_get_payload_len(a);

			for (; left >= (int)sizeof(*nh) && RTNH_OK(nh, left);
				left -= NLMSG_ALIGN(nh->rtnh_len), nh = RTNH_NEXT(nh))
				note_default(arg, (uint32_t)nh->rtnh_ifindex);
		}
	}
	return 0;
}

int link_defaults(struct rtnl *n, uint8_t family, uint32_t *ret, unsigned int max)
{
	struct defaults d = { .ifindex = ret, .max = max };
	struct rtmsg *rt;
	struct nlmsghdr *h = rtnl_new(n, RTM_GETROUTE, 0, sizeof(*rt), &rt);
	int r;

	rt->rtm_family = af(family);
	r = rtnl_dump(n, h, each_default, &d);
	return r < 0 ? r : (int)d.n;
}

/* The network of one slot: see the header. */
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "bpf/maps.h"
#include "host/netns.h"
#include "host/slotnet.h"
#include "host/sysctl.h"

#define AGENT_BACKLOG 128

static const uint8_t mac_gateway[6] = WEIR_MAC_GATEWAY, mac_sandbox[6] = WEIR_MAC_SANDBOX;

static struct ip link_local6(uint16_t last)
{
	uint8_t a[16] = { 0xfe, 0x80, [13] = 0x77, [14] = (uint8_t)(last >> 8), (uint8_t)last };

	return ip_raw(6, a);
}

static const struct prefix all4 = { .ip = { .family = 4 } }, all6 = { .ip = { .family = 6 } };

/* In the slot's namespace: eth0 with its addresses, routes and one neighbour per family. */
static int inside(struct rtnl *n, const struct slotnet_plan *p, struct err *err)
{
	struct ip gw = ip_v4(WEIR_LINK_GATEWAY), me = ip_v4(WEIR_LINK_SANDBOX);
	struct link_route r4 = { .to = prefix_of(gw, 32), .src = p->ip4 };
	int eth0 = link_index(n, "eth0"), lo = link_index(n, "lo"), r;

	if (eth0 < 0 || lo < 0)
		return err_sys(err, MIN(eth0, lo), "find eth0");
	r4.ifindex = (uint32_t)eth0;
	if ((r = link_up(n, (uint32_t)lo, err)) < 0 ||
		(r = link_addr(n, r4.ifindex, me, 32, true, err)) < 0 ||
		(r = link_addr(n, r4.ifindex, p->ip4, 32, true, err)) < 0 ||
		(r = link_addr(n, r4.ifindex, p->overlay, 32, true, err)) < 0 ||
		(r = link_up(n, r4.ifindex, err)) < 0 || (r = link_route(n, &r4, err)) < 0 ||
		(r = link_neigh(n, r4.ifindex, gw, mac_gateway, err)) < 0)
		return r;
	r4.to = all4;
	r4.via = gw;
	r = link_route(n, &r4, err);
	if (r == 0) {
		r4.to = p->overlays;
		r4.src = p->overlay;
		r = link_route(n, &r4, err);
	}
	if (r < 0 || !p->ip6.family)
		return r;

	gw = link_local6(1);
	if ((r = link_addr(n, r4.ifindex, link_local6(2), 64, false, err)) < 0 ||
		(r = link_addr(n, r4.ifindex, p->ip6, 128, true, err)) < 0 ||
		(r = link_neigh(n, r4.ifindex, gw, mac_gateway, err)) < 0)
		return r;
	return link_route(n,
		&(struct link_route){ .to = all6, .ifindex = r4.ifindex, .via = gw, .src = p->ip6 },
		err);
}

/* In the router namespace: the other end, without an address (see the header). */
static int outside(struct rtnl *n, const struct slotnet_plan *p, uint32_t ifindex, struct err *err)
{
	struct ip peer = ip_v4(WEIR_LINK_SANDBOX), peer6 = link_local6(2);
	struct link_route to_own = { .to = prefix_of(p->ip4, 32), .ifindex = ifindex, .via = peer };
	int r;

	if ((r = link_up(n, ifindex, err)) < 0 ||
		(r = link_neigh(n, ifindex, peer, mac_sandbox, err)) < 0 ||
		(r = link_route(n, &to_own, err)) < 0 || !p->ip6.family)
		return r;
	to_own = (struct link_route){
		.to = prefix_of(p->ip6, 128), .ifindex = ifindex, .via = peer6
	};
	r = link_neigh(n, ifindex, peer6, mac_sandbox, err);
	return r < 0 ? r : link_route(n, &to_own, err);
}

int slotnet_gateway(struct rtnl *router, struct err *err)
{
	int lo = link_index(router, "lo"), r = lo;

	if (r >= 0)
		r = link_up(router, (uint32_t)lo, err);
	if (r == 0)
		r = link_addr(router, (uint32_t)lo, ip_v4(WEIR_LINK_GATEWAY), 32, true, err);
	return r < 0 ? err_wrap(err, r, "the gateway's address") : 0;
}

static int agent_listener(struct err *err)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) < 0 ||
		bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(fd, AGENT_BACKLOG) < 0)
		return err_sys(err, -errno, "agent's socket");
	return take_fd(fd);
}

/* Everything that happens inside: on return the thread is home again. */
static int make_inside(
	int router_ns, const struct slotnet_plan *p, int *ret_ns, int *ret_agent, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_rtnl struct rtnl n = RTNL_NONE;
	int r = netns_visit_new(&v, ret_ns);

	if (r < 0)
		return err_sys(err, r, "network namespace");
	r = sysctl_slot(p->ip6.family != 0, err);
	if (r < 0)
		return r;
	r = rtnl_open(&n);
	if (r < 0)
		return err_sys(err, r, "rtnetlink");
	r = link_veth(&n, (struct link_end){ "eth0", mac_sandbox },
		(struct link_end){ p->link, mac_gateway }, router_ns, p->mtu, err);
	if (r < 0)
		return err_wrap(err, r, "veth %s", p->link);
	r = inside(&n, p, err);
	if (r < 0)
		return err_wrap(err, r, "inside %s", p->link);
	r = agent_listener(err);
	if (r >= 0)
		*ret_agent = r;
	return MIN(r, 0);
}

/* The end that came up first has a carrier only once the kernel's link watch has run, and drops
 * what it sends until then. Asking for its state runs the watch now. */
static int settle(int slot_socket, struct err *err)
{
	struct ethtool_value v = { .cmd = ETHTOOL_GLINK };
	struct ifreq ifr = { .ifr_name = "eth0", .ifr_data = (char *)&v };

	if (ioctl(slot_socket, SIOCETHTOOL, &ifr) < 0)
		return err_sys(err, -errno, "state of eth0");
	return v.data ? 0 : err_set(err, -ENETDOWN, ERR_INTERNAL, "eth0 has no carrier");
}

void slotnet_done(struct slotnet *n)
{
	n->ns = fd_close(n->ns);
	n->agent_fd = fd_close(n->agent_fd);
	n->tap = fd_close(n->tap);
}

static int make_tap(struct rtnl *router, int router_ns, const struct slotnet_plan *p,
	struct slotnet *ret, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_fd int tap = -EBADF;
	int r = netns_visit(&v, router_ns), ifindex;

	if (r < 0)
		return err_sys(err, r, "router namespace");
	r = tap = link_tap((struct link_end){ p->link, mac_gateway }, err);
	if (r < 0)
		return r;
	ifindex = link_index(router, p->link);
	r = ifindex < 0 ? err_sys(err, ifindex, "find %s", p->link) : 0;
	r = r < 0 ? r : link_mtu(router, (uint32_t)ifindex, p->mtu, err);
	if (r == 0)
		r = outside(router, p, (uint32_t)ifindex, err);
	if (r < 0) {
		link_del(router, p->link, NULL);
		return err_wrap(err, r, "outside %s", p->link);
	}
	ret->tap = take_fd(tap);
	ret->ifindex = (uint32_t)ifindex;
	return 0;
}

int slotnet_tap(int router_ns, const char *link, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	int r = netns_visit(&v, router_ns);

	return r < 0 ? err_sys(err, r, "router namespace") : link_tap_again(link, err);
}

static int make_veth(struct rtnl *router, int router_ns, const struct slotnet_plan *p,
	struct slotnet *ret, struct err *err)
{
	auto_fd int ns = -EBADF, agent = -EBADF;
	int r = make_inside(router_ns, p, &ns, &agent, err), ifindex;

	if (r < 0)
		return r; /* the namespace goes with its descriptor, and the link with it */
	ifindex = link_index(router, p->link);
	if (ifindex < 0)
		return err_sys(err, ifindex, "find %s", p->link);
	r = outside(router, p, (uint32_t)ifindex, err);
	if (r == 0)
		r = settle(agent, err);
	if (r < 0) {
		link_del(router, p->link, NULL);
		return err_wrap(err, r, "outside %s", p->link);
	}
	ret->ns = take_fd(ns);
	ret->agent_fd = take_fd(agent);
	ret->ifindex = (uint32_t)ifindex;
	return 0;
}

int slotnet_make(struct rtnl *router, int router_ns, const struct slotnet_plan *p,
	struct slotnet *ret, struct err *err)
{
	*ret = SLOTNET_NONE;
	return p->kind == SLOTNET_TAP ? make_tap(router, router_ns, p, ret, err)
				      : make_veth(router, router_ns, p, ret, err);
}

/*
 * The addresses of a virtual machine's link, as host/slotnet.h draws them. A container's are set by
 * the host role in the namespace it made; here nobody but us can.
 *
 * Spoken to the kernel by rtnetlink, one request and one answer at a time. Each request creates or
 * replaces, so that a wake may say the same again. What stands is remembered, in memory that a
 * snapshot takes along, and a move deletes exactly that: whatever else a tenant has made of its
 * interfaces is its own.
 */
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include "agent/machine.h"
#include "base/fd.h"
#include "bpf/maps.h"

#define LINK "eth0"
#define ROOM 256 /* a request: the longest is a route with four attributes */

struct request {
	struct nlmsghdr h;
	uint8_t body[ROOM];
};

static struct link_plan stands; /* the addresses we set last */

static struct ip link_local6(uint8_t last)
{
	uint8_t a[16] = { 0xfe, 0x80, [13] = 0x77, [15] = last };

	return ip_raw(6, a);
}

static uint8_t af(uint8_t family)
{
	return family == 4 ? AF_INET : AF_INET6;
}

/* Begin a request; its fixed part follows the header. */
static void *begin(struct request *q, uint16_t type, uint16_t flags, size_t fixed)
{
	*q = (struct request){ .h = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(fixed), .nlmsg_type = type,
				       .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags) } };
	return NLMSG_DATA(&q->h);
}

/* Requests are of our own making: they fit. */
static void put(struct request *q, uint16_t type, const void *data, size_t n)
{
	struct rtattr *a = (struct rtattr *)((char *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), data, n);
	q->h.nlmsg_len = NLMSG_ALIGN(q->h.nlmsg_len) + (uint32_t)RTA_ALIGN(a->rta_len);
}

static void put_u32(struct request *q, uint16_t type, uint32_t v)
{
	put(q, type, &v, sizeof(v));
}

static void put_ip(struct request *q, uint16_t type, struct ip ip)
{
	put(q, type, ip.a, ip.family == 4 ? 4 : 16);
}

static int run(int fd, const struct request *q)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		uint8_t rest[ROOM + 128];
	} answer;
	ssize_t n = send(fd, q, q->h.nlmsg_len, 0);

	if (n >= 0)
		n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < NLMSG_LENGTH(sizeof(answer.e)) || answer.h.nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return answer.e.error;
}

static int up(int fd, unsigned int ifindex, uint32_t mtu)
{
	struct request q;
	struct ifinfomsg *ifi = begin(&q, RTM_NEWLINK, 0, sizeof(*ifi));

	ifi->ifi_index = (int)ifindex;
	ifi->ifi_flags = ifi->ifi_change = IFF_UP;
	if (mtu)
		put_u32(&q, IFLA_MTU, mtu);
	return run(fd, &q);
}

static int address(int fd, unsigned int ifindex, struct ip ip, uint8_t len, bool add)
{
	/* Whole addresses lead nowhere but here; fe80::/64 does. */
	uint32_t flags = IFA_F_PERMANENT | (ip.family == 6 ? IFA_F_NODAD : 0) |
		(len == ip_bits(ip.family) ? IFA_F_NOPREFIXROUTE : 0);
	struct request q;
	struct ifaddrmsg *ifa = begin(&q, add ? RTM_NEWADDR : RTM_DELADDR,
		add ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof(*ifa));
	int r;

	ifa->ifa_family = af(ip.family);
	ifa->ifa_prefixlen = len;
	ifa->ifa_index = ifindex;
	put_ip(&q, IFA_LOCAL, ip);
	put_ip(&q, IFA_ADDRESS, ip);
	put_u32(&q, IFA_FLAGS, flags);
	r = run(fd, &q);
	/* It stands already; or a tenant has taken it away before us. */
	return r == (add ? -EEXIST : -EADDRNOTAVAIL) ? 0 : r;
}

static int route(int fd, unsigned int ifindex, struct prefix to, struct ip via, struct ip src)
{
	struct request q;
	struct rtmsg *rt = begin(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*rt));

	rt->rtm_family = af(to.ip.family);
	rt->rtm_dst_len = to.len;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_STATIC;
	rt->rtm_type = RTN_UNICAST;
	rt->rtm_scope = via.family ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	rt->rtm_flags = via.family ? RTNH_F_ONLINK : 0;
	if (to.len)
		put_ip(&q, RTA_DST, to.ip);
	put_u32(&q, RTA_OIF, ifindex);
	if (via.family)
		put_ip(&q, RTA_GATEWAY, via);
	if (src.family)
		put_ip(&q, RTA_PREFSRC, src);
	return run(fd, &q);
}

static int gateway(int fd, unsigned int ifindex, struct ip ip)
{
	static const uint8_t mac[6] = WEIR_MAC_GATEWAY;
	struct request q;
	struct ndmsg *nd = begin(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*nd));

	nd->ndm_family = af(ip.family);
	nd->ndm_ifindex = (int)ifindex;
	nd->ndm_state = NUD_PERMANENT;
	put_ip(&q, NDA_DST, ip);
	put(&q, NDA_LLADDR, mac, sizeof(mac));
	return run(fd, &q);
}

/* --- the plan --- */

static bool replaced(struct ip old, struct ip new)
{
	return old.family && !ip_eq(old, new);
}

/* The new address and its routes first: with its last source a route would go, and with the route
 * the connection that brought the plan. */
static int move4(int fd, unsigned int ifindex, struct ip ip)
{
	const struct ip gw = ip_v4(WEIR_LINK_GATEWAY), old = stands.ip4;
	const struct prefix all = { .ip = { .family = 4 } };
	int r = address(fd, ifindex, ip, 32, true);

	if (r < 0)
		return r;
	stands.ip4 = ip;
	/* The gateway's own route too carries the source: only the agent speaks as 169.254.77.2. */
	r = route(fd, ifindex, prefix_of(gw, 32), (struct ip){ 0 }, ip);
	r = r < 0 ? r : route(fd, ifindex, all, gw, ip);
	return r == 0 && replaced(old, ip) ? address(fd, ifindex, old, 32, false) : r;
}

static int move6(int fd, unsigned int ifindex, struct ip ip)
{
	const struct ip gw = link_local6(1), old = stands.ip6;
	const struct prefix all = { .ip = { .family = 6 } };
	int r = address(fd, ifindex, link_local6(2), 64, true);

	r = r < 0 ? r : address(fd, ifindex, ip, 128, true);
	if (r < 0)
		return r;
	stands.ip6 = ip;
	r = gateway(fd, ifindex, gw);
	r = r < 0 ? r : route(fd, ifindex, all, gw, ip);
	return r == 0 && replaced(old, ip) ? address(fd, ifindex, old, 128, false) : r;
}

static int move_overlay(int fd, unsigned int ifindex, struct ip ip)
{
	const struct ip old = stands.overlay;
	int r = address(fd, ifindex, ip, 32, true);

	if (r < 0)
		return r;
	stands.overlay = ip;
	if (stands.overlays.ip.family)
		r = route(fd, ifindex, stands.overlays, ip_v4(WEIR_LINK_GATEWAY), ip);
	return r == 0 && replaced(old, ip) ? address(fd, ifindex, old, 32, false) : r;
}

static int move(int fd, unsigned int ifindex, const struct link_plan *plan, struct err *err)
{
	int r;

	if (plan->overlays.ip.family)
		stands.overlays = plan->overlays;
	r = plan->ip4.family ? move4(fd, ifindex, plan->ip4) : 0;
	if (r < 0)
		return err_sys(err, r, "become %s", ip_text(plan->ip4).s);
	r = plan->ip6.family ? move6(fd, ifindex, plan->ip6) : 0;
	if (r < 0)
		return err_sys(err, r, "become %s", ip_text(plan->ip6).s);
	r = plan->overlay.family ? move_overlay(fd, ifindex, plan->overlay) : 0;
	return r < 0 ? err_sys(err, r, "become %s", ip_text(plan->overlay).s) : 0;
}

static int open_link(unsigned int *ret_ifindex, struct err *err)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return err_sys(err, -errno, "open rtnetlink");
	*ret_ifindex = if_nametoindex(LINK);
	if (*ret_ifindex)
		return fd;
	fd_close(fd);
	return err_sys(err, -errno, "find " LINK);
}

int link_begin(const struct link_plan *plan, uint32_t mtu, struct err *err)
{
	/* Only addresses that we set, which are never probed for, and no routes but ours. */
	static const struct {
		const char *path, *value;
	} settings[] = { { "/proc/sys/net/ipv6/conf/" LINK "/accept_ra", "0" },
		{ "/proc/sys/net/ipv6/conf/" LINK "/addr_gen_mode", "1" },
		{ "/proc/sys/net/ipv4/ping_group_range", "0 2147483647" } };
	const struct ip gw = ip_v4(WEIR_LINK_GATEWAY);
	unsigned int ifindex;
	auto_fd int fd = open_link(&ifindex, err);
	int r;

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		r = file_write_kernel(AT_FDCWD, settings[i].path, str_c(settings[i].value));
		if (r < 0 && r != -ENOENT) /* a kernel without IPv6 */
			return err_sys(err, r, "set %s", settings[i].path);
	}
	r = up(fd, if_nametoindex("lo"), 0);
	r = r < 0 ? r : address(fd, ifindex, ip_v4(WEIR_LINK_SANDBOX), 32, true);
	r = r < 0 ? r : up(fd, ifindex, mtu);
	r = r < 0 ? r : route(fd, ifindex, prefix_of(gw, 32), (struct ip){ 0 }, (struct ip){ 0 });
	r = r < 0 ? r : gateway(fd, ifindex, gw);
	return r < 0 ? err_sys(err, r, "bring " LINK " up") : move(fd, ifindex, plan, err);
}

int link_move(const struct link_plan *plan, struct err *err)
{
	unsigned int ifindex;
	auto_fd int fd = open_link(&ifindex, err);

	return fd < 0 ? fd : move(fd, ifindex, plan, err);
}

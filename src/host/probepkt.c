/*
 * One real packet through the uplink and back (probe.h, probe_packet).
 *
 *	router ns --uplink--> host ns --<name>p--> scratch ns, which answers
 *
 * The packet crosses the host's forward hook and our masquerading as any packet of a sandbox will,
 * yet nothing leaves the machine and no outside host has to answer. What it finds is a firewall
 * whose forward chain drops by policy (Docker, ufw, firewalld); a rule that accepts by interface
 * can still treat the real outside interface differently.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "host/netns.h"
#include "host/nft.h"
#include "host/probe.h"
#include "host/sysctl.h"

#define PROBE_PORT  33434
#define PROBE_WAIT  400 /* ms per try; a veth delivers in microseconds, a lost first ARP in none */
#define PROBE_TRIES 3

static const struct prefix all4 = { .ip = { .family = 4 } };

static struct sockaddr_in sin_of(struct ip ip)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_port = htons(PROBE_PORT),
		.sin_addr.s_addr = htonl(ip_v4_u32(ip)) };
}

/* The scratch namespace: its end of the link, a way back, and a bound socket. */
static int scratch(
	const struct uplink *u, const char *link, int host_ns, int *ret_sock, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_fd int ns = -EBADF, sock = -EBADF;
	auto_rtnl struct rtnl n = RTNL_NONE;
	struct sockaddr_in sin = sin_of(u->probe4_peer);
	int r = netns_visit_new(&v, &ns), i;

	if (r == 0)
		r = rtnl_open(&n);
	if (r < 0)
		return err_sys(err, r, "scratch namespace");
	r = link_veth(&n, (struct link_end){ "p0", NULL }, (struct link_end){ link, NULL }, host_ns,
		0, err);
	if (r < 0)
		return r;
	i = link_index(&n, "p0");
	if (i < 0)
		return err_sys(err, i, "find p0");
	if ((r = link_addr(&n, (uint32_t)i, u->probe4_peer, 30, false, err)) < 0 ||
		(r = link_up(&n, (uint32_t)i, err)) < 0 ||
		(r = link_route(&n,
			 &(struct link_route){
				 .to = all4, .ifindex = (uint32_t)i, .via = u->probe4 },
			 err)) < 0)
		return r;
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || bind(sock, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		return err_sys(err, -errno, "probe socket");
	*ret_sock = take_fd(sock);
	return 0;
}

static int router_socket(const struct uplink *u, int router_ns, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	struct sockaddr_in sin = sin_of(u->probe4_peer);
	auto_fd int sock = -EBADF;
	int r = netns_visit(&v, router_ns);

	if (r < 0)
		return err_sys(err, r, "router namespace");
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		return err_sys(err, -errno, "probe socket");
	return take_fd(sock);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, PROBE_WAIT) == 1;
}

/* There and back, each way retried as a whole. */
static bool round_trip(int from, int far)
{
	char got[16];

	for (int i = 0; i < PROBE_TRIES; i++) {
		struct sockaddr_in peer;
		socklen_t n = sizeof(peer);

		if (send(from, "weir", 4, 0) != 4 || !readable(far) ||
			recvfrom(far, got, sizeof(got), 0, (struct sockaddr *)&peer, &n) != 4)
			continue;
		if (sendto(far, "weir", 4, 0, (struct sockaddr *)&peer, n) == 4 && readable(from) &&
			recv(from, got, sizeof(got), 0) == 4)
			return true;
	}
	return false;
}

static int say_why(const struct uplink *u, const char *table, struct err *err)
{
	auto_buf struct buf drops = BUF_MAX(4096);
	struct str all, line, t, chain;

	if (nft_find_drops(table, &drops, NULL) < 0 || !drops.n)
		return err_set(err, -EHOSTUNREACH, ERR_INVALID,
			"a packet sent through the uplink %s was lost in the host's network, and "
			"no nft chain "
			"drops by policy: look for a firewall outside of nft (iptables-legacy -S "
			"FORWARD)",
			u->name);
	all = buf_str(&drops);
	line = str_cut(&all, '\n');
	/* "table ip filter chain FORWARD" -> "ip filter FORWARD" */
	t = str_skip(line, 6);
	chain = t;
	for (size_t i = 0; i + 7 <= t.n; i++)
		if (memcmp(t.p + i, " chain ", 7) == 0) {
			chain = str_skip(t, i + 7);
			t.n = i;
		}
	return err_set(err, -EHOSTUNREACH, ERR_INVALID,
		"a packet sent through the uplink was lost: " STR_FMT
		" drops by policy; add: nft insert rule " STR_FMT " " STR_FMT
		" iifname %s accept; nft insert rule " STR_FMT " " STR_FMT " oifname %s accept",
		STR_ARG(line), STR_ARG(t), STR_ARG(chain), u->name, STR_ARG(t), STR_ARG(chain),
		u->name);
}

static int host_end(const struct uplink *u, const char *link, struct rtnl *host, struct err *err)
{
	int i = link_index(host, link), r;
	char key[96];

	if (i < 0)
		return err_sys(err, i, "find %s", link);
	snprintf(key, sizeof(key), "net/ipv4/conf/%s/forwarding", link);
	if ((r = link_addr(host, (uint32_t)i, u->probe4, 30, false, err)) < 0 ||
		(r = link_up(host, (uint32_t)i, err)) < 0)
		return r;
	return sysctl_set(key, "1", err); /* goes with the link */
}

int probe_packet(const struct uplink *u, const char *table, struct rtnl *host, int router_ns,
	struct err *err)
{
	auto_fd int here = netns_current(), far = -EBADF, from = -EBADF;
	char link[IF_NAMESIZE];
	int r;

	snprintf(link, sizeof(link), "%.*sp", (int)strlen(u->name) - 1, u->name);
	link_del(host, link, NULL); /* of a start that was killed here */
	r = scratch(u, link, here, &far, err);
	if (r == 0)
		r = host_end(u, link, host, err);
	if (r == 0) {
		from = router_socket(u, router_ns, err);
		r = MIN(from, 0);
	}
	if (r == 0 && !round_trip(from, far))
		r = say_why(u, table, err);
	else if (r < 0)
		err_wrap(err, r, "probe of the uplink");
	link_del(host, link, NULL);
	return r;
}

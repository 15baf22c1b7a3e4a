/* Steering: see the header. */
#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "bpf/maps.h"
#include "host/steer.h"

#define TCP_BACKLOG 1024
#define UDP_BUFFER  (4 << 20) /* a burst of some 5,000 queries; bounded by the edge's rate limits */
/* In this order, and before the main table's 32766. */
#define PRIORITY_ANSWERS 50
#define PRIORITY_LOCAL	 60 /* the kernel has it at 0 */
#define PRIORITY_DNS	 100

int steer_routes(struct rtnl *router, bool ipv6, struct err *err)
{
	int lo = link_index(router, "lo"), r = lo;

	if (lo < 0)
		return err_sys(err, lo, "find lo");
	r = link_up(router, (uint32_t)lo, err);
	for (uint8_t family = 4; family <= (ipv6 ? 6 : 4) && r == 0; family += 2) {
		r = link_rule(router, family, WEIR_MARK_ANSWER, RT_TABLE_MAIN, PRIORITY_ANSWERS, err);
		if (r == 0)
			r = link_rule(router, family, 0, RT_TABLE_LOCAL, PRIORITY_LOCAL, err);
		if (r == 0)
			r = link_rule_del(router, family, RT_TABLE_LOCAL, 0, err);
		if (r == 0)
			r = link_rule(router, family, WEIR_MARK_DNS, WEIR_TABLE_DNS, PRIORITY_DNS,
				err);
		if (r == 0)
			r = link_route(router,
				&(struct link_route){ .to = { .ip = { .family = family } },
					.ifindex = (uint32_t)lo,
					.table = WEIR_TABLE_DNS,
					.local = true },
				err);
	}
	return r < 0 ? err_wrap(err, r, "steering of port 53") : 0;
}

struct opt {
	int level, name, value;
};

static int make(int family, int type, const struct opt *opts, size_t n)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = { .sa.sa_family = (sa_family_t)family };
	auto_fd int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	uint16_t port = type == SOCK_DGRAM ? htons(53) : 0;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < n; i++)
		if (setsockopt(fd, opts[i].level, opts[i].name, &opts[i].value, sizeof(int)) < 0)
			return -errno;
	if (type == SOCK_DGRAM) {
		int size = UDP_BUFFER;

		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	}
	if (family == AF_INET)
		a.in.sin_port = port;
	else
		a.in6.sin6_port = port;
	if (bind(fd, &a.sa, family == AF_INET ? sizeof(a.in) : sizeof(a.in6)) < 0)
		return -errno;
	if (type == SOCK_STREAM && listen(fd, TCP_BACKLOG) < 0)
		return -errno;
	return take_fd(fd);
}

int steer_open(bool ipv6, struct steer_sockets *ret, struct err *err)
{
	static const struct opt udp4[] = { { SOL_IP, IP_TRANSPARENT, 1 },
		{ SOL_SOCKET, SO_REUSEADDR, 1 }, { SOL_SOCKET, SO_MARK, WEIR_MARK_ANSWER },
		{ SOL_IP, IP_PKTINFO, 1 } };
	static const struct opt udp6[] = { { SOL_IPV6, IPV6_V6ONLY, 1 },
		{ SOL_IPV6, IPV6_TRANSPARENT, 1 }, { SOL_SOCKET, SO_REUSEADDR, 1 },
		{ SOL_SOCKET, SO_MARK, WEIR_MARK_ANSWER }, { SOL_IPV6, IPV6_RECVPKTINFO, 1 } };
	static const struct opt tcp4[] = { { SOL_IP, IP_TRANSPARENT, 1 } };
	static const struct opt tcp6[] = { { SOL_IPV6, IPV6_V6ONLY, 1 },
		{ SOL_IPV6, IPV6_TRANSPARENT, 1 } };
	struct steer_sockets s = STEER_NONE;
	int r;

	if ((r = s.udp4 = make(AF_INET, SOCK_DGRAM, udp4, ARRAY_SIZE(udp4))) < 0 ||
		(r = s.tcp4 = make(AF_INET, SOCK_STREAM, tcp4, ARRAY_SIZE(tcp4))) < 0 ||
		(ipv6 && (r = s.udp6 = make(AF_INET6, SOCK_DGRAM, udp6, ARRAY_SIZE(udp6))) < 0) ||
		(ipv6 && (r = s.tcp6 = make(AF_INET6, SOCK_STREAM, tcp6, ARRAY_SIZE(tcp6))) < 0)) {
		steer_close(&s);
		return err_sys(err, r, "sockets of the DNS proxy");
	}
	*ret = s;
	return 0;
}

void steer_close(struct steer_sockets *s)
{
	s->udp4 = fd_close(s->udp4);
	s->udp6 = fd_close(s->udp6);
	s->tcp4 = fd_close(s->tcp4);
	s->tcp6 = fd_close(s->tcp6);
}

/*
 * Queries and answers over UDP: see net.h. One batch is received, every query of it is handed to
 * the resolver, answers that come at once collect in the outgoing batch, one call sends them.
 * Nothing is allocated on the way. What the socket does not take at once is lost, as UDP may.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "edge/net.h"

#define CONTROL_MAX CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct sockaddr_in6))

struct packet {
	union net_addr peer;
	struct iovec iov;
	_Alignas(struct cmsghdr) char control[CONTROL_MAX];
};

struct net_udp {
	uv_poll_t poll;
	int fd;
	bool is6, closing;
	struct resolver *r;
	struct mmsghdr in[UDP_BATCH], out[UDP_BATCH];
	struct packet in_pkt[UDP_BATCH], out_pkt[UDP_BATCH];
	unsigned int n_out;
	char in_buf[UDP_BATCH][UDP_QUERY_MAX];
	char out_buf[UDP_BATCH][DNS_UDP_SIZE];
};

socklen_t net_addr_from(struct ip ip, uint16_t port, uint32_t ifindex, union net_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (ip.family == 4) {
		ret->in4.sin_family = AF_INET;
		ret->in4.sin_port = htons(port);
		memcpy(&ret->in4.sin_addr, ip.a, 4);
		return sizeof(ret->in4);
	}
	ret->in6.sin6_family = AF_INET6;
	ret->in6.sin6_port = htons(port);
	memcpy(&ret->in6.sin6_addr, ip.a, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&ret->in6.sin6_addr))
		ret->in6.sin6_scope_id = ifindex;
	return sizeof(ret->in6);
}

struct ip net_addr_ip(const union net_addr *a, uint16_t *ret_port)
{
	if (a->sa.sa_family == AF_INET) {
		*ret_port = ntohs(a->in4.sin_port);
		return ip_raw(4, &a->in4.sin_addr);
	}
	*ret_port = ntohs(a->in6.sin6_port);
	return ip_raw(6, &a->in6.sin6_addr);
}

/* Where it came in and what it was meant for. */
static bool packet_client(struct msghdr *h, struct packet *p, struct dns_client *ret)
{
	bool found = false;

	ret->peer = net_addr_ip(&p->peer, &ret->port);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			ret->ifindex = (uint32_t)info.ipi_ifindex;
			ret->dst = ip_raw(4, &info.ipi_addr); /* as the packet says */
			found = true;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			ret->ifindex = info.ipi6_ifindex;
			ret->dst = ip_raw(6, &info.ipi6_addr);
			found = true;
		}
	}
	return found;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct net_udp *u = container_of(poll, struct net_udp, poll);

	for (unsigned int round = 0; round < UDP_ROUNDS_MAX; round++) {
		uint64_t now;
		int n;

		for (unsigned int i = 0; i < UDP_BATCH; i++) {
			struct msghdr *h = &u->in[i].msg_hdr;

			h->msg_namelen = sizeof(union net_addr);
			h->msg_controllen = CONTROL_MAX;
			h->msg_flags = 0;
		}
		n = recvmmsg(u->fd, u->in, UDP_BATCH, MSG_DONTWAIT, NULL);
		if (n <= 0)
			break;
		now = clock_mono_ns();
		for (int i = 0; i < n; i++) {
			struct dns_client from = { 0 };

			if (u->in[i].msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
				!packet_client(&u->in[i].msg_hdr, &u->in_pkt[i], &from))
				continue;
			resolver_query(u->r, &from, str_n(u->in_buf[i], u->in[i].msg_len), now);
		}
		net_udp_flush(u);
		if (n < (int)UDP_BATCH)
			break;
	}
}

void net_udp_reply(struct net_udp *u, const struct dns_client *to, struct str msg)
{
	struct packet *p = &u->out_pkt[u->n_out];
	struct msghdr *h = &u->out[u->n_out].msg_hdr;
	struct cmsghdr *c = (struct cmsghdr *)p->control;

	if (msg.n > DNS_UDP_SIZE)
		return;
	memcpy(u->out_buf[u->n_out], msg.p, msg.n);
	p->iov = (struct iovec){ u->out_buf[u->n_out], msg.n };
	*h = (struct msghdr){ .msg_name = &p->peer, .msg_iov = &p->iov, .msg_iovlen = 1,
		.msg_control = p->control };
	h->msg_namelen = net_addr_from(to->peer, to->port, to->ifindex, &p->peer);
	/* From the address that was asked, out of the link it was asked on. */
	if (u->is6) {
		struct in6_pktinfo info = { .ipi6_ifindex = to->ifindex };

		memcpy(&info.ipi6_addr, to->dst.a, 16);
		*c = (struct cmsghdr){ CMSG_LEN(sizeof(info)), IPPROTO_IPV6, IPV6_PKTINFO };
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		h->msg_controllen = CMSG_SPACE(sizeof(info));
	} else {
		struct in_pktinfo info = { .ipi_ifindex = (int)to->ifindex };

		memcpy(&info.ipi_spec_dst, to->dst.a, 4);
		*c = (struct cmsghdr){ CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO };
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		h->msg_controllen = CMSG_SPACE(sizeof(info));
	}
	if (++u->n_out == UDP_BATCH)
		net_udp_flush(u);
}

void net_udp_flush(struct net_udp *u)
{
	unsigned int at = 0;

	while (at < u->n_out) {
		int n = sendmmsg(u->fd, u->out + at, u->n_out - at, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		at += n > 0 ? (unsigned int)n :
			      1; /* one that cannot leave must not hold the rest */
	}
	u->n_out = 0;
}

bool net_udp_is6(const struct net_udp *u)
{
	return u->is6;
}

int net_udp_new(uv_loop_t *loop, int fd, struct resolver *r, struct net_udp **ret)
{
	struct net_udp *u = NULL;
	int family = 0, on = 1, e;
	socklen_t n = sizeof(family);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) < 0) {
		e = -errno;
		goto failed;
	}
	u = calloc(1, sizeof(*u));
	if (!u) {
		e = -ENOMEM;
		goto failed;
	}
	u->fd = fd;
	u->r = r;
	u->is6 = family == AF_INET6;
	if (u->is6)
		e = setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	else
		e = setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	if (e < 0) {
		e = -errno;
		goto failed;
	}
	for (unsigned int i = 0; i < UDP_BATCH; i++) {
		u->in_pkt[i].iov = (struct iovec){ u->in_buf[i], UDP_QUERY_MAX };
		u->in[i].msg_hdr = (struct msghdr){ .msg_name = &u->in_pkt[i].peer,
			.msg_iov = &u->in_pkt[i].iov, .msg_iovlen = 1,
			.msg_control = u->in_pkt[i].control };
	}
	e = uv_poll_init(loop, &u->poll, fd);
	if (e < 0)
		goto failed;
	e = uv_poll_start(&u->poll, UV_READABLE, on_readable);
	if (e < 0) {
		net_udp_free(u);
		return e;
	}
	*ret = u;
	return 0;

failed:
	free(u);
	fd_close(fd);
	return e;
}

static void on_closed(uv_handle_t *h)
{
	struct net_udp *u = container_of((uv_poll_t *)h, struct net_udp, poll);

	fd_close(u->fd);
	free(u);
}

void net_udp_free(struct net_udp *u)
{
	if (!u || u->closing)
		return;
	u->closing = true;
	uv_close((uv_handle_t *)&u->poll, on_closed);
}

/*
 * Queries and answers over TCP: see net.h. Each message has its length in front (RFC 1035 4.2.2);
 * queries may be pipelined, answers go out as they come (RFC 7766).
 *
 * A connection reads while it owes fewer than TCP_PIPELINE_MAX answers and its unsent ones are
 * few; otherwise it pauses, and the kernel's window holds the client back. It ends at EOF with
 * nothing owed, on an error, after TCP_IDLE without progress, or on a length no query has.
 *
 * Connections stand in a table; a client is known to the resolver by its place and a generation,
 * so an answer for a connection that ended meanwhile finds nobody.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "edge/net.h"

#define LISTENERS_MAX 4u
#define ACCEPT_BURST  16

struct conn {
	uv_poll_t poll;
	struct net_tcp *owner;
	int fd, events;
	bool closing, eof, busy;
	uint32_t place, generation;
	struct dns_client client;
	uint32_t owed; /* queries without an answer */
	uint64_t active;
	struct buf out;
	size_t in_n;
	uint8_t in[2 + UDP_QUERY_MAX];
};

struct listener {
	uv_poll_t poll;
	struct net_tcp *owner;
	int fd;
};

struct net_tcp {
	uv_loop_t *loop;
	struct resolver *r;
	uint32_t generation;
	unsigned int handles; /* open uv handles, while closing */
	bool closing;
	struct listener *listeners[LISTENERS_MAX];
	unsigned int n_conns;
	struct conn *conns[TCP_CONNS_MAX];
};

static void on_io(uv_poll_t *poll, int status, int events);

static void owner_put(struct net_tcp *t)
{
	if (--t->handles == 0 && t->closing)
		free(t);
}

static void on_conn_closed(uv_handle_t *h)
{
	struct conn *c = container_of((uv_poll_t *)h, struct conn, poll);

	fd_close(c->fd);
	owner_put(c->owner);
	buf_done(&c->out);
	free(c);
}

static void conn_close(struct conn *c)
{
	if (c->closing)
		return;
	c->closing = true;
	c->owner->conns[c->place] = NULL;
	c->owner->n_conns--;
	resolver_connection_done(c->owner->r, c->client.ifindex);
	uv_close((uv_handle_t *)&c->poll, on_conn_closed);
}

static void conn_watch(struct conn *c)
{
	int events = 0;

	if (c->closing)
		return;
	if (!c->eof && c->owed < TCP_PIPELINE_MAX && c->out.n < TCP_OUT_MAX / 2)
		events |= UV_READABLE;
	if (c->out.n)
		events |= UV_WRITABLE;
	if (events == c->events)
		return;
	c->events = events;
	if ((events ? uv_poll_start(&c->poll, events, on_io) : uv_poll_stop(&c->poll)) < 0)
		conn_close(c);
}

static void conn_write(struct conn *c)
{
	while (c->out.n) {
		ssize_t n = send(c->fd, c->out.p, c->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			conn_close(c);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
	if (c->eof && c->owed == 0)
		conn_close(c);
}

/* Hand over every whole query in the buffer. */
static void conn_queries(struct conn *c, uint64_t now)
{
	size_t at = 0;

	c->busy = true; /* answers that come at once wait for the end of this */
	while (!c->closing && c->owed < TCP_PIPELINE_MAX && c->in_n - at >= 2) {
		size_t n = dns_load16(c->in + at);

		if (n < DNS_HEADER || n > UDP_QUERY_MAX) {
			conn_close(c);
			break;
		}
		if (c->in_n - at < 2 + n)
			break;
		c->owed++;
		c->active = now;
		resolver_query(c->owner->r, &c->client, str_n(c->in + at + 2, n), now);
		at += 2 + n;
	}
	c->busy = false;
	c->in_n -= at;
	memmove(c->in, c->in + at, c->in_n);
}

static void on_io(uv_poll_t *poll, int status, int events)
{
	struct conn *c = container_of(poll, struct conn, poll);

	if (status < 0) {
		conn_close(c);
		return;
	}
	if (events & UV_READABLE) {
		ssize_t n = recv(c->fd, c->in + c->in_n, sizeof(c->in) - c->in_n, MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN) {
			conn_close(c);
			return;
		}
		if (n == 0)
			c->eof = true;
		if (n > 0)
			c->in_n += (size_t)n;
		conn_queries(c, clock_mono_ns());
	}
	if (!c->closing)
		conn_write(c);
	if (!c->closing && c->eof && c->owed == 0 && c->out.n == 0)
		conn_close(c);
	conn_watch(c);
}

void net_tcp_reply(struct net_tcp *t, const struct dns_client *to, struct str msg)
{
	struct conn *c = t->conns[to->conn % TCP_CONNS_MAX];

	if (!c || c->generation != to->conn / TCP_CONNS_MAX)
		return;
	if (c->owed)
		c->owed--;
	c->active = clock_mono_ns();
	buf_be16(&c->out, (uint16_t)msg.n);
	if (buf_add_str(&c->out, msg) < 0) {
		conn_close(c);
		return;
	}
	if (c->busy)
		return;
	conn_write(c);
	/* Queries that waited for room go on. */
	if (!c->closing && c->in_n)
		conn_queries(c, c->active);
	if (!c->closing)
		conn_write(c);
	conn_watch(c);
}

/* The link by which the handshake came, and the address it was meant for. */
static int conn_client(int fd, struct dns_client *ret)
{
	_Alignas(struct cmsghdr) char control[256];
	union net_addr peer, local;
	socklen_t n = sizeof(peer), control_n = sizeof(control);
	struct msghdr h = { .msg_control = control };
	uint16_t port;
	int on = 1;

	if (getpeername(fd, &peer.sa, &n) < 0)
		return -errno;
	n = sizeof(local);
	if (getsockname(fd, &local.sa, &n) < 0)
		return -errno;
	ret->peer = net_addr_ip(&peer, &ret->port);
	ret->dst = net_addr_ip(&local, &port);
	ret->tcp = true;
	if (local.sa.sa_family == AF_INET) {
		if (setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0 ||
			getsockopt(fd, IPPROTO_IP, IP_PKTOPTIONS, control, &control_n) < 0)
			return -errno;
	} else if (setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) < 0 ||
		getsockopt(fd, IPPROTO_IPV6, IPV6_2292PKTOPTIONS, control, &control_n) < 0) {
		return -errno;
	}
	h.msg_controllen = control_n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			ret->ifindex = (uint32_t)info.ipi_ifindex;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			ret->ifindex = info.ipi6_ifindex;
		}
	}
	return ret->ifindex ? 0 : -ENODEV;
}

static void conn_new(struct net_tcp *t, int fd)
{
	/* The fewer places are left, the fewer one sandbox may hold: idle connections of many
	 * cannot take the last place from one that opens its first. */
	uint32_t place = 0, fair = MIN(TCP_CONNS_PER, (TCP_CONNS_MAX - t->n_conns) / 4);
	struct conn *c;

	while (place < TCP_CONNS_MAX && t->conns[place])
		place++;
	c = place < TCP_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c || conn_client(fd, &c->client) < 0 ||
		!resolver_connection(t->r, c->client.ifindex, fair)) {
		free(c);
		fd_close(fd);
		return;
	}
	c->owner = t;
	c->fd = fd;
	c->place = place;
	c->generation = ++t->generation;
	c->client.conn = (uint64_t)c->generation * TCP_CONNS_MAX + place;
	c->active = clock_mono_ns();
	c->out = BUF_MAX(TCP_OUT_MAX + DNS_MSG_MAX);
	if (uv_poll_init(t->loop, &c->poll, fd) < 0) {
		resolver_connection_done(t->r, c->client.ifindex);
		free(c);
		fd_close(fd);
		return;
	}
	t->conns[place] = c;
	t->n_conns++;
	t->handles++;
	conn_watch(c);
}

static void on_accept(uv_poll_t *poll, int status, int events)
{
	struct listener *l = container_of(poll, struct listener, poll);

	for (int i = 0; i < ACCEPT_BURST; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		conn_new(l->owner, fd);
	}
}

void net_tcp_sweep(struct net_tcp *t, uint64_t now)
{
	for (uint32_t i = 0; i < TCP_CONNS_MAX; i++)
		if (t->conns[i] && t->conns[i]->active + TCP_IDLE < now)
			conn_close(t->conns[i]);
}

int net_tcp_new(uv_loop_t *loop, struct resolver *r, struct net_tcp **ret)
{
	struct net_tcp *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->loop = loop;
	t->r = r;
	*ret = t;
	return 0;
}

int net_tcp_listen(struct net_tcp *t, int fd)
{
	struct listener *l = calloc(1, sizeof(*l));
	unsigned int i = 0;
	int e = -ENOMEM;

	while (i < LISTENERS_MAX && t->listeners[i])
		i++;
	if (!l || i == LISTENERS_MAX)
		goto failed;
	l->owner = t;
	l->fd = fd;
	e = fd_nonblock(fd, true);
	if (e == 0)
		e = uv_poll_init(t->loop, &l->poll, fd);
	if (e < 0)
		goto failed;
	t->listeners[i] = l;
	t->handles++;
	return uv_poll_start(&l->poll, UV_READABLE, on_accept);

failed:
	free(l);
	fd_close(fd);
	return e;
}

static void on_listener_closed(uv_handle_t *h)
{
	struct listener *l = container_of((uv_poll_t *)h, struct listener, poll);

	fd_close(l->fd);
	owner_put(l->owner);
	free(l);
}

void net_tcp_free(struct net_tcp *t)
{
	if (!t || t->closing)
		return;
	t->closing = true;
	t->handles++; /* held by this function */
	for (unsigned int i = 0; i < LISTENERS_MAX; i++)
		if (t->listeners[i])
			uv_close((uv_handle_t *)&t->listeners[i]->poll, on_listener_closed);
	for (uint32_t i = 0; i < TCP_CONNS_MAX; i++)
		if (t->conns[i])
			conn_close(t->conns[i]);
	owner_put(t);
}

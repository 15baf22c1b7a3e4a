/*
 * Sockets towards resolvers: see net.h.
 *
 * Every question gets a fresh, connected UDP socket, so its source port is as random as its id and
 * the kernel drops what comes from anyone but the resolver. Over TCP it gets a connection. Sockets
 * are known to the resolver by a number that is never reused.
 *
 * Resolvers that only the host's namespace reaches (loopback, the host's own addresses) are asked
 * through sockets made there by the host role. These are dear, so they stand in a pool: a question
 * takes any of them at random, each serves HOST_SOCK_USES and is then renewed, which keeps ports
 * moving. TCP ones are asked for one by one; the question waits for its socket.
 */
#include "base/fd.h"
#include "base/clock.h"
#include "base/ulid.h"
#include "edge/hash.h"
#include "edge/net.h"

#define READ_BURST 8

struct usock {
	UT_hash_handle hh;
	uv_poll_t poll;
	uint64_t number;
	struct net_upstream *owner;
	int fd;
	bool tcp, pooled, retired, closing, watched;
	struct ip ip; /* of the resolver */
	uint16_t port;
	uint32_t uses, users;
	struct buf out, in; /* TCP */
};

struct net_upstream {
	uv_loop_t *loop;
	struct resolver *r;
	net_want_fn want;
	void *arg;
	struct usock *socks;
	uint64_t last;
	unsigned int n_pooled, wanted, handles;
	bool closing;
	char buf[DNS_MSG_MAX];
};

static void owner_put(struct net_upstream *u)
{
	if (--u->handles == 0 && u->closing)
		free(u);
}

static void usock_done(struct usock *s)
{
	fd_close(s->fd);
	buf_done(&s->out);
	buf_done(&s->in);
	owner_put(s->owner);
	free(s);
}

static void on_closed(uv_handle_t *h)
{
	usock_done(container_of((uv_poll_t *)h, struct usock, poll));
}

static void usock_close(struct usock *s)
{
	if (s->closing)
		return;
	s->closing = true;
	HASH_DEL(s->owner->socks, s);
	s->owner->n_pooled -= s->pooled;
	if (s->watched)
		uv_close((uv_handle_t *)&s->poll, on_closed);
	else
		usock_done(s);
}

static struct usock *usock_new(struct net_upstream *u, bool tcp, struct ip ip, uint16_t port)
{
	struct usock *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->number = ++u->last;
	s->owner = u;
	s->fd = -EBADF;
	s->tcp = tcp;
	s->ip = ip;
	s->port = port;
	s->out = BUF_MAX(1024); /* one query */
	s->in = BUF_MAX(2 + DNS_MSG_MAX);
	HASH_ADD(hh, u->socks, number, sizeof(s->number), s);
	if (!table_has(s)) {
		free(s);
		return NULL;
	}
	u->handles++;
	return s;
}

static struct usock *usock_find(struct net_upstream *u, uint64_t number)
{
	struct usock *s;

	HASH_FIND(hh, u->socks, &number, sizeof(number), s);
	return s;
}

/* The resolver is told first: it closes what it holds of the socket. */
static void usock_lost(struct usock *s)
{
	struct net_upstream *u = s->owner;
	uint64_t number = s->number;

	s->users++; /* not freed under us */
	resolver_lost(u->r, number, clock_mono_ns());
	s->users--;
	if (!s->pooled)
		usock_close(s);
}

static void read_udp(struct usock *s)
{
	struct net_upstream *u = s->owner;

	s->users++;
	for (int i = 0; i < READ_BURST && !s->closing; i++) {
		ssize_t n = recv(s->fd, u->buf, sizeof(u->buf), MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) { /* an ICMP error: nobody listens there */
			s->users--;
			usock_lost(s);
			return;
		}
		resolver_answer(u->r, s->number, str_n(u->buf, (size_t)n), clock_mono_ns());
	}
	if (--s->users == 0 && (!s->pooled || s->retired))
		usock_close(s);
}

static void read_tcp(struct usock *s)
{
	ssize_t n;
	size_t want;

	if (buf_room(&s->in, 4096) < 0 && (s->in.failed = 0, buf_room(&s->in, 1)) < 0)
		n = -1;
	else
		n = recv(s->fd, s->in.p + s->in.n, s->in.cap - s->in.n, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		usock_lost(s);
		return;
	}
	s->in.n += (size_t)n;
	while (s->in.n >= 2 && s->in.n >= 2 + (want = dns_load16(s->in.p))) {
		struct str msg = str_n(s->in.p + 2, want);

		s->users++;
		resolver_answer(s->owner->r, s->number, msg, clock_mono_ns());
		if (--s->users == 0) {
			usock_close(s);
			return;
		}
		buf_consume(&s->in, 2 + want);
	}
}

static void on_io(uv_poll_t *poll, int status, int events);

static void write_tcp(struct usock *s)
{
	while (s->out.n) {
		ssize_t n = send(s->fd, s->out.p, s->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			usock_lost(s);
			return;
		}
		buf_consume(&s->out, (size_t)n);
	}
	uv_poll_start(&s->poll, UV_READABLE, on_io);
}

static void on_io(uv_poll_t *poll, int status, int events)
{
	struct usock *s = container_of(poll, struct usock, poll);

	if (s->closing)
		return;
	if (!s->tcp) {
		read_udp(s);
		return;
	}
	if (status < 0) {
		usock_lost(s);
		return;
	}
	if (events & UV_WRITABLE)
		write_tcp(s);
	if (!s->closing && events & UV_READABLE)
		read_tcp(s);
}

static int usock_watch(struct usock *s, int fd)
{
	int e = uv_poll_init(s->owner->loop, &s->poll, fd);

	if (e < 0)
		return e;
	s->fd = fd;
	s->watched = true;
	return uv_poll_start(&s->poll, s->tcp ? UV_READABLE | UV_WRITABLE : UV_READABLE, on_io);
}

static int open_fresh(struct net_upstream *u, const struct server *sv, bool tcp, uint64_t *ret)
{
	auto_fd int fd = socket(sv->ip.family == 4 ? AF_INET : AF_INET6,
		(tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	union net_addr addr;
	socklen_t n = net_addr_from(sv->ip, sv->port, 0, &addr);
	struct usock *s;
	int e;

	if (fd < 0)
		return -errno;
	if (connect(fd, &addr.sa, n) < 0 && errno != EINPROGRESS)
		return -errno;
	s = usock_new(u, tcp, sv->ip, sv->port);
	if (!s)
		return -ENOMEM;
	e = usock_watch(s, fd);
	if (s->watched)
		(void)take_fd(fd);
	if (e < 0) {
		usock_close(s);
		return e;
	}
	s->users = 1;
	*ret = s->number;
	return 0;
}

static void want_more(struct net_upstream *u, struct ip ip)
{
	uint32_t count = IPC_FDS_MAX;

	if (u->wanted || u->n_pooled >= HOST_SOCKS_MAX)
		return;
	if (u->want(u->arg, ip, false, count, 0) == 0)
		u->wanted = count;
}

static int open_pooled(struct net_upstream *u, const struct server *sv, uint64_t *ret)
{
	struct usock *s, *tmp, *chosen = NULL;
	uint32_t fit = 0, pick;

	random_bytes(&pick, sizeof(pick));
	HASH_ITER(hh, u->socks, s, tmp) /* one in `fit`, each with the same chance */
		if (s->pooled && !s->retired && ip_eq(s->ip, sv->ip) && s->port == sv->port &&
			pick % ++fit == 0)
			chosen = s;
	if (fit < RESOLVER_TRIES)
		want_more(u, sv->ip);
	if (!chosen)
		return -EAGAIN;
	chosen->users++;
	if (++chosen->uses >= HOST_SOCK_USES && fit > 1) {
		chosen->retired = true;
		u->n_pooled--;
		chosen->pooled = false;
		want_more(u, sv->ip);
	}
	*ret = chosen->number;
	return 0;
}

/* A place for a connection that the host role is asked to make. */
static int open_host_tcp(struct net_upstream *u, const struct server *sv, uint64_t *ret)
{
	struct usock *s = usock_new(u, true, sv->ip, sv->port);
	int e;

	if (!s)
		return -ENOMEM;
	e = u->want(u->arg, sv->ip, true, 1, s->number);
	if (e < 0) {
		usock_close(s);
		return e;
	}
	s->users = 1;
	*ret = s->number;
	return 0;
}

int net_upstream_open(struct net_upstream *u, const struct server *s, bool tcp, uint64_t *ret_sock)
{
	if (!s->host)
		return open_fresh(u, s, tcp, ret_sock);
	return tcp ? open_host_tcp(u, s, ret_sock) : open_pooled(u, s, ret_sock);
}

int net_upstream_send(struct net_upstream *u, uint64_t sock, struct str msg)
{
	struct usock *s = usock_find(u, sock);

	if (!s)
		return -ENOENT;
	if (s->tcp) { /* goes out when connected */
		buf_be16(&s->out, (uint16_t)msg.n);
		return buf_add_str(&s->out, msg);
	}
	return send(s->fd, msg.p, msg.n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void net_upstream_close(struct net_upstream *u, uint64_t sock)
{
	struct usock *s = usock_find(u, sock);

	if (s && s->users && --s->users == 0 && !s->pooled)
		usock_close(s);
}

int net_upstream_given(struct net_upstream *u, int given, uint64_t sock)
{
	auto_fd int fd = given;
	struct usock *s;
	int e;

	if (sock) {
		s = usock_find(u, sock);
		if (!s || s->watched)
			return -ENOENT; /* the question did not wait */
	} else {
		union net_addr peer;
		socklen_t n = sizeof(peer);
		uint16_t port;
		struct ip ip;

		u->wanted -= MIN(u->wanted, 1u);
		if (u->n_pooled >= HOST_SOCKS_MAX)
			return -ENOSPC;
		if (getpeername(fd, &peer.sa, &n) < 0)
			return -errno;
		ip = net_addr_ip(&peer, &port);
		s = usock_new(u, false, ip, port);
		if (!s)
			return -ENOMEM;
		s->pooled = true;
		u->n_pooled++;
	}
	e = fd_nonblock(fd, true);
	if (e == 0)
		e = usock_watch(s, fd);
	if (s->watched)
		(void)take_fd(fd);
	if (e < 0 && sock)
		usock_lost(s);
	else if (e < 0)
		usock_close(s);
	return e;
}

void net_upstream_refused(struct net_upstream *u, uint64_t sock)
{
	struct usock *s = sock ? usock_find(u, sock) : NULL;

	if (!sock)
		u->wanted = 0;
	if (s)
		usock_lost(s);
}

int net_upstream_new(uv_loop_t *loop, struct resolver *r, net_want_fn want, void *arg,
	struct net_upstream **ret)
{
	struct net_upstream *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->loop = loop;
	u->r = r;
	u->want = want;
	u->arg = arg;
	*ret = u;
	return 0;
}

void net_upstream_free(struct net_upstream *u)
{
	struct usock *s, *tmp;

	if (!u || u->closing)
		return;
	u->handles++;
	HASH_ITER(hh, u->socks, s, tmp)
		usock_close(s);
	u->closing = true;
	owner_put(u);
}

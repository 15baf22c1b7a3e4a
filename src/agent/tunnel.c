/*
 * A connection to a port on the sandbox's loopback: 127.0.0.1 first, then ::1, since servers
 * choose either. DATA frames one way and the other; END half-closes; when both sides have ended,
 * so does the connection. Each direction holds at most one frame that the other side did not
 * take yet.
 *
 * The agent's own ports are refused: what arrives here may come from outside the sandbox, and the
 * self-signal endpoint trusts whoever reaches it.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "agent/agent.h"
#include "bpf/maps.h"

struct tunnel {
	struct conn *conn;
	struct watch s;
	struct buf pending; /* for s; the connection is on hold */
	uint16_t port;
	bool six, connected, conn_ended, s_ended;
};

static void tunnel_free(struct tunnel *t)
{
	watch_close(&t->s);
	buf_done(&t->pending);
	free(t);
}

static void on_gone(struct conn *c)
{
	tunnel_free(c->op);
}

static void tunnel_break(struct tunnel *t)
{
	conn_close(t->conn);
	tunnel_free(t);
}

/* Frees t when both directions are over. */
static void tunnel_want(struct tunnel *t)
{
	uint32_t events = 0;

	if (t->conn_ended && t->s_ended) {
		conn_finish(t->conn);
		tunnel_free(t);
		return;
	}
	if (!t->s_ended && !conn_busy(t->conn))
		events |= EPOLLIN;
	if (t->pending.n)
		events |= EPOLLOUT;
	watch_set(&t->s, events);
}

static void on_s_readable(struct tunnel *t)
{
	ssize_t k;

	if (conn_busy(t->conn))
		return;
	k = recv(t->s.fd, scratch, sizeof(scratch), MSG_DONTWAIT);
	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (k < 0 || (k > 0 && conn_send_raw(t->conn, FRAME_DATA, str_n(scratch, (size_t)k)) < 0)) {
		t->s_ended = t->conn_ended = true;
		conn_close(t->conn); /* a reset there is a reset here */
		return;
	}
	if (k == 0) {
		t->s_ended = true;
		conn_send(t->conn, FRAME_END, &(union frame_body){ 0 });
	}
}

static void on_s_room(struct tunnel *t)
{
	ssize_t k = send(t->s.fd, t->pending.p, t->pending.n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (k < 0 && errno != EAGAIN && errno != EINTR) {
		t->s_ended = t->conn_ended = true;
		conn_close(t->conn);
		return;
	}
	buf_consume(&t->pending, (size_t)MAX(k, (ssize_t)0));
}

static void on_s(struct watch *w, uint32_t events)
{
	struct tunnel *t = container_of(w, struct tunnel, s);
	bool had = t->pending.n;

	if (had && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		on_s_room(t);
	if (!t->s_ended && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		on_s_readable(t);
	if (t->conn->state != CONN_OPEN) {
		tunnel_free(t);
		return;
	}
	if (had && !t->pending.n) {
		struct conn *c = t->conn;

		buf_done(&t->pending);
		conn_unhold(c); /* may end the tunnel */
		if (c->state != CONN_OPEN || c->op != t)
			return;
	}
	tunnel_want(t);
}

static void on_frame(struct conn *c, const struct frame *f)
{
	struct tunnel *t = c->op;

	if (!t->connected || t->conn_ended || (f->type != FRAME_DATA && f->type != FRAME_END)) {
		tunnel_break(t);
		return;
	}
	if (f->type == FRAME_END) {
		t->conn_ended = true;
		shutdown(t->s.fd, SHUT_WR);
	} else {
		ssize_t k = send(t->s.fd, f->body.p, f->body.n, MSG_NOSIGNAL | MSG_DONTWAIT);
		struct str rest;

		if (k < 0 && errno != EAGAIN && errno != EINTR) {
			tunnel_break(t);
			return;
		}
		rest = str_skip(f->body, (size_t)MAX(k, (ssize_t)0));
		if (rest.n) {
			if (buf_add_str(&t->pending, rest) < 0) {
				tunnel_break(t);
				return;
			}
			conn_hold(c);
		}
	}
	tunnel_want(t);
}

static void on_drained(struct conn *c)
{
	struct tunnel *t = c->op;

	if (t->connected)
		tunnel_want(t);
}

static const struct conn_ops tunnel_ops = { .frame = on_frame, .drained = on_drained,
	.gone = on_gone };

/* --- connecting --- */

static void on_connecting(struct watch *w, uint32_t events);

/* 0: under way. */
static int try_connect(struct tunnel *t)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(t->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(t->port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int one = 1;

	watch_close(&t->s);
	t->s.fd = socket(t->six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (t->s.fd < 0)
		return -errno;
	setsockopt(t->s.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(t->s.fd, t->six ? (void *)&v6 : (void *)&v4, t->six ? sizeof(v6) : sizeof(v4)) < 0 &&
		errno != EINPROGRESS)
		return -errno;
	t->s.fn = on_connecting;
	return watch_set(&t->s, EPOLLOUT);
}

static void connect_failed(struct tunnel *t, int error)
{
	if (!t->six) {
		t->six = true;
		if (try_connect(t) == 0)
			return;
	}
	conn_fail(t->conn, error, "nothing accepts connections on port %u of the sandbox: %s",
		t->port, strerror(error));
	tunnel_free(t);
}

static void on_connecting(struct watch *w, uint32_t events)
{
	struct tunnel *t = container_of(w, struct tunnel, s);
	socklen_t n = sizeof(int);
	int error = 0;

	getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &n);
	if (error) {
		connect_failed(t, error);
		return;
	}
	t->connected = true;
	w->fn = on_s;
	conn_send(t->conn, FRAME_OK, &(union frame_body){ 0 });
	tunnel_want(t);
}

void tunnel_start(struct conn *c, const union frame_body *m)
{
	struct tunnel *t;
	int r;

	if (m->connect.port == WEIR_AGENT_PORT || m->connect.port == SELF_PORT) {
		conn_fail(c, EACCES, "port %u belongs to the agent", m->connect.port);
		return;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		conn_fail(c, ENOMEM, "out of memory");
		return;
	}
	t->conn = c;
	t->port = (uint16_t)m->connect.port;
	t->s = (struct watch){ .fd = -EBADF };
	t->pending = BUF_MAX(FRAME_MAX);
	c->op = t;
	c->ops = &tunnel_ops;
	r = try_connect(t);
	if (r < 0)
		connect_failed(t, -r);
}

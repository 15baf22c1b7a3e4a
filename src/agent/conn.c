/*
 * Connections. A connection begins with one message (HELLO_MS to complete it), which picks its
 * operation; from then on the operation's conn_ops hear of frames, of room to send, and of the
 * end.
 *
 *	CONN_OPEN        frames go to the operation
 *	CONN_LAST_WORDS  the operation is over; what is in `out` is still on its way
 *	CONN_LINGER      all sent, our side shut; wait (LINGER_MS) for the peer to close, reading
 *	                 what it sends to nowhere: closing over unread bytes would be a reset, and a
 *	                 reset can overtake our last frame
 *	CONN_DEAD        closed; the memory goes when the current event is done
 *
 * The peer's end of file always means that it has left: half-closing is a frame (END).
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "agent/agent.h"
#include "bpf/maps.h"

#define OUT_MAX (2 * (FRAME_HEADER + FRAME_MAX) + 4096)

static void (*const starts[])(struct conn *c, const union frame_body *m) = {
	[FRAME_EXEC] = exec_start,   [FRAME_PUT] = put_start,	[FRAME_GET] = get_start,
	[FRAME_WAKE] = wake_start,   [FRAME_WATCH] = watch_start, [FRAME_PING] = ping_start,
	[FRAME_CONNECT] = tunnel_start, [FRAME_START] = proc_start, [FRAME_ATTACH] = attach_start,
	[FRAME_PROCS] = procs_start, [FRAME_CONTROL] = control_start, [FRAME_TREE] = tree_start,
	[FRAME_NOTIFY] = notify_start, [FRAME_SLEEP] = sleep_start, [FRAME_GO] = go_start,
};

static struct watch listener = { .fd = -EBADF };
static struct timer listener_retry, burial;
static struct conn *conns, *dead;
static unsigned int n_conns;

/* --- ends --- */

static void on_burial(struct timer *t)
{
	while (dead) {
		struct conn *c = dead;

		dead = c->next;
		buf_done(&c->in);
		buf_done(&c->out);
		buf_done(&c->join.body);
		free(c);
	}
}

void conn_close(struct conn *c)
{
	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	c->ops = NULL;
	timer_stop(&c->timer);
	watch_close(&c->watch);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	n_conns--;
	c->next = dead;
	dead = c;
	timer_set(&burial, 0, on_burial);
	if (!listener.events && !listener_retry.armed)
		watch_set(&listener, EPOLLIN);
}

static void conn_gone(struct conn *c)
{
	const struct conn_ops *ops = c->ops;

	conn_close(c);
	if (ops && ops->gone)
		ops->gone(c);
}

static void on_linger_end(struct timer *t)
{
	conn_close(container_of(t, struct conn, timer));
}

static void linger(struct conn *c)
{
	c->state = CONN_LINGER;
	buf_done(&c->in);
	buf_done(&c->out);
	shutdown(c->watch.fd, SHUT_WR);
	timer_set(&c->timer, LINGER_MS, on_linger_end);
	watch_set(&c->watch, EPOLLIN);
}

void conn_finish(struct conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	c->ops = NULL;
	if (!conn_busy(c)) {
		linger(c);
		return;
	}
	c->state = CONN_LAST_WORDS; /* without a limit: a slow reader is to get its last frame */
	watch_set(&c->watch, EPOLLOUT);
}

void conn_fail(struct conn *c, int error, const char *fmt, ...)
{
	char text[FRAME_SENTENCE_MAX + 1];
	union frame_body m = { .error = { .code = (uint32_t)error } };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	m.error.text = str_c(text);
	if (conn_send(c, FRAME_ERROR, &m) < 0)
		conn_close(c);
	else
		conn_finish(c);
}

/* --- sending --- */

static uint32_t wanted(const struct conn *c)
{
	return (c->hold ? 0 : EPOLLIN) | EPOLLRDHUP | (conn_busy(c) ? EPOLLOUT : 0);
}

/* A broken connection is found by reading; here its bytes just do not leave. */
static void flush(struct conn *c)
{
	while (c->out.n) {
		ssize_t k = send(c->watch.fd, c->out.p, c->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (k < 0)
			break;
		buf_consume(&c->out, (size_t)k);
	}
	if (!c->out.n)
		buf_done(&c->out);
	if (c->state == CONN_OPEN)
		watch_set(&c->watch, wanted(c));
}

int conn_send(struct conn *c, uint8_t type, const union frame_body *msg)
{
	int r;

	if (c->state != CONN_OPEN)
		return -ESHUTDOWN;
	r = frame_encode(&c->out, type, msg);
	if (r == 0)
		flush(c);
	return r;
}

int conn_send_raw(struct conn *c, uint8_t type, struct str data)
{
	int r;

	if (c->state != CONN_OPEN)
		return -ESHUTDOWN;
	r = frame_add(&c->out, type, 0, data);
	if (r == 0)
		flush(c);
	return r;
}

/* --- receiving --- */

/* The message is copied out of c->in first: file.c forks inside its start function, and the child
 * goes on with what c->in then holds. */
static int first_frame(struct conn *c, const struct frame *f, size_t taken)
{
	union frame_body m;
	uint8_t type;
	int r = frame_join(&c->join, f);

	buf_consume(&c->in, taken);
	if (r == 0)
		return 0;
	type = c->join.type;
	if (r > 0 && (type >= ARRAY_SIZE(starts) || !starts[type]))
		r = -EBADMSG;
	if (r > 0)
		r = frame_decode(type, buf_str(&c->join.body), &m);
	if (r < 0)
		return r;
	timer_stop(&c->timer);
	starts[type](c, &m);
	frame_body_done(type, &m);
	buf_done(&c->join.body);
	return 0;
}

static int next_frame(struct conn *c)
{
	struct str rest = buf_str(&c->in);
	struct frame f;
	int r = frame_next(&rest, &f);

	if (r <= 0)
		return r;
	if (!c->ops)
		return first_frame(c, &f, c->in.n - rest.n) < 0 ? -EBADMSG : 1;
	if (!c->ops->frame)
		return -EBADMSG;
	c->ops->frame(c, &f);
	if (c->state == CONN_OPEN)
		buf_consume(&c->in, c->in.n - rest.n);
	return 1;
}

static void deliver(struct conn *c)
{
	int r = 1;

	while (r > 0 && c->state == CONN_OPEN && !c->hold)
		r = next_frame(c);
	if (c->state != CONN_OPEN)
		return;
	if (r < 0) {
		const struct conn_ops *ops = c->ops;

		conn_fail(c, EBADMSG, "malformed frame or request");
		if (ops && ops->gone)
			ops->gone(c);
		return;
	}
	if (!c->in.n)
		buf_done(&c->in);
}

void conn_hold(struct conn *c)
{
	c->hold = true;
	if (c->state == CONN_OPEN)
		watch_set(&c->watch, wanted(c));
}

void conn_unhold(struct conn *c)
{
	if (!c->hold)
		return;
	c->hold = false;
	deliver(c);
	if (c->state == CONN_OPEN)
		watch_set(&c->watch, wanted(c));
}

/* 1: read something; 0: nothing there; negative: the peer has left. */
static int receive(struct conn *c)
{
	ssize_t k;

	if (buf_room(&c->in, c->in.max - c->in.n) < 0)
		return -ENOMEM;
	k = recv(c->watch.fd, c->in.p + c->in.n, c->in.max - c->in.n, MSG_DONTWAIT);
	if (k < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (k == 0)
		return -ECONNRESET;
	c->in.n += (size_t)k;
	return 1;
}

static void on_linger(struct conn *c)
{
	ssize_t k = recv(c->watch.fd, scratch, sizeof(scratch), MSG_DONTWAIT);

	if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
		conn_close(c);
}

static void on_conn(struct watch *w, uint32_t events)
{
	struct conn *c = container_of(w, struct conn, watch);

	if (c->state == CONN_LINGER) {
		on_linger(c);
		return;
	}
	if (events & EPOLLOUT) {
		flush(c);
		if (c->state == CONN_LAST_WORDS && !conn_busy(c))
			linger(c);
		else if (!conn_busy(c) && c->ops && c->ops->drained)
			c->ops->drained(c);
	}
	if (c->state == CONN_LAST_WORDS && (events & (EPOLLERR | EPOLLHUP))) {
		conn_close(c);
		return;
	}
	if (c->state != CONN_OPEN)
		return;
	if ((events & EPOLLIN) && !c->hold) {
		if (receive(c) < 0)
			conn_gone(c);
		else
			deliver(c);
	} else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		conn_gone(c);
	}
}

/* --- accepting --- */

/* Only the gateway, only on the link's address: a process of the sandbox that connects here has
 * its own address, and the gateway's is on no interface of the sandbox. */
static bool peer_ok(int fd)
{
	struct sockaddr_in peer = { 0 }, here = { 0 };
	socklen_t n = sizeof(peer), k = sizeof(here);

	return getpeername(fd, (struct sockaddr *)&peer, &n) == 0 &&
		getsockname(fd, (struct sockaddr *)&here, &k) == 0 &&
		peer.sin_family == AF_INET && here.sin_family == AF_INET &&
		peer.sin_addr.s_addr == htonl(WEIR_LINK_GATEWAY) &&
		here.sin_addr.s_addr == htonl(WEIR_LINK_SANDBOX);
}

static void on_hello_end(struct timer *t)
{
	conn_close(container_of(t, struct conn, timer));
}

static int conn_new(int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		return -ENOMEM;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->watch = (struct watch){ .fd = fd, .fn = on_conn };
	c->in = BUF_MAX(FRAME_HEADER + FRAME_MAX);
	c->out = BUF_MAX(OUT_MAX);
	c->join = FRAME_JOIN;
	if (watch_set(&c->watch, EPOLLIN | EPOLLRDHUP) < 0) {
		free(c);
		return -ENOMEM;
	}
	c->next = conns;
	c->at = &conns;
	if (conns)
		conns->at = &c->next;
	conns = c;
	n_conns++;
	timer_set(&c->timer, HELLO_MS, on_hello_end);
	return 0;
}

static void on_retry(struct timer *t)
{
	if (n_conns < CONNS_MAX)
		watch_set(&listener, EPOLLIN);
}

static void on_listener(struct watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		/* No descriptors or no memory: callers wait in the backlog meanwhile. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			watch_set(w, 0);
			timer_set(&listener_retry, RETRY_MS, on_retry);
		}
		return;
	}
	if (!peer_ok(fd) || conn_new(fd) < 0)
		close(fd);
	if (n_conns >= CONNS_MAX) /* the next one waits until one of these ends */
		watch_set(w, 0);
}

int conn_listen(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	listener.fd = fd;
	listener.fn = on_listener;
	return watch_set(&listener, EPOLLIN);
}

void ping_start(struct conn *c, const union frame_body *m)
{
	conn_send(c, FRAME_OK, &(union frame_body){ 0 });
	conn_finish(c);
}

/*
 * 127.0.0.1:15353, UDP and TCP: where OpenSandbox's clients look for the sandbox's resolver. What
 * comes in goes to port 53 of the gateway, where the policy's own resolver answers as it answers
 * everybody, and the answer comes back. Nothing is read here but lengths.
 *
 * A UDP query has a socket of its own towards the gateway until its answer comes, so an answer
 * cannot go to another asker; a TCP connection has one until either side closes. Past the bounds the
 * oldest query makes room, and connections wait in the backlog.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "agent/agent.h"
#include "bpf/maps.h"

#define DNS_PORT    15353
#define QUERIES_MAX 64u
#define QUERY_MS    10000 /* a resolver that has not answered by then will not */
#define PIPES_MAX   16u
#define PIPE_MS	    30000 /* without a byte */

/* --- UDP --- */

struct query {
	struct watch watch; /* towards the gateway; fd negative: free */
	struct timer timer;
	struct sockaddr_in asker;
	uint64_t order;
};

static struct watch udp = { .fd = -EBADF };
static struct query queries[QUERIES_MAX];
static uint64_t n_asked;

static int towards_gateway(int type)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53),
		.sin_addr.s_addr = htonl(WEIR_LINK_GATEWAY) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS) {
		close(fd);
		return -errno;
	}
	return fd;
}

static void query_end(struct query *q)
{
	timer_stop(&q->timer);
	watch_close(&q->watch);
}

static void on_query_late(struct timer *t)
{
	query_end(container_of(t, struct query, timer));
}

static void on_answer(struct watch *w, uint32_t events)
{
	struct query *q = container_of(w, struct query, watch);
	ssize_t n = recv(w->fd, scratch, sizeof(scratch), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		sendto(udp.fd, scratch, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL,
			(struct sockaddr *)&q->asker, sizeof(q->asker));
	query_end(q);
}

/* A free place, or that of the query which has waited longest. */
static struct query *query_place(void)
{
	struct query *old = &queries[0];

	for (unsigned int i = 0; i < QUERIES_MAX; i++) {
		if (queries[i].watch.fd < 0)
			return &queries[i];
		if (queries[i].order < old->order)
			old = &queries[i];
	}
	query_end(old);
	return old;
}

static void on_udp(struct watch *w, uint32_t events)
{
	struct sockaddr_in asker;
	socklen_t size = sizeof(asker);
	ssize_t n = recvfrom(w->fd, scratch, sizeof(scratch), MSG_DONTWAIT,
		(struct sockaddr *)&asker, &size);
	struct query *q;

	if (n <= 0)
		return;
	q = query_place();
	q->watch = (struct watch){ .fd = towards_gateway(SOCK_DGRAM), .fn = on_answer };
	if (q->watch.fd < 0)
		return;
	q->asker = asker;
	q->order = ++n_asked;
	if (send(q->watch.fd, scratch, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n ||
		watch_set(&q->watch, EPOLLIN) < 0)
		query_end(q);
	else
		timer_set(&q->timer, QUERY_MS, on_query_late);
}

/* --- TCP --- */

struct side {
	struct watch watch;
	struct pipe *pipe;
	bool ended; /* has sent its last byte, and the other side was told */
};
struct pipe {
	struct side side[2]; /* who asks, and the gateway */
	struct timer timer;
};

static struct watch tcp = { .fd = -EBADF };
static unsigned int n_pipes;

static void pipe_end(struct pipe *p)
{
	timer_stop(&p->timer);
	watch_close(&p->side[0].watch);
	watch_close(&p->side[1].watch);
	free(p);
	n_pipes--;
	watch_set(&tcp, EPOLLIN);
}

static void on_pipe_silent(struct timer *t)
{
	pipe_end(container_of(t, struct pipe, timer));
}

/* What one side has, as far as the other side takes it: it is only taken from the one's buffer then. */
static int pipe_move(struct side *from, struct side *to)
{
	ssize_t n = recv(from->watch.fd, scratch, sizeof(scratch), MSG_PEEK | MSG_DONTWAIT), sent;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0) {
		from->ended = true;
		shutdown(to->watch.fd, SHUT_WR);
		return 0;
	}
	sent = send(to->watch.fd, scratch, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : -errno;
	recv(from->watch.fd, scratch, (size_t)sent, MSG_DONTWAIT);
	return sent < n;
}

/* Both ways. A side is waited for until it can be read; where the other is full, until that drains. */
static void on_pipe(struct watch *w, uint32_t events)
{
	struct pipe *p = container_of(w, struct side, watch)->pipe;
	uint32_t wanted[2] = { 0, 0 };

	for (int i = 0; i < 2; i++) {
		struct side *from = &p->side[i], *to = &p->side[!i];
		int r = from->ended ? 0 : pipe_move(from, to);

		if (r < 0) {
			pipe_end(p);
			return;
		}
		if (r > 0)
			wanted[!i] |= EPOLLOUT;
		else if (!from->ended)
			wanted[i] |= EPOLLIN;
	}
	if ((p->side[0].ended && p->side[1].ended) || events & EPOLLERR) {
		pipe_end(p);
		return;
	}
	watch_set(&p->side[0].watch, wanted[0]);
	watch_set(&p->side[1].watch, wanted[1]);
	timer_set(&p->timer, PIPE_MS, on_pipe_silent);
}

static void on_tcp(struct watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct pipe *p = fd < 0 ? NULL : calloc(1, sizeof(*p));

	if (!p) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (int i = 0; i < 2; i++)
		p->side[i] = (struct side){ .pipe = p,
			.watch = { .fd = i ? towards_gateway(SOCK_STREAM) : fd, .fn = on_pipe } };
	n_pipes++;
	if (n_pipes >= PIPES_MAX)
		watch_set(w, 0);
	if (p->side[1].watch.fd < 0 || watch_set(&p->side[1].watch, EPOLLOUT) < 0)
		pipe_end(p);
	else
		timer_set(&p->timer, PIPE_MS, on_pipe_silent);
}

/* --- start --- */

static int listen_on(struct watch *w, int type, void (*fn)(struct watch *w, uint32_t events))
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(DNS_PORT),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1;

	*w = (struct watch){ .fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .fn = fn };
	if (w->fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		setsockopt(w->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(w->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
		(type == SOCK_STREAM && listen(w->fd, 64) < 0))
		return -errno;
	return watch_set(w, EPOLLIN);
}

int dns_open(void)
{
	int r;

	for (unsigned int i = 0; i < QUERIES_MAX; i++)
		queries[i].watch.fd = -EBADF;
	r = listen_on(&udp, SOCK_DGRAM, on_udp);
	return r < 0 ? r : listen_on(&tcp, SOCK_STREAM, on_tcp);
}

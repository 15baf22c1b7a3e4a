/*
 * Connections to sandboxes.
 *
 * Dialled straight first: the sandbox's own address, over its link. Where that is refused, nothing
 * listens but perhaps on loopback: then the agent is asked (CONNECT of doc/protocol-agent.md), and
 * the bytes travel in its frames, made and opened here. Ports that the api role serves are one end
 * of a socket pair, whose other end it gets.
 *
 * A connection whose answer was read to its end serves the next request for the same port; while
 * idle it is watched, and closed at the first thing it says.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include "bpf/maps.h"
#include "edge/ingress/proxy.h"
#include "wire/frame.h"

static void on_ready(uv_poll_t *poll, int status, int events);

static int refuse(struct err *err, int status, enum err_kind kind, const char *text)
{
	err_set(err, -ECONNREFUSED, kind, "%s", text);
	return status;
}

/* --- the end --- */

static void on_closed(uv_handle_t *handle)
{
	struct up *u = container_of((uv_poll_t *)handle, struct up, end.poll);
	struct ingress *in = u->in;

	buf_done(&u->got);
	free(u);
	ingress_unref(in);
}

static void leave_idle(struct up *u)
{
	LIST_REMOVE(u, of_box);
	TAILQ_REMOVE(&u->in->idle_ups, u, idle);
	u->box->n_idle--;
}

void up_close(struct up *u, bool abort)
{
	if (u->state == U_CLOSED)
		return;
	if (u->client)
		u->client->up = NULL;
	else
		leave_idle(u);
	u->client = NULL;
	u->box = NULL;
	u->state = U_CLOSED;
	u->in->counters.upstreams--;
	end_close(&u->end, abort, on_closed);
}

void up_rest(struct up *u)
{
	struct ingress *in = u->in;
	struct box *b = u->box;

	u->client->up = NULL;
	u->client = NULL;
	u->scan = (struct head_scan){ 0 };
	buf_reset(&u->got);
	u->idle_since = now_ms(in);
	LIST_INSERT_HEAD(&b->idle, u, of_box);
	TAILQ_INSERT_TAIL(&in->idle_ups, u, idle);
	b->n_idle++;
	end_rest(&u->end);
	if (b->n_idle > UP_IDLE_BOX || u->last || u->broken || u->end.eof || u->frame_eof)
		up_close(u, false);
	else
		up_watch(u);
}

void ups_sweep(struct ingress *in, uint64_t now)
{
	struct up *u;

	while ((u = TAILQ_FIRST(&in->idle_ups)) && now - u->idle_since >= UP_IDLE_MS)
		up_close(u, false);
}

/* --- dialling --- */

/* From the gateway's address, over the link: the link names the sandbox. */
static int dial(const struct ipc_edge_ingress *to, uint16_t port)
{
	struct sockaddr_in from = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(WEIR_LINK_GATEWAY) };
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_port = htons(port ? port : WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(port ? ip_v4_u32(to->ip4) : WEIR_LINK_SANDBOX) };
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int index = (int)to->ifindex, one = 1;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index)) < 0 ||
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
		bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno != EINPROGRESS)
		return -errno;
	return take_fd(fd);
}

/* A port that the api role serves itself. */
static int dial_service(struct ingress *in, const struct box *b, uint16_t port)
{
	struct ipc_ingress_conn conn = { .slot = b->told.slot, .port = port };
	int pair[2], r;

	memcpy(conn.id, b->told.id, sizeof(conn.id));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	r = in->ops.serve(in->arg, &conn, pair[1]);
	fd_close(pair[1]);
	if (r < 0)
		fd_close(pair[0]);
	return r < 0 ? r : pair[0];
}

bool up_is_service(const struct box *b, uint16_t port)
{
	return b->told.flags & IPC_INGRESS_SERVICES &&
		(port == INGRESS_PORT_EXECD || port == INGRESS_PORT_EGRESS);
}

uint16_t up_port(const struct client *c, const struct box *b)
{
	static const uint32_t guarded = IPC_INGRESS_SERVICES | IPC_INGRESS_GUARDED;

	if (c->target.by == BY_PROXY && (b->told.flags & guarded) == guarded &&
		!up_is_service(b, c->target.port))
		return INGRESS_PORT_EXECD;
	return c->target.port;
}

static int make_room(struct ingress *in)
{
	if (in->counters.upstreams < in->conf.upstream_max)
		return 0;
	if (!TAILQ_FIRST(&in->idle_ups))
		return -EBUSY;
	up_close(TAILQ_FIRST(&in->idle_ups), false);
	return 0;
}

static int up_new(struct client *c, bool agent)
{
	struct ingress *in = c->in;
	struct box *b = c->box;
	uint16_t port = up_port(c, b);
	struct up *u;
	int r = make_room(in), fd;

	if (r < 0)
		return r;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	if (up_is_service(b, port))
		fd = dial_service(in, b, port);
	else if (in->ops.dial)
		fd = in->ops.dial(in->arg, &b->told, agent ? 0 : port);
	else
		fd = dial(&b->told, agent ? 0 : port);
	r = fd < 0 ? fd :
		     end_open(&u->end, in->loop, fd, 2 * INGRESS_PIECE + 2 * in->conf.head_max +
				REWRITE_ROOM, on_ready);
	if (r < 0) {
		free(u);
		return r;
	}
	ingress_ref(in);
	u->in = in;
	u->box = b;
	u->client = c;
	u->port = port;
	u->agent = agent;
	u->got = BUF_MAX(INGRESS_PIECE + in->conf.head_max);
	u->end.wants_write = true;
	c->up = u;
	in->counters.upstreams++;
	in->counters.dialled++;
	up_watch(u);
	return 0;
}

int up_get(struct client *c, bool fresh, struct err *err)
{
	uint16_t port = up_port(c, c->box);
	struct up *u;
	int r;

	LIST_FOREACH (u, &c->box->idle, of_box) {
		char byte;

		if (fresh || u->port != port)
			continue;
		/* It may have been closed a moment ago. A request that must not be sent twice asks. */
		if (!c->idempotent && recv(u->end.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0) {
			up_close(u, false);
			return up_get(c, fresh, err);
		}
		leave_idle(u);
		u->client = c;
		u->reused = true;
		c->up = u;
		c->in->counters.reused++;
		return 0;
	}
	r = up_new(c, false);
	if (r == 0)
		return 0;
	if (r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ENETUNREACH || r == -ENODEV)
		return refuse(err, 502, ERR_UPSTREAM, "the sandbox cannot be reached");
	return refuse(err, 503, ERR_CAPACITY, r == -EBUSY ? "too many connections to sandboxes" :
							    "no connection can be made now");
}

/* --- the agent's frames --- */

static int send_connect(struct up *u)
{
	auto_buf struct buf out = BUF_MAX(64);
	union frame_body msg = { .connect.port = u->port };
	struct iovec iov;

	if (frame_encode(&out, FRAME_CONNECT, &msg) < 0)
		return -ENOMEM;
	iov = (struct iovec){ out.p, out.n };
	return end_write(&u->end, &iov, 1);
}

/* A header is whole. 0, or -EBADMSG for what the agent may not say here, -ECONNREFUSED. */
static int frame_begins(struct up *u)
{
	struct rd rd = rd_from(str_n(u->frame, sizeof(u->frame)));
	uint8_t type = rd_u8(&rd);
	uint32_t rest = rd_u8(&rd) | rd_be16(&rd);

	u->frame_left = rd_be32(&rd);
	u->frame_n = 0;
	if (rest || u->frame_left > FRAME_MAX || u->frame_eof)
		return -EBADMSG;
	if (type == FRAME_ERROR)
		return -ECONNREFUSED;
	if (u->state == U_HELLO) {
		if (type != FRAME_OK || u->frame_left)
			return -EBADMSG;
		u->state = U_READY;
		return 0;
	}
	if (type == FRAME_END && !u->frame_left)
		u->frame_eof = true;
	else if (type != FRAME_DATA || !u->frame_left)
		return -EBADMSG;
	return 0;
}

/* What the frames hold, moved together to the front. Its length or a negative errno. */
static ssize_t unframe(struct up *u, char *p, size_t n)
{
	size_t at = 0, kept = 0;

	while (at < n) {
		size_t take;

		if (u->frame_left) {
			take = MIN(n - at, (size_t)u->frame_left);
			memmove(p + kept, p + at, take);
			kept += take;
			u->frame_left -= (uint32_t)take;
		} else {
			int r;

			take = MIN(n - at, sizeof(u->frame) - u->frame_n);
			memcpy(u->frame + u->frame_n, p + at, take);
			u->frame_n += (uint32_t)take;
			r = u->frame_n == sizeof(u->frame) ? frame_begins(u) : 0;
			if (r < 0)
				return r;
		}
		at += take;
	}
	return (ssize_t)kept;
}

static int write_framed(struct up *u, struct iovec data)
{
	while (data.iov_len) {
		size_t n = MIN(data.iov_len, (size_t)FRAME_MAX);
		uint8_t head[FRAME_HEADER];
		struct iovec iov[2] = { { head, sizeof(head) }, { data.iov_base, n } };
		int r;

		frame_header(head, FRAME_DATA, 0, (uint32_t)n);
		r = end_write(&u->end, iov, 2);
		if (r < 0)
			return r;
		data = (struct iovec){ (char *)data.iov_base + n, data.iov_len - n };
	}
	return 0;
}

int up_write(struct up *u, const struct iovec *iov, int n)
{
	int r = 0;

	if (!u->agent)
		return end_write(&u->end, iov, n);
	for (int i = 0; r == 0 && i < n; i++)
		r = write_framed(u, iov[i]);
	return r;
}

int up_shut(struct up *u)
{
	uint8_t head[FRAME_HEADER];
	struct iovec iov = { head, sizeof(head) };

	if (!u->agent)
		return end_shut(&u->end);
	frame_header(head, FRAME_END, 0, 0);
	return end_write(&u->end, &iov, 1);
}

/* --- readiness --- */

static bool wants_read(const struct up *u)
{
	if (u->state == U_READY)
		return !u->client || (!end_pending(&u->client->end) && !u->frame_eof);
	return u->state == U_HELLO;
}

void up_watch(struct up *u)
{
	if (u->state != U_CLOSED)
		end_watch(&u->end, wants_read(u));
}

/* Nothing listens at the sandbox's own address: perhaps inside. */
static void ask_agent(struct up *u)
{
	struct client *c = u->client;
	int r;

	up_close(u, false);
	r = up_new(c, true);
	if (r < 0)
		exchange_unreachable(c, "nothing listens on this port of the sandbox");
}

static void connected(struct up *u)
{
	struct client *c = u->client;
	socklen_t n = sizeof(int);
	int error = 0;

	if (getsockopt(u->end.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		error = errno;
	if (error == ECONNREFUSED && !u->agent && u->in->conf.agent) {
		ask_agent(u);
		return;
	}
	if (error) {
		up_close(u, true);
		if (error == ETIMEDOUT)
			exchange_failed(c, 504, "the sandbox cannot be reached");
		else
			exchange_unreachable(c, error == ECONNREFUSED && !u->agent ?
				"nothing listens on this port of the sandbox" :
				"the sandbox cannot be reached");
		return;
	}
	u->end.wants_write = false;
	if (u->agent) {
		u->state = U_HELLO;
		if (send_connect(u) < 0) {
			up_close(u, true);
			exchange_failed(c, 502, "the sandbox cannot be reached");
		}
		return;
	}
	u->state = U_READY;
	exchange_connected(c);
}

static void readable(struct up *u)
{
	struct ingress *in = u->in;
	struct client *c = u->client;
	bool hello = u->state == U_HELLO;
	ssize_t n = end_read(&u->end, in->scratch, sizeof(in->scratch));

	if (n == -EAGAIN)
		return;
	if (!c) { /* idle: whatever it says, nobody asked */
		up_close(u, false);
		return;
	}
	if (n > 0 && u->agent)
		n = unframe(u, in->scratch, (size_t)n);
	else if (n == 0 && u->agent)
		n = -ECONNRESET; /* it left without END */
	if (hello && n < 0) {
		up_close(u, true);
		exchange_unreachable(c, n == -ECONNREFUSED ?
				"nothing listens on this port of the sandbox" :
				"the sandbox cannot be reached");
		return;
	}
	if (n < 0) {
		u->broken = true;
		exchange_failed(c, 502, "the sandbox broke the connection off");
		return;
	}
	if (hello && u->state == U_READY) {
		/* What it said at once is behind what connecting may do with the scratch. */
		auto_buf struct buf said = BUF_MAX(INGRESS_PIECE);

		if (buf_add(&said, in->scratch, (size_t)n) < 0) {
			exchange_failed(c, 503, "out of memory");
			return;
		}
		exchange_connected(c);
		if (n && u->client == c)
			exchange_answer(c, buf_str(&said));
	} else if (n) {
		exchange_answer(c, str_n(in->scratch, (size_t)n));
	}
	if (u->client == c && (u->end.eof || u->frame_eof))
		exchange_eof(c);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct up *u = container_of(poll, struct up, end.poll);
	struct client *c = u->client;

	if (status < 0) { /* an error is pending; the watcher has been stopped */
		u->end.events = 0;
		events = UV_READABLE | UV_WRITABLE;
	}
	if (u->state == U_CONNECT) {
		/* A socket pair, or what a test dials, may be readable at once. */
		connected(u);
	} else {
		if (events & UV_WRITABLE && end_pending(&u->end)) {
			int r = end_flush(&u->end);

			if (r < 0)
				u->broken = true;
			if (r < 0)
				buf_reset(&u->end.out);
			else if (c)
				exchange_moved(c);
		}
		if (events & UV_READABLE && wants_read(u))
			readable(u);
	}
	if (c && c->state != C_CLOSED) {
		if (c->got.n)
			client_pump(c, STR_NONE);
		client_watch(c);
	}
	up_watch(u);
}

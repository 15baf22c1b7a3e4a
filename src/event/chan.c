/*
 * Channels between roles.
 *
 * Theory of operation. A channel is one uv_poll over a SOCK_SEQPACKET descriptor. Reading takes
 * up to READ_BURST datagrams per wake-up, so that one busy peer leaves room for the others.
 * Writing goes straight to the socket; what the socket refuses (EAGAIN) waits in `queue` with
 * duplicates of its descriptors, and everything after it queues behind, so order is kept.
 *
 * Ends. Whatever ends a channel (EOF, a malformed datagram, a full queue) goes through
 * chan_fail(): the poll handle is closed, and its close callback, on the loop and never inside a
 * caller's chan_send(), answers the open calls and tells the owner. chan_free() may come at any
 * time, inside every callback too: it forgets the owner, answers the open calls at once, and the
 * struct lives until the poll handle is closed.
 *
 *	OPEN --chan_fail--> FAILED --close cb--> DEAD --chan_free--> freed
 *	  \----chan_free-------\----> FREED --close cb--> freed
 *
 * A peer that died may have left answers in our receive queue. So a failed write does not end the
 * channel: `broken` remembers it, reading goes on to the end, then the channel fails.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include "base/fd.h"
#include "base/log.h"
#include "base/table.h"
#include "event/chan.h"
#include "event/chan_wire.h"

#define READ_BURST 64

enum state { OPEN, FAILED, DEAD, FREED };

struct call {
	uint32_t serial;
	chan_reply_fn on_reply;
	void *arg;
	UT_hash_handle hh;
};

struct queued {
	struct queued *next;
	struct chan_head head;
	unsigned int n_fds;
	int fds[IPC_FDS_MAX];
	char payload[];
};

struct chan {
	uv_poll_t poll;
	enum state state;
	int fd, end, broken; /* end: why it failed; broken: why writing stopped, 0 if it did not */
	int events;	     /* what the poll handle watches; 0: it does not run */
	const char *name;
	chan_msg_fn on_msg;
	chan_close_fn on_close;
	void *arg;
	struct call *calls;
	uint32_t last_serial;
	struct queued *queue, **queue_tail;
	unsigned int n_queued;
	struct chan_packet in;
};

/* --- datagrams --- */

static void close_fds(int *fds, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		fds[i] = fd_close(fds[i]);
}

static void collect_fds(struct msghdr *mh, struct chan_packet *p)
{
	p->n_fds = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (p->n_fds < IPC_FDS_MAX)
				p->fds[p->n_fds++] = fd;
			else
				fd_close(fd);
		}
	}
}

static bool packet_ok(const struct chan_packet *p, size_t n, int msg_flags)
{
	const struct chan_head *h = &p->head;

	if (n < sizeof(*h) || (msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || h->size != n - sizeof(*h))
		return false;
	switch (h->kind) {
	case CHAN_SEND:
		return h->serial == 0 && h->status == 0;
	case CHAN_CALL:
		return h->serial != 0 && h->status == 0;
	case CHAN_REPLY:
		return h->serial != 0 && h->status <= 0 && h->status > -4096;
	}
	return false;
}

int chan_wire_recv(int fd, int flags, struct chan_packet *p)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
	} control;
	struct iovec iov[] = { { &p->head, sizeof(p->head) }, { p->payload, sizeof(p->payload) } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov),
		.msg_control = control.bytes, .msg_controllen = sizeof(control.bytes) };
	ssize_t n;

	do
		n = recvmsg(fd, &mh, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	p->n_fds = 0;
	if (n < 0)
		return -errno;
	collect_fds(&mh, p);
	if (n == 0 && p->n_fds == 0)
		return 0;
	if (packet_ok(p, (size_t)n, mh.msg_flags))
		return 1;
	close_fds(p->fds, p->n_fds);
	p->n_fds = 0;
	return -EPROTO;
}

int chan_wire_send(int fd, int flags, const struct chan_head *head, const void *payload,
	const int *fds, unsigned int n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
	} control = { 0 };
	struct iovec iov[] = { { (void *)(uintptr_t)head, sizeof(*head) },
		{ (void *)(uintptr_t)payload, head->size } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
	ssize_t n;

	if (n_fds) {
		mh.msg_control = control.bytes;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int) * n_fds) };
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * n_fds);
	}
	do
		n = sendmsg(fd, &mh, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* --- ends --- */

static void queue_drop(struct chan *c)
{
	while (c->queue) {
		struct queued *q = c->queue;

		c->queue = q->next;
		close_fds(q->fds, q->n_fds);
		free(q);
	}
	c->queue_tail = &c->queue;
	c->n_queued = 0;
}

/* Callbacks may free the channel or call again (which fails by now): take one at a time. */
static void calls_end(struct chan *c, int status)
{
	struct call *call;

	while ((call = c->calls)) {
		struct chan_msg m = { .type = IPC_REPLY, .serial = call->serial, .status = status };

		HASH_DEL(c->calls, call);
		call->on_reply(&m, call->arg);
		free(call);
	}
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct chan *c = handle->data;

	c->fd = fd_close(c->fd);
	if (c->state == FAILED) {
		log_event(LOG_DEBUG, "chan.close", "channel=%s reason=%s", c->name,
			c->end ? strerror(-c->end) : "end");
		/* Each callback may free the channel: then nobody is told any more. */
		calls_end(c, -ECONNRESET);
		if (c->state == FAILED && c->on_close)
			c->on_close(c, c->end, c->arg);
		if (c->state == FAILED)
			c->state = DEAD;
	}
	if (c->state == FREED)
		free(c);
}

static void chan_fail(struct chan *c, int why)
{
	if (c->state != OPEN)
		return;
	c->state = FAILED;
	c->end = why;
	queue_drop(c);
	uv_close((uv_handle_t *)&c->poll, on_poll_closed);
}

void chan_free(struct chan *c)
{
	enum state was;

	if (!c || c->state == FREED)
		return;
	was = c->state;
	c->state = FREED;
	queue_drop(c);
	if (was == OPEN)
		uv_close((uv_handle_t *)&c->poll, on_poll_closed);
	calls_end(c, -ECANCELED);
	if (was == DEAD)
		free(c);
}

/* --- reading --- */

static void packet_in(struct chan *c)
{
	struct chan_packet *p = &c->in;
	struct chan_msg m = { .type = p->head.type, .serial = p->head.serial,
		.status = p->head.status, .payload = str_n(p->payload, p->head.size), .fds = p->fds,
		.n_fds = p->n_fds };
	struct call *call;

	if (p->head.kind == CHAN_REPLY) {
		HASH_FIND(hh, c->calls, &p->head.serial, sizeof(p->head.serial), call);
		if (call) {
			HASH_DEL(c->calls, call);
			call->on_reply(&m, call->arg);
			free(call);
		} else {
			chan_fail(c, -EPROTO); /* an answer to a question nobody asked */
		}
	} else if (p->head.kind == CHAN_CALL && p->head.type == IPC_ALIVE) {
		chan_reply(c, m.serial, 0, NULL, 0, NULL, 0);
	} else {
		c->on_msg(c, &m, c->arg);
	}
	close_fds(p->fds, p->n_fds);
}

static void read_burst(struct chan *c)
{
	for (int i = 0; i < READ_BURST && c->state == OPEN; i++) {
		int r = chan_wire_recv(c->fd, MSG_DONTWAIT, &c->in);

		if (r > 0) {
			packet_in(c);
		} else if (r == -ECONNRESET) {
			/* The peer left without reading all of ours: reported once, before what it
			 * had still sent. Keep it as the reason and read on. */
			c->broken = r;
			queue_drop(c);
		} else if (r == -EAGAIN) {
			if (c->broken)
				chan_fail(c, c->broken);
			return;
		} else {
			chan_fail(c, r ? r : c->broken);
		}
	}
}

/* --- writing --- */

static void on_poll(uv_poll_t *handle, int status, int events);

static int poll_update(struct chan *c)
{
	/* A broken channel asks for writable too: that is always true, and so it is read to its end
	 * even when the peer shut down only one direction. */
	int events = UV_READABLE | UV_DISCONNECT | (c->queue || c->broken ? UV_WRITABLE : 0);

	if (events == c->events)
		return 0;
	c->events = events;
	return uv_poll_start(&c->poll, events, on_poll);
}

static void write_broken(struct chan *c, int why)
{
	c->broken = why;
	queue_drop(c);
}

static void queue_flush(struct chan *c)
{
	while (c->queue) {
		struct queued *q = c->queue;
		int r = chan_wire_send(c->fd, MSG_DONTWAIT, &q->head, q->payload, q->fds, q->n_fds);

		if (r == -EAGAIN)
			return;
		if (r < 0) {
			write_broken(c, r);
			return;
		}
		c->queue = q->next;
		if (!c->queue)
			c->queue_tail = &c->queue;
		c->n_queued--;
		close_fds(q->fds, q->n_fds);
		free(q);
	}
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct chan *c = handle->data;

	if (status < 0) /* libuv saw an error on the socket and stopped; recvmsg() will say which */
		c->events = 0;
	if (status >= 0 && (events & UV_WRITABLE) && !c->broken)
		queue_flush(c);
	read_burst(c);
	if (c->state == OPEN) {
		int r = poll_update(c);

		if (r < 0)
			chan_fail(c, r);
	}
}

static int queue_add(struct chan *c, const struct chan_head *head, const void *payload,
	const int *fds, unsigned int n_fds)
{
	struct queued *q;

	if (c->n_queued >= CHAN_QUEUE_MAX) {
		chan_fail(c, -ENOBUFS);
		return -ENOBUFS;
	}
	q = malloc(sizeof(*q) + head->size);
	if (!q)
		return -ENOMEM;
	q->next = NULL;
	q->head = *head;
	if (head->size)
		memcpy(q->payload, payload, head->size);
	for (q->n_fds = 0; q->n_fds < n_fds; q->n_fds++) {
		q->fds[q->n_fds] = fcntl(fds[q->n_fds], F_DUPFD_CLOEXEC, 3);
		if (q->fds[q->n_fds] < 0) {
			int r = -errno;

			close_fds(q->fds, q->n_fds);
			free(q);
			return r;
		}
	}
	*c->queue_tail = q;
	c->queue_tail = &q->next;
	c->n_queued++;
	return 0;
}

static int transmit(struct chan *c, const struct chan_head *head, const void *payload,
	const int *fds, unsigned int n_fds)
{
	bool was_busy;
	int r;

	if (c->state != OPEN || c->broken)
		return -ECONNRESET;
	if (n_fds > IPC_FDS_MAX)
		return -EINVAL;
	was_busy = c->queue;
	r = was_busy ? -EAGAIN : chan_wire_send(c->fd, MSG_DONTWAIT, head, payload, fds, n_fds);
	if (r == -EPIPE || r == -ECONNRESET) {
		write_broken(c, r);
		poll_update(c);
		return -ECONNRESET;
	}
	if (r != -EAGAIN)
		return r;
	r = queue_add(c, head, payload, fds, n_fds);
	if (r < 0 || was_busy)
		return r;
	return poll_update(c);
}

/* --- the interface --- */

int chan_open(uv_loop_t *loop, int fd, const char *name, chan_msg_fn on_msg,
	chan_close_fn on_close, void *arg, struct chan **ret)
{
	struct chan *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		fd_close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	c->name = name;
	c->on_msg = on_msg;
	c->on_close = on_close;
	c->arg = arg;
	c->queue_tail = &c->queue;
	c->poll.data = c;
	r = uv_poll_init(loop, &c->poll, fd); /* makes the descriptor non-blocking */
	if (r < 0) {
		fd_close(fd);
		free(c);
		return r;
	}
	r = poll_update(c);
	if (r < 0) {
		chan_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

int chan_send(struct chan *c, uint16_t type, const void *payload, size_t n, const int *fds,
	unsigned int n_fds)
{
	struct chan_head head = { .type = type, .kind = CHAN_SEND, .size = (uint32_t)n };

	return n > IPC_MSG_MAX ? -EMSGSIZE : transmit(c, &head, payload, fds, n_fds);
}

static uint32_t next_serial(struct chan *c)
{
	struct call *taken;

	do {
		if (++c->last_serial == 0)
			c->last_serial = 1;
		HASH_FIND(hh, c->calls, &c->last_serial, sizeof(c->last_serial), taken);
	} while (taken);
	return c->last_serial;
}

int chan_call(struct chan *c, uint16_t type, const void *payload, size_t n, const int *fds,
	unsigned int n_fds, chan_reply_fn on_reply, void *arg)
{
	struct chan_head head = { .type = type, .kind = CHAN_CALL, .size = (uint32_t)n };
	struct call *call;
	int r;

	if (n > IPC_MSG_MAX)
		return -EMSGSIZE;
	if (c->state != OPEN)
		return -ECONNRESET;
	if (HASH_COUNT(c->calls) >= CHAN_CALLS_MAX)
		return -EBUSY;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	head.serial = call->serial = next_serial(c);
	call->on_reply = on_reply;
	call->arg = arg;
	HASH_ADD(hh, c->calls, serial, sizeof(call->serial), call);
	r = table_has(call) ? transmit(c, &head, payload, fds, n_fds) : -ENOMEM;
	if (r < 0) {
		if (table_has(call))
			HASH_DEL(c->calls, call);
		free(call);
	}
	return r;
}

int chan_reply(struct chan *c, uint32_t serial, int32_t status, const void *payload, size_t n,
	const int *fds, unsigned int n_fds)
{
	struct chan_head head = { .type = IPC_REPLY, .kind = CHAN_REPLY, .serial = serial,
		.status = status, .size = (uint32_t)n };

	if (serial == 0) /* a plain send wants no answer */
		return 0;
	return n > IPC_MSG_MAX ? -EMSGSIZE : transmit(c, &head, payload, fds, n_fds);
}

unsigned int chan_queued(const struct chan *c)
{
	return c->n_queued;
}

int chan_reply_err(struct chan *c, uint32_t serial, const struct err *err)
{
	struct ipc_error e = { .kind = err->kind };

	snprintf(e.field, sizeof(e.field), "%s", err->field);
	snprintf(e.text, sizeof(e.text), "%s", err->text);
	return chan_reply(c, serial, err->code < 0 ? err->code : -EIO, &e, sizeof(e), NULL, 0);
}

int chan_err(const struct chan_msg *m, struct err *err)
{
	struct ipc_error e;

	if (m->status >= 0)
		return 0;
	if (m->payload.n != sizeof(e))
		return err_set(err, m->status, ERR_INTERNAL, "%s", strerror(-m->status));
	memcpy(&e, m->payload.p, sizeof(e));
	if (e.kind >= ERR_KINDS || !ipc_text_ok(e.field, sizeof(e.field)) ||
		!ipc_text_ok(e.text, sizeof(e.text)))
		return err_set(err, m->status, ERR_INTERNAL, "%s", strerror(-m->status));
	return err_field(err, m->status, (enum err_kind)e.kind, e.field, "%s", e.text);
}

int chan_take_fd(struct chan_msg *m, unsigned int i)
{
	return i < m->n_fds ? take_fd(m->fds[i]) : -EBADF;
}

/* One end: see the header. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include "edge/ingress/end.h"

#define KEEP_CAP 4096u	/* memory that an idle end may keep */
#define PROBE_S	 10	/* between the kernel's questions whether a peer is still there */
#define PROBES	 3	/* that may stay unanswered */
#define GATHER	 16384u /* TLS: pieces of one write up to this become one record */

int end_open(struct end *e, uv_loop_t *loop, int fd, size_t out_max, uv_poll_cb on_ready)
{
	int r = uv_poll_init(loop, &e->poll, fd);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	e->fd = fd;
	e->on_ready = on_ready;
	e->out = BUF_MAX(out_max);
	return 0;
}

void end_close(struct end *e, bool abort, uv_close_cb on_closed)
{
	static const struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	if (abort)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	SSL_free(take_ptr(e->tls));
	buf_done(&e->out);
	uv_close((uv_handle_t *)&e->poll, on_closed); /* before the number can be another socket's */
	e->fd = fd_close(e->fd);
}

void end_watch(struct end *e, bool want_read)
{
	int events = (want_read && !e->eof ? UV_READABLE : 0) |
		(e->out.n || e->wants_write ? UV_WRITABLE : 0);

	if (events == e->events)
		return;
	e->events = events;
	if (events)
		uv_poll_start(&e->poll, events, e->on_ready);
	else
		uv_poll_stop(&e->poll);
}

/* What a TLS call's failure means. */
static int tls_failure(struct end *e, int r, bool reading)
{
	int why = SSL_get_error(e->tls, r);

	switch (why) {
	case SSL_ERROR_WANT_READ:
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		if (reading)
			e->wants_write = true;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return reading ? 0 : -EPIPE;
	case SSL_ERROR_SYSCALL:
		return errno ? -errno : -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static ssize_t put(struct end *e, const struct iovec *iov, int n)
{
	struct msghdr h = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };
	ssize_t done;

	if (!e->tls) {
		done = sendmsg(e->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
		return done < 0 ? -errno : done;
	}
	ERR_clear_error();
	errno = 0;
	done = SSL_write(e->tls, iov->iov_base, (int)MIN(iov->iov_len, (size_t)INT32_MAX));
	return done > 0 ? done : tls_failure(e, (int)done, false);
}

static int keep(struct end *e, const struct iovec *iov, int n, size_t skip)
{
	for (; n > 0; iov++, n--) {
		size_t here = MIN(skip, iov->iov_len);

		skip -= here;
		buf_add(&e->out, (const char *)iov->iov_base + here, iov->iov_len - here);
	}
	return buf_failed(&e->out);
}

/* TLS makes a record of each write: small pieces go together. */
static int write_tls(struct end *e, const struct iovec *iov, int n)
{
	char gather[GATHER];
	struct iovec one = { .iov_base = gather };
	size_t total = 0;

	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (n > 1 && total <= sizeof(gather)) {
		for (int i = 0; i < n; i++) {
			memcpy(gather + one.iov_len, iov[i].iov_base, iov[i].iov_len);
			one.iov_len += iov[i].iov_len;
		}
		iov = &one;
		n = 1;
	}
	for (; n > 0; iov++, n--) {
		size_t at = 0;

		while (at < iov->iov_len) {
			struct iovec rest = { (char *)iov->iov_base + at, iov->iov_len - at };
			ssize_t r = put(e, &rest, 1);

			if (r == -EAGAIN)
				return keep(e, iov, n, at);
			if (r <= 0)
				return r < 0 ? (int)r : -EPIPE;
			at += (size_t)r;
		}
	}
	return 0;
}

int end_write(struct end *e, const struct iovec *iov, int n)
{
	size_t total = 0;
	ssize_t done;

	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (!total)
		return 0;
	if (e->out.n)
		return keep(e, iov, n, 0);
	if (e->tls)
		return write_tls(e, iov, n);
	done = put(e, iov, n);
	if (done == -EAGAIN)
		done = 0;
	if (done < 0)
		return (int)done;
	return (size_t)done == total ? 0 : keep(e, iov, n, (size_t)done);
}

static int shut_now(struct end *e)
{
	if (e->shut)
		return 0;
	e->shut = true;
	if (e->tls) {
		ERR_clear_error();
		SSL_shutdown(e->tls);
	}
	return shutdown(e->fd, SHUT_WR) < 0 ? -errno : 0;
}

int end_flush(struct end *e)
{
	e->wants_write = false;
	while (e->sent < e->out.n) {
		struct iovec rest = { e->out.p + e->sent, e->out.n - e->sent };
		ssize_t r = put(e, &rest, 1);

		if (r == -EAGAIN)
			return 0;
		if (r < 0)
			return (int)r;
		e->sent += (size_t)r;
	}
	buf_reset(&e->out);
	e->sent = 0;
	if (e->shutting) {
		int r = shut_now(e);

		if (r < 0)
			return r;
	}
	return 1;
}

int end_shut(struct end *e)
{
	e->shutting = true;
	return end_pending(e) ? 0 : shut_now(e);
}

ssize_t end_read(struct end *e, char *p, size_t room)
{
	size_t n = 0;
	ssize_t r;

	if (!e->tls) {
		r = recv(e->fd, p, room, MSG_DONTWAIT);
		if (r == 0)
			e->eof = true;
		return r < 0 ? -errno : r;
	}
	/* To the end of what is there, so that nothing waits inside of TLS where no watcher looks. */
	do {
		ERR_clear_error();
		errno = 0;
		r = SSL_read(e->tls, p + n, (int)(room - n));
		if (r <= 0) {
			r = tls_failure(e, (int)r, true);
			break;
		}
		n += (size_t)r;
	} while (room - n >= END_ROOM_TLS);
	if (n)
		return (ssize_t)n;
	if (r == 0)
		e->eof = true;
	return r;
}

void end_probe(struct end *e)
{
	static const struct {
		int level, name, value;
	} options[] = { { IPPROTO_TCP, TCP_KEEPIDLE, PROBE_S }, { IPPROTO_TCP, TCP_KEEPINTVL, PROBE_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, PROBES }, { SOL_SOCKET, SO_KEEPALIVE, 1 } };

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		setsockopt(e->fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

bool end_gone(const struct end *e)
{
	struct tcp_info info = { 0 };
	socklen_t n = sizeof(info);

	return getsockopt(e->fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_state == TCP_CLOSE;
}

void end_rest(struct end *e)
{
	if (!e->out.n && e->out.cap > KEEP_CAP) {
		size_t max = e->out.max;

		buf_done(&e->out);
		e->out = BUF_MAX(max);
	}
}

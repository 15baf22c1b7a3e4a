/*
 * What a role that was taken over writes into its channel: datagrams, each a length, a number of
 * descriptors and bytes. Two calls of ours are open, so replies find somebody. Whatever comes,
 * messages are whole, errors are terminated sentences, calls are answered once, and no descriptor
 * is left behind.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include "../fuzz.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/rd.h"
#include "event/chan.h"

#define DATAGRAMS_MAX 32

struct world {
	bool closed;
	unsigned int answers;
};

static void on_msg(struct chan *c, struct chan_msg *m, void *arg)
{
	CHECK(m->payload.n <= IPC_MSG_MAX && m->n_fds <= IPC_FDS_MAX);
	if (m->n_fds && m->payload.n & 1)
		fd_close(chan_take_fd(m, 0));
	if (m->serial)
		chan_reply(c, m->serial, 0, m->payload.p, m->payload.n, NULL, 0);
}

static void on_close(struct chan *c, int err, void *arg)
{
	struct world *w = arg;

	CHECK(!w->closed && w->answers == 2);
	w->closed = true;
}

static void on_answer(struct chan_msg *m, void *arg)
{
	struct world *w = arg;
	struct err err;

	w->answers++;
	if (m->status < 0) {
		CHECK(chan_err(m, &err) < 0);
		CHECK(memchr(err.text, '\0', sizeof(err.text)) && memchr(err.field, '\0', sizeof(err.field)));
	}
}

static void datagram(int fd, int null, struct str bytes, unsigned int n_fds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes.p, .iov_len = bytes.n };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c = (struct cmsghdr *)(void *)control;

	if (n_fds) {
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
		for (unsigned int i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &null, sizeof(int));
		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
	}
	sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uv_loop_t loop;
	static bool ready;
	static int null;
	struct rd rd = rd_from(str_n(data, size));
	struct world w = { .closed = false };
	struct chan *c;
	int p[2], before, after;

	if (!ready) {
		uv_loop_init(&loop);
		null = open("/dev/null", O_RDONLY | O_CLOEXEC);
		log_open("fuzz", LOG_ERROR + 1); /* nothing */
		ready = true;
	}
	before = dup(null);
	close(before);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) == 0);
	CHECK(chan_open(&loop, p[0], "fuzz", on_msg, on_close, &w, &c) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(chan_call(c, IPC_HOST_INFO, NULL, 0, NULL, 0, on_answer, &w) == 0);
	for (int i = 0; i < DATAGRAMS_MAX && rd_left(&rd); i++) {
		uint16_t n = rd_be16(&rd);
		uint8_t fds = rd_u8(&rd) % 9;

		datagram(p[1], null, rd_str(&rd, MIN((size_t)n, rd_left(&rd))), fds);
	}
	shutdown(p[1], SHUT_WR);
	while (!w.closed)
		uv_run(&loop, UV_RUN_ONCE);
	chan_free(c);
	close(p[1]);
	uv_run(&loop, UV_RUN_DEFAULT);
	after = dup(null);
	CHECK(after == before);
	close(after);
	return 0;
}

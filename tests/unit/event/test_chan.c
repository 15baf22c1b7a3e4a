/*
 * Channels, over socket pairs: one end is a channel, the other is a channel too or a bare
 * descriptor that misbehaves on purpose. The loop runs until a condition holds or nothing is
 * left to do; a watchdog timer turns a hang into a failure.
 */
#include "../unit.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "event/chan.h"
#include "event/chan_wire.h"

struct side {
	struct chan *c;
	unsigned int msgs, closed, replies;
	int close_err, status;
	uint16_t type;
	uint32_t serial;
	char text[64];
	int fd;
	bool answer, free_in_msg, free_in_reply, free_in_close;
	struct err err;
};

struct world {
	uv_loop_t loop;
	uv_timer_t dog;
	struct side a, b;
	int raw; /* the far end, when it is no channel */
};

static void on_dog(uv_timer_t *t)
{
	fail_msg("%s", "nothing happened for 10 s");
}

static void on_msg(struct chan *c, struct chan_msg *m, void *arg)
{
	struct side *s = arg;

	s->msgs++;
	s->type = m->type;
	s->serial = m->serial;
	assert_int_equal((uintptr_t)m->payload.p % 8, 0);
	if (m->payload.n < sizeof(s->text)) {
		memcpy(s->text, m->payload.p, m->payload.n);
		s->text[m->payload.n] = '\0';
	}
	if (m->n_fds && s->fd < 0)
		s->fd = chan_take_fd(m, 0);
	if (s->free_in_msg) {
		chan_free(c);
		s->c = NULL;
	} else if (s->answer) {
		assert_int_equal(chan_reply(c, m->serial, 0, "pong", 4, NULL, 0), 0);
	}
}

static void on_close(struct chan *c, int err, void *arg)
{
	struct side *s = arg;

	s->closed++;
	s->close_err = err;
	if (s->free_in_close) {
		chan_free(c);
		s->c = NULL;
	}
}

static void on_reply(struct chan_msg *m, void *arg)
{
	struct side *s = arg;

	s->replies++;
	s->status = m->status;
	chan_err(m, &s->err);
	if (m->payload.n < sizeof(s->text)) {
		if (m->payload.n)
			memcpy(s->text, m->payload.p, m->payload.n);
		s->text[m->payload.n] = '\0';
	}
	if (m->n_fds && s->fd < 0)
		s->fd = chan_take_fd(m, 0);
	if (s->free_in_reply) {
		chan_free(s->c);
		s->c = NULL;
	}
}

static void world_new(struct world *w, bool raw)
{
	int pair[2];

	*w = (struct world){ .raw = -EBADF, .a.fd = -EBADF, .b.fd = -EBADF };
	assert_int_equal(uv_loop_init(&w->loop), 0);
	assert_int_equal(uv_timer_init(&w->loop, &w->dog), 0);
	assert_int_equal(uv_timer_start(&w->dog, on_dog, 10000, 0), 0);
	uv_unref((uv_handle_t *)&w->dog);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(chan_open(&w->loop, pair[0], "a", on_msg, on_close, &w->a, &w->a.c), 0);
	if (raw)
		w->raw = pair[1];
	else
		assert_int_equal(
			chan_open(&w->loop, pair[1], "b", on_msg, on_close, &w->b, &w->b.c), 0);
}

static void world_done(struct world *w)
{
	chan_free(w->a.c);
	chan_free(w->b.c);
	fd_close(w->raw);
	fd_close(w->a.fd);
	fd_close(w->b.fd);
	uv_close((uv_handle_t *)&w->dog, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0); /* no handle is left behind */
}

#define run_until(w, cond)                                                                         \
	while (!(cond))                                                                            \
	uv_run(&(w)->loop, UV_RUN_ONCE)

static unsigned int open_fds(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void call_and_reply(void **state)
{
	struct world w;

	world_new(&w, false);
	w.b.answer = true;
	assert_int_equal(
		chan_call(w.a.c, IPC_HOST_INFO, "ping", 4, NULL, 0, on_reply, &w.a), 0);
	run_until(&w, w.a.replies);
	assert_int_equal(w.b.type, IPC_HOST_INFO);
	assert_string_equal(w.b.text, "ping");
	assert_int_not_equal(w.b.serial, 0);
	assert_int_equal(w.a.status, 0);
	assert_string_equal(w.a.text, "pong");
	/* The other direction, at the same time as a send. */
	assert_int_equal(chan_send(w.b.c, IPC_EVENT_EXITED, "x", 1, NULL, 0), 0);
	w.a.answer = false;
	run_until(&w, w.a.msgs);
	assert_int_equal(w.a.type, IPC_EVENT_EXITED);
	assert_int_equal(w.a.serial, 0);
	world_done(&w);
}

static void errors_keep_their_words(void **state)
{
	struct world w;
	struct err e;

	world_new(&w, false);
	assert_int_equal(chan_call(w.a.c, IPC_HOST_SPAWN, NULL, 0, NULL, 0, on_reply, &w.a), 0);
	run_until(&w, w.b.msgs);
	err_field(&e, -ENOSPC, ERR_CAPACITY, "disk_mib", "no room for %d MiB", 7);
	assert_int_equal(chan_reply_err(w.b.c, w.b.serial, &e), 0);
	run_until(&w, w.a.replies);
	assert_int_equal(w.a.err.code, -ENOSPC);
	assert_int_equal(w.a.err.kind, ERR_CAPACITY);
	assert_string_equal(w.a.err.field, "disk_mib");
	assert_string_equal(w.a.err.text, "no room for 7 MiB");
	world_done(&w);
}

static void error_without_words(void **state)
{
	char junk[sizeof(struct ipc_error)];
	struct chan_msg m = { .status = -ENOENT };
	struct err e = { 0 };

	assert_int_equal(chan_err(&m, &e), -ENOENT);
	assert_string_equal(e.text, strerror(ENOENT));
	memset(junk, 'x', sizeof(junk)); /* nothing is terminated, the kind does not exist */
	m.payload = str_n(junk, sizeof(junk));
	assert_int_equal(chan_err(&m, &e), -ENOENT);
	assert_string_equal(e.text, strerror(ENOENT));
	m.status = 0;
	assert_int_equal(chan_err(&m, &e), 0);
}

static void descriptors_travel(void **state)
{
	unsigned int before = open_fds();
	struct stat here, there;
	struct world w;
	int fds[2] = { open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/zero", O_RDONLY) };

	world_new(&w, false);
	assert_int_equal(chan_send(w.a.c, IPC_BOOT_FD, "n", 1, fds, 2), 0);
	run_until(&w, w.b.msgs);
	assert_true(w.b.fd >= 0); /* taken; the second one is closed by the channel */
	assert_int_equal(fstat(w.b.fd, &there), 0);
	assert_int_equal(fstat(fds[0], &here), 0); /* the sender keeps its own */
	assert_int_equal(here.st_rdev, there.st_rdev);
	assert_int_equal(fcntl(w.b.fd, F_GETFD), FD_CLOEXEC);
	world_done(&w);
	fd_close(fds[0]);
	fd_close(fds[1]);
	assert_int_equal(open_fds(), before);
}

static void death_answers_open_calls(void **state)
{
	struct world w;

	world_new(&w, true);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			chan_call(w.a.c, IPC_HOST_INFO, NULL, 0, NULL, 0, on_reply, &w.a), 0);
	w.raw = fd_close(w.raw);
	run_until(&w, w.a.closed);
	assert_int_equal(w.a.replies, 3);
	assert_int_equal(w.a.status, -ECONNRESET);
	assert_int_equal(w.a.closed, 1);
	assert_int_equal(chan_send(w.a.c, 1, NULL, 0, NULL, 0), -ECONNRESET);
	assert_int_equal(chan_call(w.a.c, 1, NULL, 0, NULL, 0, on_reply, &w.a), -ECONNRESET);
	world_done(&w);
}

static void plain_end_is_zero(void **state)
{
	struct world w;

	world_new(&w, true);
	w.a.free_in_close = true;
	w.raw = fd_close(w.raw);
	run_until(&w, w.a.closed);
	assert_int_equal(w.a.close_err, 0);
	world_done(&w);
}

/* The peer answers, leaves two of our messages unread and dies: its answer still arrives. */
static void last_words_are_heard(void **state)
{
	struct chan_packet *p = calloc(1, sizeof(*p));
	struct chan_head head = { .type = IPC_REPLY, .kind = CHAN_REPLY, .size = 4 };
	struct world w;

	world_new(&w, true);
	assert_int_equal(chan_call(w.a.c, IPC_HOST_INFO, NULL, 0, NULL, 0, on_reply, &w.a), 0);
	assert_int_equal(chan_send(w.a.c, IPC_SHUTDOWN, NULL, 0, NULL, 0), 0);
	assert_int_equal(chan_send(w.a.c, IPC_SHUTDOWN, NULL, 0, NULL, 0), 0);
	assert_int_equal(chan_wire_recv(w.raw, 0, p), 1);
	head.serial = p->head.serial;
	assert_int_equal(chan_wire_send(w.raw, 0, &head, "last", NULL, 0), 0);
	w.raw = fd_close(w.raw);
	run_until(&w, w.a.closed);
	assert_int_equal(w.a.replies, 1);
	assert_int_equal(w.a.status, 0);
	assert_string_equal(w.a.text, "last");
	assert_int_equal(w.a.close_err, -ECONNRESET);
	world_done(&w);
	free(p);
}

/* A peer that stops reading: messages queue up to the bound, with their descriptors, and come out
 * in order when it reads again; past the bound it counts as dead. */
static void queue_keeps_order(void **state)
{
	unsigned int before = open_fds(), sent = 0, got = 0;
	struct chan_packet *p = calloc(1, sizeof(*p));
	static char big[IPC_MSG_MAX];
	struct world w;

	world_new(&w, true);
	for (; sent < 200; sent++) {
		memcpy(big, &sent, sizeof(sent));
		assert_int_equal(chan_send(w.a.c, 7, big, sizeof(big), &w.raw, sent % 2), 0);
	}
	while (got < sent) {
		unsigned int n;

		uv_run(&w.loop, UV_RUN_NOWAIT);
		assert_int_equal(chan_wire_recv(w.raw, 0, p), 1);
		memcpy(&n, p->payload, sizeof(n));
		assert_int_equal(n, got);
		assert_int_equal(p->n_fds, got % 2);
		if (p->n_fds)
			fd_close(p->fds[0]);
		got++;
	}
	world_done(&w);
	free(p);
	assert_int_equal(open_fds(), before);
}

static void queue_has_a_bound(void **state)
{
	unsigned int before = open_fds(), sent = 0;
	struct world w;
	int r;

	world_new(&w, true);
	assert_int_equal(chan_call(w.a.c, 7, NULL, 0, &w.raw, 0, on_reply, &w.a), 0);
	do
		r = chan_send(w.a.c, 7, "0123456789", 10, NULL, 0);
	while (r == 0 && ++sent < 100000);
	assert_int_equal(r, -ENOBUFS);
	assert_true(sent >= CHAN_QUEUE_MAX);
	assert_int_equal(w.a.closed, 0); /* never from inside a send */
	run_until(&w, w.a.closed);
	assert_int_equal(w.a.close_err, -ENOBUFS);
	assert_int_equal(w.a.replies, 1);
	world_done(&w);
	assert_int_equal(open_fds(), before);
}

static void malformed_datagrams(void **state)
{
	static const struct chan_head bad[] = {
		{ .kind = 0 },
		{ .kind = 9 },
		{ .kind = CHAN_SEND, .serial = 1 },
		{ .kind = CHAN_SEND, .status = -1 },
		{ .kind = CHAN_CALL, .serial = 0 },
		{ .kind = CHAN_CALL, .serial = 1, .status = -1 },
		{ .kind = CHAN_REPLY, .serial = 0 },
		{ .kind = CHAN_REPLY, .serial = 1, .status = 1 },
		{ .kind = CHAN_REPLY, .serial = 1, .status = INT32_MIN },
		{ .kind = CHAN_REPLY, .serial = 12345 }, /* well-formed, but nobody asked */
		{ .kind = CHAN_SEND, .size = 1 },	 /* and one byte fewer than it says */
	};
	unsigned int before = open_fds();

	for (size_t i = 0; i <= ARRAY_SIZE(bad) + 1; i++) {
		struct world w;

		world_new(&w, true);
		if (i < ARRAY_SIZE(bad))
			assert_true(send(w.raw, &bad[i], sizeof(bad[i]), 0) > 0);
		else if (i == ARRAY_SIZE(bad)) /* shorter than a header */
			assert_true(send(w.raw, "short", 5, 0) > 0);
		else { /* longer than any message */
			static char huge[IPC_MSG_MAX + 17];
			struct chan_head h = { .kind = CHAN_SEND, .size = IPC_MSG_MAX + 1 };

			memcpy(huge, &h, sizeof(h));
			assert_true(send(w.raw, huge, sizeof(huge), 0) > 0);
		}
		run_until(&w, w.a.closed);
		assert_int_equal(w.a.close_err, -EPROTO);
		assert_int_equal(w.a.msgs, 0);
		world_done(&w);
	}
	assert_int_equal(open_fds(), before);
}

/* More descriptors than a message may carry: refused, none stays open. */
static void too_many_descriptors(void **state)
{
	unsigned int before = open_fds();
	struct chan_head h = { .kind = CHAN_SEND };
	struct iovec iov = { &h, sizeof(h) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} control = { 0 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	struct world w;

	world_new(&w, true);
	control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(int) * 8) };
	for (size_t i = 0; i < 8; i++)
		memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &w.raw, sizeof(int));
	assert_int_equal(sendmsg(w.raw, &mh, 0), sizeof(h));
	run_until(&w, w.a.closed);
	assert_int_equal(w.a.close_err, -EPROTO);
	world_done(&w);
	assert_int_equal(open_fds(), before);
	assert_int_equal(
		chan_wire_send(-1, 0, &h, NULL, NULL, 0), -EBADF); /* and errors come back */
}

static void freed_in_callbacks(void **state)
{
	struct world w;

	world_new(&w, false);
	w.b.free_in_msg = true;
	w.a.free_in_close = true;
	for (int i = 0; i < 5; i++)
		assert_int_equal(
			chan_call(w.a.c, IPC_HOST_INFO, NULL, 0, NULL, 0, on_reply, &w.a), 0);
	run_until(&w, w.a.closed);
	assert_int_equal(w.b.msgs, 1); /* nothing after it was freed */
	assert_int_equal(w.b.closed, 0);
	assert_int_equal(w.a.replies, 5);
	world_done(&w);

	/* Freed by the first of several answers that its death brings: the rest hear -ECANCELED,
	 * and the owner is not told any more. */
	world_new(&w, true);
	w.a.free_in_reply = true;
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			chan_call(w.a.c, IPC_HOST_INFO, NULL, 0, NULL, 0, on_reply, &w.a), 0);
	w.raw = fd_close(w.raw);
	run_until(&w, w.a.replies == 3);
	assert_int_equal(w.a.closed, 0);
	world_done(&w);
}

static void free_cancels_calls(void **state)
{
	struct world w;

	world_new(&w, true);
	assert_int_equal(chan_call(w.a.c, IPC_HOST_INFO, NULL, 0, NULL, 0, on_reply, &w.a), 0);
	chan_free(take_ptr(w.a.c));
	assert_int_equal(w.a.replies, 1);
	assert_int_equal(w.a.status, -ECANCELED);
	world_done(&w);
	assert_int_equal(w.a.closed, 0);
}

static void alive_is_answered_without_the_owner(void **state)
{
	struct world w;

	world_new(&w, false);
	assert_int_equal(chan_call(w.a.c, IPC_ALIVE, NULL, 0, NULL, 0, on_reply, &w.a), 0);
	run_until(&w, w.a.replies == 1);
	assert_int_equal(w.a.status, 0);
	assert_int_equal(w.b.msgs, 0);
	/* The control: only the call. */
	assert_int_equal(chan_send(w.a.c, IPC_ALIVE, NULL, 0, NULL, 0), 0);
	run_until(&w, w.b.msgs == 1);
	world_done(&w);
}

static void limits_of_arguments(void **state)
{
	static char big[IPC_MSG_MAX + 1];
	int fds[IPC_FDS_MAX + 1] = { 0 };
	struct world w;

	world_new(&w, true);
	assert_int_equal(chan_send(w.a.c, 1, big, sizeof(big), NULL, 0), -EMSGSIZE);
	assert_int_equal(chan_call(w.a.c, 1, big, sizeof(big), NULL, 0, on_reply, &w.a), -EMSGSIZE);
	assert_int_equal(chan_send(w.a.c, 1, NULL, 0, fds, IPC_FDS_MAX + 1), -EINVAL);
	assert_int_equal(chan_reply(w.a.c, 0, 0, NULL, 0, NULL, 0), 0);
	world_done(&w);
	chan_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call_and_reply),
		cmocka_unit_test(errors_keep_their_words),
		cmocka_unit_test(error_without_words),
		cmocka_unit_test(descriptors_travel),
		cmocka_unit_test(death_answers_open_calls),
		cmocka_unit_test(plain_end_is_zero),
		cmocka_unit_test(last_words_are_heard),
		cmocka_unit_test(queue_keeps_order),
		cmocka_unit_test(queue_has_a_bound),
		cmocka_unit_test(malformed_datagrams),
		cmocka_unit_test(too_many_descriptors),
		cmocka_unit_test(freed_in_callbacks),
		cmocka_unit_test(free_cancels_calls),
		cmocka_unit_test(alive_is_answered_without_the_owner),
		cmocka_unit_test(limits_of_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * One conversation with an agent: see the header.
 *
 * Bounds. One partial frame is kept, and must become whole within FRAME_MS (dribbling). Reading
 * stops while the operation is paused, so nothing piles up (flooding). Each wait for the agent has
 * a limit, except a command's own running time. A frame out of turn ends the talk.
 *
 * A talk has three libuv handles; its memory, the operation's struct in which it is embedded, goes
 * when they are closed *and* the owner has called free, in whichever order.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "api/talk.h"
#include "base/fd.h"
#include "bpf/maps.h"

#define CONNECT_MS 20000 /* by the kernel, at once; a machine's own may be kept from it for seconds */
#ifndef FRAME_MS /* a test that plays a slow agent does not want to wait that long */
#define FRAME_MS   10000 /* a frame that began must be whole by then */
#endif
#define SEND_HIGH  262144u /* queued bytes at which was_high is set */

/* --- ends --- */

static void on_handle_closed(uv_handle_t *h)
{
	struct talk *t = h->data;

	if (--t->handles)
		return;
	buf_done(&t->in); /* not earlier: callbacks hold frames in it */
	if (t->freed)
		free(t);
}

static void talk_close(struct talk *t)
{
	if (t->closing)
		return;
	t->closing = true;
	uv_close((uv_handle_t *)&t->tcp, on_handle_closed);
	uv_close((uv_handle_t *)&t->limit, on_handle_closed);
	uv_close((uv_handle_t *)&t->kick, on_handle_closed);
}

void talk_free(struct talk *t)
{
	if (!t || t->freed)
		return;
	t->freed = t->ended = true;
	talk_close(t); /* its last handle frees it, unless that was closed before */
	if (t->handles == 0)
		free(t);
}

bool talk_over(struct talk *t)
{
	if (t->ended)
		return false;
	t->ended = true;
	talk_close(t);
	return true;
}

void talk_fail(struct talk *t, const struct err *err)
{
	if (talk_over(t))
		t->ops->end(t, err);
}

void talk_upstream(struct talk *t, const char *sentence)
{
	struct err err;

	err_set(&err, -EPROTO, ERR_UPSTREAM, "%s", sentence);
	talk_fail(t, &err);
}

void talk_text(char *dst, size_t size, struct str s)
{
	size_t n = MIN(s.n, size - 1);

	for (size_t i = 0; i < n; i++)
		dst[i] = (unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i];
	dst[n] = '\0';
}

static enum err_kind error_kind(uint32_t code)
{
	switch (code) {
	case ENOENT:
		return ERR_NOT_FOUND;
	case EISDIR:
	case EINVAL:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
	case EACCES:
	case EPERM:
	case EROFS:
		return ERR_INVALID;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return ERR_TOO_LARGE;
	case EBUSY:
	case EAGAIN:
	case ENOMEM:
	case EMFILE:
		return ERR_CAPACITY;
	}
	return ERR_UPSTREAM;
}

void talk_unexpected(struct talk *t, const struct frame *f)
{
	char text[FRAME_SENTENCE_MAX + 1];
	union frame_body m;
	struct err err;

	if (f->type != FRAME_ERROR || frame_decode(FRAME_ERROR, f->body, &m) < 0) {
		talk_upstream(t, "the sandbox's agent answered out of turn");
		return;
	}
	talk_text(text, sizeof(text), m.error.text);
	if (m.error.code == 0 || m.error.code > 4095)
		m.error.code = EPROTO; /* no number of an error: to us it is one */
	err_set(&err, -(int)m.error.code, error_kind(m.error.code), "%s", text);
	talk_fail(t, &err);
}

bool talk_exit(struct talk *t, const struct frame *f, struct agent_exit *ret)
{
	union frame_body m;

	if (frame_decode(FRAME_EXIT, f->body, &m) < 0) {
		talk_upstream(t, "the sandbox's agent sent a malformed frame");
		return false;
	}
	*ret = (struct agent_exit){ .code = (int)m.exit.code, .signal = (int)m.exit.signal };
	talk_text(ret->error, sizeof(ret->error), m.exit.error);
	return true;
}

/* --- time --- */

static void on_limit(uv_timer_t *timer)
{
	struct talk *t = timer->data;
	struct err err;

	err_set(&err, -ETIMEDOUT, ERR_UPSTREAM, "the sandbox's agent does not answer");
	talk_fail(t, &err);
}

void talk_limit(struct talk *t, unsigned int ms)
{
	if (t->closing)
		return;
	if (ms)
		uv_timer_start(&t->limit, on_limit, ms, 0);
	else
		uv_timer_stop(&t->limit);
}

/* A partial frame waits FRAME_MS from its first byte on, else the operation's own limit counts. */
static void limit_update(struct talk *t)
{
	unsigned int ms = t->wait_ms;

	t->partial = t->in.n && !t->paused;
	if (t->partial)
		ms = ms ? MIN(ms, (unsigned int)FRAME_MS) : FRAME_MS;
	talk_limit(t, t->paused ? 0 : ms);
}

/* --- receiving --- */

/* -EBADMSG: the rest is no frame. Stops when paused or ended; `*moved` if there was any. */
static int deliver(struct talk *t, bool *moved)
{
	struct str rest = buf_str(&t->in);
	struct frame f;
	int r = 0;

	while (!t->ended && !t->paused && (r = frame_next(&rest, &f)) > 0) {
		*moved = true;
		t->ops->frame(t, &f);
	}
	if (!t->ended && t->in.n)
		buf_consume(&t->in, t->in.n - rest.n);
	return r;
}

static void deliver_all(struct talk *t)
{
	bool moved = false;

	if (deliver(t, &moved) < 0)
		talk_upstream(t, "the sandbox's agent sent a malformed frame");
	else if (!t->ended && (moved || (t->in.n && !t->partial)))
		limit_update(t);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
	struct talk *t = h->data;
	size_t room = t->in.max - t->in.n;

	if (buf_room(&t->in, room) < 0)
		*ret = uv_buf_init(NULL, 0);
	else
		*ret = uv_buf_init(t->in.p + t->in.n, (unsigned int)room);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct talk *t = s->data;
	struct err err;

	if (n == 0)
		return;
	if (n < 0) {
		err_set(&err, n == UV_EOF ? -ECONNRESET : (int)n,
			n == UV_ENOBUFS ? ERR_CAPACITY : ERR_UPSTREAM,
			"the sandbox's agent ended the conversation");
		talk_fail(t, &err);
		return;
	}
	t->in.n += (size_t)n;
	deliver_all(t);
}

static void on_kick(uv_timer_t *timer)
{
	struct talk *t = timer->data;
	struct err err;

	if (t->doom) {
		err_set(&err, t->doom, ERR_CAPACITY, "cannot send to the sandbox's agent: %s",
			uv_strerror(t->doom));
		talk_fail(t, &err);
		return;
	}
	deliver_all(t);
	if (!t->ended && !t->paused)
		uv_read_start((uv_stream_t *)&t->tcp, on_alloc, on_read);
}

void talk_doom(struct talk *t, int error)
{
	if (t->ended)
		return;
	t->doom = error;
	uv_timer_start(&t->kick, on_kick, 0, 0);
}

void talk_pause(struct talk *t, bool paused)
{
	if (t->ended || t->paused == paused)
		return;
	t->paused = paused;
	limit_update(t);
	if (paused)
		uv_read_stop((uv_stream_t *)&t->tcp);
	else
		uv_timer_start(&t->kick, on_kick, 0, 0);
}

/* --- sending --- */

struct sending {
	uv_write_t req;
	struct talk *talk;
	struct buf frames;
};

static void on_written(uv_write_t *req, int status)
{
	struct sending *s = container_of(req, struct sending, req);
	struct talk *t = s->talk;

	t->queued -= s->frames.n;
	buf_done(&s->frames);
	free(s);
	/* A failed write is left to reading: the agent may have said why before it closed. */
	if (!t->ended && status == 0 && t->was_high && t->queued < SEND_HIGH) {
		t->was_high = false;
		limit_update(t);
		if (t->ops->sent)
			t->ops->sent(t);
	}
}

int talk_send(struct talk *t, struct buf *frames)
{
	struct sending *s;
	uv_buf_t b;
	int r;

	r = t->ended ? -EPIPE : buf_failed(frames);
	if (r == 0 && t->queued + frames->n > TALK_SEND_MAX)
		r = -ENOBUFS;
	s = r < 0 ? NULL : calloc(1, sizeof(*s));
	if (!s) {
		buf_done(frames);
		return r < 0 ? r : -ENOMEM;
	}
	s->talk = t;
	s->frames = *frames;
	*frames = BUF_MAX(0);
	b = uv_buf_init(s->frames.p, (unsigned int)s->frames.n);
	r = uv_write(&s->req, (uv_stream_t *)&t->tcp, &b, 1, on_written);
	if (r < 0) {
		buf_done(&s->frames);
		free(s);
		return r;
	}
	t->queued += s->frames.n;
	if (t->queued >= SEND_HIGH)
		t->was_high = true;
	return 0;
}

void talk_data(struct buf *out, struct str data)
{
	while (data.n) {
		struct str piece = str_n(data.p, MIN(data.n, (size_t)FRAME_MAX));

		frame_add(out, FRAME_DATA, 0, piece);
		data = str_skip(data, piece.n);
	}
}

/* A frame of data straight from the caller's memory into the socket, if nothing waits before it.
 * What the socket does not take of it is left in `rest`; -EAGAIN: nothing was taken. */
static int data_try(struct talk *t, struct str piece, struct buf *rest)
{
	uint8_t head[FRAME_HEADER];
	uv_buf_t b[] = { uv_buf_init((char *)head, sizeof(head)),
		uv_buf_init((char *)(uintptr_t)piece.p, (unsigned int)piece.n) };
	size_t taken;
	int r;

	if (t->ended || t->queued)
		return -EAGAIN;
	frame_header(head, FRAME_DATA, 0, (uint32_t)piece.n);
	r = uv_try_write((uv_stream_t *)&t->tcp, b, 2);
	if (r < 0)
		return -EAGAIN; /* an error is met again, and told, by what queues */
	taken = (size_t)r;
	if (taken < sizeof(head)) {
		buf_add(rest, head + taken, sizeof(head) - taken);
		taken = sizeof(head);
	}
	return buf_add_str(rest, str_skip(piece, taken - sizeof(head)));
}

int talk_send_data(struct talk *t, struct str data, bool end)
{
	struct buf out = BUF_MAX(TALK_SEND_MAX);

	while (data.n && !out.n && !buf_failed(&out)) {
		struct str piece = str_n(data.p, MIN(data.n, (size_t)FRAME_MAX));

		if (data_try(t, piece, &out) == -EAGAIN)
			break;
		data = str_skip(data, piece.n);
	}
	talk_data(&out, data);
	if (end)
		frame_add(&out, FRAME_END, 0, STR_NONE);
	return out.n || buf_failed(&out) ? talk_send(t, &out) : 0;
}

/* --- connecting --- */

static void on_connect(uv_connect_t *req, int status)
{
	struct talk *t = req->data;
	struct err err;

	if (t->ended)
		return;
	if (status == 0) {
		limit_update(t);
		status = t->paused ? 0 :
				     uv_read_start((uv_stream_t *)&t->tcp, on_alloc, on_read);
	}
	if (status < 0) {
		err_set(&err, status, ERR_UPSTREAM, "the sandbox's agent cannot be reached: %s",
			uv_strerror(status));
		talk_fail(t, &err);
	}
}

static int link_socket(const struct agent_link *link)
{
	struct sockaddr_in from = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(WEIR_LINK_GATEWAY) };
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (fd < 0)
		return -errno;
	if (!link->link[0]) /* would mean: any device */
		return -ENODEV;
	/* The same two addresses are on every link: the device is what names the sandbox. */
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, link->link,
		    (socklen_t)strnlen(link->link, sizeof(link->link))) < 0)
		return -errno;
	/* The port is chosen at connect, where ports may repeat between links. */
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0 ||
		bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		return -errno;
	return take_fd(fd);
}

static int talk_connect(struct talk *t, const struct agent_link *link)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(WEIR_AGENT_PORT),
		.sin_addr.s_addr = htonl(WEIR_LINK_SANDBOX) };
	auto_fd int fd = link_socket(link);
	int r = fd < 0 ? fd : uv_tcp_open(&t->tcp, fd);

	if (r < 0)
		return r;
	take_fd(fd);
	uv_tcp_nodelay(&t->tcp, 1);
	t->connect.data = t;
	return uv_tcp_connect(&t->connect, &t->tcp, (struct sockaddr *)&to, on_connect);
}

/* first is taken; after a failure the talk is gone. */
static int talk_start(uv_loop_t *loop, struct talk *t, const struct agent_link *link,
	const struct talk_ops *ops, struct buf *first, unsigned int wait_ms, struct err *err)
{
	int r = buf_failed(first);

	t->ops = ops;
	t->in = BUF_MAX(FRAME_HEADER + FRAME_MAX);
	t->wait_ms = wait_ms;
	t->handles = 3;
	uv_tcp_init(loop, &t->tcp);
	uv_timer_init(loop, &t->limit);
	uv_timer_init(loop, &t->kick);
	t->tcp.data = t->limit.data = t->kick.data = t;
	if (r == 0)
		r = talk_connect(t, link);
	if (r == 0)
		r = talk_send(t, first);
	buf_done(first);
	if (r < 0) {
		err_set(err, r, r == -ENOMEM || r == -EMFILE || r == -ENFILE ? ERR_CAPACITY :
			ERR_UPSTREAM, "the sandbox's agent cannot be reached: %s", uv_strerror(r));
		talk_free(t);
		return r;
	}
	talk_limit(t, CONNECT_MS);
	return 0;
}

/* A first message that could not be made: why, as an error. */
static int refuse(int r, const char *what, struct err *err)
{
	if (r == -EFBIG)
		return err_set(err, r, ERR_TOO_LARGE, "the %s is larger than %u bytes", what,
			FRAME_REQUEST_MAX);
	if (r == -ENOMEM)
		return err_set(err, r, ERR_CAPACITY, "out of memory");
	return err_set(err, r, ERR_INVALID, "the %s contains what no program can be given", what);
}

int talk_begin(uv_loop_t *loop, const struct agent_link *link, const struct talk_ops *ops,
	struct buf *first, int made, const char *what, unsigned int wait_ms, struct talk **ret,
	struct err *err)
{
	struct talk *t = made < 0 ? NULL : calloc(1, ops->size);
	int r;

	if (!t) {
		buf_done(first);
		return refuse(made < 0 ? made : -ENOMEM, what, err);
	}
	r = talk_start(loop, t, link, ops, first, wait_ms, err);
	if (r == 0)
		*ret = t;
	return r;
}

int talk_ask(uv_loop_t *loop, const struct agent_link *link, const struct talk_ops *ops,
	uint8_t type, const union frame_body *m, const char *what, unsigned int wait_ms,
	struct talk **ret, struct err *err)
{
	struct buf first = BUF_MAX(2 * FRAME_REQUEST_MAX);
	int r = frame_encode(&first, type, m);

	return talk_begin(loop, link, ops, &first, r, what, wait_ms, ret, err);
}

/* --- what messages are made of --- */

void env_texts_done(struct env_texts *e)
{
	buf_done(&e->text);
	free(e->v);
}

int env_texts(struct env_texts *e, const struct agent_env *env, size_t n)
{
	size_t at = 0;

	e->text = BUF_MAX(FRAME_REQUEST_MAX);
	e->v = calloc(n + 1, sizeof(*e->v));
	if (!e->v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (!env[i].name.n || str_find(env[i].name, '=') >= 0)
			return -EINVAL;
		buf_add_str(&e->text, env[i].name);
		buf_add_c(&e->text, "=");
		buf_add_str(&e->text, env[i].value);
	}
	if (buf_failed(&e->text))
		return buf_failed(&e->text);
	for (size_t i = 0; i < n; i++) {
		e->v[i] = str_n(e->text.p + at, env[i].name.n + 1 + env[i].value.n);
		at += e->v[i].n;
	}
	return 0;
}


/*
 * Conversations with agents.
 *
 * Theory of operation. A `talk` is one TCP connection and everything hostile about it: it
 * connects, queues frames to send, cuts what arrives into frames, keeps time, and tells its
 * operation (talk_ops) of frames, of room to send, and of the end. The operations below it (exec,
 * put, get, wake, watch) are little state machines that never see a malformed byte.
 *
 * Bounds. One partial frame is kept, and must become whole within FRAME_MS (dribbling). Reading
 * stops while the operation is paused, so nothing piles up (flooding). Each wait for the agent has
 * a limit, except a command's own running time. A frame out of turn ends the talk.
 *
 * Lifetimes. A talk has three libuv handles; its memory, the operation's struct in which it is
 * embedded, goes when they are closed *and* the owner has called free, in whichever order.
 * talk_end() is called once, then on_end runs, which may free; so talk_end() is always the last
 * thing a function does.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "api/agent.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ulid.h"
#include "bpf/maps.h"
#include "wire/frame.h"

#define CONNECT_MS	   5000	  /* the agent's socket is in the kernel's backlog: instant or never */
#ifndef FRAME_MS /* a test that plays a slow agent does not want to wait that long */
#define FRAME_MS	   10000  /* a frame that began must be whole by then */
#endif
#define START_MS	   60000  /* from EXEC to STARTED or EXIT: the program may be on a slow disk */
#define FILE_MS		   300000 /* put, get: without any progress */
#define WATCH_MS	   10000  /* from WATCH to OK */
#define WATCH_RETRY_MIN_MS 100
#define WATCH_RETRY_MAX_MS 5000
#define WATCH_BURST	   16 /* signals within WATCH_BURST_NS; more is a flood */
#define WATCH_BURST_NS	   (UINT64_C(10) * NS_PER_SEC)
#define SEND_HIGH	   262144u	/* queued bytes at which put_write() says 0 */
#define SEND_MAX	   (20u << 20)	/* queued bytes of one talk: a whole stdin of a JSON request */

struct talk;
struct talk_ops {
	void (*frame)(struct talk *t, const struct frame *f);
	void (*sent)(struct talk *t);			  /* the queue has fallen below SEND_HIGH */
	void (*end)(struct talk *t, const struct err *err); /* failed; err is never NULL */
	void (*free)(struct talk *t);
};

struct talk {
	uv_tcp_t tcp;
	uv_timer_t limit; /* the running wait */
	uv_timer_t kick;  /* at once, from the loop: what was read before a pause, or doom */
	uv_connect_t connect;
	const struct talk_ops *ops;
	struct buf in;
	size_t queued;
	unsigned int wait_ms;	/* limit between frames; 0: none */
	unsigned int handles;	/* not closed yet */
	int doom;		/* a failure that the next turn of the loop will tell */
	bool paused, ended, freed, closing;
	bool was_high; /* sent() is owed */
	bool partial;  /* the limit runs for a partial frame */
};

/* --- ends --- */

static void on_handle_closed(uv_handle_t *h)
{
	struct talk *t = h->data;

	if (--t->handles)
		return;
	buf_done(&t->in); /* not earlier: callbacks hold frames in it */
	if (t->freed)
		t->ops->free(t);
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

/* No callback comes after this. */
static void talk_free(struct talk *t)
{
	if (t->freed)
		return;
	t->freed = t->ended = true;
	talk_close(t);
	if (t->handles == 0)
		t->ops->free(t);
}

/* True once: the operation may now tell its owner how it ended. */
static bool talk_over(struct talk *t)
{
	if (t->ended)
		return false;
	t->ended = true;
	talk_close(t);
	return true;
}

static void talk_fail(struct talk *t, const struct err *err)
{
	if (talk_over(t))
		t->ops->end(t, err);
}

static void talk_upstream(struct talk *t, const char *sentence)
{
	struct err err;

	err_set(&err, -EPROTO, ERR_UPSTREAM, "%s", sentence);
	talk_fail(t, &err);
}

/* What the agent says of itself, made fit to print. */
static void text_copy(char *dst, size_t size, struct str s)
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

/* An ERROR frame ends any operation; another type than expected does so too. */
static void talk_unexpected(struct talk *t, const struct frame *f)
{
	char text[FRAME_SENTENCE_MAX + 1];
	union frame_body m;
	struct err err;

	if (f->type != FRAME_ERROR || frame_decode(FRAME_ERROR, f->body, &m) < 0) {
		talk_upstream(t, "the sandbox's agent answered out of turn");
		return;
	}
	text_copy(text, sizeof(text), m.error.text);
	if (m.error.code == 0 || m.error.code > 4095)
		m.error.code = EPROTO; /* no number of an error: to us it is one */
	err_set(&err, -(int)m.error.code, error_kind(m.error.code), "%s", text);
	talk_fail(t, &err);
}

/* --- time --- */

static void on_limit(uv_timer_t *timer)
{
	struct talk *t = timer->data;
	struct err err;

	err_set(&err, -ETIMEDOUT, ERR_UPSTREAM, "the sandbox's agent does not answer");
	talk_fail(t, &err);
}

static void talk_limit(struct talk *t, unsigned int ms)
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

/* Resuming goes through the loop, so that no callback runs inside the caller. */
static void talk_pause(struct talk *t, bool paused)
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

/* Takes the frames over, also on failure. */
static int talk_send(struct talk *t, struct buf *frames)
{
	struct sending *s;
	uv_buf_t b;
	int r;

	r = t->ended ? -EPIPE : buf_failed(frames);
	if (r == 0 && t->queued + frames->n > SEND_MAX)
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

static void data_frames(struct buf *out, struct str data)
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

static int talk_send_data(struct talk *t, struct str data, bool end)
{
	struct buf out = BUF_MAX(SEND_MAX);

	while (data.n && !out.n && !buf_failed(&out)) {
		struct str piece = str_n(data.p, MIN(data.n, (size_t)FRAME_MAX));

		if (data_try(t, piece, &out) == -EAGAIN)
			break;
		data = str_skip(data, piece.n);
	}
	data_frames(&out, data);
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

/* On failure the talk is freed, which frees the operation, without any callback. */
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

static int bad_request(struct buf *first, int r, struct err *err, const char *what)
{
	buf_done(first);
	if (r == -EFBIG)
		return err_set(err, r, ERR_TOO_LARGE, "the %s is larger than %u bytes", what,
			FRAME_REQUEST_MAX);
	if (r == -ENOMEM)
		return err_set(err, r, ERR_CAPACITY, "out of memory");
	return err_set(err, r, ERR_INVALID, "the %s contains what no program can be given", what);
}

/* "NAME=value" texts of an environment, in one piece of memory. */
struct env_texts {
	struct buf text;
	struct str *v;
};

static void env_texts_done(struct env_texts *e)
{
	buf_done(&e->text);
	free(e->v);
}

static int env_texts(struct env_texts *e, const struct agent_env *env, size_t n)
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

/* --- exec --- */

struct agent_exec {
	struct talk talk;
	const struct agent_exec_ops *ops;
	void *arg;
	bool started, stdin_ended;
};

static void exec_exit(struct agent_exec *x, const struct frame *f)
{
	struct agent_exit exit = { 0 };
	union frame_body m;

	if (frame_decode(FRAME_EXIT, f->body, &m) < 0 || (x->started && m.exit.error.n)) {
		talk_upstream(&x->talk, "the sandbox's agent sent a malformed frame");
		return;
	}
	exit.code = (int)m.exit.code;
	exit.signal = (int)m.exit.signal;
	text_copy(exit.error, sizeof(exit.error), m.exit.error);
	if (talk_over(&x->talk))
		x->ops->on_end(x, &exit, NULL, x->arg);
}

static void exec_frame(struct talk *t, const struct frame *f)
{
	struct agent_exec *x = container_of(t, struct agent_exec, talk);
	union frame_body m;

	if (f->type == FRAME_EXIT) {
		exec_exit(x, f);
	} else if (f->type == FRAME_STARTED && !x->started &&
		frame_decode(FRAME_STARTED, f->body, &m) == 0) {
		x->started = true;
		t->wait_ms = 0; /* a command may run as long as it likes */
	} else if (x->started && (f->type == FRAME_STDOUT || f->type == FRAME_STDERR)) {
		x->ops->on_output(x, f->type == FRAME_STDOUT ? 1 : 2, f->body, x->arg);
	} else {
		talk_unexpected(t, f);
	}
}

static void exec_end(struct talk *t, const struct err *err)
{
	struct agent_exec *x = container_of(t, struct agent_exec, talk);

	x->ops->on_end(x, NULL, err, x->arg);
}

static void exec_memory(struct talk *t)
{
	free(container_of(t, struct agent_exec, talk));
}

static const struct talk_ops exec_talk = { .frame = exec_frame, .end = exec_end,
	.free = exec_memory };

static int exec_encode(const struct agent_exec_spec *spec, struct buf *out)
{
	_cleanup_(env_texts_done) struct env_texts env = { 0 };
	int r = env_texts(&env, spec->env, spec->n_env);
	union frame_body m = { .exec = {
		.argv = { (struct str *)(uintptr_t)spec->argv, spec->n_argv },
		.env = { env.v, spec->n_env }, .cwd = spec->cwd,
		.flags = spec->kill_on_close ? FRAME_EXEC_KILL : 0 } };

	if (r == 0)
		r = frame_encode(out, FRAME_EXEC, &m);
	return r;
}

int agent_exec_start(uv_loop_t *loop, const struct agent_link *link,
	const struct agent_exec_spec *spec, const struct agent_exec_ops *ops, void *arg,
	struct agent_exec **ret, struct err *err)
{
	struct buf first = BUF_MAX(SEND_MAX);
	struct agent_exec *x;
	int r = exec_encode(spec, &first);

	if (r < 0)
		return bad_request(&first, r, err, "command");
	data_frames(&first, spec->stdin_data);
	if (!spec->stdin_open)
		frame_add(&first, FRAME_END, 0, STR_NONE);
	if (buf_failed(&first) == -EFBIG) {
		buf_done(&first);
		return err_field(err, -EFBIG, ERR_TOO_LARGE, "stdin",
			"stdin is larger than %u MiB", (SEND_MAX - FRAME_REQUEST_MAX) >> 20);
	}
	x = calloc(1, sizeof(*x));
	if (!x)
		return bad_request(&first, -ENOMEM, err, "command");
	x->ops = ops;
	x->arg = arg;
	x->stdin_ended = !spec->stdin_open;
	r = talk_start(loop, &x->talk, link, &exec_talk, &first, START_MS, err);
	if (r == 0)
		*ret = x;
	return r;
}

void agent_exec_pause(struct agent_exec *x, bool paused)
{
	talk_pause(&x->talk, paused);
}

int agent_exec_stdin(struct agent_exec *x, struct str data, bool end)
{
	if (x->stdin_ended)
		return -EPIPE;
	x->stdin_ended = end;
	return talk_send_data(&x->talk, data, end);
}

int agent_exec_kill(struct agent_exec *x, int signal)
{
	struct buf out = BUF_MAX(64);
	union frame_body m = { .kill = { .signal = (uint32_t)signal } };
	int r = frame_encode(&out, FRAME_KILL, &m);

	if (r < 0) {
		buf_done(&out);
		return r;
	}
	return talk_send(&x->talk, &out);
}

void agent_exec_free(struct agent_exec *x)
{
	if (x)
		talk_free(&x->talk);
}

/* --- put --- */

struct agent_put {
	struct talk talk;
	const struct agent_put_ops *ops;
	void *arg;
	uint64_t bytes;
	bool finished;
};

static void put_frame(struct talk *t, const struct frame *f)
{
	struct agent_put *x = container_of(t, struct agent_put, talk);
	union frame_body m;

	if (f->type != FRAME_OK || !x->finished || frame_decode(FRAME_OK, f->body, &m) < 0 ||
		m.ok.bytes != x->bytes)
		talk_unexpected(t, f);
	else if (talk_over(t))
		x->ops->on_end(x, x->bytes, NULL, x->arg);
}

static void put_sent(struct talk *t)
{
	struct agent_put *x = container_of(t, struct agent_put, talk);

	if (!x->finished && x->ops->on_drain)
		x->ops->on_drain(x, x->arg);
}

static void put_end(struct talk *t, const struct err *err)
{
	struct agent_put *x = container_of(t, struct agent_put, talk);

	x->ops->on_end(x, x->bytes, err, x->arg);
}

static void put_memory(struct talk *t)
{
	free(container_of(t, struct agent_put, talk));
}

static const struct talk_ops put_talk = { .frame = put_frame, .sent = put_sent, .end = put_end,
	.free = put_memory };

int agent_put_start(uv_loop_t *loop, const struct agent_link *link, struct str path,
	unsigned int mode, const struct agent_put_ops *ops, void *arg, struct agent_put **ret,
	struct err *err)
{
	union frame_body m = { .put = { .path = path, .mode = mode } };
	struct buf first = BUF_MAX(2 * FRAME_PATH_MAX);
	struct agent_put *x;
	int r = frame_encode(&first, FRAME_PUT, &m);

	if (r == -EINVAL) {
		buf_done(&first);
		return err_field(err, r, ERR_INVALID, "path",
			"must be an absolute path of at most %u bytes", FRAME_PATH_MAX);
	}
	x = r < 0 ? NULL : calloc(1, sizeof(*x));
	if (!x)
		return bad_request(&first, -ENOMEM, err, "path");
	x->ops = ops;
	x->arg = arg;
	/* The client may be slow to send: its limit is the HTTP server's. Ours begins at the end. */
	r = talk_start(loop, &x->talk, link, &put_talk, &first, 0, err);
	if (r == 0)
		*ret = x;
	return r;
}

int agent_put_write(struct agent_put *x, struct str data)
{
	int r = x->finished ? -EPIPE : talk_send_data(&x->talk, data, false);

	if (r < 0) {
		if (!x->talk.ended) {
			x->talk.doom = r;
			uv_timer_start(&x->talk.kick, on_kick, 0, 0);
		}
		return r;
	}
	x->bytes += data.n;
	if (!x->talk.was_high)
		return 1;
	talk_limit(&x->talk, FILE_MS); /* until there is room again */
	return 0;
}

int agent_put_finish(struct agent_put *x)
{
	int r = x->finished ? -EPIPE : talk_send_data(&x->talk, STR_NONE, true);

	if (r == 0) {
		x->finished = true;
		x->talk.wait_ms = FILE_MS;
		talk_limit(&x->talk, FILE_MS);
	}
	return r;
}

void agent_put_free(struct agent_put *x)
{
	if (x)
		talk_free(&x->talk);
}

/* --- get --- */

struct agent_get {
	struct talk talk;
	const struct agent_get_ops *ops;
	void *arg;
	uint64_t left;
	bool open;
};

static void get_frame(struct talk *t, const struct frame *f)
{
	struct agent_get *x = container_of(t, struct agent_get, talk);
	union frame_body m;

	if (!x->open && f->type == FRAME_OK && frame_decode(FRAME_OK, f->body, &m) == 0) {
		x->open = true;
		x->left = m.ok.bytes;
		x->ops->on_open(x, m.ok.bytes, x->arg);
	} else if (x->open && f->type == FRAME_DATA && f->body.n <= x->left) {
		x->left -= f->body.n;
		x->ops->on_data(x, f->body, x->arg);
	} else if (x->open && f->type == FRAME_END && x->left == 0) {
		if (talk_over(t))
			x->ops->on_end(x, NULL, x->arg);
	} else {
		talk_unexpected(t, f);
	}
}

static void get_end(struct talk *t, const struct err *err)
{
	struct agent_get *x = container_of(t, struct agent_get, talk);

	x->ops->on_end(x, err, x->arg);
}

static void get_memory(struct talk *t)
{
	free(container_of(t, struct agent_get, talk));
}

static const struct talk_ops get_talk = { .frame = get_frame, .end = get_end, .free = get_memory };

int agent_get_start(uv_loop_t *loop, const struct agent_link *link, struct str path,
	const struct agent_get_ops *ops, void *arg, struct agent_get **ret, struct err *err)
{
	union frame_body m = { .get = { .path = path } };
	struct buf first = BUF_MAX(2 * FRAME_PATH_MAX);
	struct agent_get *x;
	int r = frame_encode(&first, FRAME_GET, &m);

	if (r == -EINVAL) {
		buf_done(&first);
		return err_field(err, r, ERR_INVALID, "path",
			"must be an absolute path of at most %u bytes", FRAME_PATH_MAX);
	}
	x = r < 0 ? NULL : calloc(1, sizeof(*x));
	if (!x)
		return bad_request(&first, -ENOMEM, err, "path");
	x->ops = ops;
	x->arg = arg;
	r = talk_start(loop, &x->talk, link, &get_talk, &first, FILE_MS, err);
	if (r == 0)
		*ret = x;
	return r;
}

void agent_get_pause(struct agent_get *x, bool paused)
{
	talk_pause(&x->talk, paused);
}

void agent_get_free(struct agent_get *x)
{
	if (x)
		talk_free(&x->talk);
}

/* --- wake: nobody holds it, so it frees itself --- */

struct wake {
	struct talk talk;
	agent_done_fn done;
	void *arg;
};

static void wake_frame(struct talk *t, const struct frame *f)
{
	struct wake *w = container_of(t, struct wake, talk);
	union frame_body m;

	if (f->type != FRAME_OK || frame_decode(FRAME_OK, f->body, &m) < 0) {
		talk_unexpected(t, f);
	} else if (talk_over(t)) {
		w->done(NULL, w->arg);
		talk_free(t);
	}
}

static void wake_end(struct talk *t, const struct err *err)
{
	struct wake *w = container_of(t, struct wake, talk);

	w->done(err, w->arg);
	talk_free(t);
}

static void wake_memory(struct talk *t)
{
	free(container_of(t, struct wake, talk));
}

static const struct talk_ops wake_talk = { .frame = wake_frame, .end = wake_end,
	.free = wake_memory };

static int wake_encode(const struct agent_wake_spec *spec, struct buf *out)
{
	_cleanup_(env_texts_done) struct env_texts env = { 0 };
	uint8_t entropy[32];
	int r = env_texts(&env, spec->env, spec->n_env);
	union frame_body m = { .wake = { .hostname = spec->hostname,
		.ip4 = str_n(spec->ip4.a, spec->ip4.family == 4 ? 4 : 0),
		.ip6 = str_n(spec->ip6.a, spec->ip6.family == 6 ? 16 : 0),
		.wall_ns = spec->wall_ns, .env = { env.v, spec->n_env },
		.ssh_keys = { (struct str *)(uintptr_t)spec->ssh_keys, spec->n_ssh_keys } } };

	if (spec->wall_ns) { /* a machine of its own: clock and randomness are its own as well */
		random_bytes(entropy, sizeof(entropy));
		m.wake.entropy = str_n(entropy, sizeof(entropy));
	}
	if (r == 0)
		r = frame_encode(out, FRAME_WAKE, &m);
	return r;
}

int agent_wake(uv_loop_t *loop, const struct agent_link *link, const struct agent_wake_spec *spec,
	uint32_t timeout_ms, agent_done_fn done, void *arg, struct err *err)
{
	struct buf first = BUF_MAX(2 * FRAME_REQUEST_MAX);
	struct wake *w;
	int r = wake_encode(spec, &first);

	if (r < 0)
		return bad_request(&first, r, err, "environment");
	w = calloc(1, sizeof(*w));
	if (!w)
		return bad_request(&first, -ENOMEM, err, "environment");
	w->done = done;
	w->arg = arg;
	r = talk_start(loop, &w->talk, link, &wake_talk, &first, timeout_ms, err);
	if (r == 0)
		talk_limit(&w->talk, timeout_ms);
	return r;
}

/* --- watch: a talk at a time, and a pause between them --- */

struct watch_talk {
	struct talk talk;
	struct agent_watch *watch;
	bool up;
};

struct agent_watch {
	uv_timer_t retry;
	uv_loop_t *loop;
	struct agent_link link;
	agent_signal_fn on_signal;
	void *arg;
	struct watch_talk *now; /* NULL between talks */
	unsigned int delay_ms, signals;
	uint64_t burst_ns; /* when the count of signals began */
	bool freed;
};

static void watch_connect(struct agent_watch *w);

static void on_watch_retry(uv_timer_t *timer)
{
	watch_connect(timer->data);
}

static void watch_again(struct agent_watch *w)
{
	w->now = NULL;
	uv_timer_start(&w->retry, on_watch_retry, w->delay_ms, 0);
	w->delay_ms = MIN(w->delay_ms * 2, (unsigned int)WATCH_RETRY_MAX_MS);
}

static bool watch_flooded(struct agent_watch *w)
{
	uint64_t now = clock_mono_ns();

	if (now - w->burst_ns > WATCH_BURST_NS) {
		w->burst_ns = now;
		w->signals = 0;
	}
	return ++w->signals > WATCH_BURST;
}

static void watch_signal(struct watch_talk *k, const struct frame *f)
{
	struct agent_watch *w = k->watch;
	char reason[FRAME_REASON_MAX + 1];
	union frame_body m;

	if (frame_decode(FRAME_SIGNAL, f->body, &m) < 0) {
		talk_upstream(&k->talk, "the sandbox's agent sent a malformed frame");
		return;
	}
	if (watch_flooded(w)) {
		w->delay_ms = WATCH_RETRY_MAX_MS;
		talk_upstream(&k->talk, "the sandbox signals too often");
		return;
	}
	text_copy(reason, sizeof(reason), m.signal.reason);
	w->on_signal(w, m.signal.kind == FRAME_SIGNAL_PAUSE ? AGENT_SIGNAL_PAUSE :
		AGENT_SIGNAL_DELETE, str_c(reason), w->arg);
}

static void watch_frame(struct talk *t, const struct frame *f)
{
	struct watch_talk *k = container_of(t, struct watch_talk, talk);
	union frame_body m;

	if (k->up && f->type == FRAME_SIGNAL) {
		watch_signal(k, f);
	} else if (!k->up && f->type == FRAME_OK && frame_decode(FRAME_OK, f->body, &m) == 0) {
		k->up = true;
		t->wait_ms = 0;
		k->watch->delay_ms = WATCH_RETRY_MIN_MS;
	} else {
		talk_unexpected(t, f);
	}
}

static void watch_end(struct talk *t, const struct err *err)
{
	struct watch_talk *k = container_of(t, struct watch_talk, talk);

	log_event(LOG_DEBUG, "agent.watch", "link=%s text=%s", k->watch->link.link,
		log_q(str_c(err->text)));
	watch_again(k->watch);
	talk_free(t);
}

static void watch_memory(struct talk *t)
{
	free(container_of(t, struct watch_talk, talk));
}

static const struct talk_ops watch_talk = { .frame = watch_frame, .end = watch_end,
	.free = watch_memory };

static void watch_connect(struct agent_watch *w)
{
	struct watch_talk *k = calloc(1, sizeof(*k));
	struct buf first = BUF_MAX(FRAME_HEADER);

	if (!k) {
		watch_again(w);
		return;
	}
	k->watch = w;
	w->now = k;
	frame_add(&first, FRAME_WATCH, 0, STR_NONE);
	if (talk_start(w->loop, &k->talk, &w->link, &watch_talk, &first, WATCH_MS, NULL) < 0)
		watch_again(w);
}

int agent_watch_start(uv_loop_t *loop, const struct agent_link *link, agent_signal_fn on_signal,
	void *arg, struct agent_watch **ret)
{
	struct agent_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->loop = loop;
	w->link = *link;
	w->on_signal = on_signal;
	w->arg = arg;
	w->delay_ms = WATCH_RETRY_MIN_MS;
	uv_timer_init(loop, &w->retry);
	w->retry.data = w;
	watch_connect(w);
	*ret = w;
	return 0;
}

static void on_watch_closed(uv_handle_t *h)
{
	free(h->data);
}

void agent_watch_free(struct agent_watch *w)
{
	if (!w || w->freed)
		return;
	w->freed = true;
	if (w->now)
		talk_free(&w->now->talk);
	uv_close((uv_handle_t *)&w->retry, on_watch_closed);
}

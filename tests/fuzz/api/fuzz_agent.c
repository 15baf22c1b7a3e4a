/*
 * What a hostile agent answers: the first byte chooses the operation (T, N, P, A, C those of names,
 * changes and processes), the second how its bytes are
 * cut, the third what the operation's owner does meanwhile (pause, send, free inside a callback).
 * The connection is played. Each operation ends once or is freed, nothing comes after that, what an
 * agent says of itself is fit to print, and all memory goes.
 */
#include <sys/socket.h>
#include <uv.h>
#include "../fuzz.h"

static int play_connect(uv_connect_t *, uv_tcp_t *, const struct sockaddr *, uv_connect_cb);
static int play_read(uv_stream_t *, uv_alloc_cb, uv_read_cb);
static int play_write(uv_write_t *, uv_stream_t *, const uv_buf_t *, unsigned int, uv_write_cb);

#define uv_tcp_open(tcp, fd)	   (close(fd), 0)
#define uv_tcp_nodelay(tcp, on)	   ((void)0)
#define uv_tcp_connect		   play_connect
#define uv_read_start		   play_read
#define uv_read_stop(s)		   ((void)0)
#define uv_write		   play_write
#define setsockopt(fd, l, o, p, n) ((void)(p), 0)
#define bind(fd, a, n)		   ((void)(a), 0)
#include "api/talk.c"
#include "api/agent.c"
#include "api/notify.h"
#include "api/procs.h"
#include "api/tree.h"

#define AWAY_MAX 64

static uv_connect_t *connecting;
static uv_connect_cb connected;
static uv_alloc_cb alloc;
static uv_read_cb heard;
static struct talk *talk; /* the one that is connected */
static struct away {
	uv_write_t *req;
	uv_write_cb done;
} away[AWAY_MAX]; /* what the kernel took */
static unsigned int n_away, calls, ends;
static uint8_t form;
static void (*leave)(void);
static union {
	struct agent_exec *exec;
	struct agent_put *put;
	struct agent_get *get;
	struct agent_watch *watch;
	struct tree *tree;
	struct notify *notify;
	struct proc *proc;
	struct proc_ask *ask;
} op;

/* --- the connection --- */

static int play_connect(
	uv_connect_t *req, uv_tcp_t *tcp, const struct sockaddr *to, uv_connect_cb done)
{
	connecting = req;
	connected = done;
	talk = tcp->data;
	return 0;
}

static int play_read(uv_stream_t *s, uv_alloc_cb a, uv_read_cb r)
{
	alloc = a;
	heard = r;
	return 0;
}

static int play_write(
	uv_write_t *req, uv_stream_t *s, const uv_buf_t *b, unsigned int n, uv_write_cb done)
{
	struct str sent = str_n(b->base, b->len);
	struct frame f;

	if (n_away == AWAY_MAX)
		return UV_ENOMEM;
	while (sent.n)
		CHECK(frame_next(&sent, &f) == 1);
	away[n_away++] = (struct away){ req, done };
	return 0;
}

static void written(void)
{
	for (unsigned int i = 0; i < n_away; i++) {
		struct away a = away[i];

		away[i].req = NULL;
		if (a.req)
			a.done(a.req, 0);
	}
	n_away = 0;
}

/* --- its owner --- */

static void called(void)
{
	CHECK(leave && !ends);
	if (form & 8 && ++calls == 1u + (form >> 4 & 3))
		leave();
}

static void ended(const struct err *err)
{
	CHECK(leave && !ends++);
	CHECK(!err || (err->code < 0 && err->text[0]));
	for (size_t i = 0; err && err->text[i]; i++)
		CHECK((unsigned char)err->text[i] >= ' ' && err->text[i] != 0x7f);
	if (form & 64)
		leave();
}

static void leave_exec(void)
{
	leave = NULL;
	agent_exec_free(op.exec);
}

static void on_output(struct agent_exec *x, int stream, struct str data, void *arg)
{
	CHECK(x == op.exec && (stream == 1 || stream == 2) && data.n && data.n <= FRAME_MAX);
	if (form & 1)
		agent_exec_pause(x, true);
	if (form & 2)
		agent_exec_stdin(x, STR("more"), calls == 3);
	if (form & 4)
		agent_exec_kill(x, 15);
	called();
}

static void on_ended(struct agent_exec *x, const struct agent_exit *e, const struct err *err, void *arg)
{
	CHECK(!e != !err);
	for (size_t i = 0; e && e->error[i]; i++)
		CHECK((unsigned char)e->error[i] >= ' ' && e->error[i] != 0x7f);
	ended(err);
}

static void leave_put(void)
{
	leave = NULL;
	agent_put_free(op.put);
}

static void on_put(struct agent_put *x, uint64_t bytes, const struct err *err, void *arg)
{
	CHECK(err || bytes == 5);
	ended(err);
}

static void leave_get(void)
{
	leave = NULL;
	agent_get_free(op.get);
}

static void on_open(struct agent_get *x, uint64_t size, void *arg)
{
	called();
}

static void on_data(struct agent_get *x, struct str data, void *arg)
{
	CHECK(data.n && data.n <= FRAME_MAX);
	if (form & 1)
		agent_get_pause(x, true);
	called();
}

static void on_got(struct agent_get *x, const struct err *err, void *arg)
{
	ended(err);
}

static void leave_wake(void)
{
	leave = NULL;
}

static void leave_watch(void)
{
	leave = NULL;
	agent_watch_free(op.watch);
}

static void on_signal(struct agent_watch *w, enum agent_signal what, struct str reason, void *arg)
{
	CHECK(what == AGENT_SIGNAL_PAUSE || what == AGENT_SIGNAL_DELETE);
	CHECK(reason.n <= FRAME_REASON_MAX);
	called();
}

/* --- names, changes, processes --- */

static void leave_tree(void)
{
	leave = NULL;
	tree_free(op.tree);
}

static void on_entry(struct tree *x, const struct tree_entry *e, void *arg)
{
	CHECK(x == op.tree && e->path.n && e->path.n <= FRAME_PATH_MAX && e->path.p[0] == '/');
	CHECK(e->kind >= FRAME_FILE && e->kind <= FRAME_OTHER && e->mode <= 07777);
	if (form & 1)
		tree_pause(x, true);
	called();
}

static void on_tree(struct tree *x, uint64_t n, const struct err *err, void *arg)
{
	ended(err);
}

static void leave_notify(void)
{
	leave = NULL;
	notify_free(op.notify);
}

static void on_notify_open(struct notify *x, void *arg)
{
	called();
}

static void on_change(struct notify *x, enum frame_change what, struct str path, void *arg)
{
	CHECK(x == op.notify && what >= FRAME_CREATED && what <= FRAME_INVALIDATED);
	CHECK(path.n && path.n <= FRAME_PATH_MAX && path.p[0] == '/');
	if (form & 1)
		notify_pause(x, true);
	called();
}

static void on_notify(struct notify *x, const struct err *err, void *arg)
{
	ended(err);
}

static void leave_proc(void)
{
	leave = NULL;
	proc_free(op.proc);
}

static void on_attached(struct proc *x, uint64_t offset, void *arg)
{
	called();
}

static void on_proc_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	CHECK(stream >= PROC_OUT && stream <= PROC_SIDE && data.n && data.n <= FRAME_MAX);
	if (form & 1)
		proc_pause(x, true);
	if (form & 2)
		proc_write(x, STR("more"), calls == 3);
	called();
}

static void on_proc(struct proc *x, const struct agent_exit *e, const struct err *err, void *arg)
{
	CHECK(!e || !err);
	ended(err);
}

/* Asks free themselves when they end. */
static void leave_ask(void)
{
	leave = NULL;
	if (!ends)
		proc_ask_free(op.ask);
}

static void on_info(const struct proc_info *info, const struct err *err, void *arg)
{
	if (!info) {
		ended(err);
		return;
	}
	CHECK(info->id.n && info->id.n <= FRAME_ID_MAX && info->note.n <= FRAME_NOTE_MAX);
	called();
}

static int start_other(uv_loop_t *loop, uint8_t which, const struct agent_link *link)
{
	static const struct tree_ops tree_ops = { on_entry, on_tree };
	static const struct notify_ops notify_ops = { on_notify_open, on_change, on_notify };
	static const struct proc_ops proc_ops = { .on_output = on_proc_output, .on_end = on_proc,
		.on_attached = on_attached };
	struct tree_spec tree = { .op = FRAME_TREE_LIST, .path = STR("/") };
	struct proc_attach attach = { .id = STR("p"), .follow = form & 4 };
	struct proc_change change = { .id = STR("p"), .signal = 9 };
	struct err err;

	switch (which) {
	case 'T':
		leave = leave_tree;
		return tree_start(loop, link, &tree, &tree_ops, NULL, &op.tree, &err);
	case 'N':
		leave = leave_notify;
		return notify_start(loop, link, STR("/d"), true, &notify_ops, NULL, &op.notify, &err);
	case 'A':
		leave = leave_proc;
		return proc_attach(loop, link, &attach, &proc_ops, NULL, &op.proc, &err);
	case 'C':
		leave = leave_ask;
		return proc_change(loop, link, &change, on_info, NULL, &op.ask, &err);
	}
	leave = leave_ask;
	return procs_list(loop, link, STR_NONE, STR_NONE, on_info, NULL, &op.ask, &err);
}

static int start(uv_loop_t *loop, uint8_t which)
{
	static const struct agent_exec_ops exec_ops = { on_output, on_ended };
	static const struct agent_put_ops put_ops = { .on_end = on_put };
	static const struct agent_get_ops get_ops = { on_open, on_data, on_got };
	static const struct agent_link link = { .link = "w1", .ifindex = 1 };
	static const struct str argv[] = { STR("true") };
	struct agent_exec_spec exec = { .argv = argv, .n_argv = 1, .stdin_open = form & 2 };
	struct agent_wake_spec wake = { .hostname = STR("box") };
	struct err err;

	if (which && strchr("TNPAC", which))
		return start_other(loop, which, &link);
	switch (which % 5) {
	case 0:
		leave = leave_exec;
		return agent_exec_start(loop, &link, &exec, &exec_ops, NULL, &op.exec, &err);
	case 1:
		leave = leave_put;
		if (agent_put_start(loop, &link, STR("/f"), 0, &put_ops, NULL, &op.put, &err) < 0)
			return -1;
		agent_put_write(op.put, STR("bytes"));
		return form & 1 ? 0 : agent_put_finish(op.put);
	case 2:
		leave = leave_get;
		return agent_get_start(loop, &link, STR("/f"), &get_ops, NULL, &op.get, &err);
	case 3:
		leave = leave_wake;
		return agent_wake(loop, &link, &wake, 1000, (agent_done_fn)(void *)ended, NULL, &err);
	}
	leave = leave_watch;
	return agent_watch_start(loop, &link, on_signal, NULL, &op.watch);
}

/* One read. False when nobody reads any more. */
static bool hear(struct str *bytes, size_t piece)
{
	uv_stream_t *s = (uv_stream_t *)&talk->tcp;
	uv_buf_t b;
	size_t n;

	if (talk->ended)
		return false;
	alloc((uv_handle_t *)s, 65536, &b);
	n = MIN(MIN(bytes->n, piece), b.len);
	if (!b.len) {
		heard(s, UV_ENOBUFS, &b);
	} else if (!bytes->n) {
		heard(s, UV_EOF, &b);
	} else {
		memcpy(b.base, bytes->p, n);
		*bytes = str_skip(*bytes, n);
		heard(s, (ssize_t)n, &b);
	}
	return !talk->ended;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uv_loop_t loop;
	static bool ready;
	struct str bytes = str_n(data, size);
	bool more = true;

	if (size < 3 || size > 200000)
		return 0;
	if (!ready)
		ready = uv_loop_init(&loop) == 0;
	bytes = str_skip(bytes, 3);
	form = data[2];
	calls = ends = 0;
	CHECK(start(&loop, data[0]) == 0);
	connected(connecting, 0);
	while (more && bytes.n) {
		more = hear(&bytes, data[1] & 1 ? data[1] : 65536);
		if (!more)
			break;
		written();
		while (more && talk->paused) { /* what waits comes from the loop */
			talk_pause(talk, false);
			on_kick(&talk->kick);
			more = !talk->ended;
		}
	}
	if (more)
		hear(&bytes, 1); /* the end */
	CHECK(ends || !leave || leave == leave_watch);
	written();
	if (leave)
		leave();
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK(!uv_loop_alive(&loop));
	return 0;
}

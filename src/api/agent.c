/*
 * Conversations with agents: see the header. Each operation (exec, put, get, wake, watch) is a
 * little state machine on a talk (api/talk.h) and never sees a malformed byte. Commands that outlive
 * their connection are in procs.c.
 */
#include "api/talk.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/ulid.h"

#define START_MS	   60000  /* from EXEC to STARTED or EXIT: the program may be on a slow disk */
#ifndef FILE_MS /* as FRAME_MS in talk.c */
#define FILE_MS		   30000  /* put, get: no byte for so long, and nobody waits for ours */
#endif
#define STORE_MS	   300000 /* from the end of what was put to OK: the disk may be slow */
#define WATCH_MS	   10000  /* from WATCH to OK */
#define WATCH_RETRY_MIN_MS 100
#define WATCH_RETRY_MAX_MS 5000
#define WATCH_BURST	   16 /* signals within WATCH_BURST_NS; more is a flood */
#define WATCH_BURST_NS	   (UINT64_C(10) * NS_PER_SEC)

/* --- exec --- */

struct agent_exec {
	struct talk talk;
	const struct agent_exec_ops *ops;
	void *arg;
	bool started, stdin_ended;
};

static void exec_exit(struct agent_exec *x, const struct frame *f)
{
	struct agent_exit exit;

	if (!talk_exit(&x->talk, f, &exit))
		return;
	if (x->started && exit.error[0]) /* it cannot have failed to start any more */
		talk_upstream(&x->talk, "the sandbox's agent sent a malformed frame");
	else if (talk_over(&x->talk))
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

static const struct talk_ops exec_talk = { .frame = exec_frame, .end = exec_end,
	.size = TALK_SIZE(struct agent_exec) };

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
	struct buf first = BUF_MAX(TALK_SEND_MAX);
	struct agent_exec *x;
	struct talk *t;
	int r = exec_encode(spec, &first);

	if (r == 0)
		talk_data(&first, spec->stdin_data);
	if (r == 0 && !spec->stdin_open)
		frame_add(&first, FRAME_END, 0, STR_NONE);
	if (r == 0 && buf_failed(&first) == -EFBIG) {
		buf_done(&first);
		return err_field(err, -EFBIG, ERR_TOO_LARGE, "stdin",
			"stdin is larger than %u MiB", (TALK_SEND_MAX - FRAME_REQUEST_MAX) >> 20);
	}
	r = talk_begin(loop, link, &exec_talk, &first, r, "command", START_MS, &t, err);
	if (r < 0)
		return r;
	*ret = x = container_of(t, struct agent_exec, talk);
	x->ops = ops;
	x->arg = arg;
	x->stdin_ended = !spec->stdin_open;
	return 0;
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

/* --- put, get --- */

static int file_begin(uv_loop_t *loop, const struct agent_link *link, const struct talk_ops *ops,
	uint8_t type, const union frame_body *m, unsigned int wait_ms, struct talk **ret,
	struct err *err)
{
	struct buf first = BUF_MAX(2 * FRAME_PATH_MAX);
	int r = frame_encode(&first, type, m);

	if (r == -EINVAL) {
		buf_done(&first);
		return err_field(err, r, ERR_INVALID, "path",
			"must be an absolute path of at most %u bytes", FRAME_PATH_MAX);
	}
	return talk_begin(loop, link, ops, &first, r, "path", wait_ms, ret, err);
}

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

static const struct talk_ops put_talk = { .frame = put_frame, .sent = put_sent, .end = put_end,
	.size = TALK_SIZE(struct agent_put) };

static int put_message(uv_loop_t *loop, const struct agent_link *link, const union frame_body *m,
	const struct agent_put_ops *ops, void *arg, struct agent_put **ret, struct err *err)
{
	/* The client may be slow to send: its limit is the HTTP server's. Ours begins at the end. */
	struct talk *t;
	int r = file_begin(loop, link, &put_talk, FRAME_PUT, m, 0, &t, err);

	if (r < 0)
		return r;
	*ret = container_of(t, struct agent_put, talk);
	(*ret)->ops = ops;
	(*ret)->arg = arg;
	return 0;
}

int agent_put_start(uv_loop_t *loop, const struct agent_link *link, struct str path,
	unsigned int mode, const struct agent_put_ops *ops, void *arg, struct agent_put **ret,
	struct err *err)
{
	union frame_body m = { .put = { .path = path, .mode = mode } };

	return put_message(loop, link, &m, ops, arg, ret, err);
}

int agent_put_as(uv_loop_t *loop, const struct agent_link *link, struct str path,
	const struct agent_put_mark *mark, const struct agent_put_ops *ops, void *arg,
	struct agent_put **ret, struct err *err)
{
	union frame_body m = { .put = { .path = path, .mode = mark->mode, .owner = mark->owner,
		.group = mark->group, .exact = mark->mode != 0 } };

	return put_message(loop, link, &m, ops, arg, ret, err);
}

int agent_put_write(struct agent_put *x, struct str data)
{
	int r = x->finished ? -EPIPE : talk_send_data(&x->talk, data, false);

	if (r < 0) {
		talk_doom(&x->talk, r);
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
		x->talk.wait_ms = STORE_MS;
		talk_limit(&x->talk, STORE_MS);
	}
	return r;
}

void agent_put_free(struct agent_put *x)
{
	if (x)
		talk_free(&x->talk);
}

struct agent_get {
	struct talk talk;
	const struct agent_get_ops *ops;
	void *arg;
	uint64_t left, size;
	bool open;
};

static void get_frame(struct talk *t, const struct frame *f)
{
	struct agent_get *x = container_of(t, struct agent_get, talk);
	union frame_body m;

	if (!x->open && f->type == FRAME_OK && frame_decode(FRAME_OK, f->body, &m) == 0) {
		x->open = true;
		x->left = m.ok.bytes;
		x->size = m.ok.size;
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

static const struct talk_ops get_talk = { .frame = get_frame, .end = get_end,
	.size = TALK_SIZE(struct agent_get) };

int agent_get_part(uv_loop_t *loop, const struct agent_link *link, struct str path, uint64_t offset,
	uint64_t length, const struct agent_get_ops *ops, void *arg, struct agent_get **ret,
	struct err *err)
{
	union frame_body m = { .get = { .path = path, .offset = offset, .length = length } };
	struct talk *t;
	int r = file_begin(loop, link, &get_talk, FRAME_GET, &m, FILE_MS, &t, err);

	if (r < 0)
		return r;
	*ret = container_of(t, struct agent_get, talk);
	(*ret)->ops = ops;
	(*ret)->arg = arg;
	return 0;
}

int agent_get_start(uv_loop_t *loop, const struct agent_link *link, struct str path,
	const struct agent_get_ops *ops, void *arg, struct agent_get **ret, struct err *err)
{
	return agent_get_part(loop, link, path, 0, 0, ops, arg, ret, err);
}

uint64_t agent_get_size(const struct agent_get *x)
{
	return x->size;
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

/* --- wake and sleep: nobody holds them, so they free themselves --- */

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

static const struct talk_ops wake_talk = { .frame = wake_frame, .end = wake_end,
	.size = TALK_SIZE(struct wake) };

/* One message, one OK, which comes in this time. */
static int tell(struct talk *t, uint32_t timeout_ms, agent_done_fn done, void *arg)
{
	struct wake *w = container_of(t, struct wake, talk);

	w->done = done;
	w->arg = arg;
	talk_limit(t, timeout_ms);
	return 0;
}

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
		m.wake.overlay = str_n(spec->overlay.a, spec->overlay.family == 4 ? 4 : 0);
		m.wake.machine = spec->machine;
	}
	if (r == 0)
		r = frame_encode(out, FRAME_WAKE, &m);
	return r;
}

int agent_wake(uv_loop_t *loop, const struct agent_link *link, const struct agent_wake_spec *spec,
	uint32_t timeout_ms, agent_done_fn done, void *arg, struct err *err)
{
	struct buf first = BUF_MAX(2 * FRAME_REQUEST_MAX);
	struct talk *t;
	int r = wake_encode(spec, &first);

	r = talk_begin(loop, link, &wake_talk, &first, r, "environment", timeout_ms, &t, err);
	return r < 0 ? r : tell(t, timeout_ms, done, arg);
}

int agent_sleep(uv_loop_t *loop, const struct agent_link *link, uint32_t timeout_ms,
	agent_done_fn done, void *arg, struct err *err)
{
	struct buf first = BUF_MAX(FRAME_HEADER);
	struct talk *t;
	int r = frame_add(&first, FRAME_SLEEP, 0, STR_NONE);

	r = talk_begin(loop, link, &wake_talk, &first, r, "request", timeout_ms, &t, err);
	return r < 0 ? r : tell(t, timeout_ms, done, arg);
}

int agent_go(uv_loop_t *loop, const struct agent_link *link, uint64_t wall_ns, uint32_t timeout_ms,
	agent_done_fn done, void *arg, struct err *err)
{
	struct buf first = BUF_MAX(2 * FRAME_HEADER + sizeof(wall_ns));
	struct talk *t;
	int r = frame_encode(&first, FRAME_GO, &(union frame_body){ .go = { wall_ns } });

	r = talk_begin(loop, link, &wake_talk, &first, r, "request", timeout_ms, &t, err);
	return r < 0 ? r : tell(t, timeout_ms, done, arg);
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
	talk_text(reason, sizeof(reason), m.signal.reason);
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

static const struct talk_ops watch_talk = { .frame = watch_frame, .end = watch_end,
	.size = TALK_SIZE(struct watch_talk) };

static void watch_connect(struct agent_watch *w)
{
	struct buf first = BUF_MAX(FRAME_HEADER);
	struct talk *t;

	frame_add(&first, FRAME_WATCH, 0, STR_NONE);
	if (talk_begin(w->loop, &w->link, &watch_talk, &first, 0, "watch", WATCH_MS, &t, NULL) < 0) {
		watch_again(w);
		return;
	}
	w->now = container_of(t, struct watch_talk, talk);
	w->now->watch = w;
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

/*
 * Long-lived commands, from outside: see the header. Each conversation is a talk (api/talk.h) that
 * begins with START, ATTACH, PROCS or CONTROL and believes nothing: an offset that goes back, output
 * before the start, a second list for one question end it.
 */
#include "api/procs.h"
#include "api/talk.h"

#define START_MS 60000u /* the program may be on a slow disk */
#define ASK_MS	 60000u /* on a busy machine its sandbox may get little of the processors */

struct proc {
	struct talk talk;
	const struct proc_ops *ops;
	void *arg;
	uint64_t at; /* offset of the next byte */
	bool started, attached, sought, follow;
};

/* --- what the agent says --- */

static void proc_exit(struct proc *x, const struct frame *f)
{
	struct agent_exit exit;

	if (talk_exit(&x->talk, f, &exit) && talk_over(&x->talk))
		x->ops->on_end(x, &exit, NULL, x->arg);
}

static void proc_over(struct proc *x)
{
	if (talk_over(&x->talk))
		x->ops->on_end(x, NULL, NULL, x->arg);
}

static void proc_started(struct proc *x, const struct frame *f)
{
	union frame_body m;

	if (frame_decode(FRAME_STARTED, f->body, &m) < 0) {
		talk_upstream(&x->talk, "the sandbox's agent sent a malformed frame");
		return;
	}
	x->started = true;
	x->talk.wait_ms = 0; /* it may run as long as it likes */
	if (x->ops->on_started)
		x->ops->on_started(x, m.started.pid, x->arg);
	if (!x->attached && !x->talk.ended)
		proc_over(x);
}

static void proc_output(struct proc *x, const struct frame *f)
{
	uint64_t at = x->at;

	x->at += f->body.n;
	x->ops->on_output(x, f->type == FRAME_STDOUT ? PROC_OUT : f->type == FRAME_STDERR ? PROC_ERR :
		PROC_SIDE, at, f->body, x->arg);
}

static bool is_output(const struct frame *f)
{
	return f->type == FRAME_STDOUT || f->type == FRAME_STDERR || f->type == FRAME_SIDE;
}

static void proc_frame(struct talk *t, const struct frame *f)
{
	struct proc *x = container_of(t, struct proc, talk);
	union frame_body m;

	if (f->type == FRAME_EXIT) {
		proc_exit(x, f);
	} else if (!x->started && f->type == FRAME_STARTED) {
		proc_started(x, f);
	} else if (x->started && f->type == FRAME_SEEK &&
		frame_decode(FRAME_SEEK, f->body, &m) == 0 && m.seek.offset >= x->at) {
		bool first = !x->sought;

		x->at = m.seek.offset;
		x->sought = true;
		t->wait_ms = x->follow ? 0 : ASK_MS;
		if (first && x->ops->on_attached)
			x->ops->on_attached(x, m.seek.offset, x->arg);
	} else if (x->sought && is_output(f) && x->at <= INT64_MAX - FRAME_MAX) {
		proc_output(x, f);
	} else if (x->sought && !x->follow && f->type == FRAME_END) {
		proc_over(x);
	} else {
		talk_unexpected(t, f);
	}
}

static void proc_failed(struct talk *t, const struct err *err)
{
	struct proc *x = container_of(t, struct proc, talk);

	x->ops->on_end(x, NULL, err, x->arg);
}

static const struct talk_ops proc_talk = { .frame = proc_frame, .end = proc_failed,
	.size = TALK_SIZE(struct proc) };

/* --- beginnings --- */

static int start_encode(const struct proc_spec *s, bool attach, bool pace, struct buf *out)
{
	_cleanup_(env_texts_done) struct env_texts env = { 0 };
	int r = env_texts(&env, s->env, s->n_env);
	union frame_body m = { .start = {
		.argv = { (struct str *)(uintptr_t)s->argv, s->n_argv },
		.env = { env.v, s->n_env }, .cwd = s->cwd,
		.flags = (s->pty ? FRAME_START_PTY : 0u) |
			(s->stdin_open ? FRAME_START_STDIN : 0u) |
			(s->side ? FRAME_START_SIDE : 0u) |
			(attach ? FRAME_START_ATTACH : 0u) |
			(attach && pace ? FRAME_START_PACE : 0u) |
			(s->queue ? FRAME_START_QUEUE : 0u) |
			(s->brief ? FRAME_START_BRIEF : 0u) |
			(s->has_gid ? FRAME_START_GROUP : 0u),
		.id = s->id, .label = s->label, .note = s->note,
		.size = (uint32_t)s->rows << 16 | s->cols,
		.timeout_ms = s->timeout_ms, .idle_ms = s->idle_ms, .keep = s->keep,
		.uid = s->uid, .gid = s->has_gid ? s->gid : 0 } };

	if (r == 0)
		r = frame_encode(out, FRAME_START, &m);
	return r;
}

int proc_start(uv_loop_t *loop, const struct agent_link *link, const struct proc_spec *spec,
	bool attach, bool pace, const struct proc_ops *ops, void *arg, struct proc **ret,
	struct err *err)
{
	struct buf first = BUF_MAX(2 * FRAME_REQUEST_MAX);
	int r = start_encode(spec, attach, pace, &first);
	/* One that waits behind others may wait as long as they run. */
	unsigned int wait_ms = spec->queue ? 0 : START_MS;
	struct talk *t;
	struct proc *x;

	r = talk_begin(loop, link, &proc_talk, &first, r, "command", wait_ms, &t, err);
	if (r < 0)
		return r;
	*ret = x = container_of(t, struct proc, talk);
	x->ops = ops;
	x->arg = arg;
	x->attached = x->follow = attach;
	return 0;
}

int proc_attach(uv_loop_t *loop, const struct agent_link *link, const struct proc_attach *how,
	const struct proc_ops *ops, void *arg, struct proc **ret, struct err *err)
{
	bool end = how->from == PROC_FROM_END;
	union frame_body m = { .attach = { .id = how->id,
		.from = end ? 0 : MIN(how->from, (uint64_t)INT64_MAX),
		.flags = (end ? FRAME_ATTACH_END : 0u) | (how->follow ? FRAME_ATTACH_FOLLOW : 0u) |
			(how->pace ? FRAME_ATTACH_PACE : 0u) |
			(how->close ? FRAME_ATTACH_CLOSE : 0u),
		.input = how->input } };
	struct talk *t;
	struct proc *x;
	int r = talk_ask(loop, link, &proc_talk, FRAME_ATTACH, &m, "input", ASK_MS, &t, err);

	if (r < 0)
		return r;
	*ret = x = container_of(t, struct proc, talk);
	x->ops = ops;
	x->arg = arg;
	x->started = x->attached = true;
	x->follow = how->follow;
	return 0;
}

/* --- what its owner does --- */

void proc_pause(struct proc *x, bool paused)
{
	talk_pause(&x->talk, paused);
}

int proc_write(struct proc *x, struct str data, bool end)
{
	int r = talk_send_data(&x->talk, data, end);

	if (r < 0) {
		talk_doom(&x->talk, r);
		return r;
	}
	return !x->talk.was_high;
}

static int proc_say(struct proc *x, uint8_t type, const union frame_body *m)
{
	struct buf out = BUF_MAX(64);
	int r = frame_encode(&out, type, m);

	if (r < 0) {
		buf_done(&out);
		return r;
	}
	return talk_send(&x->talk, &out);
}

int proc_kill(struct proc *x, int signal)
{
	return proc_say(x, FRAME_KILL, &(union frame_body){ .kill = { .signal = (uint32_t)signal } });
}

int proc_resize(struct proc *x, uint16_t rows, uint16_t cols)
{
	return proc_say(x, FRAME_RESIZE,
		&(union frame_body){ .resize = { .size = (uint32_t)rows << 16 | cols } });
}

void proc_free(struct proc *x)
{
	if (x)
		talk_free(&x->talk);
}

/* --- asking --- */

struct proc_ask {
	struct talk talk;
	proc_info_fn fn;
	void *arg;
	bool one; /* the first answer is the last */
};

static void ask_over(struct proc_ask *x, const struct err *err)
{
	x->fn(NULL, err, x->arg);
	talk_free(&x->talk);
}

static void ask_proc(struct proc_ask *x, const union frame_body *m)
{
	char error[FRAME_SENTENCE_MAX + 1];
	struct proc_info info = { .id = m->proc.id, .label = m->proc.label, .note = m->proc.note,
		.waiting = m->proc.flags & FRAME_PROC_WAITING,
		.running = m->proc.flags & FRAME_PROC_RUNNING,
		.timed_out = m->proc.flags & FRAME_PROC_TIMED_OUT,
		.pty = m->proc.flags & FRAME_PROC_PTY,
		.pid = m->proc.pid,
		.rows = (uint16_t)(m->proc.size >> 16), .cols = (uint16_t)m->proc.size,
		.started_ms = m->proc.started_ms, .ended_ms = m->proc.ended_ms,
		.code = (int)m->proc.code, .signal = (int)m->proc.signal,
		.oldest = m->proc.oldest, .newest = m->proc.newest };

	talk_text(error, sizeof(error), m->proc.error);
	info.error = str_c(error);
	x->fn(&info, NULL, x->arg);
}

static void ask_frame(struct talk *t, const struct frame *f)
{
	struct proc_ask *x = container_of(t, struct proc_ask, talk);
	union frame_body m;

	if (f->type == FRAME_PROC && frame_decode(FRAME_PROC, f->body, &m) == 0) {
		ask_proc(x, &m);
		if (x->one && talk_over(t))
			ask_over(x, NULL);
	} else if (!x->one && f->type == FRAME_END) {
		if (talk_over(t))
			ask_over(x, NULL);
	} else {
		talk_unexpected(t, f);
	}
}

static void ask_failed(struct talk *t, const struct err *err)
{
	ask_over(container_of(t, struct proc_ask, talk), err);
}

static const struct talk_ops ask_talk = { .frame = ask_frame, .end = ask_failed,
	.size = TALK_SIZE(struct proc_ask) };

static int ask(uv_loop_t *loop, const struct agent_link *link, uint8_t type,
	const union frame_body *m, proc_info_fn fn, void *arg, struct proc_ask **ret,
	struct err *err)
{
	struct talk *t;
	int r = talk_ask(loop, link, &ask_talk, type, m, "id", ASK_MS, &t, err);

	if (r < 0)
		return r;
	*ret = container_of(t, struct proc_ask, talk);
	(*ret)->fn = fn;
	(*ret)->arg = arg;
	(*ret)->one = type == FRAME_CONTROL;
	return 0;
}

int procs_list(uv_loop_t *loop, const struct agent_link *link, struct str label, struct str id,
	proc_info_fn fn, void *arg, struct proc_ask **ret, struct err *err)
{
	union frame_body m = { .procs = { .label = label, .id = id } };

	return ask(loop, link, FRAME_PROCS, &m, fn, arg, ret, err);
}

int proc_change(uv_loop_t *loop, const struct agent_link *link, const struct proc_change *how,
	proc_info_fn fn, void *arg, struct proc_ask **ret, struct err *err)
{
	union frame_body m = { .control = { .id = how->id,
		.flags = (how->close ? FRAME_CONTROL_CLOSE : 0u) |
			(how->forget ? FRAME_CONTROL_FORGET : 0u),
		.signal = (uint32_t)how->signal,
		.size = (uint32_t)how->rows << 16 | how->cols,
		.grace_ms = how->grace_ms } };

	return ask(loop, link, FRAME_CONTROL, &m, fn, arg, ret, err);
}

void proc_ask_free(struct proc_ask *x)
{
	if (x)
		talk_free(&x->talk);
}

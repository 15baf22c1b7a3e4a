/*
 * A context over a WebSocket: its output from the oldest byte that is kept, then as it comes, then its
 * end; input, size and signals the other way.
 *
 * Whatever is wrong with the context or the sandbox is said by closing, not by refusing the upgrade:
 * a refused upgrade ends the published client's program.
 *
 * A slow client pauses the reading from the agent, and what it is too slow for is lost to it alone.
 */
#include "api/box.h"
#include "api/createos/frames.h"
#include "api/sandbox0/context.h"
#include "api/sandbox0/contexts.h"
#include "api/websocket.h"

#define FRAME_BYTES 16384u /* of output in one message: as JSON at most six times as many */

struct stream {
	struct use use;
	struct websocket *ws;
	struct proc *proc;
	struct proc_ask *ask;
	struct api *api;
	struct context context;
	char id[64], request[128]; /* request: the input that a REPL's next prompt answers */
	bool found;
	char prompt[REPL_PROMPT_MAX + 1]; /* the newest bytes of output */
	struct frames_carry carry[2];
};

static void stream_free(struct stream *s)
{
	proc_free(s->proc);
	proc_ask_free(s->ask);
	context_done(&s->context);
	box_unuse(&s->use);
	free(s);
}

/* Say goodbye; both ends are gone then. */
static void stream_close(struct stream *s, const char *reason)
{
	websocket_close(s->ws, 1000, reason);
	stream_free(s);
}

static void on_ws_gone(struct websocket *w, void *arg)
{
	stream_free(arg); /* the process stays */
}

static void stream_bounce(struct use *u, const struct err *err)
{
	stream_close(container_of(u, struct stream, use), err->text);
}

/* --- to the client --- */

static int send_json(struct stream *s, struct jw *w)
{
	jw_end(w);
	return buf_failed(w->out) ? buf_failed(w->out) : websocket_send(s->ws, buf_str(w->out));
}

static int send_piece(struct stream *s, const char *source, struct str data)
{
	auto_buf struct buf text = BUF_MAX((size_t)8 * FRAME_BYTES + 256);
	struct jw w = JW(&text);

	jw_obj(&w, NULL);
	jw_c(&w, "type", "output");
	jw_c(&w, "source", source);
	jw_str(&w, "data", data);
	return send_json(s, &w);
}

/* No character is cut in two. */
static int send_output(struct stream *s, const char *source, struct frames_carry *c, struct str data)
{
	int r = 1;

	while (data.n && r >= 0) {
		char piece[FRAME_BYTES + sizeof(c->p)];
		size_t take = MIN(data.n, (size_t)FRAME_BYTES), n = c->n, tail;

		memcpy(piece, c->p, c->n);
		memcpy(piece + n, data.p, take);
		n += take;
		data = str_skip(data, take);
		tail = frames_unfinished(str_n(piece, n));
		memcpy(c->p, piece + n - tail, tail);
		c->n = (uint8_t)tail;
		if (n > tail)
			r = send_piece(s, source, str_n(piece, n - tail));
	}
	return r;
}

/* A prompt answers the input before it: told under that input's name. */
static void note_prompt(struct stream *s, struct str data)
{
	const struct str word = context_prompt(&s->context);
	const size_t n = word.n;
	auto_buf struct buf text = BUF_MAX(1024);
	struct jw w = JW(&text);
	char both[2 * sizeof(s->prompt)];
	struct str tail = str_skip(data, data.n > n ? data.n - n : 0);

	snprintf(both, sizeof(both), "%s" STR_FMT, s->prompt, STR_ARG(tail));
	str_copy(s->prompt, sizeof(s->prompt), str_skip(str_c(both), strlen(both) > n ? strlen(both) - n : 0));
	if (!s->request[0] || !str_eq(str_c(s->prompt), word))
		return;
	jw_obj(&w, NULL);
	jw_c(&w, "type", "done");
	jw_c(&w, "request_id", s->request);
	send_json(s, &w);
	s->request[0] = '\0';
}

static void on_output(struct proc *x, enum proc_stream stream, uint64_t offset, struct str data,
	void *arg)
{
	struct stream *s = arg;
	const char *source = s->context.pty ? "pty" : stream == PROC_ERR ? "stderr" : "stdout";

	if (send_output(s, source, &s->carry[stream == PROC_ERR], data) == 0)
		proc_pause(s->proc, true);
	if (s->context.pty)
		note_prompt(s, data);
}

static void on_ws_drain(struct websocket *ws, void *arg)
{
	struct stream *s = arg;

	if (s->proc)
		proc_pause(s->proc, false);
}

static void on_end(struct proc *x, const struct agent_exit *exit, const struct err *err, void *arg)
{
	struct stream *s = arg;
	auto_buf struct buf text = BUF_MAX(1024);
	struct jw w = JW(&text);

	if (err) {
		stream_close(s, err->kind == ERR_NOT_FOUND ? "context not found" : err->text);
		return;
	}
	s->context.running = false;
	s->context.code = exit ? exit->code : 255;
	s->context.signal = exit ? exit->signal : 0;
	jw_obj(&w, NULL);
	jw_c(&w, "type", "done");
	jw_i64(&w, "exit_code", s->context.code);
	jw_c(&w, "state", context_state(&s->context));
	send_json(s, &w);
	stream_close(s, "");
}

/* --- from the client --- */

struct message {
	struct str type, data, signal, request_id, request_id2;
	uint32_t rows, cols;
};
#define F(n, k, f) .name = n, .kind = k, .offset = offsetof(struct message, f), .seen_offset = -1
static const struct json_field fields[] = {
	{ F("type", JK_STR, type) },
	{ F("data", JK_BYTES, data) },
	{ F("signal", JK_STR, signal) },
	{ F("rows", JK_U32, rows), .max = UINT16_MAX },
	{ F("cols", JK_U32, cols), .max = UINT16_MAX },
	{ F("request_id", JK_STR, request_id), .max = sizeof(((struct stream *)0)->request) - 1 },
	{ F("requestId", JK_STR, request_id2), .max = sizeof(((struct stream *)0)->request) - 1 },
};

static void write_input(struct stream *s, const struct message *m)
{
	struct str id = m->request_id.n ? m->request_id : m->request_id2;

	str_copy(s->request, sizeof(s->request), id);
	s->prompt[0] = '\0';
	if (m->data.n)
		proc_write(s->proc, m->data, false);
}

static void on_message(struct websocket *ws, struct str data, void *arg)
{
	auto_json json_t *json = NULL;
	struct message m = { 0 };
	struct stream *s = arg;
	struct err err;

	if (!s->proc) /* not attached yet: held back by the pause below */
		return;
	if (!data.n || json_parse(data, &json, &err) < 0 || !json_is_object(json)) {
		m.data = data; /* raw input */
		write_input(s, &m);
	} else if (json_decode(json, fields, ARRAY_SIZE(fields), &m, &err) < 0) {
		return; /* what does not read is not answered: there is no frame for it */
	} else if (str_eq_c(m.type, "input")) {
		write_input(s, &m);
	} else if (str_eq_c(m.type, "resize") && m.rows && m.cols) {
		proc_resize(s->proc, (uint16_t)m.rows, (uint16_t)m.cols);
	} else if (str_eq_c(m.type, "signal") && context_signal(m.signal)) {
		proc_kill(s->proc, context_signal(m.signal));
	}
}

/* --- the beginning --- */

static void attach(struct stream *s)
{
	static const struct proc_ops ops = { .on_output = on_output, .on_end = on_end };
	struct proc_attach how = { .id = str_c(s->id), .follow = true };
	struct err err;

	if (proc_attach(s->api->loop, &s->use.box->link, &how, &ops, s, &s->proc, &err) < 0)
		stream_close(s, err.text);
	else
		websocket_pause(s->ws, false);
}

static void on_info(const struct proc_info *info, const struct err *err, void *arg)
{
	struct stream *s = arg;

	if (info) {
		if (!s->found && str_eq(info->label, CONTEXT_LABEL))
			s->found = context_from(info, &s->context) == 0;
		return;
	}
	s->ask = NULL;
	if (err)
		stream_close(s, err->text);
	else if (!s->found)
		stream_close(s, "context not found");
	else
		attach(s);
}

static const struct websocket_ops ws_ops = { .on_message = on_message, .on_drain = on_ws_drain,
	.on_gone = on_ws_gone };

void sandbox0_context_ws(struct req *q)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct str id = req_param(q, "context");
	struct err err;
	int r = s ? websocket_asked(q, &err) : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r < 0) {
		free(s);
		reply_err(q, &err);
		return;
	}
	s->api = q->api;
	if (str_copy(s->id, sizeof(s->id), id) < 0)
		s->id[0] = '\0';
	box_use(q->box, &s->use, stream_bounce);
	if (websocket_accept(q, &ws_ops, s, &s->ws) < 0) {
		stream_free(s);
		return;
	}
	websocket_pause(s->ws, true); /* input waits for the process */
	if (!s->id[0])
		stream_close(s, "context not found");
	else if (procs_list(s->api->loop, &s->use.box->link, STR_NONE, str_c(s->id), on_info, s, &s->ask,
			 &err) < 0)
		stream_close(s, err.text);
}

/* Nobody is behind it: it is upgraded only to say why not. */
static void nothing(struct websocket *ws, void *arg)
{
}

bool sandbox0_ws_refuse(struct req *q, const struct err *why)
{
	static const struct websocket_ops ops = { .on_gone = nothing };
	struct websocket *ws;
	struct err err;

	if (!q->route || q->route->handler != sandbox0_context_ws ||
		(why->kind != ERR_NOT_FOUND && why->kind != ERR_CONFLICT) ||
		websocket_asked(q, &err) < 0)
		return false;
	if (websocket_accept(q, &ops, NULL, &ws) == 0)
		websocket_close(ws, 1000, why->text);
	return true;
}

/*
 * An agent that is played: stands where api/agent.c would, and answers from this process. It knows
 * a handful of commands, each there for one question a test asks:
 *
 *	true, exit N, echo ARGS…, cat (stdin back), env NAME, bytes HEX (raw output), flood N (N KiB),
 *	wait (until killed or freed), nap MS, missing (not found), garbage (the agent misbehaves)
 *
 * Of its ports 7 echoes and 9 hangs up; 80 answers a request with the bytes of its body, as they are,
 * and closes if the path begins with /close; 82 with its head, in a proper answer; 83 with all of the
 * request, chunks as they came. Who expects 83 to say "go on" hears it if the path begins with /go, a
 * refusal if it begins with /no, and nothing otherwise. Nobody listens on the others.
 *
 * Files live in memory. WAKE remembers the environment of each link. `signal pause|delete` makes
 * the watch of that sandbox report a self-signal.
 */
#include "api/agent.h"
#include "api/tick.h"
#include "base/buf.h"

#define WORLDS 256

struct world { /* one sandbox as its agent would know it */
	char link[16];
	char env[64][2][256];
	unsigned int n_env;
	struct agent_watch *watch;
};
static struct world worlds[WORLDS];

static struct world *world_of(const struct agent_link *l)
{
	for (unsigned int i = 0; i < WORLDS; i++) {
		if (!worlds[i].link[0])
			memcpy(worlds[i].link, l->link, sizeof(worlds[i].link));
		if (memcmp(worlds[i].link, l->link, sizeof(l->link)) == 0)
			return &worlds[i];
	}
	abort();
}

/* --- exec --- */

struct agent_exec {
	const struct agent_exec_ops *ops;
	void *arg;
	struct tick *tick;
	struct world *world;
	char cmd[32];
	struct buf out;
	unsigned int left; /* of a flood */
	bool paused, dead;
};

struct agent_watch {
	agent_signal_fn fn;
	void *arg;
	struct world *world;
};

static void end(struct agent_exec *x, int code, const char *error)
{
	struct agent_exit e = { .code = code };

	snprintf(e.error, sizeof(e.error), "%s", error);
	x->ops->on_end(x, &e, NULL, x->arg);
}

static void hex(struct agent_exec *x, struct str s)
{
	for (size_t i = 0; i + 1 < s.n; i += 2) {
		char two[3] = { s.p[i], s.p[i + 1], 0 };

		buf_u8(&x->out, (uint8_t)strtoul(two, NULL, 16));
	}
}

static void flood(struct agent_exec *x)
{
	static char kib[1024];

	memset(kib, 'x', sizeof(kib));
	for (int i = 0; i < 64 && x->left && !x->paused; i++, x->left--)
		x->ops->on_output(x, 1, str_n(kib, sizeof(kib)), x->arg);
	if (!x->left)
		end(x, 0, "");
	else if (!x->paused)
		tick_again(x->tick, 0);
}

static void run(void *arg)
{
	struct agent_exec *x = arg;
	struct err err;

	if (!strcmp(x->cmd, "wait"))
		return;
	if (!strcmp(x->cmd, "flood")) {
		flood(x);
		return;
	}
	if (!strcmp(x->cmd, "signal")) {
		bool del = str_eq_c(buf_str(&x->out), "delete\n");
		struct agent_watch *w = x->world->watch;

		end(x, 0, "");
		if (w)
			w->fn(w, del ? AGENT_SIGNAL_DELETE : AGENT_SIGNAL_PAUSE, STR("enough"), w->arg);
		return;
	}
	if (!strcmp(x->cmd, "garbage")) {
		err_set(&err, -EBADMSG, ERR_UPSTREAM, "the agent sent garbage");
		x->ops->on_end(x, NULL, &err, x->arg);
		return;
	}
	if (!strcmp(x->cmd, "missing")) {
		end(x, 127, "missing: not found");
		return;
	}
	if (!strcmp(x->cmd, "exit")) {
		x->ops->on_output(x, 2, STR("going\n"), x->arg);
		end(x, x->out.p ? x->out.p[0] - '0' : 0, "");
		return;
	}
	if (x->out.n)
		x->ops->on_output(x, 1, buf_str(&x->out), x->arg);
	end(x, 0, "");
}

int agent_exec_start(uv_loop_t *loop, const struct agent_link *link,
	const struct agent_exec_spec *spec, const struct agent_exec_ops *ops, void *arg,
	struct agent_exec **ret, struct err *err)
{
	struct agent_exec *x = calloc(1, sizeof(*x));
	uint64_t ms = 0;

	x->ops = ops;
	x->arg = arg;
	x->world = world_of(link);
	x->out = BUF_MAX(64u << 20);
	str_copy(x->cmd, sizeof(x->cmd), spec->argv[0]);
	for (size_t i = 1; i < spec->n_argv && strcmp(x->cmd, "bytes"); i++) {
		buf_add_str(&x->out, spec->argv[i]);
		buf_add_c(&x->out, i + 1 == spec->n_argv ? "\n" : " ");
	}
	if (!strcmp(x->cmd, "cat")) {
		buf_reset(&x->out);
		buf_add_str(&x->out, spec->stdin_data);
	} else if (!strcmp(x->cmd, "bytes")) {
		hex(x, spec->argv[1]);
	} else if (!strcmp(x->cmd, "flood")) {
		x->left = (unsigned int)strtoul(buf_cstr(&x->out), NULL, 10);
	} else if (!strcmp(x->cmd, "nap")) {
		ms = strtoul(buf_cstr(&x->out), NULL, 10);
		buf_reset(&x->out);
	} else if (!strcmp(x->cmd, "env")) {
		struct str name = spec->argv[1];

		buf_reset(&x->out);
		for (unsigned int i = 0; i < x->world->n_env; i++)
			if (str_eq_c(name, x->world->env[i][0]))
				buf_add_c(&x->out, x->world->env[i][1]);
		for (size_t i = 0; i < spec->n_env; i++)
			if (str_eq(name, spec->env[i].name)) {
				buf_reset(&x->out);
				buf_add_str(&x->out, spec->env[i].value);
			}
	}
	x->tick = tick_new(loop, ms, 0, run, x);
	*ret = x;
	return 0;
}

void agent_exec_pause(struct agent_exec *x, bool paused)
{
	bool go_on = x->paused && !paused;

	x->paused = paused;
	if (go_on && !strcmp(x->cmd, "flood"))
		tick_again(x->tick, 0);
}

int agent_exec_stdin(struct agent_exec *x, struct str data, bool last)
{
	return -ENOTSUP;
}

int agent_exec_kill(struct agent_exec *x, int signal)
{
	return -ENOTSUP;
}

void agent_exec_free(struct agent_exec *x)
{
	if (!x)
		return;
	tick_free(x->tick);
	buf_done(&x->out);
	free(x);
}

/* --- files --- */

#define FILES 32
static struct {
	char path[256];
	struct buf content;
} files[FILES];

static int file_at(struct str path, bool make)
{
	for (int i = 0; i < FILES; i++) {
		if (make && !files[i].path[0]) {
			str_copy(files[i].path, sizeof(files[i].path), path);
			files[i].content = BUF_MAX(64u << 20);
		}
		if (files[i].path[0] && str_eq_c(path, files[i].path))
			return i;
	}
	return -1;
}

struct agent_put {
	const struct agent_put_ops *ops;
	void *arg;
	struct tick *tick;
	char path[256];
	struct buf content;
	bool ended;
};

static void put_turn(void *arg)
{
	struct agent_put *p = arg;
	int i;

	if (!p->ended) {
		p->ops->on_drain(p, p->arg);
		return;
	}
	i = file_at(str_c(p->path), true);
	if (i < 0) {
		struct err err;

		err_set(&err, -ENOSPC, ERR_CAPACITY, "no room");
		p->ops->on_end(p, 0, &err, p->arg);
		return;
	}
	buf_reset(&files[i].content);
	buf_add_str(&files[i].content, buf_str(&p->content));
	p->ops->on_end(p, p->content.n, NULL, p->arg);
}

int agent_put_start(uv_loop_t *loop, const struct agent_link *link, struct str path, unsigned int mode,
	const struct agent_put_ops *ops, void *arg, struct agent_put **ret, struct err *err)
{
	struct agent_put *p = calloc(1, sizeof(*p));

	p->ops = ops;
	p->arg = arg;
	p->content = BUF_MAX(64u << 20);
	str_copy(p->path, sizeof(p->path), path);
	p->tick = tick_new(loop, 1u << 30, 0, put_turn, p);
	*ret = p;
	return 0;
}

/* Files here have no owner. */
int agent_put_as(uv_loop_t *loop, const struct agent_link *link, struct str path,
	const struct agent_put_mark *mark, const struct agent_put_ops *ops, void *arg,
	struct agent_put **ret, struct err *err)
{
	return agent_put_start(loop, link, path, mark->mode, ops, arg, ret, err);
}

int agent_put_write(struct agent_put *p, struct str data)
{
	buf_add_str(&p->content, data);
	tick_again(p->tick, 1);
	return 0; /* always "wait": the pausing path is the one to try */
}

int agent_put_finish(struct agent_put *p)
{
	p->ended = true;
	tick_again(p->tick, 0);
	return 0;
}

void agent_put_free(struct agent_put *p)
{
	if (!p)
		return;
	tick_free(p->tick);
	buf_done(&p->content);
	free(p);
}

struct agent_get {
	const struct agent_get_ops *ops;
	void *arg;
	struct tick *tick;
	int file;
	size_t sent;
	bool opened, paused;
};

static void get_turn(void *arg)
{
	struct agent_get *g = arg;
	struct buf *b = g->file >= 0 ? &files[g->file].content : NULL;
	struct str piece;
	struct err err;

	if (!b) {
		err_set(&err, -ENOENT, ERR_NOT_FOUND, "no such file");
		g->ops->on_end(g, &err, g->arg);
		return;
	}
	if (!g->opened) {
		g->opened = true;
		tick_again(g->tick, 0);
		g->ops->on_open(g, b->n, g->arg);
		return;
	}
	if (g->sent == b->n) {
		g->ops->on_end(g, NULL, g->arg);
		return;
	}
	piece = str_n(b->p + g->sent, MIN(b->n - g->sent, (size_t)65536));
	g->sent += piece.n;
	g->ops->on_data(g, piece, g->arg);
	if (!g->paused)
		tick_again(g->tick, 0);
}

int agent_get_start(uv_loop_t *loop, const struct agent_link *link, struct str path,
	const struct agent_get_ops *ops, void *arg, struct agent_get **ret, struct err *err)
{
	struct agent_get *g = calloc(1, sizeof(*g));

	g->ops = ops;
	g->arg = arg;
	g->file = file_at(path, false);
	g->tick = tick_new(loop, 0, 0, get_turn, g);
	*ret = g;
	return 0;
}

/* No test asks for a part. */
int agent_get_part(uv_loop_t *loop, const struct agent_link *link, struct str path, uint64_t offset,
	uint64_t length, const struct agent_get_ops *ops, void *arg, struct agent_get **ret,
	struct err *err)
{
	return err_set(err, -ENOSYS, ERR_UNSUPPORTED, "the played agent has no parts of files");
}

uint64_t agent_get_size(const struct agent_get *g)
{
	return 0;
}

void agent_get_pause(struct agent_get *g, bool paused)
{
	g->paused = paused;
	if (!paused)
		tick_again(g->tick, 0);
}

void agent_get_free(struct agent_get *g)
{
	if (!g)
		return;
	tick_free(g->tick);
	free(g);
}

/* --- wake and watch --- */

struct waking {
	struct tick *tick;
	agent_done_fn done;
	void *arg;
};

static void woken(void *arg)
{
	struct waking w = *(struct waking *)arg;

	free(arg);
	tick_free(w.tick);
	w.done(NULL, w.arg);
}

int agent_wake(uv_loop_t *loop, const struct agent_link *link, const struct agent_wake_spec *spec,
	uint32_t timeout_ms, agent_done_fn done, void *arg, struct err *err)
{
	struct waking *w = calloc(1, sizeof(*w));
	struct world *world = world_of(link);

	world->n_env = 0;
	for (size_t i = 0; i < spec->n_env && i < 64; i++, world->n_env++) {
		str_copy(world->env[i][0], 256, spec->env[i].name);
		str_copy(world->env[i][1], 256, spec->env[i].value);
	}
	*w = (struct waking){ .done = done, .arg = arg };
	w->tick = tick_new(loop, 0, 0, woken, w);
	return 0;
}

int agent_sleep(uv_loop_t *loop, const struct agent_link *link, uint32_t timeout_ms,
	agent_done_fn done, void *arg, struct err *err)
{
	struct waking *w = calloc(1, sizeof(*w));

	*w = (struct waking){ .done = done, .arg = arg };
	w->tick = tick_new(loop, 0, 0, woken, w);
	return 0;
}

int agent_go(uv_loop_t *loop, const struct agent_link *link, uint64_t wall_ns, uint32_t timeout_ms,
	agent_done_fn done, void *arg, struct err *err)
{
	return agent_sleep(loop, link, timeout_ms, done, arg, err);
}

int agent_watch_start(uv_loop_t *loop, const struct agent_link *link, agent_signal_fn on_signal,
	void *arg, struct agent_watch **ret)
{
	struct agent_watch *w = calloc(1, sizeof(*w));

	w->fn = on_signal;
	w->arg = arg;
	w->world = world_of(link);
	w->world->watch = w;
	*ret = w;
	return 0;
}

void agent_watch_free(struct agent_watch *w)
{
	if (w && w->world->watch == w)
		w->world->watch = NULL;
	free(w);
}

/* --- tunnels --- */

struct agent_tunnel {
	const struct agent_tunnel_ops *ops;
	void *arg;
	struct tick *tick;
	uint16_t port;
	struct buf back; /* what 7 was told */
	bool open, finished, half, paused, answered, told;
};

static bool begins(const char *text, const char *path)
{
	const char *at = strchr(text, ' ');

	return at && strncmp(at + 1, path, strlen(path)) == 0;
}

/* The answer to the head alone, if that is one. */
static void tunnel_expected(struct agent_tunnel *x, const char *text, struct buf *out)
{
	if (x->port != 83 || x->told || !strcasestr(text, "\r\nexpect: 100-continue\r\n"))
		return;
	x->told = true;
	if (begins(text, "/go"))
		x->ops->on_data(x, STR("HTTP/1.1 100 Continue\r\n\r\n"), x->arg);
	else if (begins(text, "/no"))
		buf_add_c(out, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
}

static bool chunks_whole(const char *body, size_t n)
{
	return n >= 5 && memcmp(body + n - 4, "\r\n\r\n", 4) == 0 &&
		(body[0] == '0' || strstr(body, "\r\n0\r\n"));
}

/* A service of HTTP: once the request is whole, what was told becomes the answer, and from there on
 * it echoes. */
static void tunnel_http(struct agent_tunnel *x)
{
	const char *text = buf_cstr(&x->back), *end = text ? strstr(text, "\r\n\r\n") : NULL;
	const char *length = end ? strcasestr(text, "\r\ncontent-length: ") : NULL;
	const char *close = end ? strstr(text, " /close") : NULL;
	size_t head = end ? (size_t)(end - text) + 4 : 0, body = 0;
	struct buf out = BUF_MAX(64u << 20);

	if (length && length < end)
		body = strtoul(length + 18, NULL, 10);
	if (end)
		tunnel_expected(x, text, &out);
	if (!out.n && (!end || x->back.n < head + body || (x->port == 83 &&
			strcasestr(text, "\r\ntransfer-encoding: chunked\r\n") &&
			!chunks_whole(text + head, x->back.n - head)))) {
		x->ops->on_drain(x, x->arg);
		return;
	}
	if (x->port == 83 && !out.n)
		buf_fmt(&out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", x->back.n, text);
	else if (x->port == 82)
		buf_fmt(&out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.*s", head, (int)head, text);
	else if (x->port == 80)
		buf_add(&out, text + head, body);
	x->answered = true;
	x->finished = close && close < end;
	buf_done(&x->back);
	x->back = out;
	tick_again(x->tick, 0);
}

static void tunnel_turn(void *arg)
{
	struct agent_tunnel *x = arg;
	struct err err;

	bool http = x->port == 80 || x->port == 82 || x->port == 83;

	if (!x->open && !http && x->port != 7 && x->port != 9) {
		err_set(&err, -ECONNREFUSED, ERR_UPSTREAM,
			"nothing accepts connections on port %u of the sandbox", x->port);
		x->ops->on_end(x, &err, x->arg);
	} else if (!x->open) {
		x->open = true;
		tick_again(x->tick, 0);
		x->ops->on_open(x, x->arg);
	} else if (x->port == 9) {
		err_set(&err, -ECONNRESET, ERR_UPSTREAM, "gone");
		x->ops->on_end(x, &err, x->arg);
	} else if (http && !x->answered) {
		tunnel_http(x);
	} else if (x->paused) { /* an end waits as data do */
		return;
	} else if (x->back.n) {
		struct buf all = x->back;

		x->back = BUF_MAX(64u << 20);
		tick_again(x->tick, 0);
		x->ops->on_drain(x, x->arg);
		x->ops->on_data(x, buf_str(&all), x->arg);
		buf_done(&all);
	} else if (x->finished && !x->half) {
		x->half = true;
		tick_again(x->tick, 0);
		x->ops->on_half(x, x->arg);
	} else if (x->half) {
		x->ops->on_end(x, NULL, x->arg);
	}
}

int agent_tunnel_start(uv_loop_t *loop, const struct agent_link *link, uint16_t port,
	const struct agent_tunnel_ops *ops, void *arg, struct agent_tunnel **ret, struct err *err)
{
	struct agent_tunnel *x = calloc(1, sizeof(*x));

	*x = (struct agent_tunnel){ .ops = ops, .arg = arg, .port = port, .back = BUF_MAX(64u << 20) };
	x->tick = tick_new(loop, 0, 0, tunnel_turn, x);
	*ret = x;
	return 0;
}

int agent_tunnel_write(struct agent_tunnel *x, struct str data)
{
	buf_add_str(&x->back, data);
	tick_again(x->tick, 0);
	return 0; /* always "wait": the pausing path is the one to try */
}

void agent_tunnel_finish(struct agent_tunnel *x)
{
	x->finished = true;
	tick_again(x->tick, 0);
}

void agent_tunnel_pause(struct agent_tunnel *x, bool paused)
{
	x->paused = paused;
	tick_again(x->tick, 0);
}

void agent_tunnel_free(struct agent_tunnel *x)
{
	if (!x)
		return;
	tick_free(x->tick);
	buf_done(&x->back);
	free(x);
}

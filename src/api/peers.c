/* Calls to host and edge, and what they say by themselves: see the header. */
#include "api/box.h"
#include "api/builds.h"
#include "api/ingress.h"
#include "api/opensandbox/gateway.h"
#include "api/peers.h"
#include "api/tick.h"
#include "base/fd.h"
#include "base/log.h"

#define TELL_AHEAD  64
#define PAIR_MS	    200 /* a broken channel is asked for again this often */
#define LEARNED_MAX (1u << 20) /* text of all workers about one sandbox */

/* --- the host role ---
 *
 * Its end is ours: on_host_close() stops us, and the next start finishes or undoes what the rows say
 * was under way. So a call that was cut off is never answered: whoever asked would take it for a
 * failure and write that down, though nobody can tell how far the host role had come.
 */

struct host_wait {
	host_fn fn;
	void *arg;
};

static void on_host_reply(struct chan_msg *m, void *arg)
{
	struct host_wait w = *(struct host_wait *)arg;
	struct err err;

	free(arg);
	if (m->status == -ECONNRESET && !m->payload.n) {
		return; /* the channel's word, not the host role's */
	} else if (m->status < 0) {
		chan_err(m, &err);
		w.fn(m, &err, w.arg);
	} else {
		w.fn(m, NULL, w.arg);
	}
}

void host_call(struct api *a, uint16_t type, const void *payload, size_t n, int fd, host_fn fn,
	void *arg)
{
	struct host_wait *w = malloc(sizeof(*w));
	struct err err;
	int r = -ENOMEM;

	if (w && a->host) {
		*w = (struct host_wait){ fn, arg };
		r = chan_call(a->host, type, payload, n, fd < 0 ? NULL : &fd, fd >= 0,
			on_host_reply, w);
		if (r >= 0)
			return;
	}
	free(w);
	if (r == -ECONNRESET)
		return; /* on_host_close() is on its way */
	err_sys(&err, a->host ? r : -ENOTCONN, "ask the host role");
	fn(NULL, &err, arg);
}

/* --- all edge workers --- */

struct fan {
	unsigned int open;
	struct err err;
	edges_fn fn;
	void *arg;
};

static void fan_less(struct fan *f)
{
	if (--f->open)
		return;
	f->fn(f->err.code ? &f->err : NULL, f->arg);
	free(f);
}

static void on_edge_reply(struct chan_msg *m, void *arg)
{
	struct fan *f = arg;

	if (m->status < 0 && m->status != -ECONNRESET && m->status != -ECANCELED && !f->err.code)
		chan_err(m, &f->err);
	fan_less(f);
}

void edges_call_fds(struct api *a, uint16_t type, const void *payload, size_t n, const int *fds,
	unsigned int n_fds, edges_fn fn, void *arg)
{
	struct fan *f = calloc(1, sizeof(*f));
	struct err err;

	if (!f) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		fn(&err, arg);
		return;
	}
	*f = (struct fan){ .open = 1, .fn = fn, .arg = arg };
	for (unsigned int i = 0; i < EDGES_MAX; i++) {
		if (!a->edges[i].chan)
			continue;
		if (chan_call(a->edges[i].chan, type, payload, n, n_fds ? fds : NULL, n_fds,
			    on_edge_reply, f) >= 0)
			f->open++;
	}
	fan_less(f);
}

void edges_call(struct api *a, uint16_t type, const void *payload, size_t n, int fd, edges_fn fn,
	void *arg)
{
	edges_call_fds(a, type, payload, n, &fd, fd >= 0, fn, arg);
}

struct learned_call {
	unsigned int open;
	struct buf text;
	learned_fn fn;
	void *arg;
};

static void learned_less(struct learned_call *c)
{
	if (--c->open)
		return;
	if (c->fn)
		c->fn(buf_str(&c->text), c->arg);
	buf_done(&c->text);
	free(c);
}

static void on_learned(struct chan_msg *m, void *arg)
{
	struct learned_call *c = arg;

	/* Long lists come as a memory file, short ones inline. */
	if (m->status >= 0 && m->n_fds > 0) {
		auto_fd int fd = chan_take_fd(m, 0);

		if (memfd_read(fd, LEARNED_MAX, &c->text) < 0)
			c->text.failed = 0;
	} else if (m->status >= 0) {
		buf_add_str(&c->text, m->payload);
	}
	learned_less(c);
}

struct learned_call *edges_learned(struct api *a, uint32_t slot, learned_fn fn, void *arg)
{
	struct learned_call *c = calloc(1, sizeof(*c));
	struct ipc_slot ask = { .slot = slot };

	if (!c) {
		fn(STR_NONE, arg);
		return NULL;
	}
	*c = (struct learned_call){ .open = 1, .text = BUF_MAX(LEARNED_MAX), .fn = fn, .arg = arg };
	for (unsigned int i = 0; i < EDGES_MAX; i++)
		if (a->edges[i].chan &&
			chan_call(a->edges[i].chan, IPC_EDGE_LEARNED, &ask, sizeof(ask), NULL, 0,
				on_learned, c) >= 0)
			c->open++;
	if (c->open == 1) { /* nobody to ask */
		learned_less(c);
		return NULL;
	}
	c->open--;
	return c;
}

void learned_forget(struct learned_call *c)
{
	if (c)
		c->fn = NULL;
}

/* --- what they say --- */

static void on_exited(struct api *a, const struct ipc_exited *e)
{
	struct box *b;
	char why[80];

	if (!ipc_text_ok(e->id, sizeof(e->id)))
		return;
	b = box_find(a, e->id);
	if (!b)
		return;
	if (e->oom)
		snprintf(why, sizeof(why), "the sandbox ran out of memory");
	else if (e->status < 0)
		snprintf(why, sizeof(why), "the sandbox's first process ended");
	else
		snprintf(why, sizeof(why), "the sandbox's first process ended with status %d",
			e->status);
	flow_lost(b, why);
}

/* The one descriptor that comes after boot. */
static bool is_keys(const struct chan_msg *m)
{
	const struct ipc_boot_fd *name = (const void *)m->payload.p;

	return m->payload.n == sizeof(*name) && ipc_text_ok(name->name, sizeof(name->name)) &&
		str_eq_c(STR("gateway.keys"), name->name);
}

static void on_host_msg(struct chan *c, struct chan_msg *m, void *arg)
{
	struct api *a = arg;

	if (m->type == IPC_EVENT_EXITED && m->payload.n == sizeof(struct ipc_exited))
		on_exited(a, (const struct ipc_exited *)m->payload.p);
	else if (m->type == IPC_EVENT_EDGE && m->payload.n == sizeof(struct ipc_edge_up))
		edge_up(a, ((const struct ipc_edge_up *)m->payload.p)->worker, chan_take_fd(m, 0));
	else if (m->type == IPC_EVENT_BUILD && m->payload.n == sizeof(struct ipc_build_done))
		builds_done(a, (const struct ipc_build_done *)m->payload.p);
	else if (m->type == IPC_BOOT_FD && is_keys(m))
		gateway_keys(a, chan_take_fd(m, 0));
	else if (m->type == IPC_SHUTDOWN)
		api_shutdown(a);
	else
		log_event(LOG_WARN, "api.host_message", "type=%u bytes=%zu", m->type, m->payload.n);
}

static void on_host_close(struct chan *c, int err, void *arg)
{
	struct api *a = arg;

	log_event(LOG_WARN, "api.host_gone", "err=%d", err);
	chan_free(c);
	a->host = NULL;
	a->on_stop(a, 1);
}

int peers_open(struct api *a, int host_fd, struct err *err)
{
	int r = chan_open(a->loop, host_fd, "host", on_host_msg, on_host_close, a, &a->host);

	return r < 0 ? err_sys(err, r, "open the channel to the host role") : 0;
}

static void on_edge_msg(struct chan *c, struct chan_msg *m, void *arg)
{
	struct edge *e = arg;

	if (m->type == IPC_EVENT_DNS && m->payload.n == sizeof(struct ipc_event_dns))
		denials_dns(e->api, (const struct ipc_event_dns *)m->payload.p);
	else if (m->type == IPC_EVENT_INGRESS_SEEN &&
		m->payload.n == sizeof(struct ipc_ingress_seen))
		ingress_on_seen(e, (const struct ipc_ingress_seen *)m->payload.p);
	else if (m->type == IPC_EVENT_INGRESS_CONN)
		ingress_on_conn(e, m);
	else if (m->type == IPC_EVENT_INGRESS_WAKE && m->serial)
		ingress_on_wake(e, m);
	else
		log_event(LOG_WARN, "api.edge_message", "worker=%u type=%u bytes=%zu", e->worker,
			m->type, m->payload.n);
}

static void pair_missing(void *arg);

static void pair_soon(struct api *a)
{
	if (a->pair_timer)
		tick_again(a->pair_timer, PAIR_MS);
	else
		a->pair_timer = tick_new(a->loop, PAIR_MS, 0, pair_missing, a);
}

static void on_paired(struct chan_msg *m, const struct err *err, void *arg)
{
	struct api *a = arg;

	if (err && a->host)
		pair_soon(a);
}

/* A worker that ended brings its channel when it starts again. One that lives, while only the
 * channel broke (a queue ran over), does not: so whoever is missing is asked for until it is here. */
static void pair_missing(void *arg)
{
	struct api *a = arg;

	for (uint32_t w = 0; w < MIN(a->config.edge_workers, EDGES_MAX); w++) {
		struct ipc_edge_up ask = { .worker = w };

		if (!a->edges[w].chan && a->host)
			host_call(a, IPC_HOST_PAIR, &ask, sizeof(ask), -1, on_paired, a);
	}
}

static void on_edge_close(struct chan *c, int err, void *arg)
{
	struct edge *e = arg;

	log_event(LOG_WARN, "api.edge_gone", "worker=%u err=%d", e->worker, err);
	e->chan = NULL;
	chan_free(c);
	ingress_edge_gone(e);
	pair_soon(e->api);
}

static void on_synced(struct chan_msg *m, void *arg)
{
	struct edge *e = arg;
	struct err err;

	if (m->status < 0) {
		chan_err(m, &err);
		log_event(LOG_WARN, "api.edge_sync", "worker=%u text=%s", e->worker,
			log_q(str_c(err.text)));
	}
}

static void tell_more(struct edge *e);

static void on_told(struct chan_msg *m, void *arg)
{
	struct edge *e = arg;

	on_synced(m, arg);
	e->tell_open -= e->tell_open > 0;
	if (m->status != -ECONNRESET && m->status != -ECANCELED)
		tell_more(e);
}

/* 0, or why the edge could not be told of this sandbox. */
static int tell_one(struct edge *e, const struct box *b)
{
	struct ipc_edge_set set;
	auto_fd int fd = -EBADF;
	struct err err;
	int r;

	fd = box_policy_fd(b, &err);
	if (fd < 0) {
		log_event(LOG_ERROR, "api.edge_set", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
		return 0;
	}
	box_edge_set(b, &set);
	r = chan_call(e->chan, IPC_EDGE_SET, &set, sizeof(set), &fd, 1, on_told, e);
	e->tell_open += r >= 0;
	if (r >= 0 && b->ingress.told) {
		r = ingress_tell_one(e->chan, b, on_told, e);
		e->tell_open += r >= 0;
	}
	return MIN(r, 0);
}

/* Slot by slot, a few ahead of the answers: a channel holds some thousand messages and ends with
 * one more. Who is placed in a slot that was passed is told by its own flow. */
static void tell_more(struct edge *e)
{
	while (e->chan && e->tell_next && e->tell_next <= WEIR_SLOTS_MAX && e->tell_open < TELL_AHEAD) {
		const struct box *b = e->api->by_slot[e->tell_next++];
		int r;

		/* One that ends, or was found dead, has said its DEL, perhaps to nobody. */
		if (!b || !b->in_kernel || b->row.state == LIFE_DESTROYING ||
			b->row.state == LIFE_ERROR)
			continue;
		r = tell_one(e, b);
		if (r < 0) { /* without SYNCED it lets go of nobody */
			log_event(LOG_ERROR, "api.edge_set", "worker=%u error=\"%s\"", e->worker,
				strerror(-r));
			e->tell_next = 0;
		}
	}
	if (e->chan && e->tell_next > WEIR_SLOTS_MAX && !e->tell_open) {
		e->tell_next = 0;
		chan_call(e->chan, IPC_EDGE_SYNCED, NULL, 0, NULL, 0, on_synced, e);
	}
}

static void edge_tell_all(struct edge *e)
{
	builds_tell(e);
	gateway_tell(e);
	e->tell_next = 1;
	tell_more(e);
}

int edge_up(struct api *a, uint32_t worker, int fd)
{
	struct edge *e;
	int r;

	if (worker >= EDGES_MAX || fd < 0) {
		fd_close(fd);
		return -EINVAL;
	}
	e = &a->edges[worker];
	chan_free(take_ptr(e->chan));
	if (e->api)
		ingress_edge_gone(e);
	e->tell_next = e->tell_open = 0;
	e->api = a;
	e->worker = worker;
	r = chan_open(a->loop, fd, "edge", on_edge_msg, on_edge_close, e, &e->chan);
	if (r < 0)
		return r;
	log_event(LOG_INFO, "api.edge_up", "worker=%u", worker);
	if (a->ready)
		edge_tell_all(e);
	return 0;
}

void edges_sync(struct api *a)
{
	for (unsigned int i = 0; i < EDGES_MAX; i++)
		if (a->edges[i].chan)
			edge_tell_all(&a->edges[i]);
}

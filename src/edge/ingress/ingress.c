/*
 * The proxy as a whole: who is let in, and what is overdue.
 *
 * A connection past a limit is closed at once, unless another client (of that address, where the
 * address's limit is met) has been idle between two requests for some seconds: that one goes
 * instead. Time is one sweep over all connections; a second's unpunctuality is no matter at any of
 * the limits.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "edge/ingress/proxy.h"
#include "wire/keys.h"

void ingress_ref(struct ingress *in)
{
	in->handles++;
}

void ingress_unref(struct ingress *in)
{
	if (--in->handles || !in->freed)
		return;
	tls_done(&in->tls);
	buf_done(&in->head);
	keys_erase(&in->keys);
	free(in);
}

static void on_closed_sweep(uv_handle_t *handle)
{
	ingress_unref(container_of((uv_poll_t *)handle, struct ingress, sweep.poll));
}

static void on_closed_idle(uv_handle_t *handle)
{
	ingress_unref(container_of((uv_idle_t *)handle, struct ingress, turn));
}

/* --- listeners --- */

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *l = container_of((uv_poll_t *)handle, struct listener, poll);
	struct ingress *in = l->in;

	free(l);
	ingress_unref(in);
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	LIST_REMOVE(l, all);
	uv_close((uv_handle_t *)&l->poll, on_listener_closed);
	l->fd = fd_close(l->fd);
}

/* A place for one more: the client that has been idle longest, of this address or of all. */
static bool make_room(struct ingress *in, const struct peer *of)
{
	struct client *c;
	unsigned int looked = 0;

	TAILQ_FOREACH (c, &in->idle_clients, idle) {
		if (now_ms(in) - c->idle_since < SPARE_MS || ++looked > 64)
			return false;
		if (of && c->peer != of)
			continue;
		client_close(c, false);
		return true;
	}
	return false;
}

static bool admit(struct ingress *in, struct client *c)
{
	if (in->counters.clients > in->conf.connections_max && !make_room(in, NULL)) {
		in->counters.full++;
		return false;
	}
	if (in->conf.per_address && c->peer->n > in->conf.per_address &&
		!make_room(in, c->peer)) {
		in->counters.per_address++;
		return false;
	}
	return true;
}

static bool accept_one(struct listener *l)
{
	struct ingress *in = l->in;
	struct sockaddr_storage from = { 0 };
	socklen_t n = sizeof(from);
	struct client *c;
	int one = 1, fd;

	fd = accept4(l->fd, (struct sockaddr *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			l->paused = true;
			uv_poll_stop(&l->poll);
		}
		return errno == ECONNABORTED || errno == EINTR;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	in->counters.accepted++;
	c = client_new(l, fd, (struct sockaddr *)&from);
	if (c && !admit(in, c))
		client_close(c, true);
	return true;
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
	struct listener *l = container_of(poll, struct listener, poll);

	for (unsigned int i = 0; status == 0 && i < ACCEPT_BURST; i++)
		if (!accept_one(l))
			return;
}

int listener_new(struct ingress *in, int fd, enum ingress_kind kind, struct box *box,
	struct listener **ret)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r = l ? uv_poll_init(in->loop, &l->poll, fd) : -ENOMEM;

	if (r < 0) {
		free(l);
		fd_close(fd);
		return r;
	}
	ingress_ref(in);
	l->in = in;
	l->fd = fd;
	l->kind = kind;
	l->box = box;
	LIST_INSERT_HEAD(&in->listeners, l, all);
	r = uv_poll_start(&l->poll, UV_READABLE, on_listener);
	if (r < 0) {
		listener_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

int ingress_listen(struct ingress *in, int fd)
{
	struct listener *l;

	return listener_new(in, fd, INGRESS_GATEWAY, NULL, &l);
}

/* --- time --- */

static void on_sweep(struct pulse *pulse)
{
	struct ingress *in = container_of(pulse, struct ingress, sweep);
	uint64_t now = now_ms(in);
	struct client *c, *next;
	struct listener *l;

	for (c = LIST_FIRST(&in->clients); c; c = next) {
		next = LIST_NEXT(c, all);
		if (c->deadline && now >= c->deadline)
			client_overdue(c);
	}
	ups_sweep(in, now);
	boxes_tell(in, now);
	LIST_FOREACH (l, &in->listeners, all)
		if (l->paused && uv_poll_start(&l->poll, UV_READABLE, on_listener) == 0)
			l->paused = false;
}

static uint64_t sweep_ms(const struct ingress_conf *conf)
{
	const uint32_t limits[] = { conf->head_ms, conf->idle_ms, conf->connect_ms, conf->answer_ms,
		conf->silence_ms, conf->half_ms, conf->hold_ms };
	uint64_t ms = SWEEP_MS;

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		ms = MIN(ms, limits[i] / 4 + 1);
	return ms;
}

/* --- beginning and end --- */

void ingress_conf_defaults(struct ingress_conf *conf)
{
	*conf = (struct ingress_conf){ .domain = "localhost", .connections_max = 12288,
		.per_address = 4096, .per_sandbox = 1024, .upstream_max = 4096, .head_max = 32768,
		.head_ms = 20000, .idle_ms = 120000, .connect_ms = 5000, .answer_ms = 300000,
		.silence_ms = 3600000, .half_ms = 10000, .hold_ms = 60000, .hold_max = 1024, .agent = true };
}

int ingress_new(uv_loop_t *loop, const struct ingress_conf *conf, const struct ingress_ops *ops,
	void *arg, struct ingress **ret)
{
	struct ingress *in = calloc(1, sizeof(*in));
	struct err err;
	int r;

	if (!in)
		return -ENOMEM;
	in->loop = loop;
	in->conf = *conf;
	in->ops = *ops;
	in->arg = arg;
	in->head = BUF_MAX(conf->head_max + HTTPD_HEAD_MAX + REWRITE_ROOM);
	LIST_INIT(&in->listeners);
	LIST_INIT(&in->clients);
	LIST_INIT(&in->dirty);
	TAILQ_INIT(&in->idle_clients);
	TAILQ_INIT(&in->idle_ups);
	TAILQ_INIT(&in->woken);
	r = tls_make(&in->tls, str_c(conf->domain), &err);
	if (r == 0)
		r = pulse_start(loop, sweep_ms(conf), on_sweep, &in->sweep);
	if (r < 0) {
		tls_done(&in->tls);
		buf_done(&in->head);
		free(in);
		return r;
	}
	uv_idle_init(loop, &in->turn);
	in->handles = 2;
	*ret = in;
	return 0;
}

void ingress_free(struct ingress *in)
{
	struct listener *l;
	struct client *c;
	struct box *b, *next;

	if (!in || in->freed)
		return;
	in->freed = true;
	for (b = in->boxes; b; b = next) {
		next = b->hh.next;
		box_free(in, b);
	}
	while ((l = LIST_FIRST(&in->listeners)))
		listener_free(l);
	while ((c = LIST_FIRST(&in->clients)))
		client_close(c, false);
	pulse_close(&in->sweep, on_closed_sweep);
	uv_close((uv_handle_t *)&in->turn, on_closed_idle);
}

int ingress_cert(struct ingress *in, struct str cert, struct str key, struct err *err)
{
	return tls_load(&in->tls, cert, key, err);
}

void ingress_counters(const struct ingress *in, struct ingress_counters *ret)
{
	*ret = in->counters;
}

/*
 * The server: listeners, who is let in, and the turns of the loop. A connection is httpconn.c's.
 *
 * Time is one timer for all connections, once a second while there are any: each is asked how long
 * it has waited for what it waits for.
 */
#include "event/httpconn.h"

struct listener {
	uv_tcp_t tcp;
	struct httpd *d;
	struct listener *next;
	int tag;
	bool waiting; /* a connection could not be taken for want of memory: try again */
};

void httpd_unref(struct httpd *d)
{
	if (--d->handles == 0)
		free(d);
}

static void on_idle(uv_idle_t *idle);

void httpd_wake(struct httpd *d)
{
	if (!d->freed)
		uv_idle_start(&d->idle, on_idle);
}

/* --- addresses --- */

static int peer_join(struct conn *c)
{
	struct sockaddr_storage from = { 0 };
	int n = sizeof(from);

	if (uv_tcp_getpeername(c->tcp, (struct sockaddr *)&from, &n) < 0)
		from.ss_family = AF_UNSPEC;
	c->peer = peers_join(&c->d->peers, (struct sockaddr *)&from);
	return c->peer ? 0 : -ENOMEM;
}

/* --- work put off to the next turn --- */

static void on_turn(struct turn *x)
{
	conn_pump(container_of(x, struct conn, turn), STR_NONE);
}

static void on_idle(uv_idle_t *idle)
{
	struct httpd *d = idle->data;
	struct conn *list = take_ptr(d->runnable);

	uv_idle_stop(idle);
	turns_share(&d->turns, on_turn);
	while (list) {
		struct conn *c = list;

		list = c->next_runnable;
		c->queued = false;
		if (c->dead)
			conn_free(c);
		else if (c->state != C_CLOSED)
			conn_pump(c, STR_NONE);
	}
	if (turns_wait(&d->turns))
		httpd_wake(d);
	if (d->stopping && !d->n && d->on_stopped) {
		void (*done)(void *arg) = take_ptr(d->on_stopped);

		done(d->stopped_arg);
	}
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct httpd *d = prepare->data;

	d->turns.now++;
}

/* --- time --- */

static void on_connection(uv_stream_t *stream, int status);

static void on_sweep(uv_timer_t *timer)
{
	struct httpd *d = timer->data;
	uint64_t now = uv_now(d->loop);

	for (struct listener *l = d->listeners; l; l = l->next)
		if (l->waiting) {
			l->waiting = false;
			on_connection((uv_stream_t *)&l->tcp, 0);
		}
	for (struct conn *c = d->conns, *next; c; c = next) {
		next = c->next;
		conn_check(c, now);
	}
}

static void sweep_start(struct httpd *d)
{
	uint64_t tick = MIN(d->idle_ms, d->head_ms) / 4;

	tick = MAX(MIN(tick, (uint64_t)1000), (uint64_t)5);
	if (!uv_is_active((uv_handle_t *)&d->sweep))
		uv_timer_start(&d->sweep, on_sweep, tick, tick);
}

/* --- accepting --- */

static struct conn *conn_new(struct httpd *d, int tag)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->tcp = malloc(sizeof(*c->tcp));
	if (!c->tcp || uv_tcp_init(d->loop, c->tcp) < 0) {
		free(c->tcp);
		free(c);
		return NULL;
	}
	c->tcp->data = c;
	c->d = d;
	c->tag = tag;
	c->in = BUF_MAX(READ_SIZE + HTTPD_HEAD_MAX + PIPELINE_MAX);
	c->next = d->conns;
	c->pprev = &d->conns;
	if (c->next)
		c->next->pprev = &c->next;
	d->conns = c;
	d->n++;
	d->handles++;
	return c;
}

/* At the limit the connection that has waited longest for a request makes room, if it has waited
 * for a while: whoever opens connections and asks nothing needs no key to do it. peer NULL: anyone's. */
static void make_room(struct httpd *d, const struct peer *peer)
{
	uint64_t now = uv_now(d->loop), least = d->idle_ms / SPARE_PART;
	struct conn *oldest = NULL;

	for (struct conn *c = d->conns; c; c = c->next)
		if (c->state == C_HEAD && !conn_unsent(c) && now - c->since >= least &&
			(!peer || c->peer == peer) && (!oldest || c->since < oldest->since))
			oldest = c;
	if (oldest)
		conn_close(oldest);
}

static void conn_open(struct conn *c)
{
	struct httpd *d = c->d;
	bool counted;

	sweep_start(d);
	if (d->n > d->max + REFUSED_EXTRA || peer_join(c) < 0) {
		d->refused.all++;
		conn_close(c);
		return;
	}
	/* One that was adopted from another role has no address: it was counted there. */
	counted = d->per_address && c->peer->ip.family;
	if (counted && c->peer->n > d->per_address + REFUSED_EXTRA) {
		d->refused.per_address++;
		conn_close(c);
		return;
	}
	/* Failures of these two cost speed at most. */
	uv_tcp_nodelay(c->tcp, 1);
	uv_tcp_keepalive(c->tcp, 1, 60);
	c->wrote = uv_now(d->loop);
	conn_await_head(c);
	if (counted && c->peer->n > d->per_address)
		make_room(d, c->peer);
	else if (d->n > d->max)
		make_room(d, NULL);
	if (d->n > d->max) {
		d->refused.all++;
		conn_refuse(c, 503, ERR_CAPACITY,
			"no capacity: the limit of %u connections is reached", d->max);
	} else if (counted && c->peer->n > d->per_address) {
		d->refused.per_address++;
		conn_refuse(c, 503, ERR_CAPACITY,
			"no capacity: the limit of %u connections per address is reached",
			d->per_address);
	}
	conn_settle(c);
}

/* Out of descriptors, libuv accepts with a spare one and closes: the queue empties, the peers
 * see a reset, and we get here with the error, about which nothing else can be done. */
static void on_connection(uv_stream_t *stream, int status)
{
	struct listener *l = container_of((uv_tcp_t *)stream, struct listener, tcp);
	struct conn *c;

	if (status < 0)
		return;
	c = conn_new(l->d, l->tag);
	if (!c) {
		l->waiting = true;
		sweep_start(l->d);
		return;
	}
	if (uv_accept(stream, (uv_stream_t *)c->tcp) < 0)
		conn_close(c);
	else
		conn_open(c);
}

int httpd_adopt(struct httpd *d, int fd, int tag)
{
	struct conn *c = conn_new(d, tag);
	int r;

	if (!c)
		return -ENOMEM;
	r = uv_tcp_open(c->tcp, fd);
	if (r < 0)
		conn_close(c);
	else
		conn_open(c);
	return r;
}

/* --- the server --- */

int httpd_new(uv_loop_t *loop, const struct httpd_ops *ops, void *arg, uint32_t connections_max,
	struct httpd **ret)
{
	struct httpd *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->loop = loop;
	d->ops = ops;
	d->arg = arg;
	d->max = connections_max;
	d->queued_max = ANSWERS_MAX;
	d->idle_ms = HTTPD_IDLE_S * 1000;
	d->head_ms = HTTPD_HEADER_S * 1000;
	uv_idle_init(loop, &d->idle);
	uv_timer_init(loop, &d->sweep);
	uv_prepare_init(loop, &d->turn);
	d->idle.data = d->sweep.data = d->turn.data = d;
	d->handles = 3;
	turns_init(&d->turns);
	uv_prepare_start(&d->turn, on_prepare);
	uv_unref((uv_handle_t *)&d->turn); /* nothing to wait for */
	*ret = d;
	return 0;
}

void httpd_timeouts(struct httpd *d, uint64_t idle_ms, uint64_t head_ms)
{
	d->idle_ms = idle_ms;
	d->head_ms = head_ms;
}

void httpd_per_address(struct httpd *d, uint32_t max)
{
	d->per_address = max;
}

void httpd_answers_max(struct httpd *d, uint64_t bytes)
{
	d->queued_max = bytes;
}

void httpd_refused(const struct httpd *d, struct httpd_refused *ret)
{
	*ret = d->refused;
}

uint32_t httpd_connections(const struct httpd *d)
{
	return d->n;
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *l = container_of((uv_tcp_t *)handle, struct listener, tcp);
	struct httpd *d = l->d;

	free(l);
	httpd_unref(d);
}

int httpd_listen(struct httpd *d, int fd, int tag)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->d = d;
	l->tag = tag;
	r = uv_tcp_init(d->loop, &l->tcp);
	if (r < 0) {
		free(l);
		return r;
	}
	d->handles++;
	r = uv_tcp_open(&l->tcp, fd);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&l->tcp, 4096, on_connection);
	if (r < 0) {
		uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
		return r;
	}
	l->next = d->listeners;
	d->listeners = l;
	return 0;
}

static void listeners_close(struct httpd *d)
{
	while (d->listeners) {
		struct listener *l = d->listeners;

		d->listeners = l->next;
		uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
	}
}

void httpd_shutdown(struct httpd *d, void (*done)(void *arg), void *arg)
{
	d->stopping = true;
	d->on_stopped = done;
	d->stopped_arg = arg;
	listeners_close(d);
	for (struct conn *c = d->conns, *next; c; c = next) {
		next = c->next;
		if (c->state != C_HEAD)
			continue;
		if (conn_unsent(c))
			conn_linger(c);
		else
			conn_close(c);
	}
	httpd_wake(d);
}

static void on_part_closed(uv_handle_t *handle)
{
	httpd_unref(handle->data);
}

void httpd_free(struct httpd *d)
{
	if (!d)
		return;
	d->freed = true;
	listeners_close(d);
	for (struct conn *c = d->runnable, *next; c; c = next) {
		next = c->next_runnable;
		if (c->dead)
			conn_free(c);
	}
	while (d->conns)
		conn_lost(d->conns);
	uv_close((uv_handle_t *)&d->idle, on_part_closed);
	uv_close((uv_handle_t *)&d->turn, on_part_closed);
	uv_close((uv_handle_t *)&d->sweep, on_part_closed);
}

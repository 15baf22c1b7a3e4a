/*
 * Sandboxes as the api role told them, and what is told back: use, and the wish to be woken.
 *
 * One call wakes a sandbox, however many requests wait; they are let go in turns of the loop of
 * their own, in the order they came.
 */
#include "base/fault.h"
#include "base/log.h"
#include "edge/ingress/proxy.h"
#include "wire/keys.h"

struct box *box_find(struct ingress *in, const struct ulid *id)
{
	struct box *b;

	HASH_FIND(hh, in->boxes, id->s, ULID_LEN, b);
	return b;
}

static struct box *box_in(struct ingress *in, uint32_t slot)
{
	struct box *b;

	HASH_FIND(by_slot, in->slots, &slot, sizeof(slot), b);
	return b;
}

struct access_rule box_rule(const struct ingress *in, const struct box *b)
{
	return (struct access_rule){ .access = (enum ipc_ingress_access)b->told.access,
		.secret = str_c(b->told.secret), .tokens = b->tokens, .n_tokens = b->told.n_tokens,
		.keys = &in->keys, .id = b->told.id };
}

const struct ipc_ingress_route *box_route(const struct box *b, uint16_t port)
{
	for (uint32_t i = 0; i < b->told.n_routes; i++)
		if (b->routes[i].port == port)
			return &b->routes[i];
	return NULL;
}

bool box_open(const struct box *b, uint16_t port)
{
	return b->told.flags & IPC_INGRESS_ON || box_route(b, port);
}

bool box_holds(const struct box *b, uint16_t port)
{
	const struct ipc_ingress_route *route = box_route(b, port);

	return route ? route->hold : b->told.flags & IPC_INGRESS_HOLD;
}

/* --- use --- */

void box_touch(struct ingress *in, struct box *b)
{
	if (b->dirty)
		return;
	b->dirty = true;
	LIST_INSERT_HEAD(&in->dirty, b, dirties);
}

void boxes_tell(struct ingress *in, uint64_t now)
{
	struct box *b, *next;

	for (b = LIST_FIRST(&in->dirty); b; b = next) {
		next = LIST_NEXT(b, dirties);
		if (b->told_at && now - b->told_at < IPC_INGRESS_SEEN_MS)
			continue;
		if (!in->ops.seen(in->arg, &b->seen))
			continue;
		b->told_at = now;
		b->dirty = false;
		LIST_REMOVE(b, dirties);
	}
}

/* --- waiting for a paused sandbox --- */

static int refuse(struct err *err, int status, const char *text)
{
	err_set(err, -EAGAIN, ERR_CAPACITY, "%s", text);
	return status;
}

int box_hold(struct client *c, struct err *err)
{
	struct ingress *in = c->in;
	struct box *b = c->box;
	struct ipc_ingress_wake wake = { .slot = b->told.slot };

	if (b->n_held >= in->conf.hold_max)
		return refuse(err, 503, "too many requests wait for this sandbox to be resumed");
	if (!b->waking) {
		memcpy(wake.id, b->told.id, sizeof(wake.id));
		if (in->ops.wake(in->arg, &wake) < 0)
			return refuse(err, 503, "the sandbox is paused and cannot be resumed now");
		b->waking = true;
	}
	FAULT("edge.hold.asked");
	b->n_held++;
	in->counters.held++;
	TAILQ_INSERT_TAIL(&b->held, c, wait);
	c->state = C_HELD;
	client_wait(c, in->conf.hold_ms);
	return 0;
}

void box_unhold(struct client *c)
{
	struct box *b = take_ptr(c->box);

	if (b) {
		TAILQ_REMOVE(&b->held, c, wait);
		b->n_held--;
	} else {
		TAILQ_REMOVE(&c->in->woken, c, wait);
	}
	c->in->counters.held--;
}

static void on_turn(uv_idle_t *idle)
{
	struct ingress *in = container_of(idle, struct ingress, turn);
	struct client *c = TAILQ_FIRST(&in->woken);

	if (!c) {
		uv_idle_stop(idle);
		return;
	}
	box_unhold(c);
	c->state = C_HEAD;
	c->deadline = now_ms(in) + in->conf.head_ms;
	client_pump(c, STR_NONE);
	if (c->state != C_CLOSED)
		client_watch(c);
}

static void box_wake(struct ingress *in, struct box *b)
{
	struct client *c;

	while ((c = TAILQ_FIRST(&b->held))) {
		TAILQ_REMOVE(&b->held, c, wait);
		b->n_held--;
		c->box = NULL;
		TAILQ_INSERT_TAIL(&in->woken, c, wait);
	}
	if (TAILQ_FIRST(&in->woken))
		uv_idle_start(&in->turn, on_turn);
}

/* Those that wait are told the same. */
static void box_turn_away(struct ingress *in, struct box *b, int status, const struct err *err)
{
	struct client *c;

	while ((c = TAILQ_FIRST(&b->held))) {
		box_unhold(c);
		c->keep = false; /* its head still lies where it was read */
		client_refuse(c, status, err);
		if (c->state != C_CLOSED)
			client_watch(c);
	}
}

void ingress_woken(struct ingress *in, uint32_t slot, const struct err *err)
{
	struct box *b = box_in(in, slot);
	struct err told;

	if (!b || !b->waking)
		return;
	FAULT("edge.hold.woken");
	b->waking = false;
	if (!err) {
		/* INGRESS has said that it runs; if it did not, the requests ask again. */
		if (b->told.state == IPC_INGRESS_RUNNING)
			box_wake(in, b);
		err_set(&told, -EAGAIN, ERR_CAPACITY, "the sandbox was resumed, but does not run");
		box_turn_away(in, b, 503, &told);
		return;
	}
	err_set(&told, err->code, ERR_CAPACITY, "the sandbox is paused and could not be resumed: %s",
		err->text);
	box_turn_away(in, b, 503, &told);
}

/* --- being told --- */

static bool routes_ok(const struct ipc_edge_ingress *t)
{
	for (uint32_t i = 0; i < t->n_routes; i++) {
		const struct ipc_ingress_route *r = &t->routes[i];

		if (!r->port || r->hold > 1 || r->auth >= IPC_INGRESS_AUTHS ||
			!ipc_text_ok(r->header, sizeof(r->header)) ||
			(r->auth == IPC_INGRESS_HEADER) != !!r->header[0])
			return false;
	}
	return true;
}

static int told_ok(const struct ipc_edge_ingress *t, struct str id, struct ulid *ret)
{
	static const uint32_t listens = IPC_INGRESS_PROXY_FD | IPC_INGRESS_DIRECT_FD;

	return str_starts(id, STR("sb-")) && ulid_from(str_skip(id, 3), ret) == 0 && t->slot &&
		t->ifindex && t->ip4.family == 4 && t->state < IPC_INGRESS_STATES &&
		t->access < IPC_INGRESS_ACCESSES && t->n_tokens <= IPC_INGRESS_TOKENS_MAX &&
		t->n_routes <= IPC_INGRESS_ROUTES_MAX && routes_ok(t) &&
		/* each descriptor for a listener that is there */
		!((t->flags & listens) >> 2 & ~t->flags);
}

/* Routes stand right behind the tokens that were sent. */
static int lists_read(struct str payload, struct ipc_edge_ingress *ret)
{
	size_t fixed = offsetof(struct ipc_edge_ingress, tokens), tokens, routes;

	memset(ret, 0, sizeof(*ret));
	if (payload.n < fixed)
		return -EBADMSG;
	memcpy(ret, payload.p, fixed);
	if (ret->n_tokens > IPC_INGRESS_TOKENS_MAX || ret->n_routes > IPC_INGRESS_ROUTES_MAX)
		return -EBADMSG;
	tokens = ret->n_tokens * sizeof(ret->tokens[0]);
	routes = ret->n_routes * sizeof(ret->routes[0]);
	if (payload.n != fixed + tokens + routes)
		return -EBADMSG;
	memcpy(ret->tokens, payload.p + fixed, tokens);
	memcpy(ret->routes, payload.p + fixed + tokens, routes);
	return 0;
}

int ingress_set_read(struct str payload, struct ipc_edge_ingress *ret, struct err *err)
{
	struct ulid ulid;

	if (lists_read(payload, ret) < 0 || !ipc_text_ok(ret->id, sizeof(ret->id)) ||
		!ipc_text_ok(ret->secret, sizeof(ret->secret)) || !told_ok(ret, str_c(ret->id), &ulid))
		return err_set(err, -EBADMSG, ERR_INTERNAL, "malformed INGRESS");
	return 0;
}

int ingress_keys_read(struct str payload, struct ipc_ingress_keys *ret, struct err *err)
{
	auto_keys struct ipc_ingress_keys keys = { 0 };

	if (payload.n == sizeof(keys)) {
		memcpy(&keys, payload.p, sizeof(keys));
		if (keys_ok(&keys)) {
			*ret = keys;
			return 0;
		}
	}
	return err_set(err, -EBADMSG, ERR_INTERNAL, "malformed INGRESS_KEYS");
}

int ingress_keys(struct ingress *in, const struct ipc_ingress_keys *keys, struct err *err)
{
	return ingress_keys_read(str_n(keys, sizeof(*keys)), &in->keys, err);
}

static struct box *box_new(struct ingress *in, const struct ipc_edge_ingress *t)
{
	struct box *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	LIST_INIT(&b->clients);
	LIST_INIT(&b->idle);
	TAILQ_INIT(&b->held);
	ulid_from(str_c(t->id + 3), &b->ulid);
	b->told.slot = b->seen.slot = t->slot;
	memcpy(b->seen.id, t->id, sizeof(b->seen.id));
	HASH_ADD(hh, in->boxes, ulid.s, ULID_LEN, b);
	if (!table_has(b)) {
		free(b);
		return NULL;
	}
	HASH_ADD(by_slot, in->slots, told.slot, sizeof(b->told.slot), b);
	if (!b->by_slot.tbl) {
		HASH_DEL(in->boxes, b);
		free(b);
		return NULL;
	}
	return b;
}

/* A listener of its own goes, with those who came by it. */
static void unlisten(struct ingress *in, struct box *b, unsigned int i)
{
	struct listener *l = take_ptr(b->listeners[i]);
	struct client *c, *next;

	if (!l)
		return;
	for (c = LIST_FIRST(&in->clients); c; c = next) {
		next = LIST_NEXT(c, all);
		if (c->own == b && c->kind == l->kind)
			client_close(c, false);
	}
	listener_free(l);
}

void box_free(struct ingress *in, struct box *b)
{
	struct err gone;
	struct client *c;
	struct up *u;

	err_set(&gone, -ENOENT, ERR_NOT_FOUND, "no such sandbox");
	HASH_DEL(in->boxes, b);
	HASH_DELETE(by_slot, in->slots, b);
	for (unsigned int i = 0; i < ARRAY_SIZE(b->listeners); i++)
		unlisten(in, b, i);
	while ((c = LIST_FIRST(&b->clients)))
		exchange_cut(c);
	box_turn_away(in, b, 404, &gone);
	while ((u = LIST_FIRST(&b->idle)))
		up_close(u, false);
	if (b->dirty)
		LIST_REMOVE(b, dirties);
	free(b->tokens);
	free(b->routes);
	ipc_ingress_erase(&b->told);
	free(b);
}

/* Listeners as the flags want them; descriptors that are not used are closed by the caller. */
static int box_listen(struct ingress *in, struct box *b, uint32_t flags, int *fds, unsigned int n_fds)
{
	static const struct {
		uint32_t flag, fd;
		enum ingress_kind kind;
	} kinds[] = { { IPC_INGRESS_PROXY, IPC_INGRESS_PROXY_FD, INGRESS_PROXY },
		{ IPC_INGRESS_DIRECT, IPC_INGRESS_DIRECT_FD, INGRESS_DIRECT } };
	unsigned int at = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct listener *l = NULL;
		int r;

		if (flags & kinds[i].fd) {
			if (at == n_fds)
				return -EBADMSG;
			r = listener_new(in, take_fd(fds[at]), kinds[i].kind, b, &l);
			at++;
			if (r < 0)
				return r;
		}
		if (!(flags & kinds[i].flag)) {
			unlisten(in, b, i);
		} else if (l) {
			listener_free(b->listeners[i]);
			b->listeners[i] = l;
		}
	}
	return 0;
}

/* What is under way goes on unless there is nothing left for it to go on with. */
static void box_changed(struct ingress *in, struct box *b, const struct ipc_edge_ingress *before)
{
	struct client *c, *next;
	struct err off;
	struct up *u;

	err_set(&off, -ENOENT, ERR_NOT_FOUND, "ingress is off for this sandbox");
	for (c = LIST_FIRST(&b->clients); c; c = next) {
		next = LIST_NEXT(c, of_box);
		if (!c->own && !box_open(b, c->target.port))
			exchange_cut(c);
	}
	if (!(b->told.flags & IPC_INGRESS_ON) && !b->told.n_routes)
		box_turn_away(in, b, 404, &off);
	/* Another address or a stop: none of the connections leads anywhere. */
	if (b->told.ifindex != before->ifindex || !ip_eq(b->told.ip4, before->ip4) ||
		b->told.state == IPC_INGRESS_DOWN)
		while ((u = LIST_FIRST(&b->idle)))
			up_close(u, false);
	if (b->told.state == IPC_INGRESS_RUNNING)
		box_wake(in, b);
}

/* Of nothing: NULL. */
static int copy_of(const void *p, size_t n, void **ret)
{
	*ret = n ? malloc(n) : NULL;
	if (*ret)
		memcpy(*ret, p, n);
	return n && !*ret ? -ENOMEM : 0;
}

int ingress_set(struct ingress *in, const struct ipc_edge_ingress *set, int *fds, unsigned int n_fds,
	struct err *err)
{
	struct ipc_ingress_token *tokens = NULL;
	struct ipc_ingress_route *routes = NULL;
	auto_ingress struct ipc_edge_ingress before = { 0 };
	struct ulid ulid;
	struct box *b;
	int r;

	if (!told_ok(set, str_c(set->id), &ulid)) {
		r = err_set(err, -EBADMSG, ERR_INTERNAL, "malformed INGRESS");
		goto out;
	}
	b = box_in(in, set->slot);
	if (b && strcmp(b->ulid.s, ulid.s)) { /* its slot is another's now */
		box_free(in, b);
		b = NULL;
	}
	if (!b && (b = box_find(in, &ulid))) { /* it has another slot now */
		box_free(in, b);
		b = NULL;
	}
	r = copy_of(set->tokens, set->n_tokens * sizeof(*tokens), (void **)&tokens);
	if (r == 0)
		r = copy_of(set->routes, set->n_routes * sizeof(*routes), (void **)&routes);
	if (r == 0 && !b)
		b = box_new(in, set);
	if (r < 0 || !b) {
		free(tokens);
		free(routes);
		r = err_sys(err, -ENOMEM, "ingress of slot %u", set->slot);
		goto out;
	}
	before = b->told;
	memcpy(&b->told, set, offsetof(struct ipc_edge_ingress, tokens));
	free(b->tokens);
	b->tokens = tokens;
	free(b->routes);
	b->routes = routes;
	b->synced = true;
	r = box_listen(in, b, set->flags, fds, n_fds);
	if (r < 0)
		err_sys(err, r, "listen for slot %u", set->slot);
	box_changed(in, b, &before);
out:
	for (unsigned int i = 0; i < n_fds; i++)
		fds[i] = fd_close(fds[i]);
	return r;
}

void ingress_del(struct ingress *in, uint32_t slot)
{
	struct box *b = box_in(in, slot);

	if (b)
		box_free(in, b);
}

void ingress_unsync(struct ingress *in)
{
	for (struct box *b = in->boxes; b; b = b->hh.next) {
		struct err err;

		b->synced = false;
		if (!b->waking)
			continue;
		b->waking = false; /* who was asked is gone */
		err_set(&err, -ECONNRESET, ERR_CAPACITY, "try again");
		box_turn_away(in, b, 503, &err);
	}
}

void ingress_synced(struct ingress *in)
{
	struct box *b, *next;

	for (b = in->boxes; b; b = next) {
		next = b->hh.next;
		if (!b->synced)
			box_free(in, b);
	}
}

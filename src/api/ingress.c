/* Ingress in the api role: see the header. */
#include <openssl/evp.h>
#include "api/box.h"
#include "api/ingress.h"
#include "api/opensandbox/gateway.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/hex.h"
#include "base/log.h"

void ingress_init(struct box *b)
{
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		b->ingress.port_fd[i] = -EBADF;
}

/* What was counted; nothing of it is open any more. */
static void use_add(struct ingress_use *sum, const struct ingress_use *u)
{
	sum->requests += u->requests;
	sum->refused += u->refused;
	sum->failed += u->failed;
	sum->bytes_in += u->bytes_in;
	sum->bytes_out += u->bytes_out;
}

void ingress_done(struct box *b)
{
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		b->ingress.port_fd[i] = fd_close(b->ingress.port_fd[i]);
	b->ingress.past = ingress_sum(b);
	use_add(&b->api->ingress_past, &b->ingress.past);
	b->ingress.past = (struct ingress_use){ 0 };
	free(b->ingress.tokens);
	free(b->ingress.use);
	b->ingress.tokens = NULL;
	b->ingress.use = NULL;
	b->ingress.n_tokens = 0;
}

/* --- addresses --- */

/* Where the first listener is reached; who listens on every address is reached on loopback. */
static void put_host(const struct api *a, struct buf *out)
{
	struct ip ip = a->config.ingress_listen.at[0].ip;

	if (ip_eq(ip, (struct ip){ .family = ip.family }))
		ip.family == 6 ? ip_from(STR("::1"), &ip) : ip_from(STR("127.0.0.1"), &ip);
	buf_fmt(out, ip.family == 6 ? "[%s]" : "%s", ip_text(ip).s);
}

void ingress_address(const struct api *a, uint32_t port, struct buf *out)
{
	put_host(a, out);
	buf_fmt(out, ":%u", port);
}

static void put_port(const struct api *a, struct buf *out)
{
	const struct config *c = &a->config;
	uint32_t port = c->ingress_public_port ? c->ingress_public_port :
						 c->ingress_listen.at[0].port;

	if (port != (c->ingress_https ? 443u : 80u))
		buf_fmt(out, ":%u", port);
}

void ingress_authority(const struct api *a, bool by_name, struct buf *out)
{
	if (by_name)
		buf_add_c(out, a->config.ingress_domain);
	else
		put_host(a, out);
	put_port(a, out);
}

void ingress_template(const struct api *a, const char *id, struct buf *out)
{
	const struct config *c = &a->config;
	const char *ulid = strchr(id, '-') ? strchr(id, '-') + 1 : id;

	buf_add_c(out, c->ingress_https ? "https://" : "http://");
	if (str_eq_c(str_c(c->ingress_template), "path")) {
		ingress_authority(a, false, out);
		buf_fmt(out, "/%s/<port>", id);
		return;
	}
	buf_fmt(out, "%s-<port>.", ulid);
	ingress_authority(a, true, out);
}

uint32_t ingress_ports_given(const struct api *a)
{
	const char *which = a->config.ingress_ports_open;

	if (!a->config.ingress_ports.first)
		return 0;
	return str_eq_c(str_c(which), "proxy") ? INGRESS_PORTS_PROXY :
		str_eq_c(str_c(which), "direct") ? INGRESS_PORTS_DIRECT : INGRESS_PORTS_BOTH;
}

uint32_t ingress_ports_open(const struct api *a, const struct sandbox_row *row)
{
	return row->port_proxy ? row->ingress_ports & ingress_ports_given(a) : 0;
}

/* The next free pair behind the last one given: a port that was somebody's rests as long as it can. */
int ingress_pick_ports(struct box *b, struct err *err)
{
	const struct config_ports *range = &b->api->config.ingress_ports;
	uint32_t pairs = range->first ? (range->last - range->first + 1u) / 2 : 0;
	uint8_t taken[UINT16_MAX / 16 + 1] = { 0 };
	struct box *x, *tmp;

	if (!pairs)
		return err_field(err, -ENOTSUP, ERR_UNSUPPORTED, "host_ports",
			"this daemon gives out no ports (ingress.ports)");
	HASH_ITER (hh, b->api->boxes, x, tmp)
		if (x != b && x->row.port_proxy >= range->first && x->row.port_proxy <= range->last) {
			uint32_t pair = (x->row.port_proxy - range->first) / 2;

			taken[pair / 8] |= (uint8_t)(1u << pair % 8);
		}
	for (uint32_t i = 0; i < pairs; i++) {
		uint32_t pair = (b->api->ports_next + i) % pairs;

		if (taken[pair / 8] & 1u << pair % 8)
			continue;
		b->api->ports_next = pair + 1;
		b->row.port_proxy = range->first + 2 * pair;
		b->row.port_direct = b->row.port_proxy + 1;
		return 0;
	}
	return err_field(err, -ENOSPC, ERR_CAPACITY, "host_ports",
		"all ports of the host for sandboxes are taken (ingress.ports)");
}

/* --- what the edges are told --- */

static bool somebody_holds(const struct sandbox_row *row)
{
	struct ipc_ingress_route routes[IPC_INGRESS_ROUTES_MAX];
	uint32_t n = services_routes(row, routes);

	while (n-- > 0)
		if (routes[n].hold)
			return true;
	return row->ingress_hold;
}

/* A sandbox that holds its visitors looks paused while it resumes: they wait for it then, too. */
enum ipc_ingress_state ingress_state_of(const struct box *b)
{
	switch (b->row.state) {
	case LIFE_RUNNING:
		return IPC_INGRESS_RUNNING;
	case LIFE_PAUSING:
	case LIFE_PAUSED:
		return IPC_INGRESS_PAUSED;
	case LIFE_RESUMING:
		return somebody_holds(&b->row) ? IPC_INGRESS_PAUSED : IPC_INGRESS_STARTING;
	case LIFE_CREATING:
	case LIFE_FORKING:
		return IPC_INGRESS_STARTING;
	case LIFE_NONE:
	case LIFE_ERROR:
	case LIFE_FAILED:
	case LIFE_DESTROYING:
	case LIFE_DESTROYED:
	case LIFE_STATES:
		break;
	}
	return IPC_INGRESS_DOWN;
}

/* A token that could not be made is one that nobody has: no error may open what is secured. */
static void put_secret(const struct box *b, struct ipc_edge_ingress *ret)
{
	auto_secret struct secret token = SECRET_NONE;
	uint8_t nobodys[32];

	if (!b->row.secured)
		return;
	if (gateway_token(b->api, b->row.id, &token) == 0) {
		str_copy(ret->secret, sizeof(ret->secret), secret_reveal(&token));
		return;
	}
	random_bytes(nobodys, sizeof(nobodys));
	hex_spell(ret->secret, nobodys, sizeof(nobodys));
}

size_t ingress_message(const struct box *b, enum ipc_ingress_state state,
	struct ipc_edge_ingress *ret)
{
	static const uint32_t has[] = { IPC_INGRESS_PROXY, IPC_INGRESS_DIRECT };
	static const uint32_t comes[] = { IPC_INGRESS_PROXY_FD, IPC_INGRESS_DIRECT_FD };
	const struct ingress *in = &b->ingress;
	uint32_t open = ingress_ports_open(b->api, &b->row);
	struct ipc_ingress_route routes[IPC_INGRESS_ROUTES_MAX];
	uint64_t now = api_now_ms();
	size_t n;

	*ret = (struct ipc_edge_ingress){ .slot = b->row.slot,
		.ifindex = b->link.ifindex,
		.ip4 = b->ip4,
		.flags = (b->row.ingress ? IPC_INGRESS_ON : 0) |
			(b->row.ingress_hold ? IPC_INGRESS_HOLD : 0) |
			(ingress_services(&b->row) ? IPC_INGRESS_SERVICES : 0) |
			(ingress_services(&b->row) && b->row.execd_token[0] ? IPC_INGRESS_GUARDED : 0),
		.state = state,
		.access = b->row.ingress_access };
	snprintf(ret->id, sizeof(ret->id), "%s", b->row.id);
	put_secret(b, ret);
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		if (open & 1u << i && in->port_fd[i] >= 0)
			ret->flags |= has[i] | comes[i];
	for (uint32_t i = 0; i < in->n_tokens; i++) {
		const struct token_row *t = &in->tokens[i];
		struct ipc_ingress_token *k = &ret->tokens[ret->n_tokens];

		if (t->expires_ms && t->expires_ms <= now)
			continue;
		*k = (struct ipc_ingress_token){ .port = t->port,
			.expires = (t->expires_ms + 999) / 1000 };
		memcpy(k->digest, t->digest, sizeof(k->digest));
		ret->n_tokens++;
	}
	ret->n_routes = services_routes(&b->row, routes);
	n = offsetof(struct ipc_edge_ingress, tokens) + ret->n_tokens * sizeof(ret->tokens[0]);
	memcpy((char *)ret + n, routes, ret->n_routes * sizeof(routes[0]));
	return n + ret->n_routes * sizeof(routes[0]);
}

static unsigned int listeners_of(const struct box *b, int fds[IPC_INGRESS_PORTS])
{
	uint32_t open = ingress_ports_open(b->api, &b->row);
	unsigned int n = 0;

	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		if (open & 1u << i && b->ingress.port_fd[i] >= 0)
			fds[n++] = b->ingress.port_fd[i];
	return n;
}

static void nobody_waits(const struct err *err, void *arg)
{
	if (err)
		log_event(LOG_WARN, "ingress.tell", "text=%s", log_q(str_c(err->text)));
}

void ingress_tell(struct box *b, enum ipc_ingress_state state, edges_fn fn, void *arg)
{
	auto_ingress struct ipc_edge_ingress m;
	size_t n = ingress_message(b, state, &m);
	int fds[IPC_INGRESS_PORTS];
	unsigned int n_fds = listeners_of(b, fds);

	b->ingress.told = true;
	b->ingress.state = state;
	edges_call_fds(b->api, IPC_EDGE_INGRESS, &m, n, fds, n_fds, fn ? fn : nobody_waits, arg);
}

int ingress_tell_one(struct chan *c, const struct box *b, chan_reply_fn on_told, void *arg)
{
	auto_ingress struct ipc_edge_ingress m;
	size_t n = ingress_message(b, ingress_state_of(b), &m);
	int fds[IPC_INGRESS_PORTS];
	unsigned int n_fds = listeners_of(b, fds);

	return chan_call(c, IPC_EDGE_INGRESS, &m, n, fds, n_fds, on_told, arg);
}

/* --- waking --- */

static void answer_wakers(struct box *b, const struct err *err)
{
	for (unsigned int i = 0; i < EDGES_MAX; i++) {
		uint32_t serial = b->ingress.waking[i];
		struct chan *c = b->api->edges[i].chan;

		b->ingress.waking[i] = 0;
		if (serial && c && err)
			chan_reply_err(c, serial, err);
		else if (serial && c)
			chan_reply(c, serial, 0, NULL, 0, NULL, 0);
	}
}

static bool is_waited_for(const struct box *b)
{
	for (unsigned int i = 0; i < EDGES_MAX; i++)
		if (b->ingress.waking[i])
			return true;
	return false;
}

/* Whoever waits for it to run is answered, or it is resumed once. */
static void wake(struct box *b)
{
	struct err err;

	if (!is_waited_for(b) || life_transitional(b->row.state))
		return;
	if (b->row.state == LIFE_RUNNING) {
		FAULT("api.wake.done");
		answer_wakers(b, NULL);
	} else if (b->row.state != LIFE_PAUSED) {
		err_field(&err, -ECANCELED, ERR_CONFLICT, "status", "sandbox is %s",
			life_state_name(b->row.state));
		answer_wakers(b, &err);
	} else if (flow_resume(b, &err) < 0) {
		log_event(LOG_WARN, "ingress.wake", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
		answer_wakers(b, &err);
	}
}

void ingress_state(struct box *b)
{
	if (b->ingress.told && ingress_state_of(b) != b->ingress.state)
		ingress_tell(b, ingress_state_of(b), NULL, NULL);
	if (life_terminal(b->row.state))
		b->ingress.told = false;
	wake(b);
}

/* --- what the edges say --- */

static struct box *named(struct edge *e, const char id[IPC_ID_LEN], uint32_t slot)
{
	struct box *b = ipc_text_ok(id, IPC_ID_LEN) ? box_find(e->api, id) : NULL;

	return b && b->in_kernel && b->row.slot == slot ? b : NULL;
}

void ingress_on_wake(struct edge *e, struct chan_msg *m)
{
	const struct ipc_ingress_wake *w = (const void *)m->payload.p;
	struct box *b = m->payload.n == sizeof(*w) ? named(e, w->id, w->slot) : NULL;
	struct err err;

	if (!b || !somebody_holds(&b->row)) {
		err_set(&err, -ENOENT, ERR_NOT_FOUND, "sandbox not found");
		chan_reply_err(e->chan, m->serial, &err);
		return;
	}
	if (b->ingress.waking[e->worker]) { /* it asked already: one answer is enough for both */
		err_set(&err, -EALREADY, ERR_CONFLICT, "asked for already");
		chan_reply_err(e->chan, m->serial, &err);
		return;
	}
	FAULT("api.wake.asked");
	b->ingress.waking[e->worker] = m->serial;
	box_ref(b);
	wake(b);
	box_unref(b);
}

/* Its requests ask for /sandboxes/{id}/proxy/{port}/…, and nothing else is open without a key. */
void ingress_on_conn(struct edge *e, struct chan_msg *m)
{
	const struct ipc_ingress_conn *conn = (const void *)m->payload.p;
	struct box *b = m->payload.n == sizeof(*conn) ? named(e, conn->id, conn->slot) : NULL;
	int fd = chan_take_fd(m, 0);

	if (fd >= 0 && (!b || !ingress_services(&b->row)))
		fd_close(fd);
	else if (fd >= 0)
		httpd_adopt(e->api->httpd, fd, CONFIG_LISTEN_MAX); /* no listener's */
}

void ingress_on_seen(struct edge *e, const struct ipc_ingress_seen *s)
{
	struct box *b = named(e, s->id, s->slot);
	uint32_t workers = MIN(e->api->config.edge_workers, EDGES_MAX);
	struct ingress_use *u, now = { .open = s->open, .requests = s->requests,
		.refused = s->refused, .failed = s->failed, .bytes_in = s->bytes_in,
		.bytes_out = s->bytes_out };

	if (!b || e->worker >= workers)
		return;
	if (!b->ingress.use)
		b->ingress.use = calloc(workers, sizeof(*b->ingress.use));
	u = b->ingress.use ? &b->ingress.use[e->worker] : &(struct ingress_use){ 0 };
	/* A worker's counters begin anew with it, and with the sandbox's entry there. */
	if (now.requests < u->requests || now.bytes_in < u->bytes_in || now.bytes_out < u->bytes_out)
		use_add(&b->ingress.past, u);
	*u = now;
	/* Whom we turned away does not keep it awake. */
	box_touch(b);
}

void ingress_edge_gone(struct edge *e)
{
	struct box *b, *tmp;

	HASH_ITER (hh, e->api->boxes, b, tmp) {
		b->ingress.waking[e->worker] = 0;
		if (b->ingress.use && e->worker < MIN(e->api->config.edge_workers, EDGES_MAX)) {
			use_add(&b->ingress.past, &b->ingress.use[e->worker]);
			b->ingress.use[e->worker] = (struct ingress_use){ 0 };
		}
	}
}

struct ingress_use ingress_sum(const struct box *b)
{
	uint32_t workers = MIN(b->api->config.edge_workers, EDGES_MAX);
	struct ingress_use sum = b->ingress.past;

	for (uint32_t i = 0; b->ingress.use && i < workers; i++) {
		sum.open += b->ingress.use[i].open;
		use_add(&sum, &b->ingress.use[i]);
	}
	return sum;
}

struct ingress_use ingress_total(const struct api *a)
{
	struct ingress_use sum = a->ingress_past, one;
	const struct box *b, *tmp;

	HASH_ITER (hh, a->boxes, b, tmp) {
		one = ingress_sum(b);
		sum.open += one.open;
		use_add(&sum, &one);
	}
	return sum;
}

bool ingress_in_use(const struct box *b)
{
	return ingress_sum(b).open > 0;
}

/* --- tokens --- */

static int hold(struct box *b, const struct token_row *t)
{
	struct ingress *in = &b->ingress;
	struct token_row *more = reallocarray(in->tokens, in->n_tokens + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	in->tokens = more;
	in->tokens[in->n_tokens++] = *t;
	return 0;
}

static int load_one(const struct token_row *t, void *arg)
{
	struct box *b = box_find(arg, t->sandbox);

	return b ? hold(b, t) : 0;
}

int ingress_load(struct api *a, struct err *err)
{
	err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	return store_tokens(a->store, load_one, a, err);
}

static int forget(struct box *b, uint32_t i, struct err *err)
{
	struct ingress *in = &b->ingress;
	int r = store_token_drop(b->api->store, in->tokens[i].id, err);

	if (r < 0)
		return r;
	in->n_tokens--;
	memmove(&in->tokens[i], &in->tokens[i + 1], (in->n_tokens - i) * sizeof(*in->tokens));
	return 0;
}

/* What has run out makes room for what comes. */
static int forget_expired(struct box *b, uint64_t now, struct err *err)
{
	for (uint32_t i = b->ingress.n_tokens; i-- > 0;) {
		uint64_t at = b->ingress.tokens[i].expires_ms;
		int r = at && at <= now ? forget(b, i, err) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int ingress_token_add(struct box *b, struct str name, uint32_t port, uint64_t expires_ms,
	const struct token_row **ret, struct secret *ret_text, struct err *err)
{
	struct token_row t = { .port = port, .expires_ms = expires_ms, .created_ms = api_now_ms() };
	unsigned int n = 0;
	struct str text;
	int r = forget_expired(b, t.created_ms, err);

	if (r < 0)
		return r;
	if (b->ingress.n_tokens >= IPC_INGRESS_TOKENS_MAX)
		return err_field(err, -EDQUOT, ERR_FORBIDDEN, "quota",
			"token limit reached: %u per sandbox", IPC_INGRESS_TOKENS_MAX);
	if (str_copy(t.name, sizeof(t.name), name) < 0 || !str_utf8(name))
		return err_field(err, -EINVAL, ERR_INVALID, "name", "at most %zu bytes of text",
			sizeof(t.name) - 1);
	r = secret_random(ret_text, STR("wit_"));
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "out of memory");
	text = secret_reveal(ret_text);
	if (EVP_Digest(text.p, text.n, t.digest, &n, EVP_sha256(), NULL) != 1 ||
		n != sizeof(t.digest))
		return err_set(err, -EIO, ERR_INTERNAL, "SHA-256 failed");
	snprintf(t.id, sizeof(t.id), "tok-%s", ulid_new(clock_wall_ns()).s);
	snprintf(t.sandbox, sizeof(t.sandbox), "%s", b->row.id);
	snprintf(t.hint, sizeof(t.hint), "%.8s…", text.p);
	r = store_token_add(b->api->store, &t, err);
	if (r < 0)
		return r;
	r = hold(b, &t);
	if (r < 0) {
		store_token_drop(b->api->store, t.id, err);
		return err_set(err, r, ERR_INTERNAL, "out of memory");
	}
	*ret = &b->ingress.tokens[b->ingress.n_tokens - 1];
	return 0;
}

int ingress_token_drop(struct box *b, struct str id, struct err *err)
{
	for (uint32_t i = 0; i < b->ingress.n_tokens; i++)
		if (str_eq_c(id, b->ingress.tokens[i].id))
			return forget(b, i, err);
	return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "token not found");
}

/*
 * Questions on their way upstream.
 *
 * A pending question has waiters (queries, maybe of several sandboxes) and attempts. An attempt is
 * a socket and an id under which an answer will count; older attempts keep listening while a newer
 * one runs, so a slow answer is not lost. The first answer that fits ends the question for all
 * waiters.
 *
 *   UDP attempt --truncated, or cases do not fit--> TCP attempt, same server
 *               --SERVFAIL, REFUSED, lost---------> the next server, each once
 *               --late----------------------------> the next server, round and round
 *   no attempts left -----------------------------> SERVFAIL to all waiters
 *
 * Time-outs grow, 0.6 s to 2 s, and sum to 5 s: what the C library waits before it asks again. The
 * first is shorter while another upstream can be asked: as long as answers of this one usually
 * take, four deviations added. Being late once is no failure; an attempt has failed if since it was
 * sent nothing at all was heard of the server, so names that are slow for everybody (or made so)
 * tell nothing about it.
 *
 * An upstream is down after FAILURES_DOWN failures in a row. It is tried again after DOWN_FOR, then
 * twice that, up to DOWN_MAX, by one question, which waits for it no longer than WAIT_LEAST. While
 * all are down each is asked once and soon given up: an error now is better than the same error in
 * five seconds, and places in the table stay free.
 */
#include "edge/core.h"

#define FAILURES_DOWN 3u
#define DOWN_FOR      (10 * NS_PER_SEC)
#define DOWN_MAX      (320 * NS_PER_SEC)
#define WAIT_LEAST    (100 * NS_PER_MS) /* before another is asked; two ticks */
#define TCP_WAIT      (3 * NS_PER_SEC)

static const uint64_t waits[RESOLVER_TRIES] = { 600 * NS_PER_MS, 1000 * NS_PER_MS, 1400 * NS_PER_MS,
	2000 * NS_PER_MS };

size_t resolver_pending(const struct resolver *r)
{
	return r->n_pending;
}

static void attempt_close(struct resolver *r, struct attempt *a)
{
	if (!a->open)
		return;
	HASH_DEL(r->attempts, a);
	a->open = false;
	r->ops->close(r->arg, a->key.sock);
}

/* Out of every table; the caller owns what is left of it. */
static void pending_unlink(struct resolver *r, struct pending *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->attempts); i++)
		attempt_close(r, &p->attempts[i]);
	HASH_DEL(r->questions, p);
	DL_DELETE(r->in_order, p);
	r->n_pending--;
}

/* answer NULL: nobody knew. */
static void pending_finish(struct resolver *r, struct pending *p, struct answer *answer,
	uint64_t now)
{
	struct waiter *w = p->waiters;

	pending_unlink(r, p);
	while (w) {
		struct waiter *next = w->next;

		if (w->tenant) {
			w->tenant->outstanding--;
			if (answer)
				reply_answer(r, w->tenant, &w->client, &w->query, answer, p->from,
					now);
			else
				reply_empty(r, &w->client, &w->query, DNS_SERVFAIL,
					DNS_EDE_UNREACHABLE, STR("no resolver answered"));
		}
		free(w);
		w = next;
	}
	free(p);
}

static void upstream_failed(struct resolver *r, const struct pending *p, const struct attempt *a,
	uint64_t now)
{
	struct upstream *u = &r->upstreams[a->upstream];

	if (!p->ours || a->upstream >= r->n_upstreams)
		return;
	if (u->heard && u->heard >= a->sent)
		return;
	if (u->failures < UINT32_MAX)
		u->failures++;
	if (u->failures >= FAILURES_DOWN)
		u->down_until = now + MIN(DOWN_FOR << MIN(u->failures - FAILURES_DOWN, 5u),
			DOWN_MAX);
}

static void upstream_heard(struct resolver *r, const struct pending *p, const struct attempt *a,
	uint64_t now)
{
	struct upstream *u = &r->upstreams[a->upstream];
	uint64_t took = now - a->sent, off;

	if (!p->ours || a->upstream >= r->n_upstreams)
		return;
	u->failures = 0;
	u->down_until = 0;
	u->heard = now;
	off = took > u->srtt ? took - u->srtt : u->srtt - took;
	u->rttvar = u->srtt ? (3 * u->rttvar + off) / 4 : took / 2;
	u->srtt = MAX(u->srtt ? (7 * u->srtt + took) / 8 : took, (uint64_t)1);
}

static bool is_down(const struct upstream *u)
{
	return u->failures >= FAILURES_DOWN;
}

static bool others_up(const struct resolver *r, size_t but)
{
	for (size_t i = 0; i < r->n_upstreams; i++)
		if (i != but && !is_down(&r->upstreams[i]))
			return true;
	return false;
}

/* The first that is not down, or is due to be tried, counted on from the order of preference. */
static size_t upstream_pick(struct resolver *r, const struct pending *p, uint64_t now)
{
	for (size_t i = 0; i < r->n_upstreams; i++) {
		size_t k = (p->tries + i) % r->n_upstreams;
		struct upstream *u = &r->upstreams[k];

		if (is_down(u) && u->down_until > now)
			continue;
		if (is_down(u)) /* by this question alone */
			u->down_until = now + DOWN_FOR;
		return k;
	}
	return p->tries % r->n_upstreams;
}

/* How long this attempt is waited for before the next is made beside it. */
static uint64_t patience(const struct resolver *r, const struct pending *p, size_t upstream)
{
	const struct upstream *u = &r->upstreams[upstream];
	uint64_t wait = waits[p->tries];

	if (p->tcp)
		return TCP_WAIT;
	if (!p->ours)
		return wait;
	if (!others_up(r, upstream))
		return is_down(u) ? waits[0] : wait;
	if (is_down(u))
		return WAIT_LEAST;
	return p->tries == 0 && u->srtt ?
		MIN(MAX(u->srtt + 4 * u->rttvar, WAIT_LEAST), wait) : wait;
}

static uint32_t tries_max(const struct resolver *r, const struct pending *p)
{
	if (p->ours && !others_up(r, SIZE_MAX))
		return MIN((uint32_t)r->n_upstreams, RESOLVER_TRIES);
	return RESOLVER_TRIES;
}

static void mix_cases(struct resolver *r, struct dns_name *name)
{
	uint8_t bits[DNS_NAME_MAX / 8 + 1];

	r->ops->random(r->arg, bits, sizeof(bits));
	for (uint8_t i = 0; i < name->n; i++) {
		uint8_t c = name->w[i] | 0x20;

		if (c >= 'a' && c <= 'z' && name->w[i] >= 'A')
			name->w[i] = bits[i / 8] >> i % 8 & 1 ? c : c & (uint8_t)~0x20;
	}
}

static int attempt_send(struct resolver *r, struct pending *p, struct attempt *a, bool tcp)
{
	int e = r->ops->open(r->arg, &p->server, tcp, &a->key.sock);

	if (e < 0)
		return e;
	for (int i = 0;; i++) { /* ids repeat only where a socket is shared */
		struct attempt *other;
		uint16_t id;

		r->ops->random(r->arg, &id, sizeof(id));
		a->key.id = id;
		HASH_FIND(hh, r->attempts, &a->key, sizeof(a->key), other);
		if (!other)
			break;
		if (i == 16) {
			r->ops->close(r->arg, a->key.sock);
			return -EBUSY;
		}
	}
	a->pending = p;
	HASH_ADD(hh, r->attempts, key, sizeof(a->key), a);
	if (!table_has(a)) {
		r->ops->close(r->arg, a->key.sock);
		return -ENOMEM;
	}
	a->open = true;
	buf_reset(&r->scratch);
	e = dns_put_query(&r->scratch, (uint16_t)a->key.id, &p->sent, p->type, p->dnssec_ok,
		p->checking_disabled);
	if (e == 0)
		e = r->ops->send(r->arg, a->key.sock, buf_str(&r->scratch));
	if (e < 0)
		attempt_close(r, a);
	return e;
}

/* The next attempt; without any left the question fails, and p is gone: false. */
static bool pending_next(struct resolver *r, struct pending *p, uint64_t now)
{
	while (p->tries < tries_max(r, p)) {
		struct attempt *a = &p->attempts[p->tries];
		uint64_t wait;

		if (p->ours) {
			a->upstream = upstream_pick(r, p, now);
			p->server = r->upstreams[a->upstream].server;
		}
		a->sent = now;
		wait = patience(r, p, a->upstream);
		if (p->tries++)
			r->stats.retried++;
		if (attempt_send(r, p, a, p->tcp) == 0) {
			p->deadline = now + wait;
			return true;
		}
		upstream_failed(r, p, a, now);
	}
	pending_finish(r, p, NULL, now);
	return false;
}

/* A server said no, or cannot be reached. Each is asked once before the question fails: asking
 * again what was just refused helps nobody. */
static void pending_refused(struct resolver *r, struct pending *p, uint64_t now)
{
	if (p->tries >= (p->ours ? r->n_upstreams : 1))
		pending_finish(r, p, NULL, now);
	else
		pending_next(r, p, now);
}

/* The same server over TCP, once. */
static void pending_over_tcp(struct resolver *r, struct pending *p, const struct attempt *from,
	uint64_t now)
{
	struct attempt *a = &p->attempts[RESOLVER_TRIES];

	if (p->tcp || a->open) /* already so, or already under way */
		return;
	if (p->ours)
		p->server = r->upstreams[from->upstream].server;
	a->upstream = from->upstream;
	a->sent = now;
	p->tcp = true;
	r->stats.over_tcp++;
	if (attempt_send(r, p, a, true) == 0)
		p->deadline = now + TCP_WAIT;
	else
		pending_next(r, p, now);
}

static bool same_waiter(const struct waiter *w, const struct tenant *t, const struct dns_client *c,
	const struct dns_query *q)
{
	return w->tenant == t && w->query.id == q->id && w->client.port == c->port &&
		w->client.conn == c->conn && w->client.tcp == c->tcp &&
		ip_eq(w->client.peer, c->peer);
}

void pending_ask(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct question *question, const struct ruling *ruling,
	uint64_t now)
{
	struct pending *p;
	struct waiter *w;

	HASH_FIND(hh, r->questions, question->raw, question->n, p);
	for (w = p ? p->waiters : NULL; w; w = w->next)
		if (same_waiter(w, t, c, q))
			return; /* the client repeats itself; one answer will do */
	/* The fewer places are left, the fewer one sandbox may hold: many that wait for resolvers
	 * which never answer cannot take the last place from one that asks its first question. */
	if (t->outstanding >= RESOLVER_WAITING_MAX ||
		(!p && t->outstanding >= (RESOLVER_PENDING_MAX - r->n_pending) / 4)) {
		r->stats.overload++;
		reply_empty(r, c, q, DNS_SERVFAIL, DNS_EDE_OTHER,
			STR("too many queries in flight"));
		return;
	}
	w = malloc(sizeof(*w));
	if (!w)
		return;
	*w = (struct waiter){ .tenant = t, .client = *c, .query = *q };
	t->outstanding++;
	if (p) {
		r->stats.coalesced++;
		w->next = p->waiters;
		p->waiters = w;
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		goto no_memory;
	p->question = *question;
	p->sent = q->name;
	mix_cases(r, &p->sent);
	p->type = q->type;
	p->dnssec_ok = q->dnssec_ok;
	p->checking_disabled = q->flags & DNS_CD;
	p->ours = ruling->route == ROUTE_OURS;
	if (!p->ours) {
		p->from = c->dst;
		p->server = (struct server){ .ip = c->dst, .port = 53 };
		p->tcp = c->tcp; /* as it was allowed to be asked */
	}
	HASH_ADD(hh, r->questions, question.raw, p->question.n, p);
	if (!table_has(p))
		goto no_memory;
	DL_APPEND(r->in_order, p);
	r->n_pending++;
	r->stats.asked++;
	p->waiters = w;
	pending_next(r, p, now);
	return;

no_memory:
	free(p);
	free(w);
	t->outstanding--;
}

void resolver_answer(struct resolver *r, uint64_t sock, struct str msg, uint64_t now)
{
	struct attempt_key key = { .sock = sock };
	struct answer *answer = NULL;
	struct dns_name name;
	struct pending *p;
	struct attempt *a;
	struct dns_walk w;
	uint16_t type, qclass;
	int e;

	if (dns_walk_from(msg, &w) < 0 || !(w.flags & DNS_QR)) {
		r->stats.mismatched++;
		return;
	}
	key.id = w.id;
	HASH_FIND(hh, r->attempts, &key, sizeof(key), a);
	p = a ? a->pending : NULL;
	if (!p || dns_walk_question(&w, &name, &type, &qclass) < 0 || type != p->type ||
		qclass != DNS_IN || !dns_name_eq(&name, &p->sent)) {
		r->stats.mismatched++; /* forged or confused: the true one may still come */
		return;
	}
	if (!p->tcp && (memcmp(name.w, p->sent.w, name.n) != 0 || w.flags & DNS_TC)) {
		attempt_close(r, a);
		pending_over_tcp(r, p, a, now);
		return;
	}
	if (w.flags & DNS_TC && p->tcp && a != &p->attempts[RESOLVER_TRIES])
		return; /* an old UDP attempt; TCP is under way */
	upstream_heard(r, p, a, now);
	e = answer_from(msg, &p->sent, p->type, p->dnssec_ok, now, &r->scratch, &answer);
	if (e < 0) {
		attempt_close(r, a);
		pending_refused(r, p, now);
		return;
	}
	if (p->ours)
		cache_put(r->cache, &p->question, answer, now);
	pending_finish(r, p, answer, now);
	answer_unref(answer);
}

void resolver_lost(struct resolver *r, uint64_t sock, uint64_t now)
{
	struct pending *p, *tmp;

	/* Few are pending, and losing a socket is rare: no table for it. */
	DL_FOREACH_SAFE(r->in_order, p, tmp) {
		for (size_t i = 0; i < ARRAY_SIZE(p->attempts); i++) {
			struct attempt *a = &p->attempts[i];

			if (!a->open || a->key.sock != sock)
				continue;
			attempt_close(r, a);
			upstream_failed(r, p, a, now);
			pending_refused(r, p, now);
			break;
		}
	}
}

void resolver_tick(struct resolver *r, uint64_t now)
{
	struct pending *p, *tmp;

	DL_FOREACH_SAFE(r->in_order, p, tmp) {
		if (p->deadline > now)
			continue;
		if (p->tries)
			upstream_failed(r, p, &p->attempts[p->tries - 1], now);
		pending_next(r, p, now);
	}
}

void pending_forget(struct resolver *r, struct tenant *t)
{
	struct pending *p;
	struct waiter *w;

	DL_FOREACH(r->in_order, p)
		for (w = p->waiters; w; w = w->next)
			if (w->tenant == t)
				w->tenant = NULL;
}

void pending_free(struct resolver *r)
{
	struct pending *p, *tmp;

	DL_FOREACH_SAFE(r->in_order, p, tmp) {
		pending_unlink(r, p);
		while (p->waiters) {
			struct waiter *w = p->waiters;

			p->waiters = w->next;
			free(w);
		}
		free(p);
	}
}

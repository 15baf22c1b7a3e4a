/*
 * What may be said to whom: the ruling on a name, refusals, and the one way by which an answer
 * reaches a sandbox.
 */
#include <netinet/in.h>
#include "edge/core.h"

#define GATEWAY6 { 6, { 0xfe, 0x80, [12] = 0, 0x77, 0, 0x01 } }

int query_name(const struct dns_query *q, struct name *ret)
{
	char text[DNS_TEXT_MAX];
	size_t n;

	if (dns_name_text(&q->name, text, &n) < 0)
		return -EINVAL;
	return name_from(str_n(text, n), ret, NULL);
}

static bool is_gateway(struct ip ip)
{
	static const struct ip gateway6 = GATEWAY6;

	return ip.family == 4 ? ip_v4_u32(ip) == WEIR_LINK_GATEWAY : ip_eq(ip, gateway6);
}

static bool is_ours(const struct resolver *r, struct ip ip)
{
	for (size_t i = 0; i < r->n_upstreams; i++)
		if (r->upstreams[i].server.port == 53 && ip_eq(r->upstreams[i].server.ip, ip))
			return true;
	return false;
}

struct ruling rule_on(struct resolver *r, struct tenant *t, const struct name *name,
	const struct dns_client *client)
{
	struct version *v = tenant_current(t);
	struct ruling ruling = { .route = ROUTE_REFUSE, .rule = WEIR_RULE_NONE };
	uint8_t proto = client->tcp ? IPPROTO_TCP : IPPROTO_UDP;
	bool theirs = false;

	if (!v)
		return ruling;
	ruling.verdict = gate_ask(v->gate, name, &ruling.rule);
	if (ruling.verdict == POLICY_NAME_DENIED && ruling.rule != WEIR_RULE_NONE)
		return ruling;
	if (!is_gateway(client->dst))
		theirs = policy_names_resolver(v->policy, client->dst, proto);
	if (ruling.verdict == POLICY_NAME_DENIED && !theirs)
		return ruling;
	if (!theirs && ruling.verdict == POLICY_NAME_DEFAULT && !is_gateway(client->dst))
		theirs = policy_reference(v->policy, client->dst, proto, 53, NULL, 0).verdict ==
			WEIR_ALLOW;
	if (theirs && r->env.floor(r->env.floor_arg, client->dst) != WEIR_FLOOR_NONE)
		theirs = false;
	if (theirs)
		ruling.route = is_ours(r, client->dst) ? ROUTE_OURS : ROUTE_THEIRS;
	else if (ruling.verdict != POLICY_NAME_DENIED)
		ruling.route = ROUTE_OURS;
	return ruling;
}

void reply_event(struct resolver *r, struct tenant *t, enum weir_reason reason, uint16_t rule,
	uint16_t qtype, struct ip addr, const struct name *name, uint64_t now)
{
	struct version *v = tenant_current(t);
	struct ipc_event_dns ev = { .slot = t->slot, .policy = v ? v->id : 0, .reason = reason,
		.rule = rule, .qtype = qtype, .addr = addr };

	resolver_count(r, t, reason);
	if (!bucket_take(&t->events, WEIR_EVENTS_PER_SEC, WEIR_EVENTS_PER_SEC, now)) {
		t->events_suppressed++;
		return;
	}
	ev.suppressed = t->events_suppressed;
	if (name)
		memcpy(ev.name, name->s, name->n);
	if (r->ops->event(r->arg, &ev))
		t->events_suppressed = 0;
	else
		t->events_suppressed++;
}

void reply_empty(struct resolver *r, const struct dns_client *c, const struct dns_query *q,
	uint8_t rcode, int ede, struct str text)
{
	if (rcode == DNS_SERVFAIL)
		r->stats.servfail++;
	if (answer_write_empty(q, rcode, false, ede, text, &r->out) == 0)
		r->ops->reply(r->arg, c, buf_str(&r->out));
}

void reply_refused(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct name *name, const struct ruling *ruling,
	uint64_t now)
{
	char text[NAME_MAX_LEN + 64];

	r->stats.refused_name++;
	if (ruling->rule != WEIR_RULE_NONE)
		snprintf(text, sizeof(text), "rule %u denies %s", ruling->rule + 1u, name->s);
	else
		snprintf(text, sizeof(text), "no rule allows %s", name->s);
	reply_empty(r, c, q, DNS_NXDOMAIN, DNS_EDE_BLOCKED, str_c(text));
	reply_event(r, t, WEIR_R_NAME, ruling->rule, q->type, (struct ip){ 0 }, name, now);
}

/* Leave out what this sandbox must not be told, remember and pin the rest. *ret_keep: one bit per
 * address. Negative: a pin that the answer needs could not be made. */
static int admit(struct resolver *r, struct tenant *t, const struct dns_query *q,
	const struct name *name, const struct answer *a, const struct ruling *ruling,
	struct ip from, uint64_t now, uint64_t *ret_keep)
{
	uint64_t age = now > a->made ? (now - a->made) / NS_PER_SEC : 0, keep = 0;
	uint32_t ttl = a->ttl > age ? a->ttl - (uint32_t)age : 0;
	struct version *v = tenant_current(t);
	bool pin = ruling->verdict == POLICY_NAME_ALLOWED;
	/* What our own resolver says is remembered under default allow too: should the name be
	 * all that is left by the next policy, its connections go on. */
	bool learn = pin || (ruling->verdict == POLICY_NAME_DEFAULT && !from.family);

	for (uint16_t i = 0; i < a->n_addrs; i++) {
		if (!tenant_may_tell(&r->env, v->policy, a->addrs[i].ip,
				a->addrs[i].is_private)) {
			r->stats.rebinds++;
			reply_event(r, t, WEIR_R_REBIND, ruling->rule, q->type, a->addrs[i].ip,
				name, now);
			continue;
		}
		keep |= UINT64_C(1) << i;
		if (learn) {
			int e = tenant_learn(&r->env, t, name, a->addrs[i].ip, from, ttl, now);

			if (e < 0 && pin)
				return e;
		}
	}
	*ret_keep = keep;
	return 0;
}

static bool keeps_all(const struct answer *a, uint64_t keep)
{
	return a->n_addrs == 0 || keep << (64 - a->n_addrs) == UINT64_MAX << (64 - a->n_addrs);
}

void reply_kept(struct resolver *r, const struct dns_client *c, const struct dns_query *q,
	const struct answer *a, uint64_t keep, uint64_t now)
{
	size_t limit = c->tcp ? DNS_MSG_MAX : MIN((size_t)q->udp_size, (size_t)DNS_UDP_SIZE);
	bool removed = !keeps_all(a, keep);

	if (answer_write(a, q, now, keep, limit, removed ? DNS_EDE_FILTERED : DNS_EDE_NONE,
			removed ? STR("private or local addresses were removed") : STR_NONE,
			&r->out) < 0)
		return;
	r->stats.answered++;
	r->ops->reply(r->arg, c, buf_str(&r->out));
}

bool reply_ruled(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct name *name, const struct ruling *ruling,
	const struct answer *a, struct ip from, uint64_t now)
{
	uint64_t keep;

	if (admit(r, t, q, name, a, ruling, from, now, &keep) < 0) {
		reply_empty(r, c, q, DNS_SERVFAIL, DNS_EDE_OTHER,
			STR("the address could not be opened"));
		return false;
	}
	reply_kept(r, c, q, a, keep, now);
	return keeps_all(a, keep);
}

void reply_answer(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct answer *a, struct ip from, uint64_t now)
{
	struct ruling ruling;
	struct name name;

	if (query_name(q, &name) < 0)
		return;
	ruling = rule_on(r, t, &name, c);
	if (ruling.route == ROUTE_REFUSE)
		reply_refused(r, t, c, q, &name, &ruling, now);
	else if ((ruling.route == ROUTE_OURS) != !from.family ||
		(from.family && !ip_eq(from, c->dst)))
		reply_empty(r, c, q, DNS_SERVFAIL, DNS_EDE_OTHER,
			STR("the policy changed meanwhile"));
	else
		reply_ruled(r, t, c, q, &name, &ruling, a, from, now);
}

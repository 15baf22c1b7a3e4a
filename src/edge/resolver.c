/* Sandboxes and their queries: see the header. */
#include "base/log.h"
#include "base/ulid.h"
#include "edge/core.h"
#include "edge/overlay.h"

#define OUT_MAX (DNS_MSG_MAX + 1u)

/* --- life --- */

int resolver_new(const struct resolver_conf *conf, const struct resolver_ops *ops, void *arg,
	struct resolver **ret)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->env = (struct tenant_env){ .pinner = conf->pinner, .keeper = conf->keeper,
		.knobs = conf->knobs,
		/* one answer's addresses must fit beside each other */
		.pins_max = MAX(conf->pins_max, 2 * ANSWER_ADDRS_MAX), .floor = ops->floor,
		.floor_arg = arg };
	r->ops = ops;
	r->arg = arg;
	r->qps = conf->qps;
	r->counters = conf->counters;
	r->overlay = conf->overlay;
	r->out = BUF_MAX(OUT_MAX);
	r->scratch = BUF_MAX(OUT_MAX);
	r->cache = cache_new(conf->cache_entries);
	r->lately = calloc(1, sizeof(*r->lately));
	if (!r->cache || !r->lately || buf_room(&r->out, OUT_MAX) < 0 ||
		buf_room(&r->scratch, OUT_MAX) < 0) {
		resolver_free(r);
		return -ENOMEM;
	}
	resolver_upstreams(r, conf->upstreams, conf->n_upstreams);
	*ret = r;
	return 0;
}

void resolver_upstreams(struct resolver *r, const struct server *s, size_t n)
{
	r->n_upstreams = MIN(n, (size_t)RESOLVER_UPSTREAMS_MAX);
	for (size_t i = 0; i < r->n_upstreams; i++)
		r->upstreams[i] = (struct upstream){ .server = s[i] };
}

static void owner_del(struct resolver *r, uint32_t id)
{
	struct owner *o;

	HASH_FIND(hh, r->owners, &id, sizeof(id), o);
	if (!o)
		return;
	HASH_DEL(r->owners, o);
	free(o);
}

static void tenant_unlink(struct resolver *r, struct tenant *t)
{
	if (r->sweep_at == t)
		r->sweep_at = t->hh_slot.next;
	HASH_DELETE(hh_slot, r->by_slot, t);
	if (t->ifindex)
		HASH_DELETE(hh_link, r->by_link, t);
	for (size_t i = 0; i < TENANT_VERSIONS_MAX; i++)
		if (t->versions[i].id)
			owner_del(r, t->versions[i].id);
	overlay_leave(r, t);
	pending_forget(r, t);
}

struct resolver *resolver_free(struct resolver *r)
{
	struct tenant *t, *tmp;

	if (!r)
		return NULL;
	pending_free(r);
	HASH_ITER(hh_slot, r->by_slot, t, tmp) {
		tenant_unlink(r, t);
		tenant_free(NULL, t); /* sandboxes outlive this process, and so do their pins */
	}
	cache_free(r->cache);
	free(r->lately);
	buf_done(&r->out);
	buf_done(&r->scratch);
	free(r);
	return NULL;
}

static struct tenant *by_slot(struct resolver *r, uint32_t slot)
{
	struct tenant *t;

	HASH_FIND(hh_slot, r->by_slot, &slot, sizeof(slot), t);
	return t;
}

static struct tenant *by_link(struct resolver *r, uint32_t ifindex)
{
	struct tenant *t;

	HASH_FIND(hh_link, r->by_link, &ifindex, sizeof(ifindex), t);
	return t;
}

bool resolver_connection(struct resolver *r, uint32_t ifindex, uint32_t max)
{
	struct tenant *t = by_link(r, ifindex);

	if (!t || t->connections >= max)
		return false;
	t->connections++;
	return true;
}

void resolver_connection_done(struct resolver *r, uint32_t ifindex)
{
	struct tenant *t = by_link(r, ifindex);

	if (t && t->connections)
		t->connections--;
}

/* --- queries --- */

void resolver_count(struct resolver *r, const struct tenant *t, enum weir_reason reason)
{
	if (r->counters)
		r->counters[t->slot].denied[reason - WEIR_R_EDGE_FIRST]++;
}

static bool type_is_forwarded(uint16_t type)
{
	static const uint16_t types[] = { DNS_A, DNS_NS, DNS_CNAME, DNS_SOA, DNS_PTR, DNS_MX,
		DNS_TXT, DNS_RP, DNS_AFSDB, DNS_AAAA, DNS_LOC, DNS_SRV, DNS_NAPTR, DNS_DNAME,
		DNS_DS, DNS_SSHFP, DNS_NSEC, DNS_DNSKEY, DNS_NSEC3PARAM, DNS_TLSA, DNS_SMIMEA,
		DNS_CDS, DNS_CDNSKEY, DNS_OPENPGPKEY, DNS_SVCB, DNS_HTTPS, DNS_SPF, DNS_URI,
		DNS_CAA };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i] == type)
			return true;
	return false;
}

/* Over budget: a clear refusal while that is cheap, then silence, for which nothing is read. */
static void over_budget(struct resolver *r, struct tenant *t, const struct dns_client *from,
	struct str msg, uint64_t now)
{
	struct dns_query q;

	if (bucket_take(&t->refusals, r->qps, r->qps, now)) {
		dns_query_read(msg, &q);
		if (q.header_ok) {
			r->stats.refused_rate++;
			reply_empty(r, from, &q, DNS_REFUSED, DNS_EDE_PROHIBITED,
				STR("query rate limit (dns.qps)"));
			reply_event(r, t, WEIR_R_DNS_LIMIT, WEIR_RULE_NONE,
				q.question_ok ? q.type : 0, (struct ip){ 0 }, NULL, now);
			return;
		}
	}
	r->stats.dropped_rate++;
	resolver_count(r, t, WEIR_R_DNS_LIMIT);
}

static void invalid(struct resolver *r, struct tenant *t, const struct dns_client *from,
	const struct dns_query *q, uint8_t rcode, int ede, struct str why, uint64_t now)
{
	r->stats.refused_invalid++;
	reply_empty(r, from, q, rcode, ede, why);
	reply_event(r, t, WEIR_R_DNS_INVALID, WEIR_RULE_NONE, q->question_ok ? q->type : 0,
		(struct ip){ 0 }, NULL, now);
}

void resolver_query(struct resolver *r, const struct dns_client *from, struct str msg, uint64_t now)
{
	struct tenant *t = by_link(r, from->ifindex);
	struct question question;
	struct ruling ruling;
	struct answer *cached = NULL;
	struct lately_key key;
	struct dns_query q;
	struct name name;
	int shape;

	r->stats.queries++;
	if (!t) {
		r->stats.dropped_unknown++;
		return;
	}
	if (r->counters)
		r->counters[t->slot].queries++;
	if (!bucket_take(&t->queries, r->qps, 2 * r->qps, now)) {
		over_budget(r, t, from, msg, now);
		return;
	}
	shape = dns_query_read(msg, &q);
	if (!q.header_ok) { /* not even a question: nobody to answer */
		r->stats.refused_invalid++;
		reply_event(r, t, WEIR_R_DNS_INVALID, WEIR_RULE_NONE, 0, (struct ip){0}, NULL, now);
		return;
	}
	if (shape < 0) {
		invalid(r, t, from, &q, q.rcode, DNS_EDE_OTHER, STR("malformed query"), now);
		return;
	}
	if (t->nets && q.qclass == DNS_IN && query_name(&q, &name) == 0 &&
		overlay_reply(r, t, from, &q, &name))
		return;
	if (q.qclass == DNS_IN) {
		question_from(&q, (struct ip){ 0 }, 0, &question);
		key = (struct lately_key){ .life = t->life, .changes = t->changes,
			.dst = from->dst, .tcp = from->tcp };
		cached = cache_get(r->cache, &question, now, &key.serial);
	}
	if (cached && lately_found(r->lately, &key, now)) {
		r->stats.cached++;
		reply_kept(r, from, &q, cached, KEEP_ALL, now);
		return;
	}
	if (q.qclass != DNS_IN || query_name(&q, &name) < 0) {
		invalid(r, t, from, &q, DNS_REFUSED, DNS_EDE_INVALID,
			STR("only canonical names of class IN are answered"), now);
		return;
	}
	/* Who is in no network has been through the cache first: such names are never in it. */
	if (!t->nets && overlay_reply(r, t, from, &q, &name))
		return;
	ruling = rule_on(r, t, &name, from);
	if (ruling.route == ROUTE_REFUSE) {
		reply_refused(r, t, from, &q, &name, &ruling, now);
		return;
	}
	if (!type_is_forwarded(q.type)) {
		r->stats.refused_type++;
		reply_empty(r, from, &q, DNS_REFUSED, DNS_EDE_NOT_SUPPORTED,
			STR("this type is not forwarded"));
		reply_event(r, t, WEIR_R_DNS_INVALID, WEIR_RULE_NONE, q.type, (struct ip){0}, &name,
			now);
		return;
	}
	if (q.type == DNS_AAAA && !t->has_ipv6) {
		reply_empty(r, from, &q, DNS_NOERROR, DNS_EDE_NONE, STR_NONE);
		return;
	}
	if (ruling.route == ROUTE_OURS && cached) {
		r->stats.cached++;
		if (!reply_ruled(r, t, from, &q, &name, &ruling, cached, (struct ip){ 0 }, now))
			return;
		key.changes = t->changes; /* making room for these addresses let others go */
		lately_add(r->lately, &key, now);
		return;
	}
	if (ruling.route == ROUTE_THEIRS)
		question_from(&q, from->dst, t->slot, &question);
	pending_ask(r, t, from, &q, &question, &ruling, now);
}

/* --- from the api role --- */

static int owner_add(struct resolver *r, uint32_t id, struct tenant *t)
{
	struct owner *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->id = id;
	o->tenant = t;
	HASH_ADD(hh, r->owners, id, sizeof(o->id), o);
	if (!table_has(o)) {
		free(o);
		return -ENOMEM;
	}
	return 0;
}

static int tenant_link(struct resolver *r, struct tenant *t, const struct ipc_edge_set *set)
{
	struct tenant *squatter = by_link(r, set->ifindex);

	if (t->ifindex == set->ifindex)
		return 0;
	if (squatter) { /* its link is gone, since the index now names another */
		HASH_DELETE(hh_link, r->by_link, squatter);
		squatter->ifindex = 0;
	}
	if (t->ifindex)
		HASH_DELETE(hh_link, r->by_link, t);
	t->ifindex = set->ifindex;
	t->connections = 0;
	if (!t->ifindex)
		return 0;
	HASH_ADD(hh_link, r->by_link, ifindex, sizeof(t->ifindex), t);
	if (t->hh_link.tbl)
		return 0;
	t->ifindex = 0; /* no memory: in no table by its link */
	return -ENOMEM;
}

static bool nets_ok(const struct ipc_edge_set *set)
{
	if (set->n_nets > IPC_NETS_MAX)
		return false;
	for (uint32_t i = 0; i < set->n_nets; i++)
		if (!ipc_text_ok(set->nets[i].name, sizeof(set->nets[i].name)))
			return false;
	return true;
}

int resolver_set(struct resolver *r, const struct ipc_edge_set *set, struct str blob,
	struct err *err)
{
	struct tenant *t = by_slot(r, set->slot);
	auto_policy struct policy *policy = NULL;
	struct owner *other;
	bool fresh;
	int e;

	if (!set->slot || set->slot > WEIR_SLOTS_MAX || !set->policy ||
		!ipc_text_ok(set->id, sizeof(set->id)) ||
		!ipc_text_ok(set->hostname, sizeof(set->hostname)) || !nets_ok(set))
		return err_set(err, -EBADMSG, ERR_INTERNAL, "malformed SET");
	e = policy_decode(blob, &policy, err);
	if (e < 0)
		return e;
	HASH_FIND(hh, r->owners, &set->policy, sizeof(set->policy), other);
	if (other && (!t || other->tenant != t))
		return err_set(err, -EEXIST, ERR_INTERNAL, "policy id %u belongs to slot %u",
			set->policy, other->tenant->slot);
	if (t && strcmp(t->id, set->id) != 0) { /* the slot changed hands */
		resolver_del(r, set->slot);
		t = NULL;
	}
	fresh = !t;
	if (fresh) {
		t = tenant_new(set->slot);
		if (!t)
			return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
		t->life = ++r->lives;
		str_copy(t->id, sizeof(t->id), str_c(set->id));
		HASH_ADD(hh_slot, r->by_slot, slot, sizeof(t->slot), t);
		if (!t->hh_slot.tbl) {
			tenant_free(NULL, t);
			return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
		}
		tenant_recall(&r->env, t);
	}
	t->ip4 = set->ip4;
	t->ip6 = set->ip6;
	t->has_ipv6 = set->has_ipv6;
	t->synced = true;
	t->changes++;
	str_copy(t->hostname, sizeof(t->hostname), str_c(set->hostname));
	e = tenant_link(r, t, set);
	if (e == 0)
		e = overlay_join(r, t, set);
	if (e < 0) {
		if (fresh)
			resolver_del(r, set->slot);
		return err_sys(err, e, "the link and networks of slot %u", set->slot);
	}
	if (tenant_version(t, set->policy))
		return 0; /* told again: the api role restarted, or its networks changed */
	e = owner_add(r, set->policy, t);
	if (e == 0)
		e = tenant_version_add(&r->env, t, set->policy, take_ptr(policy));
	if (e < 0) {
		owner_del(r, set->policy);
		if (fresh)
			resolver_del(r, set->slot);
		return err_set(err, e, e == -ENOSPC ? ERR_CAPACITY : ERR_INTERNAL,
			"pin what slot %u has learned under policy %u: %s", set->slot, set->policy,
			strerror(-e));
	}
	return 0;
}

void resolver_retire(struct resolver *r, uint32_t slot, uint32_t policy)
{
	struct tenant *t = by_slot(r, slot);

	if (!t || !tenant_version(t, policy))
		return;
	owner_del(r, policy);
	tenant_version_del(&r->env, t, policy);
}

void resolver_del(struct resolver *r, uint32_t slot)
{
	struct tenant *t = by_slot(r, slot);

	if (!t)
		return;
	tenant_unlink(r, t);
	tenant_free(&r->env, t);
}

void resolver_unsync(struct resolver *r)
{
	struct tenant *t, *tmp;

	HASH_ITER(hh_slot, r->by_slot, t, tmp)
		t->synced = false;
}

void resolver_synced(struct resolver *r)
{
	struct tenant *t, *tmp;

	HASH_ITER(hh_slot, r->by_slot, t, tmp)
		if (!t->synced)
			resolver_del(r, t->slot);
}

int resolver_learned(struct resolver *r, uint32_t slot, uint64_t now, struct buf *out)
{
	struct tenant *t = by_slot(r, slot);
	struct learned *l;

	if (!t)
		return -ENOENT;
	DL_FOREACH(t->recent, l) {
		struct ip_text addr = ip_text(l->ip);

		for (uint16_t i = 0; i < l->n_names; i++) {
			const struct known *k = &l->names[i];
			uint64_t left = k->expires > now ? (k->expires - now) / NS_PER_SEC : 0;
			size_t before = out->n;

			buf_fmt(out, "%s " STR_FMT " %" PRIu64 "\n", addr.s,
				STR_ARG(name_str(&k->name->name)), left);
			if (buf_failed(out)) { /* the most recent that fit */
				out->failed = 0;
				out->n = before;
				return 0;
			}
		}
	}
	return 0;
}

/* --- time --- */

void resolver_sweep(struct resolver *r, uint64_t now)
{
	size_t seen = 0, tenants = HASH_CNT(hh_slot, r->by_slot);

	for (size_t i = 0; i < tenants && seen < RESOLVER_SWEEP_ADDRS; i++) {
		struct tenant *t = r->sweep_at ? r->sweep_at : r->by_slot;

		r->sweep_at = t->hh_slot.next;
		seen += 1 + tenant_sweep(&r->env, t, now);
	}
}

void resolver_floor_changed(struct resolver *r)
{
	lately_forget(r->lately);
}

enum pin_owner resolver_pin_owner(struct resolver *r, uint32_t policy, struct ip ip)
{
	struct owner *o;

	HASH_FIND(hh, r->owners, &policy, sizeof(policy), o);
	if (!o)
		return PIN_UNKNOWN_POLICY;
	return tenant_knows(o->tenant, ip) ? PIN_KNOWN : PIN_UNKNOWN_ADDR;
}

const struct resolver_stats *resolver_stats(const struct resolver *r)
{
	return &r->stats;
}

int resolver_dump(struct resolver *r, struct buf *out)
{
	const struct resolver_stats *s = &r->stats;
	const struct {
		const char *name;
		uint64_t value;
	} values[] = {
		{"sandboxes", HASH_CNT(hh_slot, r->by_slot)},
		{"pending", r->n_pending},
		{"cache", cache_count(r->cache)},
		{"queries", s->queries},
		{"cached", s->cached},
		{"coalesced", s->coalesced},
		{"asked", s->asked},
		{"retried", s->retried},
		{"over_tcp", s->over_tcp},
		{"answered", s->answered},
		{"refused_name", s->refused_name},
		{"refused_type", s->refused_type},
		{"refused_invalid", s->refused_invalid},
		{"refused_rate", s->refused_rate},
		{"dropped_rate", s->dropped_rate},
		{"dropped_unknown", s->dropped_unknown},
		{"members", s->members},
		{"rebinds", s->rebinds},
		{"servfail", s->servfail},
		{"overload", s->overload},
		{"mismatched", s->mismatched},
		{"pins_set", r->env.pins_set},
		{"pins_failed", r->env.pins_failed},
		{"pins_evicted", r->env.pins_evicted},
		{"pins_aged", r->env.pins_aged},
		{"recalled", r->env.recalled},
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		buf_fmt(out, "%s%s=%" PRIu64, i ? " " : "", values[i].name, values[i].value);
	return buf_failed(out);
}

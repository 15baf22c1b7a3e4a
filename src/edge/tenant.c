/* Sandboxes as the edge knows them: see the header. Port tables, pins, versions, then learning. */
#include <netinet/in.h>
#include "base/fault.h"
#include "base/ulid.h"
#include "edge/tenant.h"
#include "policy/floor.h"

#define TABLE_TOP 0x80000000u /* tables of the edge role */

/* --- port tables --- */

/* Fields by name into zeroed memory: padding would otherwise be part of the key. */
static void ports_copy(struct policy_port_entry *dst, const struct policy_port_entry *src, size_t n,
	uint32_t table)
{
	memset(dst, 0, n * sizeof(*dst));
	for (size_t i = 0; i < n; i++) {
		dst[i].table = table;
		dst[i].proto = src[i].proto;
		dst[i].port = src[i].port;
		dst[i].port_bits = src[i].port_bits;
		dst[i].value.verdict = src[i].value.verdict;
		dst[i].value.named = src[i].value.named;
		dst[i].value.rule = src[i].value.rule;
	}
}

/* env NULL: the kernel keeps what it has. */
static void table_put(const struct tenant_env *env, struct version *v, struct port_table *table)
{
	if (!table || --table->refs)
		return;
	HASH_DEL(v->tables, table);
	v->n_ports -= table->n;
	for (size_t i = 0; i < table->n; i++)
		table->ports[i].table = table->id;
	if (env)
		env->pinner.ops->ports_del(env->pinner.arg, v->id, table->ports, table->n);
	free(table);
}

static int table_get(const struct tenant_env *env, struct version *v,
	const struct policy_pin_image *img, struct port_table **ret)
{
	size_t bytes = img->n_ports * sizeof(*img->ports);
	auto_free struct port_table *table = calloc(1, sizeof(*table) + bytes);
	struct port_table *same;
	int r;

	if (!table)
		return -ENOMEM;
	ports_copy(table->ports, img->ports, img->n_ports, 0);
	HASH_FIND(hh, v->tables, table->ports, bytes, same);
	if (same) {
		same->refs++;
		*ret = same;
		return 0;
	}
	if (v->n_ports + img->n_ports > TENANT_PORTS_MAX)
		return -ENOSPC;
	table->n = img->n_ports;
	table->id = TABLE_TOP | v->next_table++;
	table->refs = 1;
	HASH_ADD_KEYPTR(hh, v->tables, table->ports, bytes, table);
	if (!table_has(table))
		return -ENOMEM;
	/* The key is the content with table numbers zeroed, so the map gets a numbered copy. */
	auto_free struct policy_port_entry *numbered = malloc(MAX(bytes, (size_t)1));

	r = numbered ? 0 : -ENOMEM;
	if (r == 0) {
		ports_copy(numbered, table->ports, table->n, table->id);
		r = env->pinner.ops->ports_add(env->pinner.arg, v->id, numbered, table->n);
		if (r < 0)
			env->pinner.ops->ports_del(env->pinner.arg, v->id, numbered, table->n);
	}
	if (r < 0) {
		HASH_DEL(v->tables, table);
		return r;
	}
	v->n_ports += table->n;
	*ret = take_ptr(table);
	return 0;
}

/* --- pins --- */

bool tenant_may_tell(const struct tenant_env *env, const struct policy *p, struct ip ip,
	bool is_private)
{
	return env->floor(env->floor_arg, ip) == WEIR_FLOOR_NONE &&
		(!is_private || policy_allows_private(p, ip));
}

static bool counts_under(const struct version *v, const struct known *k)
{
	const struct policy *p = v->policy;

	if (gate_ask(v->gate, &k->name->name, NULL) != POLICY_NAME_ALLOWED)
		return false;
	return !k->from.family || policy_names_resolver(p, k->from, IPPROTO_UDP) ||
		policy_names_resolver(p, k->from, IPPROTO_TCP);
}

static void pin_drop(const struct tenant_env *env, struct version *v, struct learned *l,
	struct pin *pin)
{
	if (!pin->set)
		return;
	if (env)
		env->pinner.ops->unpin(env->pinner.arg, v->id, l->ip);
	table_put(env, v, pin->table);
	*pin = (struct pin){ 0 };
}

/* Bring one pin in line with what is known of its address. On failure the pin is as before. */
static int pin_refresh(
	struct tenant_env *env, struct version *v, struct learned *l, struct pin *pin)
{
	struct name names[LEARNED_NAMES_MAX];
	struct policy_pin_image img;
	struct pin fresh = { .set = true };
	size_t n = 0;
	int r;

	for (uint16_t i = 0; i < l->n_names; i++)
		if (counts_under(v, &l->names[i]))
			names[n++] = l->names[i].name->name;
	if (n == 0 || !tenant_may_tell(env, v->policy, l->ip, policy_is_private(l->ip))) {
		pin_drop(env, v, l, pin);
		return 0;
	}
	r = policy_pin(v->policy, &env->knobs, l->ip, names, n, 0, &img);
	if (r < 0)
		return r;
	fresh.decision = img.decision;
	if (img.decision.ports == WEIR_PORTS_TABLE) {
		r = table_get(env, v, &img, &fresh.table);
		if (r == 0)
			fresh.decision.table = fresh.table->id;
	}
	policy_pin_image_done(&img);
	if (r == 0 && pin->set && memcmp(&pin->decision, &fresh.decision,
			sizeof(fresh.decision)) == 0) {
		table_put(env, v, fresh.table); /* nothing changed */
		return 0;
	}
	FAULT("edge.pin.ports");
	if (r == 0) {
		r = env->pinner.ops->pin(env->pinner.arg, v->id, l->ip, &fresh.decision);
		if (r < 0)
			table_put(env, v, fresh.table);
	}
	if (r < 0) {
		env->pins_failed++;
		return r;
	}
	env->pins_set++;
	if (pin->set)
		table_put(env, v, pin->table); /* after the pin points elsewhere */
	*pin = fresh;
	return 0;
}

static int pins_refresh(struct tenant_env *env, struct tenant *t, struct learned *l)
{
	int first = 0;

	for (size_t i = 0; i < TENANT_VERSIONS_MAX; i++) {
		int r = t->versions[i].id ? pin_refresh(env, &t->versions[i], l, &l->pins[i]) : 0;

		if (r < 0 && first == 0)
			first = r;
	}
	l->dirty = first < 0;
	t->changes += l->dirty;
	return first;
}

static bool in_use(const struct tenant_env *env, const struct tenant *t, const struct learned *l,
	uint64_t now)
{
	for (size_t i = 0; i < TENANT_VERSIONS_MAX; i++) {
		uint64_t used;

		if (!l->pins[i].set)
			continue;
		used = env->pinner.ops->last_used(env->pinner.arg, t->versions[i].id, l->ip);
		if (used && used + PIN_IDLE > now)
			return true;
	}
	return false;
}

/* --- names and addresses --- */

static struct known_name *name_get(struct tenant *t, const struct name *name)
{
	struct known_name *k;
	size_t bytes = offsetof(struct known_name, name.s) + name->n + 1u;

	HASH_FIND(hh, t->names, name->s, name->n, k);
	if (k) {
		k->refs++;
		return k;
	}
	/* Whole, since policy_pin() is given copies of the struct. */
	k = calloc(1, MAX(bytes, sizeof(*k)));
	if (!k)
		return NULL;
	k->name.n = name->n;
	memcpy(k->name.s, name->s, name->n);
	k->refs = 1;
	HASH_ADD_KEYPTR(hh, t->names, k->name.s, k->name.n, k);
	if (!table_has(k)) {
		free(k);
		return NULL;
	}
	return k;
}

static void name_put(struct tenant *t, struct known_name *k)
{
	if (--k->refs)
		return;
	HASH_DEL(t->names, k);
	free(k);
}

/* --- for the process after this one --- */

static void keep(struct tenant_env *env, struct tenant *t, const struct learned *l,
	struct known *k, bool changed)
{
	struct kept kept = { .ip = l->ip, .from = k->from, .expires = k->expires };

	if (!env->keeper.ops || (k->kept ? !changed && k->expires <= k->kept + KEEP_SLACK :
					   t->n_kept >= TENANT_KEPT_MAX))
		return;
	kept.name.n = k->name->name.n;
	memcpy(kept.name.s, k->name->name.s, kept.name.n);
	if (env->keeper.ops->keep(env->keeper.arg, t->id, &kept) < 0)
		return; /* the answer is as good without */
	t->n_kept += !k->kept;
	k->kept = k->expires;
}

/* env NULL: the note stays. */
static void known_end(const struct tenant_env *env, struct tenant *t, const struct learned *l,
	struct known *k)
{
	if (env && k->kept) {
		env->keeper.ops->forget(env->keeper.arg, t->id, l->ip, &k->name->name);
		t->n_kept--;
	}
	name_put(t, k->name);
	t->changes++;
}

static struct learned *learned_find(struct tenant *t, struct ip ip)
{
	struct learned *l;

	HASH_FIND(hh, t->addrs, &ip, sizeof(ip), l);
	return l;
}

static void learned_drop(const struct tenant_env *env, struct tenant *t, struct learned *l)
{
	for (size_t i = 0; i < TENANT_VERSIONS_MAX; i++)
		if (t->versions[i].id)
			pin_drop(env, &t->versions[i], l, &l->pins[i]);
	for (uint16_t i = 0; i < l->n_names; i++)
		known_end(env, t, l, &l->names[i]);
	HASH_DEL(t->addrs, l);
	DL_DELETE(t->recent, l);
	t->n_addrs--;
	free(l->names);
	free(l);
}

static void learned_evict(struct tenant_env *env, struct tenant *t, uint64_t now)
{
	struct learned *l = t->recent->prev; /* the tail */

	for (int i = 0; i < PIN_EVICT_TRIES && l != t->recent && in_use(env, t, l, now); i++)
		l = l->prev;
	if (l == t->recent || in_use(env, t, l, now))
		l = t->recent->prev;
	env->pins_evicted++;
	learned_drop(env, t, l);
}

static struct learned *learned_add(struct tenant_env *env, struct tenant *t, struct ip ip,
	uint64_t now)
{
	struct learned *l;

	while (t->n_addrs >= env->pins_max)
		learned_evict(env, t, now);
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->ip = ip;
	HASH_ADD(hh, t->addrs, ip, sizeof(l->ip), l);
	if (!table_has(l)) {
		free(l);
		return NULL;
	}
	DL_PREPEND(t->recent, l);
	t->n_addrs++;
	return l;
}

/* The entry of this name at the address; a full list gives up its earliest to run out. */
static struct known *known_add(const struct tenant_env *env, struct tenant *t, struct learned *l,
	const struct name *name)
{
	struct known_name *k = name_get(t, name);
	struct known *slot;

	if (!k)
		return NULL;
	if (l->n_names == LEARNED_NAMES_MAX) {
		slot = &l->names[0];
		for (uint16_t i = 1; i < l->n_names; i++)
			if (l->names[i].expires < slot->expires)
				slot = &l->names[i];
		known_end(env, t, l, slot);
	} else {
		if (l->n_names == l->cap_names) {
			uint16_t cap = (uint16_t)MAX(2, l->cap_names * 2);
			struct known *more = reallocarray(l->names, cap, sizeof(*more));

			if (!more) {
				name_put(t, k);
				return NULL;
			}
			l->names = more;
			l->cap_names = cap;
		}
		slot = &l->names[l->n_names++];
	}
	*slot = (struct known){ .name = k };
	return slot;
}

int tenant_learn(struct tenant_env *env, struct tenant *t, const struct name *name, struct ip ip,
	struct ip from, uint32_t ttl, uint64_t now)
{
	uint64_t expires = now + ttl * NS_PER_SEC + PIN_GRACE;
	struct learned *l = learned_find(t, ip);
	struct known *k = NULL;
	bool fresh = false;

	if (!l)
		l = learned_add(env, t, ip, now);
	if (!l)
		return -ENOMEM;
	if (l != t->recent) {
		DL_DELETE(t->recent, l);
		DL_PREPEND(t->recent, l);
	}
	for (uint16_t i = 0; i < l->n_names && !k; i++)
		if (name_eq(&l->names[i].name->name, name))
			k = &l->names[i];
	if (!k) {
		k = known_add(env, t, l, name);
		if (!k)
			return -ENOMEM;
		k->from = from;
		fresh = true;
	}
	/* Our own resolver's word stands above anybody else's. */
	if (!fresh && !ip_eq(k->from, from) && k->from.family) {
		k->from = from;
		fresh = true;
	}
	k->expires = MAX(k->expires, expires);
	keep(env, t, l, k, fresh);
	FAULT("edge.learn");
	return fresh || l->dirty ? pins_refresh(env, t, l) : 0;
}

struct recall {
	struct tenant_env *env;
	struct tenant *t;
};

static void recall_one(void *arg, const struct kept *kept)
{
	struct recall *c = arg;
	struct learned *l = learned_find(c->t, kept->ip);
	struct known *k;

	/* Who is evicted for it has no pins yet, so the time does not matter. */
	if (!l)
		l = learned_add(c->env, c->t, kept->ip, 0);
	k = l ? known_add(c->env, c->t, l, &kept->name) : NULL;
	if (!k)
		return;
	k->from = kept->from;
	k->kept = kept->expires;
	k->expires = kept->expires + KEEP_SLACK;
	c->t->n_kept++;
	c->env->recalled++;
}

void tenant_recall(struct tenant_env *env, struct tenant *t)
{
	struct recall c = { env, t };

	if (env->keeper.ops)
		env->keeper.ops->recall(env->keeper.arg, t->id, recall_one, &c);
}

bool tenant_knows(struct tenant *t, struct ip ip)
{
	return learned_find(t, ip) != NULL;
}

size_t tenant_sweep(struct tenant_env *env, struct tenant *t, uint64_t now)
{
	struct learned *l, *tmp;
	size_t seen = 0;

	DL_FOREACH_SAFE(t->recent, l, tmp) {
		uint16_t left = 0;

		seen++;
		for (uint16_t i = 0; i < l->n_names; i++)
			left += l->names[i].expires > now;
		if (left == l->n_names && left > 0)
			continue;
		if (in_use(env, t, l, now))
			continue;
		if (left == 0) {
			env->pins_aged++;
			learned_drop(env, t, l);
			continue;
		}
		for (uint16_t i = 0; i < l->n_names;) {
			if (l->names[i].expires > now) {
				i++;
				continue;
			}
			known_end(env, t, l, &l->names[i]);
			l->names[i] = l->names[--l->n_names];
		}
		/* A pin that cannot be narrowed now is tried again with the next change. */
		pins_refresh(env, t, l);
	}
	return seen;
}

/* --- versions --- */

struct version *tenant_version(struct tenant *t, uint32_t id)
{
	for (size_t i = 0; i < TENANT_VERSIONS_MAX; i++)
		if (id && t->versions[i].id == id)
			return &t->versions[i];
	return NULL;
}

struct version *tenant_current(struct tenant *t)
{
	struct version *newest = NULL;

	for (size_t i = 0; i < TENANT_VERSIONS_MAX; i++)
		if (t->versions[i].id && (!newest || t->versions[i].order > newest->order))
			newest = &t->versions[i];
	return newest;
}

static void version_drop(const struct tenant_env *env, struct tenant *t, size_t i)
{
	struct version *v = &t->versions[i];
	struct learned *l;

	DL_FOREACH(t->recent, l)
		pin_drop(env, v, l, &l->pins[i]);
	policy_free(v->policy);
	gate_free(v->gate);
	*v = (struct version){ 0 };
	t->changes++;
}

int tenant_version_add(struct tenant_env *env, struct tenant *t, uint32_t id, struct policy *policy)
{
	auto_policy struct policy *owned = policy;
	struct gate *gate;
	struct learned *l;
	size_t i = 0;

	while (i < TENANT_VERSIONS_MAX && t->versions[i].id)
		i++;
	if (i == TENANT_VERSIONS_MAX)
		return -ENOSPC;
	gate = gate_new(owned);
	if (!gate)
		return -ENOMEM;
	t->changes++;
	/* A table number that an edge before us may have used would join two tables: start
	 * anywhere. */
	t->versions[i] = (struct version){ .id = id, .order = ++t->order,
		.policy = take_ptr(owned), .gate = gate };
	random_bytes(&t->versions[i].next_table, sizeof(t->versions[i].next_table));
	t->versions[i].next_table &= ~(TABLE_TOP | 0x40000000u);
	DL_FOREACH(t->recent, l) {
		int r = pin_refresh(env, &t->versions[i], l, &l->pins[i]);

		if (r < 0) {
			version_drop(env, t, i);
			return r;
		}
	}
	return 0;
}

void tenant_version_del(struct tenant_env *env, struct tenant *t, uint32_t id)
{
	struct version *v = tenant_version(t, id);

	if (v)
		version_drop(env, t, (size_t)(v - t->versions));
}

struct tenant *tenant_new(uint32_t slot)
{
	struct tenant *t = calloc(1, sizeof(*t));

	if (t)
		t->slot = slot;
	return t;
}

struct tenant *tenant_free(const struct tenant_env *env, struct tenant *t)
{
	if (!t)
		return NULL;
	while (t->recent)
		learned_drop(env, t, t->recent);
	for (size_t i = 0; i < TENANT_VERSIONS_MAX; i++) {
		policy_free(t->versions[i].policy);
		gate_free(t->versions[i].gate);
	}
	free(t);
	return NULL;
}

/* --- budgets --- */

/* Credit as time: `at` is when the bucket would be full; taking moves it by one interval. */
bool bucket_take(struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now)
{
	uint64_t interval = NS_PER_SEC / MAX(rate, 1u), at = MAX(b->at, now);

	if (at + interval > now + burst * interval)
		return false;
	b->at = at + interval;
	return true;
}

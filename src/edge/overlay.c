/* Names of private networks: see the header. */
#include "edge/overlay.h"

#define ZONE	STR("fc.local")
#define REVERSE STR("in-addr.arpa")

/* --- who is called what --- */

struct alias_key {
	uint32_t net;
	char name[IPC_ID_LEN]; /* of a member, or its id; zeros behind */
};
_Static_assert(sizeof(struct alias_key) == 36, "no padding: keys are compared as bytes");

struct alias {
	UT_hash_handle hh;
	struct alias_key key;
	struct tenant *tenant;
};

struct membership {
	uint32_t n;
	struct ipc_edge_net net[IPC_NETS_MAX];
	struct alias alias[2 * IPC_NETS_MAX];
	uint32_t n_aliases;
};

static bool key_make(uint32_t net, struct str name, struct alias_key *ret)
{
	*ret = (struct alias_key){ .net = net };
	return str_copy(ret->name, sizeof(ret->name), name) >= 0;
}

static struct tenant *called(struct resolver *r, uint32_t net, struct str name)
{
	struct alias_key key;
	struct alias *a = NULL;

	if (key_make(net, name, &key))
		HASH_FIND(hh, r->aliases, &key, sizeof(key), a);
	return a ? a->tenant : NULL;
}

void overlay_leave(struct resolver *r, struct tenant *t)
{
	struct membership *m = t->nets;

	if (!m)
		return;
	for (uint32_t i = 0; i < m->n_aliases; i++)
		HASH_DEL(r->aliases, &m->alias[i]);
	free(m);
	t->nets = NULL;
}

static int alias_add(struct resolver *r, struct tenant *t, uint32_t net, const char *name)
{
	struct alias *a = &t->nets->alias[t->nets->n_aliases];

	if (!key_make(net, str_c(name), &a->key))
		return 0; /* longer than names are */
	a->tenant = t;
	HASH_ADD(hh, r->aliases, key, sizeof(a->key), a);
	if (!table_has(a))
		return -ENOMEM;
	t->nets->n_aliases++;
	return 0;
}

int overlay_join(struct resolver *r, struct tenant *t, const struct ipc_edge_set *set)
{
	int e = 0;

	overlay_leave(r, t);
	if (!set->n_nets)
		return 0;
	t->nets = calloc(1, sizeof(*t->nets));
	if (!t->nets)
		return -ENOMEM;
	t->nets->n = set->n_nets;
	memcpy(t->nets->net, set->nets, sizeof(t->nets->net));
	for (uint32_t i = 0; i < set->n_nets && e == 0; i++) {
		e = alias_add(r, t, set->nets[i].number, t->hostname);
		if (e == 0)
			e = alias_add(r, t, set->nets[i].number, t->id);
	}
	if (e < 0)
		overlay_leave(r, t);
	return e;
}

static bool are_fellows(const struct tenant *a, const struct tenant *b)
{
	for (uint32_t i = 0; a->nets && i < a->nets->n; i++)
		for (uint32_t j = 0; b->nets && j < b->nets->n; j++)
			if (a->nets->net[i].number == b->nets->net[j].number)
				return true;
	return false;
}

/* --- what is asked --- */

enum meaning { NOT_OURS, NOBODY, MEMBER, REVERSE_OF };

/* Cut ".zone" off the end of a name, or all of it if it is the zone. */
static bool cut_zone(struct str *name, struct str zone)
{
	size_t rest = name->n - zone.n;

	if (name->n < zone.n || !str_eq(str_skip(*name, rest), zone))
		return false;
	if (rest && name->p[rest - 1] != '.')
		return false;
	*name = str_n(name->p, rest ? rest - 1 : 0);
	return true;
}

/* "otter" or "otter.backend", to this asker. */
static struct tenant *fellow(struct resolver *r, const struct tenant *t, struct str name)
{
	struct str rest = name, member = str_cut(&rest, '.');
	struct tenant *found = NULL;

	for (uint32_t i = 0; t->nets && i < t->nets->n && !found; i++)
		if (!rest.p || str_eq_c(rest, t->nets->net[i].name))
			found = called(r, t->nets->net[i].number, member);
	return found;
}

/* "5.0.42.10": whose overlay address is it? */
static enum meaning reversed(struct resolver *r, const struct tenant *t, struct str digits,
	struct tenant **ret)
{
	uint32_t ip = 0, slot;
	uint64_t part;
	int i;

	for (i = 0; i < 4 && digits.p; i++) {
		struct str one = str_cut(&digits, '.');

		if (!one.n || (one.n > 1 && one.p[0] == '0') || str_u64(one, 255, &part) < 0)
			return NOT_OURS;
		ip |= (uint32_t)part << 8 * i;
	}
	if (i < 4 || digits.p || !prefix_has(r->overlay, ip_v4(ip)))
		return NOT_OURS;
	slot = ip - ip_v4_u32(r->overlay.ip);
	HASH_FIND(hh_slot, r->by_slot, &slot, sizeof(slot), *ret);
	return *ret && are_fellows(t, *ret) ? REVERSE_OF : NOBODY;
}

static enum meaning meaning_of(struct resolver *r, const struct tenant *t, struct str name,
	struct tenant **ret)
{
	bool local;

	*ret = NULL;
	if (cut_zone(&name, REVERSE))
		return reversed(r, t, name, ret);
	local = cut_zone(&name, ZONE);
	if (name.n)
		*ret = fellow(r, t, name);
	return *ret ? MEMBER : local ? NOBODY : NOT_OURS;
}

bool overlay_reply(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct name *name)
{
	auto_buf struct buf rdata = BUF_MAX(DNS_NAME_MAX);
	struct tenant *member;
	struct dns_name fellow_name;
	char text[DNS_TEXT_MAX];
	struct ip ip;

	if (!r->overlay.ip.family)
		return false;
	switch (meaning_of(r, t, name_str(name), &member)) {
	case NOT_OURS:
		return false;
	case NOBODY:
		reply_empty(r, c, q, DNS_NXDOMAIN, DNS_EDE_NONE, STR_NONE);
		return true;
	case MEMBER:
		ip = ip_plus(r->overlay.ip, member->slot);
		if (q->type == DNS_A)
			buf_add(&rdata, ip.a, 4);
		break;
	case REVERSE_OF:
		snprintf(text, sizeof(text), "%s." STR_FMT, member->hostname, STR_ARG(ZONE));
		if (q->type == DNS_PTR && dns_name_from(str_c(text), &fellow_name) == 0)
			dns_put_name(&rdata, &fellow_name);
		break;
	}
	if (!rdata.n)
		reply_empty(r, c, q, DNS_NOERROR, DNS_EDE_NONE, STR_NONE);
	else if (answer_write_one(q, OVERLAY_TTL, buf_str(&rdata), &r->out) == 0)
		r->ops->reply(r->arg, c, buf_str(&r->out));
	r->stats.members++;
	return true;
}

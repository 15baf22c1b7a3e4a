/* Refusals: see the header. */
#include <netinet/in.h>
#include "api/builds.h"
#include "api/calls.h"
#include "base/clock.h"

#define MERGE_BACK 16u /* how many of the newest entries are looked at for an equal one */

void denials_done(struct denials *d)
{
	struct follower *f, *tmp;

	for (f = LIST_FIRST(&d->followers); f; f = tmp) {
		tmp = LIST_NEXT(f, next);
		LIST_REMOVE(f, next);
		f->on_gone(f);
	}
	for (uint32_t i = 0; d->ring && i < DENIALS_MAX; i++)
		free(d->ring[i].name);
	free(d->ring);
	d->ring = NULL;
	d->n = d->head = 0;
}

const struct denial *denials_at(const struct denials *d, uint32_t i)
{
	return i < d->n ? &d->ring[(d->head + DENIALS_MAX - 1 - i) % DENIALS_MAX] : NULL;
}

static bool same(const struct denial *a, const struct denial *b)
{
	return a->policy == b->policy && a->reason == b->reason && a->detail == b->detail &&
		a->proto == b->proto && a->inbound == b->inbound && a->rule == b->rule &&
		a->port == b->port && a->net == b->net && ip_eq(a->addr, b->addr) &&
		str_eq(str_c(a->name), str_c(b->name));
}

/* *d's name is taken. */
static void add(struct box *b, struct denial *d)
{
	struct denials *all = &b->denials;
	struct denial *to = NULL;
	struct follower *f, *tmp;

	if (!all->ring)
		all->ring = calloc(DENIALS_MAX, sizeof(*all->ring));
	if (!all->ring) {
		all->suppressed++;
		free(d->name);
		return;
	}
	d->seq = ++all->seq;
	d->count = 1;
	for (uint32_t i = 0; i < MIN(all->n, MERGE_BACK) && !to; i++) {
		struct denial *old = &all->ring[(all->head + DENIALS_MAX - 1 - i) % DENIALS_MAX];

		if (same(old, d))
			to = old;
	}
	if (to) {
		to->count++;
		to->at_ms = d->at_ms;
		to->seq = d->seq;
		free(d->name);
		d->name = to->name;
	} else {
		to = &all->ring[all->head];
		free(to->name);
		*to = *d;
		all->head = (all->head + 1) % DENIALS_MAX;
		all->n = MIN(all->n + 1, DENIALS_MAX);
	}
	for (f = LIST_FIRST(&all->followers); f; f = tmp) {
		tmp = LIST_NEXT(f, next);
		f->on_denial(f, d);
	}
}

void denials_dns(struct api *a, const struct ipc_event_dns *e)
{
	struct box *b = e->slot <= WEIR_SLOTS_MAX ? a->by_slot[e->slot] : NULL;
	struct denial d = { .at_ms = api_now_ms(), .policy = e->policy, .rule = e->rule,
		.addr = e->addr, .port = 53 };

	if (!ipc_text_ok(e->name, sizeof(e->name)) || e->reason >= WEIR_R_MAX)
		return;
	if (!b) {
		builds_denied(a, e->slot, e->name, e->addr, 53);
		return;
	}
	d.reason = (uint8_t)e->reason;
	d.name = str_dup(str_c(e->name));
	b->denials.suppressed += e->suppressed;
	add(b, &d);
}

void denials_kernel(struct api *a, const struct weir_event *e, uint64_t at_ms)
{
	struct box *b = e->slot <= WEIR_SLOTS_MAX ? a->by_slot[e->slot] : NULL;
	struct denial d = { .at_ms = at_ms, .policy = e->policy, .rule = e->rule,
		.reason = e->reason, .detail = e->detail, .proto = e->proto,
		.inbound = e->inbound, .port = e->remote_port, .net = e->net };

	if (e->reason >= WEIR_R_MAX)
		return;
	if (e->family == 4 || e->family == 6)
		d.addr = ip_raw(e->family, e->remote.a);
	if (!b) {
		builds_denied(a, e->slot, NULL, d.addr, e->remote_port);
		return;
	}
	add(b, &d);
}

size_t learned_names(struct str lines, struct ip addr, struct str *names, size_t max)
{
	size_t n = 0;

	while (lines.n && n < max) {
		struct str line = str_cut(&lines, '\n'), text = str_cut(&line, ' ');
		struct ip ip;

		if (ip_from(text, &ip) == 0 && ip_eq(ip, addr) && line.n)
			names[n++] = str_cut(&line, ' ');
	}
	return n;
}

static const char *proto_name(uint8_t proto, char other[static 8])
{
	switch (proto) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
		return "icmp";
	case IPPROTO_ICMPV6:
		return "icmpv6";
	default:
		snprintf(other, 8, "%u", proto);
		return other;
	}
}

void denial_write(const struct box *b, const struct denial *d, struct str learned, struct jw *w)
{
	const struct network *net = d->net ? nets_by_number(b->api, d->net) : NULL;
	const struct policy *p = d->net			  ? NULL :
		d->policy == b->row.policy	  ? b->policy :
		d->policy && d->policy == b->policy_before_id ? b->policy_before :
								  NULL;
	auto_buf struct buf rule = BUF_MAX(1u << 20), text = BUF_MAX(1u << 20);
	bool dns = d->reason == WEIR_R_NAME || d->reason == WEIR_R_REBIND ||
		d->reason == WEIR_R_DNS_LIMIT || d->reason == WEIR_R_DNS_INVALID;
	struct str name = str_c(d->name);
	char other[8];

	if (!name.n && d->addr.family)
		learned_names(learned, d->addr, &name, 1);
	jw_c(w, "at", rfc3339_from(d->at_ms * NS_PER_MS).s);
	jw_c(w, "reason", policy_reason_name(d->reason));
	if (net) {
		jw_c(w, "network", net->row.name);
		if (net->version == d->policy)
			net_rule_text(net->rules, d->rule, &rule);
		if (rule.n)
			jw_str(w, "rule", buf_str(&rule));
	}
	if (d->rule != WEIR_RULE_NONE) {
		if (p && policy_rule_text(p, d->rule, &rule) >= 0)
			jw_str(w, "rule", buf_str(&rule));
		jw_u64(w, "rule_index", d->rule);
	}
	jw_c(w, "protocol", dns ? "dns" : proto_name(d->proto, other));
	if (d->addr.family)
		jw_c(w, "address", ip_text(d->addr).s);
	if (!dns && (d->proto == IPPROTO_TCP || d->proto == IPPROTO_UDP))
		jw_u64(w, "port", d->port);
	if (name.n)
		jw_str(w, "name", name);
	jw_c(w, "direction", d->inbound ? "in" : "out");
	if (name.n)
		buf_fmt(&text, STR_FMT ": ", STR_ARG(name));
	else if (d->addr.family)
		buf_fmt(&text, "%s: ", ip_text(d->addr).s);
	if (net)
		buf_fmt(&text, "the private network %s does not let it through", net->row.name);
	else
		buf_add_c(&text, policy_reason_text(d->reason, d->detail));
	if (rule.n)
		buf_fmt(&text, " (rule %u: " STR_FMT ")", d->rule, STR_ARG(buf_str(&rule)));
	jw_str(w, "text", buf_str(&text));
	jw_u64(w, "count", d->count);
}

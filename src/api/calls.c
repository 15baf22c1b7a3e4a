/* Rules of a private network: see the header. */
#include <netinet/in.h>
#include "api/calls.h"
#include "api/ident.h"
#include "api/peers.h"
#include "base/log.h"
#include "wire/ipc.h"

/* --- from JSON --- */

static const struct {
	const char *name;
	uint8_t bits;
} protocols[] = {
	{ "any", CALLS_EVERY },
	{ "tcp", CALLS_TCP },
	{ "udp", CALLS_UDP },
	{ "icmp", CALLS_ICMP },
};

struct rule_ask {
	struct str action, from, to, protocol;
	json_t *ports;
};

static const struct json_field rule_fields[] = {
	{ .name = "action", .kind = JK_STR, .offset = offsetof(struct rule_ask, action),
		.seen_offset = -1, .max = 16 },
	{ .name = "from", .kind = JK_STR, .offset = offsetof(struct rule_ask, from),
		.seen_offset = -1, .required = true, .min = 1, .max = 63 },
	{ .name = "to", .kind = JK_STR, .offset = offsetof(struct rule_ask, to), .seen_offset = -1,
		.required = true, .min = 1, .max = 63 },
	{ .name = "protocol", .kind = JK_STR, .offset = offsetof(struct rule_ask, protocol),
		.seen_offset = -1, .max = 16 },
	{ .name = "ports", .kind = JK_RAW, .offset = offsetof(struct rule_ask, ports),
		.seen_offset = -1 },
};

static int wrong(struct err *err, size_t rule, const char *what, const char *allowed)
{
	return err_field(err, -EINVAL, ERR_INVALID, "rules", "rules[%zu].%s: expected %s", rule,
		what, allowed);
}

static int action_from(struct str text, uint8_t none, uint8_t *ret)
{
	if (!text.n)
		*ret = none;
	else if (str_eq_c(text, "allow"))
		*ret = WEIR_ALLOW;
	else if (str_eq_c(text, "deny"))
		*ret = WEIR_DENY;
	else
		return -EINVAL;
	return 0;
}

static int end_from(struct str text, char ret[static IPC_ID_LEN])
{
	if (sandbox_id_from(text, ret) == 0)
		return 0;
	if (!str_eq_c(text, "*") && sandbox_name_check(text, NULL) < 0)
		return -EINVAL;
	return str_copy(ret, IPC_ID_LEN, text) < 0 ? -EINVAL : 0;
}

/* 443, "443", "8000-8099" */
static int range_from(const json_t *v, struct calls_range *ret)
{
	struct str hi = str_n(json_string_value(v), json_string_length(v)), lo;
	uint64_t a = 0, b;

	if (json_is_integer(v)) {
		json_int_t n = json_integer_value(v);

		if (n < 1 || n > 65535)
			return -EINVAL;
		*ret = (struct calls_range){ (uint16_t)n, (uint16_t)n };
		return 0;
	}
	if (!json_is_string(v))
		return -EINVAL;
	lo = str_cut(&hi, '-');
	if (str_u64(lo, 65535, &a) < 0 || !a)
		return -EINVAL;
	b = a;
	if (hi.p && (str_u64(hi, 65535, &b) < 0 || b < a))
		return -EINVAL;
	*ret = (struct calls_range){ (uint16_t)a, (uint16_t)b };
	return 0;
}

static int ports_from(const json_t *ports, size_t at, struct calls_rule *rule, struct err *err)
{
	size_t i;
	json_t *v;

	if (!ports || json_is_null(ports))
		return 0;
	if (!json_is_array(ports) || json_array_size(ports) > CALLS_PORTS_MAX)
		return wrong(err, at, "ports", "an array of at most 16 ports");
	json_array_foreach (ports, i, v)
		if (range_from(v, &rule->ports[rule->n_ports++]) < 0)
			return wrong(err, at, "ports", "ports like 443 or \"8000-8099\"");
	if (!rule->n_ports)
		return 0;
	rule->protos &= CALLS_TCP | CALLS_UDP;
	if (!rule->protos)
		return wrong(err, at, "protocol", "tcp, udp or any, as there are ports");
	return 0;
}

static int rule_from(const json_t *item, size_t at, struct net_rules *r, struct err *err)
{
	struct calls_rule *rule = &r->calls.rules[at];
	struct rule_ask ask = { 0 };
	struct err why;

	if (!json_is_object(item))
		return err_field(err, -EINVAL, ERR_INVALID, "rules",
			"rules[%zu]: expected an object", at);
	if (json_decode(item, rule_fields, ARRAY_SIZE(rule_fields), &ask, &why) < 0)
		return err_field(err, -EINVAL, ERR_INVALID, "rules", "rules[%zu]: %s", at, why.text);
	if (action_from(ask.action, WEIR_ALLOW, &rule->action) < 0)
		return wrong(err, at, "action", "allow or deny");
	if (end_from(ask.from, r->ends[at].from) < 0)
		return wrong(err, at, "from", "a sandbox's name or id, or *");
	if (end_from(ask.to, r->ends[at].to) < 0)
		return wrong(err, at, "to", "a sandbox's name or id, or *");
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		if (str_eq_c(ask.protocol, protocols[i].name) || (!ask.protocol.n && i == 0))
			rule->protos = protocols[i].bits;
	if (!rule->protos)
		return wrong(err, at, "protocol", "tcp, udp, icmp or any");
	return ports_from(ask.ports, at, rule, err);
}

struct rules_ask {
	struct str fallback;
	json_t *rules;
};

static const struct json_field rules_fields[] = {
	{ .name = "default", .kind = JK_STR, .offset = offsetof(struct rules_ask, fallback),
		.seen_offset = -1, .max = 16 },
	{ .name = "rules", .kind = JK_RAW, .offset = offsetof(struct rules_ask, rules),
		.seen_offset = -1, .required = true },
};

int net_rules_from(const json_t *body, struct net_rules **ret, struct err *err)
{
	struct rules_ask ask = { 0 };
	auto_free struct net_rules *r = calloc(1, sizeof(*r));
	json_t *item;
	size_t i;
	int e;

	if (!r)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (json_decode(body, rules_fields, ARRAY_SIZE(rules_fields), &ask, err) < 0)
		return -EINVAL;
	if (action_from(ask.fallback, WEIR_DENY, &r->calls.fallback) < 0)
		return err_field(err, -EINVAL, ERR_INVALID, "default", "expected allow or deny");
	if (!json_is_array(ask.rules) || json_array_size(ask.rules) > CALLS_RULES_MAX)
		return err_field(err, -EINVAL, ERR_INVALID, "rules",
			"expected an array of at most %u rules", CALLS_RULES_MAX);
	json_array_foreach (ask.rules, i, item) {
		e = rule_from(item, i, r, err);
		if (e < 0)
			return e;
		r->calls.n++;
	}
	*ret = calls_open(&r->calls) ? NULL : take_ptr(r);
	return 0;
}

/* --- for people --- */

static const char *action_name(uint8_t action)
{
	return action == WEIR_ALLOW ? "allow" : "deny";
}

static const char *protocol_name(const struct calls_rule *rule)
{
	for (size_t i = 1; i < ARRAY_SIZE(protocols); i++)
		if (rule->protos == protocols[i].bits)
			return protocols[i].name;
	return protocols[0].name;
}

static void range_text(struct calls_range range, char ret[static 16])
{
	if (range.lo == range.hi)
		snprintf(ret, 16, "%u", range.lo);
	else
		snprintf(ret, 16, "%u-%u", range.lo, range.hi);
}

void net_rules_write(const struct net_rules *r, struct jw *w)
{
	char text[16];

	jw_c(w, "default", action_name(r ? r->calls.fallback : WEIR_ALLOW));
	jw_arr(w, "rules");
	for (uint32_t i = 0; r && i < r->calls.n; i++) {
		const struct calls_rule *rule = &r->calls.rules[i];

		jw_obj(w, NULL);
		jw_c(w, "action", action_name(rule->action));
		jw_c(w, "from", r->ends[i].from);
		jw_c(w, "to", r->ends[i].to);
		jw_c(w, "protocol", protocol_name(rule));
		if (rule->n_ports) {
			jw_arr(w, "ports");
			for (uint32_t k = 0; k < rule->n_ports; k++) {
				range_text(rule->ports[k], text);
				jw_c(w, NULL, text);
			}
			jw_arr_end(w);
		}
		jw_end(w);
	}
	jw_arr_end(w);
}

void net_rule_text(const struct net_rules *r, uint32_t rule, struct buf *out)
{
	const struct calls_rule *c;
	char text[16];

	if (!r || rule >= r->calls.n)
		return;
	c = &r->calls.rules[rule];
	buf_fmt(out, "%s %s -> %s", action_name(c->action), r->ends[rule].from, r->ends[rule].to);
	if (c->protos != CALLS_EVERY || c->n_ports)
		buf_fmt(out, " %s", c->n_ports && c->protos == (CALLS_TCP | CALLS_UDP) ?
				       "port" : protocol_name(c));
	for (uint32_t k = 0; k < c->n_ports; k++) {
		range_text(c->ports[k], text);
		buf_fmt(out, "%s%s", k ? "," : " ", text);
	}
}

/* --- for the host role --- */

static bool is_called(const struct box *b, const char *who)
{
	return strcmp(b->row.name, who) == 0 || strcmp(b->row.id, who) == 0;
}

/* Who is on the way out still has its name; who came in its place is meant. */
static void take_end(const struct box *b, const char *who, uint32_t *end)
{
	if (is_called(b, who) && (*end == CALLS_NOBODY || b->row.state != LIFE_DESTROYING))
		*end = b->row.slot;
}

static void find_ends(struct api *a, struct network *n)
{
	struct net_rules *r = n->rules;
	struct box *b, *tmp;

	for (uint32_t i = 0; i < r->calls.n; i++) {
		struct calls_rule *rule = &r->calls.rules[i];

		rule->from = strcmp(r->ends[i].from, "*") ? CALLS_NOBODY : CALLS_ANYONE;
		rule->to = strcmp(r->ends[i].to, "*") ? CALLS_NOBODY : CALLS_ANYONE;
	}
	HASH_ITER (hh, a->boxes, b, tmp) {
		if (!b->row.slot || !box_in(b, n))
			continue;
		for (uint32_t i = 0; i < r->calls.n; i++) {
			take_end(b, r->ends[i].from, &r->calls.rules[i].from);
			take_end(b, r->ends[i].to, &r->calls.rules[i].to);
		}
	}
}

static uint32_t number_of(const struct net_rules *r, uint32_t rule, const char *who)
{
	if (strcmp(who, "*") == 0)
		return CALLS_ANYONE;
	for (uint32_t i = 0; i <= rule; i++) {
		if (strcmp(r->ends[i].from, who) == 0)
			return 2 * i + 1;
		if (strcmp(r->ends[i].to, who) == 0)
			return 2 * i + 2;
	}
	return CALLS_NOBODY;
}

void net_rules_number_ends(struct net_rules *r)
{
	for (uint32_t i = 0; i < r->calls.n; i++) {
		r->calls.rules[i].from = number_of(r, i, r->ends[i].from);
		r->calls.rules[i].to = number_of(r, i, r->ends[i].to);
	}
}

static void message(const struct network *n, struct ipc_net *ret)
{
	const struct calls *c = n->rules ? &n->rules->calls : NULL;

	*ret = (struct ipc_net){ .number = n->row.number, .version = n->version,
		.fallback = c ? c->fallback : WEIR_ALLOW, .n = c ? c->n : 0 };
	for (uint32_t i = 0; c && i < c->n; i++) {
		const struct calls_rule *from = &c->rules[i];
		struct ipc_call *to = &ret->rules[i];

		*to = (struct ipc_call){ .from = from->from, .to = from->to,
			.action = from->action, .protos = from->protos, .n_ports = from->n_ports };
		for (uint32_t k = 0; k < from->n_ports; k++) {
			to->ports[k][0] = from->ports[k].lo;
			to->ports[k][1] = from->ports[k].hi;
		}
	}
}

struct sending {
	uint32_t number;
	net_sent_fn fn;
	void *arg;
};

static void on_sent(struct chan_msg *m, const struct err *err, void *arg)
{
	auto_free struct sending *s = arg;

	if (err)
		log_event(LOG_ERROR, "network.rules_failed", "number=%u text=%s", s->number,
			log_q(str_c(err->text)));
	if (s->fn)
		s->fn(err, s->arg);
}

void net_rules_send(struct api *a, struct network *n, net_sent_fn fn, void *arg)
{
	struct sending *s = malloc(sizeof(*s));
	auto_free struct ipc_net *net = malloc(sizeof(*net));
	uint32_t version = 0;
	struct err err;
	int r = s && net ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0 && n->rules)
		r = api_policy_id(a, &version, &err);
	if (r < 0) {
		free(s);
		if (fn)
			fn(&err, arg);
		return;
	}
	n->version = version;
	if (n->rules)
		find_ends(a, n);
	message(n, net);
	*s = (struct sending){ n->row.number, fn, arg };
	host_call(a, IPC_HOST_NET, net, sizeof(*net), -1, on_sent, s);
}

void net_gone_send(struct api *a, const struct network *n)
{
	auto_free struct ipc_net *net = calloc(1, sizeof(*net));
	struct sending *s = malloc(sizeof(*s));

	if (!net || !s) { /* a number that is never used again stays in the kernel's table */
		free(s);
		return;
	}
	net->number = n->row.number;
	net->gone = 1;
	*s = (struct sending){ .number = n->row.number };
	host_call(a, IPC_HOST_NET, net, sizeof(*net), -1, on_sent, s);
}

void box_rules_send(struct box *b)
{
	for (uint32_t i = 0; i < b->n_nets; i++)
		if (b->nets[i]->rules)
			net_rules_send(b->api, b->nets[i], NULL, NULL);
}

bool net_rules_allow(struct network *n, const struct box *from, const struct box *to,
	uint8_t proto, uint16_t port, uint32_t *ret_rule)
{
	struct calls_verdict v = { WEIR_ALLOW, WEIR_RULE_NONE };

	if (n->rules) {
		find_ends(from->api, n);
		v = calls_reference(&n->rules->calls, from->row.slot, to->row.slot, proto, port);
	}
	*ret_rule = v.rule;
	return v.verdict == WEIR_ALLOW;
}

/*
 * GET …/egress/explain?to=host:port&protocol=tcp: what would happen to a flow, and why. Names
 * known for an address, and addresses known for a name, come from the edge.
 */
#include <netinet/in.h>
#include "api/box.h"
#include "api/calls.h"
#include "api/native/native.h"
#include "api/peers.h"
#include "policy/explain.h"

#define NAMES_MAX 64u

struct explain {
	struct req *q;
	struct learned_call *call;
	struct policy_question ask;
	struct name host, names[NAMES_MAX];
};

/* "host:port", "1.2.3.4:443", "[2001:db8::1]:443"; without port 443. */
static int parse_to(struct str to, struct explain *x, struct err *err)
{
	struct str host = to, port = STR_NONE;
	const char *why;
	uint64_t n = 443;
	ssize_t at;

	if (str_starts(to, STR("["))) {
		at = str_find(to, ']');
		if (at < 0)
			return err_field(err, -EINVAL, ERR_INVALID, "to", "the \"[\" is not closed");
		host = str_n(to.p + 1, (size_t)at - 1);
		port = str_skip(to, (size_t)at + 1);
		port = port.n ? str_skip(port, 1) : STR_NONE;
	} else if (ip_from(to, &x->ask.addr) < 0) {
		struct str rest = to;

		host = str_cut(&rest, ':');
		port = rest;
	}
	if (port.p && (str_u64(port, 65535, &n) < 0 || n == 0))
		return err_field(err, -EINVAL, ERR_INVALID, "to", "port must be 1 to 65535");
	x->ask.port = (uint16_t)n;
	if (ip_from(host, &x->ask.addr) == 0)
		return 0;
	x->ask.addr = (struct ip){ 0 };
	if (name_from(host, &x->host, &why) < 0)
		return err_field(err, -EINVAL, ERR_INVALID, "to", "neither a name nor an address: %s",
			why);
	x->ask.host = &x->host;
	return 0;
}

static int parse(struct req *q, struct explain *x, struct err *err)
{
	struct str to, proto;
	int r = req_query(q, "to", &to, err);

	if (r == 0)
		r = req_query(q, "protocol", &proto, err);
	if (r < 0)
		return r;
	if (!to.n)
		return err_field(err, -EINVAL, ERR_INVALID, "to", "required: host:port");
	if (proto.n && !str_eq_c(proto, "tcp") && !str_eq_c(proto, "udp"))
		return err_field(err, -EINVAL, ERR_INVALID, "protocol", "expected tcp or udp");
	x->ask.proto = str_eq_c(proto, "udp") ? IPPROTO_UDP : IPPROTO_TCP;
	return parse_to(to, x, err);
}

static void add_learned(struct explain *x, struct str lines)
{
	struct str found[NAMES_MAX];
	size_t n;

	/* A name: the first address it was pinned to. */
	for (struct str rest = lines; x->ask.host && !x->ask.addr.family && rest.n;) {
		struct str line = str_cut(&rest, '\n'), addr = str_cut(&line, ' ');

		if (str_eq(str_cut(&line, ' '), name_str(&x->host)))
			ip_from(addr, &x->ask.addr);
	}
	if (!x->ask.addr.family)
		return;
	n = learned_names(lines, x->ask.addr, found, NAMES_MAX);
	for (size_t i = 0; i < n; i++)
		if (name_from(found[i], &x->names[x->ask.n_names], NULL) == 0)
			x->ask.n_names++;
	x->ask.names = x->names;
}

/* "otter", "otter.backend", "otter.fc.local": a fellow's overlay address for its name. */
static void find_fellow(struct explain *x)
{
	struct str rest = x->ask.host ? name_str(x->ask.host) : STR_NONE, word = str_cut(&rest, '.');
	const struct box *me = x->q->box, *b;

	for (uint32_t slot = 1; word.n && me->n_nets && slot <= WEIR_SLOTS_MAX; slot++) {
		b = x->q->api->by_slot[slot];
		if (!b || (!str_eq_c(word, b->row.name) && !str_eq_c(word, b->row.id)))
			continue;
		for (uint32_t i = 0; i < me->n_nets; i++)
			if (box_in(b, me->nets[i]))
				x->ask.addr = box_overlay(b);
	}
}

/* The network whose word it is: the first shared one that lets it through, else the first. */
static struct network *network_between(const struct explain *x, const struct box *peer,
	bool *ret_allow, uint32_t *ret_rule)
{
	const struct box *me = x->q->box;
	struct network *first = NULL;

	for (uint32_t i = 0; peer && i < me->n_nets; i++) {
		uint32_t rule;

		if (!box_in(peer, me->nets[i]))
			continue;
		*ret_allow = net_rules_allow(me->nets[i], me, peer, x->ask.proto, x->ask.port, &rule);
		if (!first || *ret_allow)
			*ret_rule = rule;
		if (*ret_allow)
			return me->nets[i];
		first = first ? first : me->nets[i];
	}
	return first;
}

/* In the overlay no rule of egress decides, but shared networks and their rules. */
static bool answer_overlay(struct explain *x, struct jw *w)
{
	const struct api *a = x->q->api;
	const struct prefix range = a->config.net_overlay4;
	auto_buf struct buf text = BUF_MAX(4096);
	auto_buf struct buf rule_text = BUF_MAX(4096);
	const struct box *peer = NULL;
	uint32_t slot, rule = WEIR_RULE_NONE;
	const struct network *n;
	bool allow = false;

	if (!x->ask.addr.family)
		find_fellow(x);
	if (!prefix_has(range, x->ask.addr))
		return false;
	slot = ip_v4_u32(x->ask.addr) - ip_v4_u32(range.ip);
	if (slot <= WEIR_SLOTS_MAX && (x->ask.port != WEIR_AGENT_PORT || x->ask.proto != IPPROTO_TCP))
		peer = a->by_slot[slot];
	n = network_between(x, peer, &allow, &rule);
	jw_c(w, "verdict", allow ? "allow" : "deny");
	jw_c(w, "reason", policy_reason_name(WEIR_R_OVERLAY));
	if (!n) {
		jw_c(w, "text", policy_reason_text(WEIR_R_OVERLAY, 0));
		return true;
	}
	jw_c(w, "network", n->row.name);
	net_rule_text(n->rules, rule, &rule_text);
	if (rule_text.n) {
		jw_str(w, "rule", buf_str(&rule_text));
		jw_u64(w, "rule_index", rule);
	}
	if (!n->rules)
		buf_fmt(&text, "both are members of the private network %s", n->row.name);
	else if (rule_text.n)
		buf_fmt(&text, "rule %u of the private network %s decides: " STR_FMT, rule, n->row.name,
			STR_ARG(buf_str(&rule_text)));
	else
		buf_fmt(&text, "no rule of the private network %s matches, so its default decides",
			n->row.name);
	jw_str(w, "text", buf_str(&text));
	return true;
}

static void answer_policy(const struct explain *x, struct jw *w)
{
	const struct req *q = x->q;
	const struct policy_knobs knobs = { .smtp = q->api->config.egress_smtp,
		.other_protocols = q->api->config.egress_other_protocols,
		.reject = q->api->config.egress_reject };
	auto_buf struct buf rule = BUF_MAX(1u << 20);
	struct policy_answer verdict;

	policy_explain(q->box->policy, &knobs, &q->api->floor, &x->ask, &verdict);
	jw_c(w, "verdict", verdict.verdict == WEIR_ALLOW ? "allow" : "deny");
	jw_c(w, "reason", policy_reason_name(verdict.reason));
	if (verdict.rule != WEIR_RULE_NONE) {
		if (policy_rule_text(q->box->policy, verdict.rule, &rule) >= 0)
			jw_str(w, "rule", buf_str(&rule));
		jw_u64(w, "rule_index", verdict.rule);
	}
	jw_c(w, "text", verdict.text);
}

static void answer(struct explain *x)
{
	struct req *q = x->q;
	struct answer a;

	answer_begin(&a, 2u << 20);
	jw_obj(&a.w, "data");
	if (!answer_overlay(x, &a.w))
		answer_policy(x, &a.w);
	jw_end(&a.w);
	free(x);
	reply_send(q, 200, &a);
}

static void on_learned(struct str lines, void *arg)
{
	struct explain *x = arg;

	x->call = NULL;
	x->q->on_gone = NULL;
	add_learned(x, lines);
	answer(x);
}

static void gone(struct req *q)
{
	struct explain *x = q->state;

	learned_forget(x->call);
	free(x);
}

void native_explain(struct req *q)
{
	struct explain *x = calloc(1, sizeof(*x));
	struct err err;

	if (!x)
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	else if (!q->box)
		err_field(&err, -EBUSY, ERR_CONFLICT, "status", "sandbox is %s",
			life_state_name(q->row->state));
	else if (parse(q, x, &err) == 0)
		goto parsed;
	free(x);
	reply_err(q, &err);
	return;
parsed:
	x->q = q;
	q->state = x;
	q->on_gone = gone;
	{
		/* The callback may have run, and x be gone, when this returns NULL. */
		struct learned_call *call = edges_learned(q->api, q->row->slot, on_learned, x);

		if (call)
			x->call = call;
	}
}

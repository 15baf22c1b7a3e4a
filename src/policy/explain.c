/*
 * Explaining a verdict: see the header. The order is the packet's own: the name is asked
 * first, then the floor, then the rules, then the clause about TCP 25.
 *
 * A host whose addresses are unknown is judged as if it had one that lies in no listed prefix;
 * if rules with prefixes could say otherwise, by_address tells so.
 */
#include <netinet/in.h>
#include "policy/explain.h"

static void say(struct policy_answer *a, const char *fmt, ...) _printf_(2, 3);
static void say(struct policy_answer *a, const char *fmt, ...)
{
	size_t n = strlen(a->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->text + n, sizeof(a->text) - n, fmt, ap);
	va_end(ap);
}

static void say_target(struct policy_answer *a, const struct policy_question *q)
{
	if (q->host)
		say(a, "%s", q->host->s);
	if (q->host && q->addr.family)
		say(a, " (%s)", ip_text(q->addr).s);
	else if (q->addr.family)
		say(a, "%s", ip_text(q->addr).s);
	say(a, " %s/%u is %s: ", q->proto == IPPROTO_TCP ? "tcp" : "udp", q->port,
		a->verdict == WEIR_ALLOW ? "allowed" : "refused");
}

static void say_rule(struct policy_answer *a, const struct policy *p)
{
	struct buf text = BUF_MAX(16u << 20);
	const char *c;

	policy_rule_text(p, a->rule, &text);
	c = buf_cstr(&text);
	say(a, "rule %u, \"%.200s%s\"", a->rule, c ? c : "?", c && strlen(c) > 200 ? "…" : "");
	buf_done(&text);
}

static bool rules_ask_for_address(const struct policy *p, uint16_t upto)
{
	for (uint32_t i = 0; i < p->n_rules && i <= upto; i++)
		if (p->rules[i].prefixes)
			return true;
	return false;
}

static void judge_flow(const struct policy *p, const struct policy_knobs *knobs,
	const struct policy_question *q, const struct name *names, size_t n_names,
	struct policy_answer *ret)
{
	struct policy_verdict v =
		policy_reference(p, q->addr, q->proto, q->port, names, n_names);

	ret->verdict = v.verdict;
	ret->rule = v.rule;
	ret->reason = v.rule == WEIR_RULE_NONE ? WEIR_R_DEFAULT : WEIR_R_RULE;
	ret->by_address = !q->addr.family && rules_ask_for_address(p, v.rule);
	if (v.verdict == WEIR_ALLOW && q->proto == IPPROTO_TCP && q->port == 25 &&
		!v.named_port && !knobs->smtp) {
		ret->verdict = WEIR_DENY;
		ret->reason = WEIR_R_SMTP;
	}
}

static void judge(const struct policy *p, const struct policy_knobs *knobs,
	const struct policy_floor *floor, const struct policy_question *q, struct policy_answer *ret)
{
	size_t n = q->n_names + (q->host ? 1 : 0);
	auto_free struct name *names = calloc(n + 1, sizeof(*names));

	if (!names) { /* say nothing wrong: refuse, without a reason */
		ret->verdict = WEIR_DENY;
		return;
	}
	if (q->n_names)
		memcpy(names, q->names, q->n_names * sizeof(*names));
	if (q->host)
		names[n - 1] = *q->host;
	if (q->host && policy_name(p, q->host, &ret->rule) == POLICY_NAME_DENIED) {
		ret->verdict = WEIR_DENY;
		ret->reason = WEIR_R_NAME;
		return;
	}
	ret->rule = WEIR_RULE_NONE;
	if (q->addr.family)
		ret->floor = policy_floor_find(floor, q->addr);
	if (ret->floor != WEIR_FLOOR_NONE) {
		ret->verdict = WEIR_DENY;
		ret->reason = WEIR_R_FLOOR;
		return;
	}
	judge_flow(p, knobs, q, names, n, ret);
}

void policy_explain(const struct policy *p, const struct policy_knobs *knobs,
	const struct policy_floor *floor, const struct policy_question *q, struct policy_answer *ret)
{
	*ret = (struct policy_answer){ .rule = WEIR_RULE_NONE };
	judge(p, knobs, floor, q, ret);
	say_target(ret, q);
	if (ret->rule != WEIR_RULE_NONE)
		say_rule(ret, p);
	if (ret->rule == WEIR_RULE_NONE || ret->reason == WEIR_R_SMTP)
		say(ret, "%s%s", ret->rule != WEIR_RULE_NONE ? "; " : "",
			policy_reason_text(ret->reason, ret->floor));
	if (ret->reason == WEIR_R_DEFAULT)
		say(ret, " (%s)", ret->verdict == WEIR_ALLOW ? "allow" : "deny");
	if (ret->by_address)
		say(ret, "; a rule about addresses may decide otherwise once the name is resolved");
}

/* A rule as people read it: "deny 10.0.0.0/8", "allow *.x.org, y.net ports tcp/443". */
#include "policy/policy.h"

static void add_name(struct buf *out, const struct name_pattern *name)
{
	switch ((enum name_scope)name->scope) {
	case NAME_EXACT:
		break;
	case NAME_BELOW:
		buf_add_c(out, "*.");
		break;
	case NAME_BELOW_AND_APEX:
		buf_fmt(out, STR_FMT ", *.", STR_ARG(name_str(&name->name)));
		break;
	}
	buf_add_str(out, name_str(&name->name));
}

static void add_prefix(struct buf *out, struct prefix prefix)
{
	if (prefix.len == ip_bits(prefix.ip.family))
		buf_add_c(out, ip_text(prefix.ip).s);
	else
		buf_add_c(out, prefix_text(prefix).s);
}

static void add_port(struct buf *out, const struct policy_port *port)
{
	if (port->protos == POLICY_TCP)
		buf_add_c(out, "tcp/");
	else if (port->protos == POLICY_UDP)
		buf_add_c(out, "udp/");
	buf_fmt(out, "%u", port->lo);
	if (port->hi != port->lo)
		buf_fmt(out, "-%u", port->hi);
}

int policy_rule_text(const struct policy *p, uint32_t rule, struct buf *out)
{
	const struct policy_rule *r;

	if (rule >= p->n_rules)
		return -EINVAL;
	r = &p->rules[rule];
	buf_add_c(out, r->action == WEIR_ALLOW ? "allow" : "deny");
	if (!r->names && !r->prefixes)
		buf_add_c(out, " everything");
	for (uint32_t i = 0; i < r->names; i++) {
		buf_add_c(out, i ? ", " : " ");
		add_name(out, &p->names[r->name0 + i]);
	}
	for (uint32_t i = 0; i < r->prefixes; i++) {
		buf_add_c(out, i ? ", " : r->names ? " at " : " ");
		add_prefix(out, p->prefixes[r->prefix0 + i]);
	}
	for (uint32_t i = 0; i < r->ports; i++) {
		buf_add_c(out, i ? ", " : r->ports == 1 && p->ports[r->port0].lo ==
			p->ports[r->port0].hi ? " port " : " ports ");
		add_port(out, &p->ports[r->port0 + i]);
	}
	return buf_failed(out);
}

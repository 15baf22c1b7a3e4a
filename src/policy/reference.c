/*
 * The slow, obvious reading of a policy: go down the list, ask each condition, stop at the
 * first rule that matches. Everything else in this room is checked against this file, so it
 * shares no code with the compiler.
 *
 * TCP 25 has one clause of its own: an allow rule that does not name the port does not open
 * it. Such a rule is remembered, and the list is read on: a later rule that names the port
 * opens it after all; a denial, or the end of the list, leaves the first one standing, with
 * named_port false.
 */
#include <netinet/in.h>
#include "policy/policy.h"

#define SMTP 25

static bool names_hold(const struct policy *p, const struct policy_rule *r,
	const struct name *names, size_t n_names)
{
	if (r->names == 0)
		return true;
	for (uint32_t i = 0; i < r->names; i++)
		for (size_t k = 0; k < n_names; k++)
			if (name_match(&p->names[r->name0 + i], &names[k]))
				return true;
	return false;
}

static bool prefixes_hold(const struct policy *p, const struct policy_rule *r, struct ip addr)
{
	if (r->prefixes == 0)
		return true;
	for (uint32_t i = 0; i < r->prefixes; i++)
		if (prefix_has(p->prefixes[r->prefix0 + i], addr))
			return true;
	return false;
}

static bool ports_hold(const struct policy *p, const struct policy_rule *r, uint8_t proto,
	uint16_t port)
{
	uint8_t bit = proto == IPPROTO_TCP ? POLICY_TCP : POLICY_UDP;

	if (r->ports == 0)
		return true;
	for (uint32_t i = 0; i < r->ports; i++) {
		const struct policy_port *range = &p->ports[r->port0 + i];

		if (range->protos & bit && port >= range->lo && port <= range->hi)
			return true;
	}
	return false;
}

struct policy_verdict policy_reference(const struct policy *p, struct ip addr, uint8_t proto,
	uint16_t port, const struct name *names, size_t n_names)
{
	bool smtp = proto == IPPROTO_TCP && port == SMTP, passed_over = false;
	struct policy_verdict v = { .verdict = p->fallback, .rule = WEIR_RULE_NONE };

	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (!names_hold(p, r, names, n_names) || !prefixes_hold(p, r, addr) ||
			!ports_hold(p, r, proto, port))
			continue;
		if (passed_over && r->action == WEIR_DENY)
			return v;
		if (smtp && r->action == WEIR_ALLOW && r->ports == 0) {
			if (!passed_over)
				v = (struct policy_verdict){ WEIR_ALLOW, (uint16_t)i, false };
			passed_over = true;
			continue;
		}
		return (struct policy_verdict){ r->action, (uint16_t)i, r->ports > 0 };
	}
	return v;
}

static bool refuses(const struct policy *p, struct ip addr, uint8_t proto, uint16_t port,
	const struct name *names, size_t n_names)
{
	struct policy_verdict v = policy_reference(p, addr, proto, port, names, n_names);

	return v.verdict == WEIR_DENY && !policy_rule_is_dialects(p, v.rule);
}

bool policy_reference_all_ports(const struct policy *p, struct ip addr, const struct name *names,
	size_t n_names)
{
	for (uint32_t port = 0; port <= UINT16_MAX; port++)
		if (refuses(p, addr, IPPROTO_TCP, (uint16_t)port, names, n_names) ||
			refuses(p, addr, IPPROTO_UDP, (uint16_t)port, names, n_names))
			return false;
	return true;
}

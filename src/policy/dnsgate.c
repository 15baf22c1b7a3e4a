/*
 * What a policy says about names and resolvers: the DNS proxy's questions. Order and wording
 * are in the header; each function is one walk down the list.
 */
#include <netinet/in.h>
#include "policy/policy.h"

#define DNS 53

static bool rule_has_name(const struct policy *p, const struct policy_rule *r,
	const struct name *name)
{
	for (uint32_t i = 0; i < r->names; i++)
		if (name_match(&p->names[r->name0 + i], name))
			return true;
	return false;
}

enum policy_name_verdict policy_name(const struct policy *p, const struct name *name,
	uint16_t *ret_rule)
{
	uint16_t dummy, *rule = ret_rule ? ret_rule : &dummy;
	bool partly_denied = false;

	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (!rule_has_name(p, r, name))
			continue;
		*rule = (uint16_t)i;
		if (r->action == WEIR_ALLOW)
			return POLICY_NAME_ALLOWED;
		if (r->prefixes == 0 && r->ports == 0)
			return POLICY_NAME_DENIED;
		partly_denied = true;
	}
	*rule = WEIR_RULE_NONE;
	if (p->fallback == WEIR_DENY)
		return POLICY_NAME_DENIED;
	return partly_denied ? POLICY_NAME_ALLOWED : POLICY_NAME_DEFAULT;
}

/* Does one of the rule's prefixes hold addr? *ret_len: the length of the longest that does. */
static bool rule_has_addr(const struct policy *p, const struct policy_rule *r, struct ip addr,
	uint8_t *ret_len)
{
	bool found = false;

	for (uint32_t i = 0; i < r->prefixes; i++) {
		struct prefix prefix = p->prefixes[r->prefix0 + i];

		if (!prefix_has(prefix, addr))
			continue;
		if (!found || prefix.len > *ret_len)
			*ret_len = prefix.len;
		found = true;
	}
	return found;
}

/* Does the rule cover DNS on this protocol? *ret_exact: by exactly that port. */
static bool rule_has_dns(const struct policy *p, const struct policy_rule *r, uint8_t proto,
	bool *ret_exact)
{
	uint8_t bit = proto == IPPROTO_TCP ? POLICY_TCP : POLICY_UDP;
	bool found = r->ports == 0;

	*ret_exact = false;
	for (uint32_t i = 0; i < r->ports; i++) {
		const struct policy_port *range = &p->ports[r->port0 + i];

		if (!(range->protos & bit) || range->lo > DNS || range->hi < DNS)
			continue;
		found = true;
		*ret_exact |= range->lo == range->hi;
	}
	return found;
}

bool policy_names_resolver(const struct policy *p, struct ip resolver, uint8_t proto)
{
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];
		uint8_t len = 0;
		bool exact;

		if (r->names || !rule_has_dns(p, r, proto, &exact) ||
			(r->prefixes && !rule_has_addr(p, r, resolver, &len)))
			continue;
		if (r->action == WEIR_DENY)
			return false;
		if (r->prefixes && (exact || len == ip_bits(resolver.family)))
			return true;
	}
	return false;
}

bool policy_allows_private(const struct policy *p, struct ip addr)
{
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];
		uint8_t len;

		if (r->prefixes ? !rule_has_addr(p, r, addr, &len) : r->names > 0)
			continue; /* says nothing about the address itself */
		if (r->action == WEIR_ALLOW)
			return true;
		if (r->names == 0 && r->ports == 0)
			return false;
	}
	return p->fallback == WEIR_ALLOW;
}

/*
 * OpenSandbox's policy: see the header for its order. The list is walked once for each part of
 * that order, which keeps the rules of a part in the order they were given.
 */
#include "policy/opensandbox.h"
#include "policy/target.h"

struct build {
	struct policy *p;
	const struct opensandbox_rule *rules;
	size_t n;
	const struct opensandbox_always *always;
	const struct policy_floor *floor; /* for what the user would open */
	struct err *err;
};
/* Denying what the floor closes is no mistake; and the platform's lists cannot open it anyhow. */
static const struct policy_floor open_floor;

/* One rule, if its target is of the wanted kind. */
static int add(struct build *b, bool allow, struct str text, bool address,
	const struct policy_floor *floor, const char **why)
{
	struct str target = str_trim(text);
	int r;

	if (target_is_address(target) != address)
		return 0;
	r = policy_add_rule(b->p, allow ? WEIR_ALLOW : WEIR_DENY);
	if (r == 0)
		r = address ? target_add_prefix(b->p, target, floor, why)
			    : target_add_name(b->p, target, false, why);
	return r;
}

static int add_always(struct build *b, bool allow, const struct str *list, size_t n, bool address)
{
	for (size_t i = 0; i < n; i++) {
		const char *why = "";
		int r = add(b, allow, list[i], address, &open_floor, &why);

		if (r < 0)
			return target_refuse(b->err, r, "networkPolicy",
				allow ? "allow.always" : "deny.always", list[i], why);
	}
	return 0;
}

/* The user's names keep their order, whatever they do; addresses are taken by what they do. */
static int add_user(struct build *b, bool address, bool allow)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct opensandbox_rule *rule = &b->rules[i];
		const char *why = "the target is empty";
		char place[48];
		int r = str_trim(rule->target).n ? 0 : -EINVAL;

		if (r == 0 && address && rule->allow != allow)
			continue;
		if (r == 0)
			r = add(b, rule->allow, rule->target, address,
				rule->allow ? b->floor : &open_floor, &why);
		if (r < 0) {
			snprintf(place, sizeof(place), "egress[%zu].target", i);
			return target_refuse(b->err, r, "networkPolicy", place, rule->target, why);
		}
	}
	return 0;
}

static int add_dns_tls(struct build *b)
{
	const struct opensandbox_always *a = b->always;
	int r = policy_add_rule(b->p, WEIR_DENY);

	if (r == 0)
		r = policy_add_port(b->p, POLICY_TCP_UDP, POLICY_DNS_TLS,
			POLICY_DNS_TLS);
	if (r == 0 && a->block_doh && a->n_doh)
		r = policy_add_rule(b->p, WEIR_DENY);
	for (size_t i = 0; r == 0 && a->block_doh && i < a->n_doh; i++)
		r = policy_add_prefix(b->p, a->doh[i]);
	if (r == 0 && a->block_doh)
		r = policy_add_port(b->p, POLICY_TCP, POLICY_DNS_HTTPS, POLICY_DNS_HTTPS);
	return r < 0 ? err_set(b->err, r, ERR_INTERNAL, "out of memory") : 0;
}

int opensandbox_policy(bool default_allow, const struct opensandbox_rule *rules, size_t n,
	const struct opensandbox_always *always, const struct policy_floor *floor,
	struct policy **ret, struct err *err)
{
	static const struct opensandbox_always none;
	auto_policy struct policy *p =
		policy_new(POLICY_OPENSANDBOX, default_allow ? WEIR_ALLOW : WEIR_DENY);
	struct build b = { p, rules, n, always ? always : &none, floor, err };
	int r;

	if (!p)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (n > OPENSANDBOX_RULES_MAX)
		return err_field(err, -E2BIG, ERR_TOO_LARGE, "networkPolicy",
			"egress: expected at most %u rules, got %zu", OPENSANDBOX_RULES_MAX, n);
	r = add_dns_tls(&b);
	if (r == 0)
		r = add_always(&b, false, b.always->deny, b.always->n_deny, true);
	if (r == 0)
		r = add_user(&b, true, false);
	if (r == 0)
		r = add_always(&b, false, b.always->deny, b.always->n_deny, false);
	if (r == 0)
		r = add_always(&b, true, b.always->allow, b.always->n_allow, false);
	if (r == 0)
		r = add_user(&b, false, false);
	if (r == 0)
		r = add_always(&b, true, b.always->allow, b.always->n_allow, true);
	if (r == 0)
		r = add_user(&b, true, true);
	if (r < 0)
		return r;
	*ret = take_ptr(p);
	return 0;
}

int opensandbox_always_line(struct str line, struct str *ret, const char **why)
{
	struct str target = str_trim(line);
	struct name_pattern pattern;
	struct prefix prefix;

	*ret = STR_NONE;
	if (!target.n || target.p[0] == '#')
		return 0;
	if (target_is_address(target)) {
		*why = "expected an address or a network";
		if (prefix_from(target, false, &prefix) < 0)
			return -EINVAL;
	} else if (name_pattern_from(target, false, &pattern, why) < 0) {
		return -EINVAL;
	}
	*ret = target;
	return 0;
}

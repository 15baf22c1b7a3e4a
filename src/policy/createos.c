/*
 * CreateOS's egress list: see the header for the grammar.
 *
 * Each entry is cut into a target and a port by where its colons stand, which the four shapes
 * make unambiguous: brackets, a slash, two colons or more, at most one.
 */
#include "policy/createos.h"
#include "policy/target.h"

struct entry {
	struct str target; /* name, pattern, address or prefix */
	struct str port;   /* p is NULL: none */
};

/* Faults are literals, so that nothing a client sent is formatted twice. */
static int cut_entry(struct str text, struct entry *ret, const char **why)
{
	struct str rest;
	ssize_t at;

	*ret = (struct entry){ .target = text };
	if (str_starts(text, STR("["))) {
		at = str_find(text, ']');
		if (at < 0) {
			*why = "the \"[\" is not closed";
			return -EINVAL;
		}
		ret->target = str_n(text.p + 1, (size_t)at - 1);
		if (str_find(ret->target, ':') < 0) {
			*why = "only IPv6 addresses stand in brackets";
			return -EINVAL;
		}
		rest = str_skip(text, (size_t)at + 1);
		if (rest.n && rest.p[0] != ':') {
			*why = "after \"]\" only \":port\" may follow";
			return -EINVAL;
		}
		if (rest.n)
			ret->port = str_skip(rest, 1);
		return 0;
	}
	at = str_find(text, ':');
	if (at > 0 && str_starts(str_skip(text, (size_t)at), STR("://"))) {
		*why = "expected a host name, not a URL";
		return -EINVAL;
	}
	rest = text;
	str_cut(&rest, ':');
	if (!rest.p || str_find(rest, ':') >= 0)
		return 0; /* no port, or IPv6 without brackets */
	ret->port = rest;
	ret->target = str_n(text.p, text.n - rest.n - 1);
	return 0;
}

static int add_port(struct policy *p, struct str port, const char **why)
{
	uint64_t n;

	if (!port.p)
		return 0;
	if (str_u64(port, 65535, &n) < 0 || n == 0) {
		*why = "port must be 1 to 65535";
		return -EINVAL;
	}
	return policy_add_port(p, POLICY_TCP_UDP, (uint16_t)n, (uint16_t)n);
}

int createos_policy(const struct str *rules, size_t n, const struct policy_floor *floor,
	struct policy **ret, struct err *err)
{
	auto_policy struct policy *p = policy_new(POLICY_CREATEOS, WEIR_DENY);
	bool everything = n == 0;

	if (!p)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (n > CREATEOS_RULES_MAX)
		return err_field(err, -E2BIG, ERR_INVALID, "egress",
			"egress: expected at most %u rules, got %zu", CREATEOS_RULES_MAX, n);
	for (size_t i = 0; i < n; i++) {
		struct str text = str_trim(rules[i]);
		const char *why = "the rule is empty";
		struct entry entry;
		int r = text.n ? 0 : -EINVAL;

		if (str_eq_c(text, "*")) {
			everything = true;
			continue;
		}
		if (r == 0)
			r = cut_entry(text, &entry, &why);
		if (r == 0)
			r = policy_add_rule(p, WEIR_ALLOW);
		if (r == 0)
			r = target_add(p, entry.target, false, floor, &why);
		if (r == 0)
			r = add_port(p, entry.port, &why);
		if (r < 0) {
			char place[32];

			snprintf(place, sizeof(place), "egress[%zu]", i);
			return target_refuse(err, r, "egress", place, text, why);
		}
	}
	if (everything) {
		policy_free(p);
		p = policy_new(POLICY_CREATEOS, WEIR_ALLOW);
		if (!p)
			return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	*ret = take_ptr(p);
	return 0;
}

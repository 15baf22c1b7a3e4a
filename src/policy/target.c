/* What a rule may aim at: see the header. */
#include "policy/target.h"

#define QUOTE_MAX 80 /* of a faulty entry in the error text */

bool target_is_address(struct str target)
{
	struct prefix prefix;

	return str_find(target, '/') >= 0 || str_find(target, ':') >= 0 ||
		prefix_from(target, false, &prefix) == 0;
}

int target_add_name(struct policy *p, struct str name, bool apex_too, const char **why)
{
	struct name_pattern pattern;
	int r = name_pattern_from(name, apex_too, &pattern, why);

	return r < 0 ? r : policy_add_name(p, pattern);
}

int target_add_prefix(struct policy *p, struct str text, const struct policy_floor *floor,
	const char **why)
{
	enum weir_floor inside;
	struct prefix prefix;

	if (prefix_from(text, false, &prefix) < 0) {
		*why = "expected a network such as 10.0.0.0/8 or 2001:db8::/32, or an address";
		return -EINVAL;
	}
	inside = policy_floor_covers(floor, prefix);
	if (inside != WEIR_FLOOR_NONE) {
		*why = policy_floor_text(inside);
		return -EACCES;
	}
	return policy_add_prefix(p, prefix);
}

int target_add(struct policy *p, struct str target, bool apex_too,
	const struct policy_floor *floor, const char **why)
{
	return target_is_address(target) ? target_add_prefix(p, target, floor, why)
					 : target_add_name(p, target, apex_too, why);
}

int target_refuse(struct err *err, int r, const char *field, const char *place, struct str text,
	const char *why)
{
	char quoted[QUOTE_MAX + 1];
	size_t n = 0;

	if (r == -ENOMEM)
		return err_set(err, r, ERR_INTERNAL, "out of memory");
	for (; n < text.n && n < QUOTE_MAX; n++)
		quoted[n] = text.p[n] >= ' ' && text.p[n] < 0x7f ? text.p[n] : '?';
	quoted[n] = '\0';
	return err_field(err, r, ERR_INVALID, field, "%s \"%s%s\"%s: %s", place, quoted,
		text.n > QUOTE_MAX ? "…" : "", r == -EACCES ? " cannot be opened by a rule" : "", why);
}

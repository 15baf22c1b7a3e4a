/*
 * DNS names: read, made canonical and compared in this one place.
 *
 * A canonical name carries its length, is lower case, has no trailing dot, no
 * NUL, and consists of labels of letters, digits, hyphens and underscores (1 to 63
 * each, 253 in all). IDNs appear as punycode only. Everything else is refused
 * once, at the edge, so no two parsers can read a name differently. A name whose
 * last label is all digits or looks like hex (2130706433, 0x7f000001, 127.1) is
 * refused too: clients would take it for an address.
 */
#pragma once
#include "base/str.h"

#define NAME_MAX_LEN 253

struct name {
	uint8_t n;
	char s[NAME_MAX_LEN + 1]; /* NUL-terminated for printing; n counts */
};

/* A pattern: a name, "*.name" (any depth below, never the apex), or sandbox0's form that
 * includes the apex. "*" alone is not a pattern: dialects turn it into a default. */
enum name_scope { NAME_EXACT, NAME_BELOW, NAME_BELOW_AND_APEX };
struct name_pattern {
	uint8_t scope;
	struct name name;
};

/* -EINVAL with a reason in *why (a literal; may be NULL). */
int name_from(struct str text, struct name *ret, const char **why);
int name_pattern_from(struct str text, bool apex_too, struct name_pattern *ret, const char **why);
bool name_eq(const struct name *a, const struct name *b);
bool name_match(const struct name_pattern *pattern, const struct name *name);
static inline struct str name_str(const struct name *n)
{
	return str_n(n->s, n->n);
}

/*
 * Reading and comparing DNS names: see the header.
 *
 * One pass over the bytes: fold to lower case, refuse what is not a letter, digit, hyphen,
 * underscore or dot, and bound each label. Then the last label is looked at as a client would:
 * if it reads as a number, so does the name, and clients would skip DNS altogether.
 */
#include "policy/name.h"

#define LABEL_MAX 63

static int refuse(const char **why, const char *reason)
{
	if (why)
		*why = reason;
	return -EINVAL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool label_is_number(struct str label)
{
	size_t i = 0;

	if (label.n >= 2 && label.p[0] == '0' && label.p[1] == 'x') {
		for (i = 2; i < label.n; i++)
			if (!is_digit(label.p[i]) && !(label.p[i] >= 'a' && label.p[i] <= 'f'))
				return false;
		return true;
	}
	while (i < label.n && is_digit(label.p[i]))
		i++;
	return i == label.n;
}

int name_from(struct str text, struct name *ret, const char **why)
{
	struct name name = { 0 };
	size_t label = 0; /* where the current label starts */

	if (text.n && text.p[text.n - 1] == '.')
		text.n--;
	if (text.n == 0)
		return refuse(why, "the name is empty");
	if (text.n > NAME_MAX_LEN)
		return refuse(why, "the name is longer than 253 characters");
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (c == '.') {
			if (i == label)
				return refuse(why, "a label of the name is empty");
			label = i + 1;
		} else if ((c < 'a' || c > 'z') && !is_digit(c) && c != '-' && c != '_') {
			return refuse(why, "names consist of letters, digits, hyphens, underscores "
				"and dots");
		} else if (i - label >= LABEL_MAX) {
			return refuse(why, "a label of the name is longer than 63 characters");
		}
		name.s[i] = c;
	}
	if (label == text.n)
		return refuse(why, "a label of the name is empty");
	if (label_is_number(str_n(name.s + label, text.n - label)))
		return refuse(why, "the name ends in a number, so clients would read it as an "
			"address");
	name.n = (uint8_t)text.n;
	*ret = name;
	return 0;
}

int name_pattern_from(struct str text, bool apex_too, struct name_pattern *ret, const char **why)
{
	struct name_pattern pattern = { .scope = NAME_EXACT };
	int r;

	if (str_starts(text, STR("*."))) {
		pattern.scope = apex_too ? NAME_BELOW_AND_APEX : NAME_BELOW;
		text = str_skip(text, 2);
	}
	if (str_find(text, '*') >= 0)
		return refuse(why, "\"*\" may stand only for the first label, as in "
			"\"*.example.com\"");
	r = name_from(text, &pattern.name, why);
	if (r < 0)
		return r;
	/* DNS knows such labels and a query may carry them; in a rule they are a slip. */
	for (struct str rest = name_str(&pattern.name), label; rest.p;) {
		label = str_cut(&rest, '.');
		if (label.p[0] == '-' || label.p[label.n - 1] == '-')
			return refuse(why, "a label must not begin or end with a hyphen");
	}
	*ret = pattern;
	return 0;
}

bool name_eq(const struct name *a, const struct name *b)
{
	return a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
}

/* Is name strictly below apex: "a.b.c" below "b.c"? The dot keeps "evilb.c" out. */
static bool name_below(const struct name *apex, const struct name *name)
{
	return name->n > apex->n && name->s[name->n - apex->n - 1] == '.' &&
		memcmp(name->s + name->n - apex->n, apex->s, apex->n) == 0;
}

bool name_match(const struct name_pattern *pattern, const struct name *name)
{
	switch ((enum name_scope)pattern->scope) {
	case NAME_EXACT:
		return name_eq(&pattern->name, name);
	case NAME_BELOW:
		return name_below(&pattern->name, name);
	case NAME_BELOW_AND_APEX:
		return name_eq(&pattern->name, name) || name_below(&pattern->name, name);
	}
	return false;
}

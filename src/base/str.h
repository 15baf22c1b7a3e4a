/*
 * Borrowed text: a pointer and a length, passed by value, never NUL-terminated
 * by promise. Functions that parse numbers accept the whole text or fail; there
 * is no "leading digits" reading anywhere in Weir.
 */
#pragma once
#include "base/base.h"

struct str {
	const char *p;
	size_t n;
};

#define STR(lit)  ((struct str){ "" lit, sizeof(lit) - 1 })
#define STR_NONE  ((struct str){ NULL, 0 })
#define STR_FMT	  "%.*s"
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_n(const void *p, size_t n)
{
	return (struct str){ p, n };
}
static inline struct str str_c(const char *c)
{
	return (struct str){ c, c ? strlen(c) : 0 };
}

bool str_eq(struct str a, struct str b);
bool str_eq_c(struct str a, const char *b);
bool str_caseeq(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
struct str str_trim(struct str s);			/* ASCII space and tab */
struct str str_skip(struct str s, size_t n);
/* Cut at the first `sep`: the part before is returned, *s keeps what follows.
 * Without `sep` the whole text is returned and *s becomes STR_NONE (p == NULL). */
struct str str_cut(struct str *s, char sep);
/* Position of c, or -1. */
ssize_t str_find(struct str s, char c);
/* Decimal only, no sign, no space, at most `max`. 0 or -EINVAL / -ERANGE. */
int str_u64(struct str s, uint64_t max, uint64_t *ret);
/* Copy as a C string; -ENAMETOOLONG if it does not fit, -EINVAL on an inner NUL. */
int str_copy(char *dst, size_t size, struct str s);
/* A fresh NUL-terminated copy, or NULL when out of memory. */
char *str_dup(struct str s);
/* Equal in time that depends on the lengths alone. For credentials. */
bool str_eq_const_time(struct str a, struct str b);
/* Bytes of the well-formed UTF-8 character that s, which is not empty, begins with; 0: of none. */
size_t str_utf8_len(struct str s);
/* Is it well-formed UTF-8? */
bool str_utf8(struct str s);

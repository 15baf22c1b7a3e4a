/*
 * Secrets are a type: erased when freed, never printed. There is no conversion
 * to text except secret_reveal(), whose callers are few and can be searched for.
 */
#pragma once
#include "base/str.h"

struct secret {
	char *p;
	size_t n;
};

int secret_copy(struct secret *dst, struct str s); /* -ENOMEM */
void secret_done(struct secret *s);		   /* erase and free */
#define auto_secret _cleanup_(secret_done)
static inline struct str secret_reveal(const struct secret *s)
{
	return str_n(s->p, s->n);
}
bool secret_eq(const struct secret *a, struct str b); /* constant time */
#define SECRET_PRINT "[redacted]"

/* Secrets: see the header. */
#include "base/secret.h"

int secret_copy(struct secret *dst, struct str s)
{
	char *p = str_dup(s);

	if (!p)
		return -ENOMEM;
	secret_done(dst);
	*dst = (struct secret){ p, s.n };
	return 0;
}

void secret_done(struct secret *s)
{
	if (s->p)
		explicit_bzero(s->p, s->n);
	free(s->p);
	*s = (struct secret){ 0 };
}

bool secret_eq(const struct secret *a, struct str b)
{
	return str_eq_const_time(secret_reveal(a), b);
}

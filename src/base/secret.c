/* Secrets: see the header. One byte behind the buf's is for the NUL that secret_reveal() promises. */
#include "base/hex.h"
#include "base/secret.h"
#include "base/ulid.h"

void secret_done(struct secret *s)
{
	if (s->hidden.p) {
		explicit_bzero(s->hidden.p, s->hidden.cap + 1);
		free(s->hidden.p);
	}
	*s = SECRET_NONE;
}

int secret_room(struct secret *s, size_t max)
{
	secret_done(s);
	if (max > SECRET_MAX)
		return -EFBIG;
	s->hidden.p = calloc(1, max + 2);
	if (!s->hidden.p)
		return -ENOMEM;
	s->hidden.cap = s->hidden.max = max + 1;
	return 0;
}

int secret_copy(struct secret *s, struct str bytes)
{
	struct secret copy = SECRET_NONE; /* first: the bytes may be its own */
	int r = secret_room(&copy, bytes.n);

	if (r == 0)
		buf_add_str(&copy.hidden, bytes);
	secret_done(s);
	*s = copy;
	return r;
}

int secret_random(struct secret *s, struct str prefix)
{
	uint8_t raw[SECRET_RANDOM_LEN / 2];
	int r = secret_room(s, prefix.n + SECRET_RANDOM_LEN);

	if (r < 0)
		return r;
	random_bytes(raw, sizeof(raw));
	buf_add_str(&s->hidden, prefix);
	hex_spell(s->hidden.p + s->hidden.n, raw, sizeof(raw));
	s->hidden.n += SECRET_RANDOM_LEN;
	explicit_bzero(raw, sizeof(raw));
	return 0;
}

struct buf *secret_writer(struct secret *s)
{
	return &s->hidden;
}

struct str secret_reveal(const struct secret *s)
{
	if (!s->hidden.p)
		return STR("");
	s->hidden.p[s->hidden.n] = '\0';
	return buf_str(&s->hidden);
}

bool secret_is(const struct secret *s, struct str shown)
{
	return !secret_empty(s) && str_eq_const_time(buf_str(&s->hidden), shown);
}

struct secret secret_take(struct secret *s)
{
	struct secret taken = *s;

	*s = SECRET_NONE;
	return taken;
}

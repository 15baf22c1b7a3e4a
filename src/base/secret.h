/*
 * Secrets: the bytes of a key, a token or a password as a type of their own, so that they are neither
 * left behind nor printed by accident.
 *
 * Ownership. A secret owns its memory, all of which is taken at birth: what is written never moves, so
 * no older copy lies about. secret_done(), or the end of an auto_secret's scope, erases and frees it.
 * One that is handed over goes through secret_take(); the struct is not to be copied otherwise.
 *
 * Printing. It is neither text nor bytes to what takes those: log_event(), err_set() and the JSON writer
 * do not compile with one. secret_reveal() is the only way out, for who is to know it: a digest, a
 * library, the answer that shows it once. No log line and no error says it (tests/unit/test_secrets.py).
 *
 * Limits. At most SECRET_MAX bytes. Erased is what is here: not the request that it came with, the
 * answer that it left with, or what OpenSSL, libcurl and jansson made of it.
 *
 * Errors. -ENOMEM; -EFBIG beyond the room or SECRET_MAX. It is empty then.
 */
#pragma once
#include "base/buf.h"

#define SECRET_MAX	  (1u << 20)
#define SECRET_RANDOM_LEN 64u /* what secret_random() adds to its prefix */

struct secret {
	struct buf hidden; /* secret.c's alone */
};
#define SECRET_NONE ((struct secret){ { NULL, 0, 0, 0, 0 } })

void secret_done(struct secret *s); /* SECRET_NONE from then on */
#define auto_secret _cleanup_(secret_done)

/* Each of these erases what it held. */
/* Empty, with room for max bytes, to be written through secret_writer(). */
int secret_room(struct secret *s, size_t max);
int secret_copy(struct secret *s, struct str bytes);
/* The prefix and 256 bits of the kernel's randomness in hexadecimal. */
int secret_random(struct secret *s, struct str prefix);

/* For buf_*(), file_read() and the like. It has one byte more than the room, which belongs to buf_fmt()'s
 * NUL and to the end of a file; what does not fit fails as with every buf. */
struct buf *secret_writer(struct secret *s);
static inline bool secret_empty(const struct secret *s)
{
	return s->hidden.n == 0;
}
/* Its bytes, borrowed; a NUL follows them. */
struct str secret_reveal(const struct secret *s);
/* Is it this? In time that depends on the lengths alone. An empty one is nothing. */
bool secret_is(const struct secret *s, struct str shown);
/* Hand it over: the other is SECRET_NONE. */
struct secret secret_take(struct secret *s);

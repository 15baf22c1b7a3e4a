/*
 * Tokens that this daemon makes and recognises without storing them: HMAC-SHA-256, under a key that
 * the first start writes to `token.key` in the state directory (mode 0600), of what the token is for
 * and whose it is. Who has the key file can make every token; who loses it invalidates all.
 */
#pragma once
#include "base/err.h"
#include "base/secret.h"

#define MINT_TOKEN_LEN 43 /* 32 bytes in base64url */
#define MINT_ID_MAX    256u

struct mint;
/* dir: the state directory. -EBADMSG: the file there is no key. */
int mint_open(int dir, struct mint **ret, struct err *err);
void mint_free(struct mint *m); /* its key is erased; NULL is fine */
/* purpose: "egress", "proxy/{port}"; "execd", of a text that is to be recognised and not kept.
 * -EINVAL: an id that is too long; -ENOMEM. */
int mint_token(const struct mint *m, const char *purpose, struct str id, struct secret *ret);
/* In time that does not depend on where they differ. */
bool mint_fits(const struct mint *m, const char *purpose, struct str id, struct str token);

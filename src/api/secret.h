/*
 * Tokens that this daemon makes and recognises without storing them: HMAC-SHA-256, under a key that
 * the first start writes to `token.key` in the state directory (mode 0600), of what the token is for
 * and whose it is. Who has the key file can make every token; who loses it invalidates all.
 */
#pragma once
#include "base/err.h"
#include "base/str.h"

#define SECRET_TOKEN_LEN 43 /* 32 bytes in base64url */
#define SECRET_ID_MAX	 256u

struct secret;
int secret_open(int dir, struct secret **ret, struct err *err);
/* purpose: "egress", "proxy/{port}"; "execd", of a text that is to be recognised and not kept. */
int secret_token(const struct secret *s, const char *purpose, const char *id,
	char ret[static SECRET_TOKEN_LEN + 1]);
/* In time that does not depend on where they differ. */
bool secret_fits(const struct secret *s, const char *purpose, const char *id, struct str token);

/*
 * OpenSandbox's signed routes: what is signed, and how time and signature are spelled.
 *
 *	expires	  seconds since 1970 in base 36, lower case, no zero in front; good until then, and then
 *	signature 8 hexadecimal digits of SHA-256 over BE32(len(secret)) secret BE32(len(c)) c, with c the
 *		  lines v1, short, id, port, expires, each ended by a newline; then the id of the key
 *
 * The api role signs, the edge verifies. A library of its own: root's program has no use for OpenSSL.
 */
#pragma once
#include "base/str.h"
#include "wire/ipc_ingress.h"

#define SIGNED_LEN	9u
#define SIGNED_TIME_MAX 13u /* digits of 64 bits */

/* id: the sandbox's, whole. expires: as it is spelled in the route. -EIO, -ENOMEM. */
int signed_make(const struct ipc_ingress_key *key, struct str id, uint16_t port, struct str expires,
	char ret[static SIGNED_LEN + 1]);
void signed_time(uint64_t at, char ret[static SIGNED_TIME_MAX + 1]);
/* In its one spelling, else false. */
bool signed_time_from(struct str s, uint64_t *ret);
/* Could it be one? */
bool signed_is_time(struct str s);
bool signed_is_sig(struct str s);

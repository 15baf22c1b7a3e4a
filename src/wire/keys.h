/*
 * The keys that routes are signed with, as the operator's file has them (gateway.keys): a line for each,
 * "k = " and 16 to 64 bytes in base64; k, its id, is one of 0-9 and a-z. Blank lines and lines that begin
 * with # are nothing. The first key signs, all verify: a new one is put in front, and an old one goes
 * when the last route that it signed has expired.
 */
#pragma once
#include "base/err.h"
#include "wire/ipc_ingress.h"

#define KEYS_SECRET_MIN 16u
#define KEYS_FILE_MAX	65536u

/* name: the file's, for the complaint, which never has a key's bytes in it. */
int keys_read(const char *name, struct str text, struct ipc_ingress_keys *ret, struct err *err);
/* From a message: is it what keys_read() makes? */
bool keys_ok(const struct ipc_ingress_keys *keys);
void keys_erase(struct ipc_ingress_keys *keys);
#define auto_keys _cleanup_(keys_erase)

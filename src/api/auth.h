/*
 * API keys: 256 random bits, shown once, kept as SHA-256. Held in memory, because every request
 * asks; the store has them too. Looking a key up by its hash tells nothing about other keys; the
 * hash found is compared in constant time all the same.
 */
#pragma once
#include "api/store.h"
#include "base/secret.h"

struct keyring;
struct principal {
	char key[IPC_ID_LEN], user[IPC_ID_LEN];
	bool admin;
	uint8_t hash[32];
	bool counted; /* among the key's requests under way */
};

/* Reads all keys. If there is none yet, makes a user and an admin key and writes the key to
 * `admin.key` in dir (mode 0600): *ret_created tells. */
int keyring_open(struct store *store, int dir, struct keyring **ret, bool *ret_created,
	struct err *err);
void keyring_free(struct keyring *k);
/* 0 or -ENOENT. */
int keyring_check(const struct keyring *k, struct str key, struct principal *ret);
/* Requests under way are counted by key. -EBUSY at max; and the end of one that was counted. */
int keyring_enter(struct keyring *k, struct principal *p, uint32_t max);
void keyring_leave(struct keyring *k, struct principal *p);
/* user "": a user of its own. ret_text receives the key, the only time it is seen. */
int keyring_add(struct keyring *k, struct str name, const char *user, bool admin,
	struct key_row *ret, struct secret *ret_text, struct err *err);
int keyring_revoke(struct keyring *k, const char *id, struct err *err);

/*
 * Identifiers and names as clients write them: sandbox ids with either separator and in either
 * case, names that are DNS labels, generated names, environment variables, SSH public keys.
 * Pure; what is refused here is refused with the sentence and the field of the error catalogue.
 */
#pragma once
#include <jansson.h>
#include "base/buf.h"
#include "base/err.h"
#include "wire/ipc.h"

#define SANDBOX_NAME_MAX 22u
#define ENVS_MAX	 64u
#define ENV_VALUE_MAX	 4096u
#define ENVS_BYTES_MAX	 65536u
#define SSH_KEYS_MAX	 64u /* per sandbox: a bound on what a row can hold */
#define SSH_KEY_BYTES_MAX 16384u

/* "sb-01…" or "SB_01…" -> "sb-01…", lower case. -EINVAL for anything else. */
int sandbox_id_from(struct str text, char ret[static IPC_ID_LEN]);
void sandbox_id_new(char ret[static IPC_ID_LEN]);
/* A name a client chose: ^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$. */
int sandbox_name_check(struct str name, struct err *err);
/* "brave-otter"; attempt > 8 adds digits: two draws of the same pair are then no matter. */
void sandbox_name_new(unsigned int attempt, char ret[static SANDBOX_NAME_MAX + 1]);

bool env_key_ok(struct str key);
/* An object of strings within the limits above. field: "envs" or "env". */
int envs_check(json_t *envs, const char *field, struct err *err);

/* One line as OpenSSH writes it -> "type base64 comment", spaces canonical. The blob must decode
 * and begin with the type it claims. */
int ssh_key_canonical(struct str line, struct buf *out, struct err *err);
/* Add keys (array of strings) to have (array), canonical and without duplicates by type and blob. */
int ssh_keys_merge(json_t *have, json_t *keys, const char *field, struct err *err);

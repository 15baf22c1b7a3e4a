/*
 * What survives a restart: users, keys, sandboxes, networks, versions of policies, a history. SQLite
 * behind a small interface; the only module that knows SQL, and its statements keep to what
 * PostgreSQL also understands ($1 parameters, BIGINT and TEXT, partial unique indexes). Below store/
 * there is a file per subject, schema.c with the migrations, and db.h on which they stand.
 *
 * Synchronous, on the loop's thread: a commit in WAL mode costs some tens of microseconds. With
 * sync_full each commit is also on the disk before it is answered; without, the last moments may
 * be lost with the machine's power, never with a killed process.
 *
 * Unfinished work needs no table of its own: a row in a transitional state *is* the journal.
 * `creating`, `forking`, `pausing`, `resuming` and `destroying` are committed before the first step, and the
 * next start finishes or undoes them (adopt.c). A policy version that was stored but never reached
 * the kernel shows as a policy id that differs from the kernel's.
 *
 * Times (…_ms) are wall-clock milliseconds since 1970, 0 for never; sizes are in the unit of their
 * name. All calls return 0 (or a count) or a negative errno with a sentence: -EEXIST where a unique
 * name or key is taken or what is referred to is not there, -ENOENT where the header says so, -ENOSPC,
 * -ENOMEM and -EIO where the disk or memory refuses, -EBADMSG for a row that we did not write.
 *
 * Arguments are copied and stay the caller's. Rows are shown to a callback, for its duration, newest
 * first unless said; a negative return ends the list and is its result. The callback may change the
 * store, but not list the same kind of rows. limit and offset count rows, ret_total all that fit the
 * question; NULL: not asked for. Keys and tokens are here as digests only, and no call logs a value.
 */
#pragma once
#include "api/life.h"
#include "base/err.h"
#include "wire/ipc.h"

struct store;

struct sandbox_row {
	char id[IPC_ID_LEN], user[IPC_ID_LEN], created_by[IPC_ID_LEN];
	char name[24];
	char shape[32], rootfs[IPC_NAME_LEN], runtime[16];
	char forked_from[IPC_ID_LEN]; /* "": it is no fork */
	enum life_state state;
	uint32_t slot; /* 0: none yet */
	uint32_t vcpu, cpu_milli, quota_pct, mem_mib, disk_mib;
	char ip4[52], ip6[52];	 /* "" while creating */
	uint32_t policy;	 /* id meant to be in force; 0: none yet */
	uint32_t policy_version; /* 1, 2, … of this sandbox */
	uint32_t dialect;	 /* enum policy_dialect of policy_json */
	char *policy_json;	 /* as given: for CreateOS an array of rules. Owned, like all below */
	char *envs;		 /* JSON object */
	char *ssh_keys;		 /* JSON array */
	char *reason;		 /* why it is in error or failed, or who paused it; "" */
	char *image;		 /* as the asker named it, where rootfs is our name for it; "" */
	char *metadata;		 /* JSON object of texts: the user's own, for finding it again */
	char *entrypoint;	 /* JSON array: its main command; [] for none */
	char *services;		 /* JSON array: ports published one by one (services.h) */
	uint32_t auto_pause_s;	 /* 0: off */
	/* Ingress (ingress.h): reachable by name; enum ipc_ingress_access; does a request resume it;
	 * which ports of the host are open (enum ingress_ports), and what they are; 0: none yet. */
	uint32_t ingress, ingress_access, ingress_hold, ingress_ports;
	uint32_t port_proxy, port_direct;
	uint32_t id_told;	 /* visitors have or had an address with its id in it */
	uint32_t secured;	 /* every visitor needs its access token (opensandbox/gateway.h) */
	char execd_token[44];	 /* HMAC of what its execd asks for (opensandbox/guard.h); "" nothing */
	uint64_t created_ms, running_ms, paused_ms, resumed_ms, destroyed_ms;
	uint64_t updated_ms;	 /* when its owner changed something of it last; 0: never */
	uint64_t expires_ms;	 /* deleted then, whatever it does; 0: never */
	uint64_t sleeps_ms;	 /* paused then, if it runs; 0: never */
	uint32_t ttl_s, sleep_s; /* what the two above were set from, to set them anew; 0: nothing */
	uint32_t auto_resume;	 /* a request that needs it running wakes it from a pause */
	uint32_t generation;	 /* 1, and one more at each resume */
	uint64_t spawn_us;
	/* Usage: what was counted up to the last change, and what to add to the kernel's counters
	 * (negative: a slot's former tenant). */
	uint64_t out_used, in_used;
	int64_t out_base, in_base;
};
void sandbox_row_done(struct sandbox_row *row);

struct store_spec {
	int dir;	    /* the directory of the database; stays the caller's, and open */
	const char *name;   /* file in it */
	bool sync_full;
};
int store_open(const struct store_spec *spec, struct store **ret, struct err *err);
void store_close(struct store *s);

/* Several changes as one; they nest no deeper than one. rollback after commit is nothing. */
int store_begin(struct store *s, struct err *err);
int store_commit(struct store *s, struct err *err);
void store_rollback(struct store *s);

/* --- users and keys --- */
struct key_row {
	char id[IPC_ID_LEN], user[IPC_ID_LEN];
	char name[64], hint[16];
	uint8_t hash[32]; /* SHA-256 of the key */
	bool admin;
	uint64_t created_ms;
};
int store_user_add(struct store *s, const char *id, const char *name, struct err *err);
int store_user_exists(struct store *s, const char *id, struct err *err); /* 1, 0 */
int store_key_add(struct store *s, const struct key_row *k, struct err *err);
int store_key_delete(struct store *s, const char *id, struct err *err); /* -ENOENT */
typedef int (*store_key_fn)(const struct key_row *k, void *arg);
int store_keys(struct store *s, uint32_t limit, uint32_t offset, store_key_fn fn, void *arg,
	uint64_t *ret_total, struct err *err);

/* --- sandboxes --- */
int store_sandbox_add(struct store *s, const struct sandbox_row *row, struct err *err);
int store_sandbox_save(struct store *s, const struct sandbox_row *row, struct err *err); /* -ENOENT */
int store_sandbox_drop(struct store *s, const char *id, struct err *err); /* with all of its own */
/* -ENOENT; what it gives is ended by sandbox_row_done(). */
int store_sandbox_get(struct store *s, const char *id, struct sandbox_row *ret, struct err *err);
typedef int (*store_row_fn)(struct sandbox_row *row, void *arg); /* may take its texts */
/* user NULL: everybody's. states: bit mask 1 << enum life_state. */
int store_sandboxes(struct store *s, const char *user, uint32_t states, uint32_t limit,
	uint32_t offset, store_row_fn fn, void *arg, uint64_t *ret_total, struct err *err);
int store_sandbox_counts(struct store *s, const char *user, uint64_t counts[static LIFE_STATES],
	struct err *err);
/* Drop rows destroyed or failed before this time, with their versions and history: how many. In a
 * transaction of its own. */
int store_sweep(struct store *s, uint64_t before_ms, struct err *err);

/* --- policies --- */
/* Reserve n policy ids, never handed out before: the first of them. -EOVERFLOW after 2^31. */
int store_policy_ids(struct store *s, uint32_t n, uint32_t *ret_first, struct err *err);
/* Raise the sequence so that ids up to `seen` are not handed out. */
int store_policy_seen(struct store *s, uint32_t seen, struct err *err);
struct version_row {
	char sandbox[IPC_ID_LEN];
	uint32_t version, policy, dialect;
	struct str json; /* borrowed */
	uint64_t at_ms;
};
#define STORE_VERSIONS_KEPT 100u /* per sandbox: to look back, bounded for a client that PUTs in a loop */
/* Older ones than the STORE_VERSIONS_KEPT last go. */
int store_version_add(struct store *s, const struct version_row *v, struct err *err);
int store_version_drop(struct store *s, const char *sandbox, uint32_t version, struct err *err);
typedef int (*store_version_fn)(const struct version_row *v, void *arg);
int store_versions(struct store *s, const char *sandbox, uint32_t limit, uint32_t offset,
	store_version_fn fn, void *arg, uint64_t *ret_total, struct err *err);

/* --- history: what happened to a sandbox and why --- */
int store_note(struct store *s, const char *sandbox, const char *event, const char *detail,
	struct err *err);

/* --- tokens of ingress --- */
struct token_row {
	char id[IPC_ID_LEN], sandbox[IPC_ID_LEN];
	char name[64], hint[16];
	uint32_t port;	    /* the only one it opens */
	uint8_t digest[32]; /* SHA-256 of the token */
	uint64_t created_ms, expires_ms; /* 0: never */
};
int store_token_add(struct store *s, const struct token_row *t, struct err *err);
int store_token_drop(struct store *s, const char *id, struct err *err);
int store_token_clear(struct store *s, const char *sandbox, struct err *err);
typedef int (*store_token_fn)(const struct token_row *t, void *arg);
int store_tokens(struct store *s, store_token_fn fn, void *arg, struct err *err); /* oldest first */

/* --- private networks --- */
struct network_row {
	char id[IPC_ID_LEN], user[IPC_ID_LEN], name[IPC_NAME_LEN];
	uint32_t number; /* what the kernel knows it by */
	uint64_t created_ms;
	const char *policy; /* JSON; "": none. Borrowed; what store_network_add() is given is not read */
};
/* A number no network has had; -EOVERFLOW after 2^32. Within the transaction that adds it. */
int store_network_number(struct store *s, uint32_t *ret, struct err *err);
int store_network_add(struct store *s, const struct network_row *n, struct err *err);
int store_network_policy(struct store *s, const char *id, const char *json, struct err *err);
int store_network_drop(struct store *s, const char *id, struct err *err); /* without members */
typedef int (*store_network_fn)(const struct network_row *n, void *arg);
/* user NULL: everybody's, all of them, in no order. */
int store_networks(struct store *s, const char *user, uint32_t limit, uint32_t offset,
	store_network_fn fn, void *arg, uint64_t *ret_total, struct err *err);
int store_member_add(struct store *s, const char *network, const char *sandbox, struct err *err);
int store_member_drop(struct store *s, const char *network, const char *sandbox, struct err *err);
int store_member_clear(struct store *s, const char *sandbox, struct err *err); /* in none */
typedef int (*store_member_fn)(const char *network, const char *sandbox, void *arg);
int store_members(struct store *s, store_member_fn fn, void *arg, struct err *err);

/*
 * What the edge knows of one sandbox: its link, the versions of its policy, its budgets, and the
 * addresses its names have led to.
 *
 * Versions. A policy change is SET (the new one), the flip in the kernel, RETIRE (the old one).
 * Between SET and RETIRE packets may be judged by either, so everything learned is pinned under
 * both. Questions are gated by the newest. A change that failed retires the new one, and the old
 * one governs again.
 *
 * Learned addresses. address -> the names that led to it, each until TTL + PIN_GRACE after its last
 * answer. An address is pinned under a version when at least one of its names is allowed there by a
 * name rule; the decision comes from policy_pin() with all such names. Where it came from is kept
 * too: what a resolver other than ours said counts under a version only if that version names the
 * resolver, so nobody prepares tomorrow's pins with a resolver of their own today.
 *
 * Life of a pin (D12, D13). Names that have run out leave when the sweep next comes by, unless
 * a packet matched the pin within PIN_IDLE: a connection outlives the TTL, and so does a
 * client that reconnects. TTL 0 is TTL + grace like any other. At pins_max the least recently
 * answered address goes, sparing those in use as long as there are others.
 *
 * What was learned is noted beside the pins (keeper.h), so that it outlives this process: the pins
 * of a live connection say that it may go on, but not why, and the next policy asks why.
 *
 * Port tables are shared by content within a version and counted, so a thousand addresses of
 * "example.com:443" cost two entries of the kernel's map.
 */
#pragma once
#include "base/clock.h"
#include "edge/gate.h"
#include "edge/hash.h"
#include "edge/keeper.h"
#include "edge/pinner.h"
#include "wire/ipc.h"

#define TENANT_VERSIONS_MAX   4u /* SETs without RETIRE; one is the rule, two during a change */
#define TENANT_PORTS_MAX      16384u	/* port entries per version: a share of the kernel's map */
#define LEARNED_NAMES_MAX     32u	/* names remembered of one address */
#define PIN_GRACE	      (60 * NS_PER_SEC) /* clients hold answers past their TTL */
#define PIN_IDLE	      (300 * NS_PER_SEC) /* in use: a packet matched this recently */
#define PIN_EVICT_TRIES	      8		/* addresses in use that eviction steps over */
#define TENANT_KEPT_MAX	      2048u	/* names of one sandbox noted for the next process */
#define KEEP_SLACK	      (60 * NS_PER_SEC) /* a note may be this far behind */

struct port_table {
	UT_hash_handle hh; /* by content, table numbers zeroed */
	uint32_t id, refs;
	size_t n;
	struct policy_port_entry ports[];
};

struct version {
	uint32_t id; /* policy id; 0: this place is free */
	uint64_t order;
	struct policy *policy;
	struct gate *gate; /* its names */
	struct port_table *tables;
	size_t n_ports;
	uint32_t next_table;
};

struct known_name {
	UT_hash_handle hh;
	uint32_t refs;
	struct name name;
};

struct known {
	struct known_name *name;
	struct ip from; /* the resolver that said so; family 0: ours */
	uint64_t expires;
	uint64_t kept; /* `expires` as it was noted last; 0: there is no note */
};

struct pin {
	bool set;
	struct port_table *table; /* NULL: one verdict for every port */
	struct weir_decision decision;
};

struct learned {
	UT_hash_handle hh;
	struct learned *prev, *next; /* of the tenant, last answered first */
	struct ip ip;
	bool dirty; /* a pin could not be brought in line: try again */
	uint16_t n_names, cap_names;
	struct known *names;
	struct pin pins[TENANT_VERSIONS_MAX]; /* beside versions[] */
};

struct bucket { /* a token bucket in nanoseconds of credit */
	uint64_t at;
};

struct tenant {
	UT_hash_handle hh_slot, hh_link;
	uint32_t slot, ifindex;
	uint64_t life;	  /* a number no other sandbox has had, and how often something went that a */
	uint64_t changes; /* former finding may rest on (lately.h) */
	char id[IPC_ID_LEN];
	char hostname[IPC_NAME_LEN];
	struct ip ip4, ip6;
	bool has_ipv6, synced;
	struct membership *nets; /* its private networks (overlay.h); NULL: none */

	struct version versions[TENANT_VERSIONS_MAX];
	uint64_t order;

	struct learned *addrs, *recent;
	struct known_name *names;
	uint32_t n_addrs, n_kept;

	struct bucket queries, refusals, events;
	uint32_t events_suppressed;
	uint32_t outstanding, connections;
	struct tenant *doomed_next;
};

/* What pinning needs, the same for all tenants. */
struct tenant_env {
	struct pinner pinner;
	struct keeper keeper;
	struct policy_knobs knobs;
	uint32_t pins_max;
	/* May any sandbox reach it at all? */
	enum weir_floor (*floor)(void *arg, struct ip ip);
	void *floor_arg;
	uint64_t pins_set, pins_failed, pins_evicted, pins_aged, recalled;
};

struct tenant *tenant_new(uint32_t slot);
/* Learns anew what a former process knew of this sandbox (t->id); before its first version. */
void tenant_recall(struct tenant_env *env, struct tenant *t);
/* Takes all pins back; with env NULL they stay in the kernel, for whoever comes next. */
struct tenant *tenant_free(const struct tenant_env *env, struct tenant *t);

/* Takes the policy over, also on failure. Everything learned that it allows is pinned before this
 * returns. -ENOSPC: too many versions; another negative: a pin could not be written, and the
 * version is gone again. */
int tenant_version_add(
	struct tenant_env *env, struct tenant *t, uint32_t id, struct policy *policy);
void tenant_version_del(struct tenant_env *env, struct tenant *t, uint32_t id);
struct version *tenant_version(struct tenant *t, uint32_t id); /* NULL */
struct version *tenant_current(struct tenant *t);		/* NULL: none */

/* May this address be told under that policy? is_private: policy_is_private(ip). */
bool tenant_may_tell(const struct tenant_env *env, const struct policy *p, struct ip ip,
	bool is_private);
/* `name` led to `ip`, said `from`, for ttl seconds: remember, and pin under every version. On
 * failure the address must not be told. */
int tenant_learn(struct tenant_env *env, struct tenant *t, const struct name *name, struct ip ip,
	struct ip from, uint32_t ttl, uint64_t now);
bool tenant_knows(struct tenant *t, struct ip ip);
/* Let go of what has run out. Returns how many addresses were looked at. */
size_t tenant_sweep(struct tenant_env *env, struct tenant *t, uint64_t now);

/* One unit from a bucket of `rate` per second and depth `burst`. */
bool bucket_take(struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now);

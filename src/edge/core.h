/*
 * Inside the resolver, shared by resolver.c (sandboxes and queries), reply.c (what may be said to
 * whom) and pending.c (questions on their way upstream). Nobody else includes this.
 */
#pragma once
#include "edge/hash.h"
#include "edge/lately.h"
#include "edge/resolver.h"
#include "policy/floor.h"

struct waiter { /* a query that waits for a pending question */
	struct waiter *next;
	struct tenant *tenant;
	struct dns_client client;
	struct dns_query query;
};

struct pending;
struct attempt {
	UT_hash_handle hh; /* by key */
	struct attempt_key {
		uint64_t sock;
		uint64_t id;
	} key;
	struct pending *pending;
	size_t upstream; /* index, when ours */
	uint64_t sent;	 /* when */
	bool open;
};

struct pending {
	UT_hash_handle hh; /* by question */
	struct pending *prev, *next;
	struct question question;
	struct dns_name sent; /* with our mix of cases */
	uint16_t type;
	bool dnssec_ok, checking_disabled, ours, tcp;
	struct server server; /* theirs, or the one asked last */
	struct ip from;	      /* family 0: ours */
	uint32_t tries;
	uint64_t deadline;
	struct attempt attempts[RESOLVER_TRIES + 1]; /* one more: TCP after a truncated last try */
	struct waiter *waiters;
};

struct upstream {
	struct server server;
	uint32_t failures;   /* attempts in a row of which nothing was heard */
	uint64_t down_until; /* from FAILURES_DOWN on: when it is tried again */
	uint64_t heard;	     /* its last answer, whatever that said */
	uint64_t srtt, rttvar; /* how long answers take, as TCP reckons it; 0: unknown */
};

struct owner { /* policy id -> sandbox */
	UT_hash_handle hh;
	uint32_t id;
	struct tenant *tenant;
};

struct resolver {
	struct tenant_env env;
	const struct resolver_ops *ops;
	void *arg;
	uint32_t qps;
	struct weir_dns_counters *counters;
	struct cache *cache;
	struct upstream upstreams[RESOLVER_UPSTREAMS_MAX];
	size_t n_upstreams;

	struct tenant *by_slot, *by_link;
	struct prefix overlay;	 /* address range of the private networks; family 0: none */
	struct alias *aliases; /* names of their members: overlay.c */
	uint64_t lives; /* sandboxes that there ever were */
	struct lately *lately;
	struct owner *owners;
	struct tenant *sweep_at; /* where the next sweep goes on */

	struct pending *questions, *in_order;
	struct attempt *attempts;
	size_t n_pending;

	struct resolver_stats stats;
	struct buf out, scratch; /* reused: no allocation per query */
};

enum route { ROUTE_REFUSE, ROUTE_OURS, ROUTE_THEIRS };
struct ruling {
	enum route route;
	enum policy_name_verdict verdict;
	uint16_t rule;
};

/* reply.c */
struct ruling rule_on(struct resolver *r, struct tenant *t, const struct name *name,
	const struct dns_client *client);
/* The client's name in canonical form; -EINVAL. */
int query_name(const struct dns_query *q, struct name *ret);
void reply_refused(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct name *name, const struct ruling *ruling,
	uint64_t now);
void reply_empty(struct resolver *r, const struct dns_client *c, const struct dns_query *q,
	uint8_t rcode, int ede, struct str text);
/* from: family 0 for ours. name and ruling are of this very moment. True: the whole answer went
 * out, every address in it pinned if the policy wants that. */
bool reply_ruled(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct name *name, const struct ruling *ruling,
	const struct answer *a, struct ip from, uint64_t now);
/* keep: a bit for each address that may be told and is pinned. */
#define KEEP_ALL UINT64_MAX
void reply_kept(struct resolver *r, const struct dns_client *c, const struct dns_query *q,
	const struct answer *a, uint64_t keep, uint64_t now);
/* The same after a while: ruled on again, since the policy may have changed. */
void reply_answer(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct answer *a, struct ip from, uint64_t now);
/* The refusal is counted for the sandbox; told as far as the rate of events allows. */
void resolver_count(struct resolver *r, const struct tenant *t, enum weir_reason reason);
void reply_event(struct resolver *r, struct tenant *t, enum weir_reason reason, uint16_t rule,
	uint16_t qtype, struct ip addr, const struct name *name, uint64_t now);

/* pending.c */
void pending_ask(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct question *question, const struct ruling *ruling,
	uint64_t now);
void pending_forget(struct resolver *r, struct tenant *t); /* the sandbox is gone */
void pending_free(struct resolver *r);

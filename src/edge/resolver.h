/*
 * The DNS proxy without its sockets.
 *
 * Theory of operation. A query comes in with the link it arrived on; the link names the sandbox,
 * whatever its source address says. In order:
 *
 *   budget    dns.qps per sandbox, burst twice that; beyond it REFUSED, and beyond that silence
 *   shape     one question, class IN, a canonical name, a type that can be judged (below)
 *   members   names of private networks are answered from what SET told (overlay.h), whatever the
 *             policy says, and travel nowhere
 *   gate      policy_name(), by way of gate.h: a name that a rule denies, or that nothing allows,
 *             is answered NXDOMAIN with an extended error. Nothing about it leaves this process
 *   route     ours, or the resolver the sandbox asked: when the policy names it explicitly, or
 *             under default allow when no name rule concerns the name and the resolver's address
 *             may be reached. A name that a rule allows is asked of ours unless the policy names
 *             the resolver, since its answer opens addresses
 *   cache     ours only; shared by all sandboxes. What was found out about one of its answers for
 *             this sandbox a moment ago is not asked again (lately.h): then the answer goes out
 *             before gate and route
 *   pending   one question travels once however many ask it (coalescing), to one resolver at a
 *             time, at most RESOLVER_TRIES times
 *   reply     after a wait judged again, since the policy may have changed meanwhile; floor and
 *             private addresses are left out; what is left is pinned under the asked name, in
 *             every version of the policy; only then the answer goes out. No pin is SERVFAIL
 *
 * The asked name is what is gated and pinned: a CNAME from an allowed name to any other is followed
 * by the resolver, and its addresses belong to the allowed name. Who allows a name trusts its
 * owner's choice of addresses; that choice never reaches the floor or private networks.
 *
 * Types: those that describe a name to a client (A, AAAA, HTTPS, TXT, MX, SRV, …). Refused are ANY,
 * transfers, NULL, meta types and types without a known meaning: they serve tunnels or
 * amplification, and their answers cannot be judged.
 *
 * Upstream nothing of the client's message is repeated but the question: id, port, and the mix of
 * cases in the name are ours and random, EDNS options do not pass. An answer counts if socket, id
 * and question fit; one that fits but for the cases is asked again over TCP, where guessing from
 * outside is no use.
 *
 * One thread. `now` is CLOCK_MONOTONIC in nanoseconds and always an argument. Sockets, randomness
 * and the kernel's maps stand behind resolver_ops and pinner_ops, so tests play them.
 */
#pragma once
#include "edge/cache.h"
#include "edge/tenant.h"

#define RESOLVER_UPSTREAMS_MAX 8u
#define RESOLVER_TRIES	       4u
#define RESOLVER_PENDING_MAX   1024u /* questions in flight, each with up to five sockets */
#define RESOLVER_WAITING_MAX   128u  /* unanswered queries of one sandbox */
#define RESOLVER_TICK_MS       50u
#define RESOLVER_SWEEP_MS      1000u
#define RESOLVER_SWEEP_ADDRS   4096u /* looked at per sweep */

struct server {
	struct ip ip;
	uint16_t port;
	bool host; /* only the host's namespace reaches it */
};

struct dns_client { /* where an answer goes; opaque here but for dst and tcp */
	struct ip peer, dst; /* dst: the resolver the sandbox meant */
	uint32_t ifindex;
	uint16_t port;
	bool tcp;
	uint64_t conn; /* TCP */
};

struct resolver_ops {
	void (*reply)(void *arg, const struct dns_client *to, struct str msg);
	/* A socket that hears only this server. Its number is passed to the others. */
	int (*open)(void *arg, const struct server *s, bool tcp, uint64_t *ret_sock);
	int (*send)(void *arg, uint64_t sock, struct str msg);
	void (*close)(void *arg, uint64_t sock);
	bool (*event)(void *arg, const struct ipc_event_dns *ev); /* false: not told, count it */
	enum weir_floor (*floor)(void *arg, struct ip ip);
	void (*random)(void *arg, void *p, size_t n);
};

struct resolver_conf {
	struct server upstreams[RESOLVER_UPSTREAMS_MAX];
	size_t n_upstreams;
	uint32_t qps, cache_entries, pins_max;
	struct policy_knobs knobs;
	struct pinner pinner;
	struct weir_dns_counters *counters; /* one per slot, mapped; NULL: not counted per sandbox */
	struct keeper keeper;
	struct prefix overlay; /* of the private networks' addresses; family 0: there are none */
};

struct resolver_stats {
	uint64_t queries, cached, coalesced, asked, retried, over_tcp, answered;
	uint64_t refused_name, refused_type, refused_invalid, refused_rate, dropped_rate;
	uint64_t dropped_unknown; /* no sandbox on that link */
	uint64_t members; /* names of private networks answered */
	uint64_t rebinds;	  /* addresses removed */
	uint64_t servfail, overload;
	uint64_t mismatched; /* id, socket or question did not fit */
};

struct resolver;
int resolver_new(const struct resolver_conf *conf, const struct resolver_ops *ops, void *arg,
	struct resolver **ret);
struct resolver *resolver_free(struct resolver *r); /* pins stay in the kernel */
void resolver_upstreams(struct resolver *r, const struct server *s, size_t n);

/* --- from sandboxes, from upstream, from the clock --- */
void resolver_query(struct resolver *r, const struct dns_client *from, struct str msg,
	uint64_t now);
void resolver_answer(struct resolver *r, uint64_t sock, struct str msg, uint64_t now);
/* The socket will say no more (ICMP error, connection lost). resolver_ops.close() follows. */
void resolver_lost(struct resolver *r, uint64_t sock, uint64_t now);
/* Every RESOLVER_TICK_MS while resolver_pending(); and every RESOLVER_SWEEP_MS. */
void resolver_tick(struct resolver *r, uint64_t now);
void resolver_sweep(struct resolver *r, uint64_t now);
void resolver_floor_changed(struct resolver *r); /* findings that rest on it end */
size_t resolver_pending(const struct resolver *r);

/* --- from the api role: wire/ipc.h, IPC_EDGE_* --- */
/* blob: policy_encode(). When this returns 0, learned names are pinned under the new id. */
int resolver_set(struct resolver *r, const struct ipc_edge_set *set, struct str blob,
	struct err *err);
void resolver_retire(struct resolver *r, uint32_t slot, uint32_t policy);
void resolver_del(struct resolver *r, uint32_t slot);
void resolver_unsync(struct resolver *r); /* the api role is new: nobody is confirmed */
void resolver_synced(struct resolver *r); /* those not SET since are gone */
int resolver_learned(struct resolver *r, uint32_t slot, uint64_t now, struct buf *out);

/* --- for the collector of pins that nobody remembers --- */
enum pin_owner { PIN_UNKNOWN_POLICY, PIN_UNKNOWN_ADDR, PIN_KNOWN };
enum pin_owner resolver_pin_owner(struct resolver *r, uint32_t policy, struct ip ip);

/* Connections of one sandbox, counted for net_tcp.c. */
bool resolver_connection(struct resolver *r, uint32_t ifindex, uint32_t max);
void resolver_connection_done(struct resolver *r, uint32_t ifindex);
const struct resolver_stats *resolver_stats(const struct resolver *r);
int resolver_dump(struct resolver *r, struct buf *out); /* one line of name=value */

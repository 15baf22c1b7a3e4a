/*
 * Ingress: the reverse proxy in front of the sandboxes' ports. HTTP/1.1 on both sides.
 *
 * A request names its target in one of these ways, and from there on there is one path:
 *
 *   header   OpenSandbox-Ingress-To: {id}-{port}        (or the older OPEN-SANDBOX-INGRESS)
 *   host     {id}-{port}.{domain}, {id}--p{port}.{domain}; signed: {id}-{port}-{expires}-{sig}.…
 *   path     /{id}/{port}/…, signed /{id}/{port}/{expires}/{sig}/…;
 *            (/v1)?/sandboxes/{id}/proxy/{port}/…
 *   listener the two host ports of a sandbox: /proxy/{port}/…, and straight to 8080
 *
 * {id} is the sandbox's id with or without "sb-", in either case. The first that is there decides,
 * in this order, and a malformed one is refused, not passed over. The agent's ports are nobody's
 * target.
 *
 * What leads where is told by the api role (wire/ipc_ingress.h) and nothing else is asked at a
 * request. Upstream is the sandbox's own address over its own link, from the gateway's; where
 * nothing listens there, its loopback through the agent's CONNECT. Connections upstream are kept
 * and used again, for the same sandbox and port only.
 *
 * Bytes are strict on both sides: what two parsers could read differently is refused (400; 502 if
 * the sandbox says it). Every body passes as it comes, in pieces of at most INGRESS_PIECE; who does
 * not take what was sent to him stops the other side, so a connection holds at most two pieces and
 * two heads. Nothing is held by a connection that waits for its next request but itself.
 *
 * One thread, one loop, plain readiness watchers, as edge/net.h.
 */
#pragma once
#include <uv.h>
#include "base/buf.h"
#include "base/err.h"
#include "wire/ipc_ingress.h"

#define INGRESS_PIECE	   131072u /* one read */
#define INGRESS_PORT_EXECD  44772u /* with IPC_INGRESS_SERVICES these two are the api role's */
#define INGRESS_PORT_EGRESS 18080u
#define INGRESS_PORT_DIRECT 8080u  /* behind a listener of kind INGRESS_DIRECT */

/* How a client shows a token (IPC_INGRESS_TOKEN). By query: it is taken out of the target, and the
 * answer sets the cookie. None of them reaches the sandbox. */
#define INGRESS_TOKEN_HEADER "X-Weir-Ingress-Token"
#define INGRESS_TOKEN_COOKIE "weir-ingress-token"
#define INGRESS_TOKEN_QUERY  "weir_token"
#define INGRESS_SECURE_HEADER "OpenSandbox-Secure-Access"

enum ingress_kind { INGRESS_GATEWAY, INGRESS_PROXY, INGRESS_DIRECT };

struct ingress_conf {
	char domain[256];	     /* without a dot in front; "localhost" */
	bool gateway_names;	     /* who comes by host name is answered as OpenSandbox's gateway does */
	uint32_t connections_max;    /* of clients, in all */
	uint32_t per_address;	     /* of one client address (IPv6: one /64) */
	uint32_t per_sandbox;	     /* requests and tunnels under way for one sandbox */
	uint32_t upstream_max;	     /* connections to sandboxes in all, idle ones too */
	uint32_t head_max;	     /* bytes of a request's or an answer's head */
	uint32_t head_ms;	     /* a head must be complete by then */
	uint32_t idle_ms;	     /* a client between two requests */
	uint32_t connect_ms;	     /* to reach the sandbox */
	uint32_t answer_ms;	     /* until the sandbox begins to answer */
	uint32_t silence_ms;	     /* a body or a tunnel on which nothing moves */
	uint32_t half_ms;	     /* a client that closed its side is looked after so often */
	uint32_t hold_ms;	     /* for a paused sandbox to come back */
	uint32_t hold_max;	     /* requests that wait for one sandbox */
	bool agent;		     /* try the agent where nothing listens outside loopback */
};

/* Calls that the proxy makes; never from inside a call that is made to it. */
struct ingress_ops {
	/* False: it could not be told, and is told again later. */
	bool (*seen)(void *arg, const struct ipc_ingress_seen *seen);
	/* Ask for one resume; ingress_woken() answers, whatever comes of it. */
	int (*wake)(void *arg, const struct ipc_ingress_wake *wake);
	/* Hand this end of a connection to the api role; the caller closes it in any case. */
	int (*serve)(void *arg, const struct ipc_ingress_conn *conn, int fd);
	/* A nonblocking socket that is connected or connecting: to the sandbox's port, or to its
	 * agent if port is 0. NULL: as the role does it, bound to the link. */
	int (*dial)(void *arg, const struct ipc_edge_ingress *to, uint16_t port);
};

struct ingress;
void ingress_conf_defaults(struct ingress_conf *conf);
/* conf and ops are copied. A certificate for the domain is made at once; ingress_cert() replaces it. */
int ingress_new(uv_loop_t *loop, const struct ingress_conf *conf, const struct ingress_ops *ops,
	void *arg, struct ingress **ret);
/* Everything ends at once; the memory goes when the loop has closed its handles. NULL is fine. */
void ingress_free(struct ingress *in);

/* A listening socket of the gateway's (HTTP and TLS, told apart by the first byte); taken over. */
int ingress_listen(struct ingress *in, int fd);
/* PEM texts: a certificate with its chain, and its key. New connections use it from now on; on
 * failure they go on with the one before. */
int ingress_cert(struct ingress *in, struct str cert, struct str key, struct err *err);

/* From the api role. fds: as flags say, taken over in any case. */
int ingress_set(struct ingress *in, const struct ipc_edge_ingress *set, int *fds, unsigned int n_fds,
	struct err *err);
int ingress_keys(struct ingress *in, const struct ipc_ingress_keys *keys, struct err *err);
void ingress_del(struct ingress *in, uint32_t slot);
void ingress_woken(struct ingress *in, uint32_t slot, const struct err *err); /* err NULL: it runs */
void ingress_unsync(struct ingress *in); /* a new api role tells everything again */
void ingress_synced(struct ingress *in);
/* From a message as it came; sizes and texts are checked here. */
int ingress_set_read(struct str payload, struct ipc_edge_ingress *ret, struct err *err);
int ingress_keys_read(struct str payload, struct ipc_ingress_keys *ret, struct err *err);

struct ingress_counters {
	uint64_t accepted, full, per_address;	      /* connections; refused by which limit */
	uint64_t requests, malformed, refused, failed; /* as in struct ipc_ingress_seen, of all */
	uint64_t dialled, reused;		      /* connections upstream */
	uint64_t handshakes, handshakes_failed;	      /* TLS */
	uint32_t clients, upstreams, tunnels, held;   /* now */
};
void ingress_counters(const struct ingress *in, struct ingress_counters *ret);

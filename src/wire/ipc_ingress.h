/*
 * What the api role and an edge worker say to each other about ingress: the messages
 * IPC_EDGE_INGRESS* and IPC_EVENT_INGRESS_* of wire/ipc.h.
 *
 * The edge knows a sandbox for ingress from its first IPC_EDGE_INGRESS on. Each such message is the
 * whole truth about one sandbox and replaces the one before at once: requests under way go on,
 * except where the sandbox is switched off, which cuts them. IPC_EDGE_DEL ends it;
 * IPC_EDGE_SYNCED ends those that were not told since the connection.
 *
 *   create, adopt, resume, PATCH, token made or revoked   api -> edge  INGRESS, before the client
 *                                                         is answered: routable from then on
 *   a request for a paused sandbox that holds             edge -> api  INGRESS_WAKE, a call; the api
 *                                                         resumes, tells INGRESS with RUNNING, and
 *                                                         answers the call
 *   somebody uses it                                      edge -> api  INGRESS_SEEN
 *   a connection for a port that the api serves itself    edge -> api  INGRESS_CONN
 *
 * From the host role the edge gets, at boot, the gateway's listeners as "ingress.0", "ingress.1", …
 * and, where a certificate is configured, PEM texts as "ingress.cert" and "ingress.key"; a pair that
 * comes later by IPC_BOOT_FD (the certificate first) replaces it for new connections. The api role gets
 * the keys of signed routes as "gateway.keys", a struct ipc_ingress_keys, in the same way, and tells
 * the workers: each before the first sandbox, all again when they change.
 */
#pragma once
#include "wire/ipc.h"

#define IPC_INGRESS_TOKENS_MAX 128u /* per sandbox */
#define IPC_INGRESS_ROUTES_MAX 16u  /* per sandbox */
#define IPC_INGRESS_KEYS_MAX   8u   /* signing keys at a time, for rotation */
#define IPC_INGRESS_SECRET_MAX 128u
#define IPC_INGRESS_SEEN_MS    1000u /* SEEN of one sandbox comes at most this often */

enum ipc_ingress_state {
	IPC_INGRESS_STARTING, /* being made, resumed or restarted: 503 */
	IPC_INGRESS_RUNNING,
	IPC_INGRESS_PAUSED,   /* 503, or held while it is resumed */
	IPC_INGRESS_DOWN,     /* stopped or failed: 503 */
	IPC_INGRESS_STATES
};

enum ipc_ingress_access {
	IPC_INGRESS_OPEN,  /* who knows the name may come in */
	IPC_INGRESS_TOKEN, /* a token for the port is needed */
	IPC_INGRESS_ACCESSES
};

enum ipc_ingress_flags {
	IPC_INGRESS_ON	     = 1u << 0, /* off: 404 by host name, header and path */
	IPC_INGRESS_HOLD     = 1u << 1, /* a request for a paused sandbox asks for it and waits */
	/* Ports 44772 (execd) and 18080 (egress) are answered by the api role; without it they are
	 * ports like any other. */
	IPC_INGRESS_SERVICES = 1u << 2,
	IPC_INGRESS_PROXY    = 1u << 3, /* it has a host port for /proxy/{port}/… */
	IPC_INGRESS_DIRECT   = 1u << 4, /* it has a host port that leads straight to 8080 */
	/* A listener comes with this message, PROXY's before DIRECT's, and replaces an older one.
	 * Without it the listener given earlier stays. */
	IPC_INGRESS_PROXY_FD  = 1u << 5,
	IPC_INGRESS_DIRECT_FD = 1u << 6,
	/* With SERVICES: execd asks for a token of its own, so whatever is asked for below
	 * /proxy/{port} of the host port goes to it, as it does to the execd of that API. */
	IPC_INGRESS_GUARDED = 1u << 7,
};

struct ipc_ingress_token {
	uint8_t digest[32];  /* SHA-256 of the token's text */
	uint64_t expires;    /* seconds since 1970; 0: never */
	uint32_t port, zero; /* the only port it opens */
};

enum ipc_ingress_auth {
	IPC_INGRESS_ANYBODY,
	IPC_INGRESS_BEARER, /* Authorization: Bearer with this text */
	IPC_INGRESS_HEADER, /* this header with this text */
	IPC_INGRESS_AUTHS,
};

/* A port that is published by itself: open to whom this says, whatever ON, HOLD and access say of
 * the others. */
struct ipc_ingress_route {
	uint16_t port;
	uint8_t hold;	 /* 1: as IPC_INGRESS_HOLD, for this port */
	uint8_t auth;	 /* enum ipc_ingress_auth */
	char header[44]; /* HEADER's name */
	uint8_t digest[32]; /* SHA-256 of what is to be shown */
};

/* IPC_EDGE_INGRESS: sent with n_tokens and, right behind them, n_routes entries, no more. */
struct ipc_edge_ingress {
	char id[IPC_ID_LEN];
	uint32_t slot, ifindex;
	struct ip ip4;
	uint32_t flags;	 /* enum ipc_ingress_flags */
	uint32_t state;	 /* enum ipc_ingress_state */
	uint32_t access; /* enum ipc_ingress_access */
	char secret[IPC_INGRESS_SECRET_MAX]; /* OpenSandbox-Secure-Access; "": not secured */
	uint32_t n_tokens, n_routes;
	struct ipc_ingress_token tokens[IPC_INGRESS_TOKENS_MAX];
	struct ipc_ingress_route routes[IPC_INGRESS_ROUTES_MAX];
};

/* Of a message that was sent, or read: the secret in it. */
static inline void ipc_ingress_erase(struct ipc_edge_ingress *m)
{
	explicit_bzero(m->secret, sizeof(m->secret));
}
#define auto_ingress _cleanup_(ipc_ingress_erase)

/* IPC_EDGE_INGRESS_KEYS: what routes are signed with (wire/signed.h); replaces all. The first signs. */
struct ipc_ingress_keys {
	uint32_t n;
	struct ipc_ingress_key {
		char id; /* 0-9a-z */
		uint8_t zero[3];
		uint32_t len;
		uint8_t secret[64];
	} key[IPC_INGRESS_KEYS_MAX];
};

/* IPC_EVENT_INGRESS_SEEN, a send: something happened since the last one. Counters run from the
 * edge's start; a smaller one than before means a new edge. */
struct ipc_ingress_seen {
	char id[IPC_ID_LEN];
	uint32_t slot;
	uint32_t open;	   /* requests and tunnels under way now */
	uint64_t requests; /* that were meant for it, refused ones included */
	uint64_t refused;  /* by us: 401, 403, 404, 429, 503 */
	uint64_t failed;   /* 502 and 504, and answers cut short */
	uint64_t bytes_in, bytes_out; /* bodies, towards the sandbox and from it */
};

/* IPC_EVENT_INGRESS_WAKE, a call (one at a time for each sandbox): resume it. Status 0: it runs, and
 * INGRESS has told so before. Otherwise an error, whose text those who waited are told. */
struct ipc_ingress_wake {
	char id[IPC_ID_LEN];
	uint32_t slot;
};

/* IPC_EVENT_INGRESS_CONN, a send with 1 descriptor, a stream socket: an HTTP/1.1 client for the
 * service `port` of this sandbox, asking for /sandboxes/{id}/proxy/{port}/…. What it asks has passed the gate of secure access; platform keys
 * have been removed from it. */
struct ipc_ingress_conn {
	char id[IPC_ID_LEN];
	uint32_t slot, port;
};

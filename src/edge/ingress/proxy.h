/*
 * Inside the proxy: its objects, and which file does what to them.
 *
 * ingress.c  the proxy as a whole: listeners, who is let in, time
 * box.c      what the api role told of each sandbox, and what is told back
 * client.c   a client's connection: heads, and where each goes
 * exchange.c a request under way: bodies both ways, answers, tunnels, ends
 * up.c       a connection to a sandbox: dialling, the agent's frames, the idle ones
 *
 * (target, access, rewrite, page, span, tls, end: the parts, which know of none of these.)
 *
 * A client has one request under way at most; what it sends ahead waits. Its states:
 *
 *   HELLO --> TLS --> HEAD --> DIAL --> BUSY --> HEAD            the next request
 *     `--------------^   `--> HELD -^     `----> TUNNEL          after 101
 *                         any --> LINGER --> CLOSED              last answer said
 *
 * Whatever happens while a client's bytes are consumed changes its state, and the consuming loop
 * (client_pump()) goes on from there; it never nests. Closing marks CLOSED, the close callback
 * frees: after any call that may close, the state is looked at.
 *
 * A client that closes its side may still want its answer, and those to what it sent ahead whole,
 * however long that takes, or may have left: its end looks the same. So nothing is cut; the kernel probes the connection, and it is
 * looked after (client_overdue()) until a probe found nobody there.
 */
#pragma once
#include <sys/queue.h>
#include "base/ip.h"
#include "base/table.h"
#include "edge/ingress/access.h"
#include "edge/ingress/end.h"
#include "edge/ingress/ingress.h"
#include "edge/ingress/page.h"
#include "edge/ingress/rewrite.h"
#include "edge/ingress/span.h"
#include "edge/ingress/tls.h"
#include "event/peers.h"
#include "event/pulse.h"

#define AHEAD_MAX     16384u /* bytes a client may send past its request before it is heard again */
#define LINGER_MS     2000u  /* for a client that was answered last to close */
#define SPARE_MS      5000u  /* a client is not closed for another's sake before it was idle so long */
#define UP_IDLE_MS    4000u  /* before common servers close theirs after 5 s, which would race */
#define UP_IDLE_BOX   64u    /* idle connections to one sandbox */
#define ACCEPT_BURST  32u
#define SWEEP_MS      500u   /* at the latest; shorter if a limit is */
#define RETRY_AFTER_S 1u

enum client_state { C_HELLO, C_TLS, C_HEAD, C_HELD, C_DIAL, C_BUSY, C_TUNNEL, C_LINGER, C_CLOSED };
enum up_state { U_CONNECT, U_HELLO, U_READY, U_CLOSED };
enum answer_state { A_HEAD, A_BODY, A_DONE };

struct box { /* a sandbox, as it was told */
	UT_hash_handle hh, by_slot;
	struct ulid ulid;
	struct ipc_edge_ingress told;	  /* without its tokens and routes */
	struct ipc_ingress_token *tokens; /* told.n_tokens */
	struct ipc_ingress_route *routes; /* told.n_routes */
	bool synced;
	LIST_HEAD(, client) clients;	  /* with a request under way */
	TAILQ_HEAD(held, client) held;
	uint32_t n_held;
	bool waking;
	LIST_HEAD(, up) idle;
	uint32_t n_idle;
	struct listener *listeners[2];
	struct ipc_ingress_seen seen;
	uint64_t told_at;		  /* when SEEN was sent last */
	bool dirty;
	LIST_ENTRY(box) dirties;
};

struct listener {
	uv_poll_t poll;
	struct ingress *in;
	int fd;
	enum ingress_kind kind;
	struct box *box;  /* NULL: the gateway's */
	bool paused;	  /* no descriptor was left: tried again at the next sweep */
	LIST_ENTRY(listener) all;
};

struct client {
	struct end end;
	struct ingress *in;
	LIST_ENTRY(client) all;
	TAILQ_ENTRY(client) idle; /* of HEAD, with nothing read */
	struct peer *peer;
	struct box *own;	  /* whose listener it came by; NULL: the gateway's */
	enum ingress_kind kind;
	enum client_state state;
	bool is_idle, pumping;
	struct ip_text address;
	uint64_t deadline;	  /* when it is overdue, or has to be looked after */
	uint64_t until;		  /* of an exchange: when it is overdue */
	uint64_t idle_since;

	struct buf got;		  /* read, not yet consumed */
	struct str view;	  /* during a pump: what is left to consume */
	struct head_scan scan;

	/* the request under way */
	struct box *box;
	LIST_ENTRY(client) of_box;
	TAILQ_ENTRY(client) wait;
	struct up *up;
	struct target target;	  /* its texts are gone, but for prefix, which is kept below */
	struct buf head;	  /* towards the sandbox, while it may have to be sent (again) */
	struct buf kept;	  /* the prefix, then the cookie */
	size_t kept_prefix;
	struct span body;	  /* of the request */
	enum answer_state answer;
	struct span answer_body;
	enum page_form form;
	bool counted;		  /* as a request, before it had to wait */
	bool keep;		  /* the connection goes on after this answer */
	bool head_only, http10, idempotent, upgrade;
	bool started;		  /* a byte of the answer was sent to the client */
	bool until_close, decode;
};

struct up {
	struct end end;
	struct ingress *in;
	struct box *box;
	struct client *client;	  /* NULL: idle */
	uint16_t port;
	enum up_state state;
	bool agent;		  /* through its frames */
	bool reused;
	bool broken;		  /* takes no more bytes; what it says is still read */
	bool last;		  /* the answer said so: not for another request */
	uint64_t idle_since;
	LIST_ENTRY(up) of_box;
	TAILQ_ENTRY(up) idle;
	struct head_scan scan;
	struct buf got;		  /* an answer's head that came in pieces */
	uint8_t frame[8];	  /* the agent's: a header that came in pieces */
	uint32_t frame_n, frame_left;
	bool frame_eof;
};

struct ingress {
	uv_loop_t *loop;
	struct ingress_conf conf;
	struct ingress_ops ops;
	void *arg;
	struct tls tls;
	struct ipc_ingress_keys keys;
	struct box *boxes, *slots;	/* by ULID, by slot */
	struct peer *peers;
	LIST_HEAD(, listener) listeners;
	LIST_HEAD(, client) clients;
	TAILQ_HEAD(, client) idle_clients;
	TAILQ_HEAD(, up) idle_ups;
	LIST_HEAD(, box) dirty;
	struct ingress_counters counters;
	struct pulse sweep;
	uv_idle_t turn;			/* clients that were woken go on in the next turn */
	TAILQ_HEAD(woken, client) woken;
	unsigned int handles;
	bool freed;
	struct buf head;		/* one head on its way out */
	struct http_field fields[HTTPD_HEADERS_MAX + 2];
	char scratch[INGRESS_PIECE];	/* every read lands here */
};

/* ingress.c */
void ingress_ref(struct ingress *in);	/* an open handle */
void ingress_unref(struct ingress *in);
int listener_new(struct ingress *in, int fd, enum ingress_kind kind, struct box *box,
	struct listener **ret);
void listener_free(struct listener *l);
static inline uint64_t now_ms(const struct ingress *in)
{
	return uv_now(in->loop);
}

/* box.c */
struct box *box_find(struct ingress *in, const struct ulid *id);
void box_free(struct ingress *in, struct box *b); /* with all that is under way */
void box_touch(struct ingress *in, struct box *b);	  /* SEEN is due */
void boxes_tell(struct ingress *in, uint64_t now);
/* The client waits for its sandbox: 0; or the status to refuse with. */
int box_hold(struct client *c, struct err *err);
void box_unhold(struct client *c);
/* How this port is published by itself; NULL: as the sandbox is. */
const struct ipc_ingress_route *box_route(const struct box *b, uint16_t port);
bool box_open(const struct box *b, uint16_t port); /* by name, header and path */
bool box_holds(const struct box *b, uint16_t port);
struct access_rule box_rule(const struct ingress *in, const struct box *b);

/* client.c */
/* fd is taken over; NULL: it was closed. */
struct client *client_new(struct listener *l, int fd, const struct sockaddr *from);
void client_close(struct client *c, bool abort); /* and the request under way */
void client_watch(struct client *c);
/* Consume what came: fresh bytes behind those that wait. */
void client_pump(struct client *c, struct str fresh);
void client_wait(struct client *c, uint32_t ms); /* for the next thing of an exchange to happen */
void client_overdue(struct client *c);	/* its deadline has passed */
void client_next(struct client *c);	/* the request is over: another, or the end */
/* A page instead of an answer, and the end of the request. status 0: nothing, only the end. */
void client_refuse(struct client *c, int status, const struct err *err);

/* exchange.c */
/* The head that goes to the sandbox is in in->head. */
void exchange_begin(struct client *c, struct box *b);
/* The client has no request any more; its upstream goes to the idle ones if it can, or is closed. */
void exchange_end(struct client *c, bool reusable);
void exchange_cut(struct client *c); /* the sandbox went away, or was switched off */
/* The body or the tunnel's bytes from the client's view. False: nothing could be taken now. */
bool exchange_upload(struct client *c);
void exchange_client_eof(struct client *c);
void exchange_moved(struct client *c); /* the upstream took some of what waited for it */
/* From the upstream. */
void exchange_connected(struct client *c);
void exchange_answer(struct client *c, struct str data);
void exchange_eof(struct client *c);
void exchange_failed(struct client *c, int status, const char *text);
/* The sandbox's port cannot be connected to. */
void exchange_unreachable(struct client *c, const char *text);

/* up.c */
/* An idle connection to the port, or a new one. 0, or the status to refuse with. */
int up_get(struct client *c, bool fresh, struct err *err);
bool up_is_service(const struct box *b, uint16_t port); /* of the api role's */
/* The port that the request's connection leads to: its target's, or execd's, which passes it on. */
uint16_t up_port(const struct client *c, const struct box *b);
void up_rest(struct up *u);		/* it has no client any more: keep it */
void up_close(struct up *u, bool abort);
int up_write(struct up *u, const struct iovec *iov, int n); /* at most 3 pieces */
int up_shut(struct up *u);
void up_watch(struct up *u);
void ups_sweep(struct ingress *in, uint64_t now);

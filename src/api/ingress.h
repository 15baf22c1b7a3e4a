/*
 * Ingress as the api role keeps it: how a sandbox may be reached from outside, by whom, and who does.
 *
 * The row says what is wanted, the books here hold what goes with it: tokens, the listeners of its
 * host ports, what the edge workers reported. Each edge worker is told one whole message per sandbox
 * (wire/ipc_ingress.h), again after every change and every change of state. A sandbox that never was
 * to be reached is told to nobody.
 *
 * The host role opens and closes the way in the kernel and the host ports; that and the edges
 * together are an operation, flow_ingress.c, done before a client is answered.
 */
#pragma once
#include "api/peers.h"
#include "api/services.h"
#include "api/store.h"
#include "base/secret.h"
#include "wire/ipc_ingress.h"

/* A sandbox's ports of the host. Both have their numbers from the first time that one is opened. */
enum ingress_ports {
	INGRESS_PORTS_PROXY = 1u << 0,	/* /proxy/{port}/… */
	INGRESS_PORTS_DIRECT = 1u << 1, /* straight to 8080 */
	INGRESS_PORTS_BOTH = INGRESS_PORTS_PROXY | INGRESS_PORTS_DIRECT,
};

struct box;
struct ingress { /* in struct box */
	struct token_row *tokens;
	uint32_t n_tokens;
	int port_fd[IPC_INGRESS_PORTS]; /* listeners of port_proxy and port_direct, or -EBADF */
	bool told;			/* the edges know of it */
	enum ipc_ingress_state state;	/* as told last */
	struct ingress_use *use;	/* [edge.workers] as each reported last; NULL: nothing yet */
	struct ingress_use past;	/* what workers that are gone had counted */
	uint32_t waking[EDGES_MAX]; /* serials of WAKE calls that wait for it to run */
};

void ingress_init(struct box *b);
void ingress_done(struct box *b);
/* From the store; boxes are there already. */
int ingress_load(struct api *a, struct err *err);

/* Is there any way in? */
static inline bool ingress_any(const struct sandbox_row *row)
{
	return row->ingress || row->ingress_ports || !str_eq_c(STR(SERVICES_NONE), row->services);
}
/* Its address for clients, with one literal "<port>". */
void ingress_template(const struct api *a, const char *id, struct buf *out);
/* Where the first listener is reached, as addresses are published: "127.0.0.1:8081", or with its domain's
 * name in the host's place. A port that the scheme implies is left out. */
void ingress_authority(const struct api *a, bool by_name, struct buf *out);
/* "127.0.0.1:30000", where a host port is reached. */
void ingress_address(const struct api *a, uint32_t port, struct buf *out);
/* Those that this daemon gives out; 0: none. */
uint32_t ingress_ports_given(const struct api *a);
/* Those of the row that are open: as it says, as far as they are given out. */
uint32_t ingress_ports_open(const struct api *a, const struct sandbox_row *row);
/* A pair of ports that no sandbox has. -ENOSPC, -ENOTSUP. */
int ingress_pick_ports(struct box *b, struct err *err);

/* --- the edges --- */
/* What the row's state is to them. */
enum ipc_ingress_state ingress_state_of(const struct box *b);
/* The message, for a sandbox in this state. Returns how much of it is sent. */
size_t ingress_message(const struct box *b, enum ipc_ingress_state state,
	struct ipc_edge_ingress *ret);
/* To every worker, with the listeners. fn may be NULL. */
void ingress_tell(struct box *b, enum ipc_ingress_state state, edges_fn fn, void *arg);
/* To one worker that has just come; on_told is called for it. 0, or why it could not be told. */
int ingress_tell_one(struct chan *c, const struct box *b, chan_reply_fn on_told, void *arg);
/* execd and the egress API are what this role answers for a sandbox that OpenSandbox's clients made;
 * another's owner did not ask for them, and a visitor must not have them. */
static inline bool ingress_services(const struct sandbox_row *row)
{
	return row->image && *row->image;
}
/* Is its id known to those alone whom the API told it? No more once visitors had a name for it, which
 * holds the id; and another API's clients were never told to keep it. */
static inline bool ingress_id_is_secret(const struct sandbox_row *row)
{
	return ingress_services(row) && !row->id_told;
}
/* The row's state has changed. */
void ingress_state(struct box *b);
void ingress_on_seen(struct edge *e, const struct ipc_ingress_seen *seen);
/* A visitor of one of them, who came to a worker. */
void ingress_on_conn(struct edge *e, struct chan_msg *m);
void ingress_on_wake(struct edge *e, struct chan_msg *m);
/* That worker is gone, and what it reported as open with it. */
void ingress_edge_gone(struct edge *e);
/* Is somebody being served now? */
bool ingress_in_use(const struct box *b);
/* Of all workers together. */
struct ingress_use ingress_sum(const struct box *b);
/* Of all sandboxes since the role's start, those that are gone included. */
struct ingress_use ingress_total(const struct api *a);

/* --- tokens --- */
/* ret_text receives the token, the only time it is seen. */
int ingress_token_add(struct box *b, struct str name, uint32_t port, uint64_t expires_ms,
	const struct token_row **ret, struct secret *ret_text, struct err *err);
int ingress_token_drop(struct box *b, struct str id, struct err *err); /* -ENOENT */

/*
 * OpenSandbox's dialect: what its files share.
 *
 *	create.c	POST /v1/sandboxes: the body, piece by piece, in the contract's own codes
 *	sandboxes.c	list, get, kill, pause, resume, renew, metadata, telemetry
 *	labels.c	metadata: what is a legal key and value, and the filter of a list
 *	netpolicy.c	networkPolicy as JSON <-> a policy
 *	egress.c	what upstream's egress sidecar answers: /policy on port 18080
 *	guard.c		who may reach execd and the ports that the server's proxy leads to
 *	endpoints.c	where a port of a sandbox is reached
 *	gateway.c	the ingress gateway's addresses, and the keys that sign them
 *	view.c		a row as this API shows it
 */
#pragma once
#include "api/req.h"
#include "policy/policy.h"

extern const struct route opensandbox_routes[];
extern const size_t opensandbox_routes_n;

#define EXECD_PORT  44772u
#define EGRESS_PORT 18080u
#define SB	    "/sandboxes/{sandbox}"
#define EGRESS	    SB "/proxy/18080"

/* An error under a code of its own. */
void opensandbox_fail(struct req *q, const char *code, const struct err *err);
/* The row is one that this API still shows: a sandbox that is going is gone. Else answers 404. */
bool opensandbox_there(struct req *q);
void opensandbox_no_content(struct req *q, int status);

/* --- view.c --- */
struct jw;
/* An object; name NULL inside an array. created: the answer to a create, which has no image. */
void opensandbox_view(struct jw *w, const char *name, const struct sandbox_row *row, bool created);
void opensandbox_reply(struct req *q, int status, const struct sandbox_row *row, bool created);
bool opensandbox_shows(enum life_state state);
/* The contract's states. */
enum opensandbox_state { OPENSANDBOX_NONE, OPENSANDBOX_PENDING, OPENSANDBOX_RUNNING,
	OPENSANDBOX_PAUSING, OPENSANDBOX_PAUSED, OPENSANDBOX_RESUMING, OPENSANDBOX_STOPPING,
	OPENSANDBOX_TERMINATED, OPENSANDBOX_FAILED, OPENSANDBOX_STATES };
enum opensandbox_state opensandbox_state_of(const struct sandbox_row *row);
enum opensandbox_state opensandbox_state_from(struct str word); /* in any case; NONE: no such word */

/* --- handlers --- */
void opensandbox_health(struct req *q);
void opensandbox_create(struct req *q);
void opensandbox_list(struct req *q);
void opensandbox_get(struct req *q);
void opensandbox_kill(struct req *q);
void opensandbox_pause(struct req *q);
void opensandbox_resume(struct req *q);
void opensandbox_renew(struct req *q);
void opensandbox_metadata(struct req *q);
void opensandbox_events(struct req *q);
void opensandbox_no_pools(struct req *q);
void opensandbox_no_diagnostics(struct req *q);
void opensandbox_endpoint(struct req *q);
void opensandbox_proxy(struct req *q); /* execd_proxy.c */
/* Whoever asked it for a WebSocket is refused by one that closes: dialect.h's refuse. */
bool opensandbox_proxy_refuse(struct req *q, const struct err *err);
void opensandbox_policy_get(struct req *q);
void opensandbox_policy_put(struct req *q);
void opensandbox_policy_patch(struct req *q);
void opensandbox_policy_delete(struct req *q);
void opensandbox_policy_other(struct req *q);
void opensandbox_egress_health(struct req *q);
void opensandbox_egress_vault(struct req *q);
void opensandbox_egress_active(struct req *q);
void opensandbox_egress_nothing(struct req *q);

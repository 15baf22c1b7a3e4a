/*
 * OpenSandbox's routes: see api/route.h for the columns. Upstream mounts them at the root as well as
 * below /v1. What the sandbox's state permits is decided by the handlers: the contract has codes of
 * its own for it.
 */
#include "api/opensandbox/execd.h"
#include "api/opensandbox/opensandbox.h"

#define GET    HTTP_M_GET
#define POST   HTTP_M_POST
#define PUT    HTTP_M_PUT
#define PATCH  HTTP_M_PATCH
#define DELETE HTTP_M_DELETE
#define ANY    HTTP_M_OTHER
#define READ   LIFE_OP_READ

/* clang-format off */
#define LIFECYCLE(at) \
	{ GET,    at "/sandboxes",		AUTH_USER,  BODY_NONE,   0,    opensandbox_list }, \
	{ POST,   at "/sandboxes",		AUTH_USER,  BODY_JSON,   0,    opensandbox_create }, \
	{ GET,    at SB,			AUTH_USER,  BODY_NONE,   READ, opensandbox_get }, \
	{ DELETE, at SB,			AUTH_USER,  BODY_NONE,   READ, opensandbox_kill }, \
	{ POST,   at SB "/pause",		AUTH_USER,  BODY_NONE,   READ, opensandbox_pause }, \
	{ POST,   at SB "/resume",		AUTH_USER,  BODY_NONE,   READ, opensandbox_resume }, \
	{ POST,   at SB "/renew-expiration",	AUTH_USER,  BODY_JSON,   READ, opensandbox_renew }, \
	{ PATCH,  at SB "/metadata",		AUTH_USER,  BODY_JSON,   READ, opensandbox_metadata }, \
	{ GET,    at SB "/endpoints/{port}",	AUTH_USER,  BODY_NONE,   READ, opensandbox_endpoint }, \
	{ POST,   at "/metrics/events",		AUTH_USER,  BODY_NONE,   0,    opensandbox_events }
#define SIDECAR(at) \
	{ GET,    at EGRESS "/policy",		AUTH_GUARD, BODY_NONE,   READ, opensandbox_policy_get }, \
	{ POST,   at EGRESS "/policy",		AUTH_GUARD, BODY_STREAM, READ, opensandbox_policy_put }, \
	{ PUT,    at EGRESS "/policy",		AUTH_GUARD, BODY_STREAM, READ, opensandbox_policy_put }, \
	{ PATCH,  at EGRESS "/policy",		AUTH_GUARD, BODY_STREAM, READ, opensandbox_policy_patch }, \
	{ DELETE, at EGRESS "/policy",		AUTH_GUARD, BODY_STREAM, READ, opensandbox_policy_delete }, \
	{ ANY,    at EGRESS "/policy",		AUTH_GUARD, BODY_NONE,   READ, opensandbox_policy_other }, \
	{ GET,    at EGRESS "/healthz",		AUTH_GUARD, BODY_NONE,   READ, opensandbox_egress_health }, \
	{ ANY,    at EGRESS "/credential-vault/_active", AUTH_GUARD, BODY_NONE, READ, opensandbox_egress_active }, \
	{ ANY,    at EGRESS "/credential-vault", AUTH_GUARD, BODY_NONE,   READ, opensandbox_egress_vault }, \
	{ ANY,    at EGRESS "/credential-vault/{*}", AUTH_GUARD, BODY_NONE, READ, opensandbox_egress_vault }, \
	{ ANY,    at EGRESS "/{*}",		AUTH_GUARD, BODY_NONE,   READ, opensandbox_egress_nothing }

/* behind those of the ports that this role serves itself */
#define SERVER_PROXY(at) \
	{ ANY,    at SB "/proxy/{port}",	AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, opensandbox_proxy }, \
	{ ANY,    at SB "/proxy/{port}/{*}",	AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, opensandbox_proxy }

#define UNBUILT(at) \
	{ ANY,    at SB "/snapshots",		AUTH_USER,  BODY_NONE,   READ, not_built }, \
	{ ANY,    at SB "/diagnostics/{*}",	AUTH_USER,  BODY_NONE,   READ, opensandbox_no_diagnostics }, \
	{ ANY,    at "/snapshots",		AUTH_USER,  BODY_NONE,   0,    not_built }, \
	{ ANY,    at "/snapshots/{*}",		AUTH_USER,  BODY_NONE,   0,    not_built }, \
	{ ANY,    at "/pools",			AUTH_USER,  BODY_NONE,   0,    opensandbox_no_pools }, \
	{ ANY,    at "/pools/{*}",		AUTH_USER,  BODY_NONE,   0,    opensandbox_no_pools }

const struct route opensandbox_routes[] = {
	{ GET,    "/health",			AUTH_OPEN,  BODY_NONE,   0,    opensandbox_health },
	LIFECYCLE("/v1"),
	LIFECYCLE(""),
	SIDECAR("/v1"),
	SIDECAR(""),
	EXECD("/v1"),
	EXECD(""),
	SERVER_PROXY("/v1"),
	SERVER_PROXY(""),
	/* in the contract, not built */
	UNBUILT("/v1"),
	UNBUILT(""),
};
/* clang-format on */
const size_t opensandbox_routes_n = ARRAY_SIZE(opensandbox_routes);

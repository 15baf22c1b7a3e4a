/*
 * CreateOS's routes and the native ones: method, path, who may, how the body is read, what is done
 * to the sandbox, by whom. The first that fits wins, so literals stand before parameters.
 */
#include "api/createos/catalogue.h"
#include "api/createos/create.h"
#include "api/createos/egress.h"
#include "api/createos/exec.h"
#include "api/createos/files.h"
#include "api/createos/fork.h"
#include "api/createos/networks.h"
#include "api/createos/sandboxes.h"
#include "api/createos/tunnel.h"
#include "api/native/native.h"
#include "api/routes.h"

#define GET    HTTP_M_GET
#define POST   HTTP_M_POST
#define PUT    HTTP_M_PUT
#define PATCH  HTTP_M_PATCH
#define DELETE HTTP_M_DELETE
#define ANY    HTTP_M_OTHER
#define SB     "/v1/sandboxes/{sandbox}"

/* clang-format off */
const struct route createos_routes[] = {
	/* open */
	{ GET,    "/healthz",			AUTH_OPEN,  BODY_NONE,   0,		 createos_healthz },
	{ GET,    "/readyz",			AUTH_OPEN,  BODY_NONE,   0,		 createos_readyz },
	{ GET,    "/openapi.json",		AUTH_OPEN,  BODY_NONE,   0,		 native_openapi },
	{ GET,    "/v1/shapes",			AUTH_OPEN,  BODY_NONE,   0,		 createos_shapes },
	{ GET,    "/v1/rootfs",			AUTH_OPEN,  BODY_NONE,   0,		 createos_rootfs },
	/* CreateOS */
	{ GET,    "/v1/whoami",			AUTH_USER,  BODY_NONE,   0,		 createos_whoami },
	{ GET,    "/v1/hosts",			AUTH_USER,  BODY_NONE,   0,		 createos_hosts },
	{ GET,    "/v1/sandboxes",		AUTH_USER,  BODY_NONE,   0,		 createos_list },
	{ POST,   "/v1/sandboxes",		AUTH_USER,  BODY_JSON,   0,		 createos_create },
	{ GET,    "/v1/sandboxes/by-ip/{ip}",	AUTH_USER,  BODY_NONE,   0,		 createos_by_ip },
	{ GET,    SB,				AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 createos_get },
	{ PATCH,  SB,				AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, createos_patch },
	{ DELETE, SB,				AUTH_USER,  BODY_NONE,   LIFE_OP_DELETE, createos_delete },
	{ POST,   SB "/pause",			AUTH_USER,  BODY_NONE,   LIFE_OP_PAUSE,	 createos_pause },
	{ POST,   SB "/resume",			AUTH_USER,  BODY_NONE,   LIFE_OP_RESUME, createos_resume },
	{ POST,   SB "/fork",			AUTH_USER,  BODY_JSON,   LIFE_OP_FORK,	 createos_fork },
	{ POST,   SB "/resize",			AUTH_USER,  BODY_JSON,   LIFE_OP_RESIZE, createos_resize },
	{ POST,   SB "/ssh-pubkeys",		AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, createos_ssh_keys },
	{ POST,   SB "/exec",			AUTH_USER,  BODY_JSON,   LIFE_OP_DATA,	 createos_exec },
	{ GET,    SB "/files",			AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 createos_file_get },
	{ PUT,    SB "/files",			AUTH_USER,  BODY_STREAM, LIFE_OP_DATA,	 createos_file_put },
	{ POST,   SB "/tunnel/{port}",		AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 createos_tunnel },
	{ GET,    SB "/egress",			AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 createos_egress_get },
	{ PUT,    SB "/egress",			AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, createos_egress_put },
	{ GET,    SB "/bandwidth",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 createos_bandwidth_get },
	{ POST,   SB "/bandwidth/recharge",	AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, createos_recharge },
	{ POST,   SB "/networks",		AUTH_USER,  BODY_JSON,   LIFE_OP_JOIN,	 createos_attach },
	{ DELETE, SB "/networks/{network}",	AUTH_USER,  BODY_NONE,   LIFE_OP_LEAVE,	 createos_detach },
	{ GET,    "/v1/networks",		AUTH_USER,  BODY_NONE,   0,		 createos_networks },
	{ POST,   "/v1/networks",		AUTH_USER,  BODY_JSON,   0,		 createos_network_add },
	{ GET,    "/v1/networks/{network}",	AUTH_USER,  BODY_NONE,   0,		 createos_network_get },
	{ DELETE, "/v1/networks/{network}",	AUTH_USER,  BODY_NONE,   0,		 createos_network_delete },
	/* native */
	{ GET,    "/v1/networks/{network}/policy", AUTH_USER, BODY_NONE, 0,		 native_net_policy_get },
	{ PUT,    "/v1/networks/{network}/policy", AUTH_USER, BODY_JSON, 0,		 native_net_policy_put },
	{ DELETE, "/v1/networks/{network}/policy", AUTH_USER, BODY_NONE, 0,		 native_net_policy_delete },
	{ GET,    SB "/egress/explain",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 native_explain },
	{ GET,    SB "/egress/versions",	AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 native_versions },
	{ GET,    SB "/denials",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 native_denials },
	{ GET,    SB "/counters",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 native_counters },
	{ GET,    SB "/ingress/tokens",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 native_token_list },
	{ POST,   SB "/ingress/tokens",		AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, native_token_add },
	{ DELETE, SB "/ingress/tokens/{token}",	AUTH_USER,  BODY_NONE,   LIFE_OP_CHANGE, native_token_revoke },
	{ POST,   "/v1/rootfs/build",		AUTH_ADMIN, BODY_JSON,   0,		 native_build },
	{ GET,    "/v1/rootfs/pulls",		AUTH_USER,  BODY_NONE,   0,		 native_pulls },
	{ POST,   "/v1/keys",			AUTH_ADMIN, BODY_JSON,   0,		 native_key_add },
	{ GET,    "/v1/keys",			AUTH_ADMIN, BODY_NONE,   0,		 native_key_list },
	{ DELETE, "/v1/keys/{key}",		AUTH_ADMIN, BODY_NONE,   0,		 native_key_revoke },
	{ GET,    "/v1/version",		AUTH_USER,  BODY_NONE,   0,		 native_version },
	{ GET,    "/metrics",			AUTH_ADMIN, BODY_NONE,   0,		 native_metrics },
	/* in the contract, not built: the sandbox is looked for first */
	{ ANY,    SB "/disks",			AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_configured },
	{ ANY,    SB "/disks/{*}",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_configured },
	{ ANY,    SB "/shell",			AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    SB "/shell-ws",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    SB "/processes",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    SB "/processes/{*}",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    SB "/metrics",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    SB "/access-token",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    SB "/access-token/{*}",	AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    SB "/computer/{*}",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 not_built },
	{ ANY,    "/v1/disks",			AUTH_USER,  BODY_NONE,   0,		 not_configured },
	{ ANY,    "/v1/disks/{*}",		AUTH_USER,  BODY_NONE,   0,		 not_configured },
	{ ANY,    "/v1/templates",		AUTH_USER,  BODY_NONE,   0,		 not_built },
	{ ANY,    "/v1/templates/{*}",		AUTH_USER,  BODY_NONE,   0,		 not_built },
	{ ANY,    "/v1/metrics",		AUTH_USER,  BODY_NONE,   0,		 not_built },
	{ ANY,    "/v1/metrics/{*}",		AUTH_USER,  BODY_NONE,   0,		 not_built },
};
/* clang-format on */
const size_t createos_routes_n = ARRAY_SIZE(createos_routes);

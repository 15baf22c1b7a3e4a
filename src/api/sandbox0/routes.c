/* sandbox0's routes: see api/route.h for the columns. */
#include "api/sandbox0/claim.h"
#include "api/sandbox0/contexts.h"
#include "api/sandbox0/files.h"
#include "api/sandbox0/network.h"
#include "api/sandbox0/sandboxes.h"
#include "api/sandbox0/services.h"

#define GET    HTTP_M_GET
#define POST   HTTP_M_POST
#define PUT    HTTP_M_PUT
#define DELETE HTTP_M_DELETE
#define ANY    HTTP_M_OTHER
#define V1     "/api/v1"
#define SB     V1 "/sandboxes/{sandbox}"
#define CX     SB "/contexts/{context}"

/* clang-format off */
const struct route sandbox0_routes[] = {
	{ GET,    V1 "/templates",		AUTH_USER,  BODY_NONE,   0,		 sandbox0_templates },
	{ GET,    V1 "/templates/{template}",	AUTH_USER,  BODY_NONE,   0,		 sandbox0_template },
	{ GET,    V1 "/sandboxes",		AUTH_USER,  BODY_NONE,   0,		 sandbox0_list },
	{ POST,   V1 "/sandboxes",		AUTH_USER,  BODY_JSON,   0,		 sandbox0_claim },
	{ GET,    SB,				AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 sandbox0_get },
	{ PUT,    SB,				AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, sandbox0_update },
	{ DELETE, SB,				AUTH_USER,  BODY_NONE,   LIFE_OP_DELETE, sandbox0_delete },
	{ GET,    SB "/status",			AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 sandbox0_status },
	{ POST,   SB "/pause",			AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 sandbox0_pause },
	{ POST,   SB "/resume",			AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 sandbox0_resume },
	{ POST,   SB "/refresh",		AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, sandbox0_refresh },
	{ GET,    SB "/network",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 sandbox0_network_get },
	{ PUT,    SB "/network",		AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, sandbox0_network_put },
	{ GET,    SB "/services",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 sandbox0_services_get },
	{ PUT,    SB "/services",		AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, sandbox0_services_put },
	{ GET,    SB "/exposed-ports",		AUTH_USER,  BODY_NONE,   LIFE_OP_READ,	 sandbox0_ports_get },
	{ PUT,    SB "/exposed-ports",		AUTH_USER,  BODY_JSON,   LIFE_OP_CHANGE, sandbox0_ports_put },
	{ DELETE, SB "/exposed-ports",		AUTH_USER,  BODY_NONE,   LIFE_OP_CHANGE, sandbox0_ports_delete },
	{ DELETE, SB "/exposed-ports/{port}",	AUTH_USER,  BODY_NONE,   LIFE_OP_CHANGE, sandbox0_port_delete },
	{ GET,    SB "/files",			AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_file_read },
	{ POST,   SB "/files",			AUTH_USER,  BODY_STREAM, LIFE_OP_DATA,	 sandbox0_file_write },
	{ DELETE, SB "/files",			AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_file_delete },
	{ GET,    SB "/files/stat",		AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_file_stat },
	{ GET,    SB "/files/list",		AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_file_list },
	{ GET,    SB "/files/watch",		AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_file_watch },
	{ POST,   SB "/files/move",		AUTH_USER,  BODY_JSON,   LIFE_OP_DATA,	 sandbox0_file_move },
	{ GET,    SB "/contexts",		AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_context_list },
	{ POST,   SB "/contexts",		AUTH_USER,  BODY_JSON,   LIFE_OP_DATA,	 sandbox0_context_create },
	{ GET,    CX,				AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_context_get },
	{ DELETE, CX,				AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_context_delete },
	{ POST,   CX "/restart",		AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_context_restart },
	{ POST,   CX "/input",			AUTH_USER,  BODY_JSON,   LIFE_OP_DATA,	 sandbox0_context_input },
	{ POST,   CX "/exec",			AUTH_USER,  BODY_JSON,   LIFE_OP_DATA,	 sandbox0_context_exec },
	{ POST,   CX "/resize",			AUTH_USER,  BODY_JSON,   LIFE_OP_DATA,	 sandbox0_context_resize },
	{ POST,   CX "/signal",			AUTH_USER,  BODY_JSON,   LIFE_OP_DATA,	 sandbox0_context_signal },
	{ GET,    CX "/ws",			AUTH_USER,  BODY_NONE,   LIFE_OP_DATA,	 sandbox0_context_ws },
};
/* clang-format on */
const size_t sandbox0_routes_n = ARRAY_SIZE(sandbox0_routes);

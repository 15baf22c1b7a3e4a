/* POST …/tunnel/{port}: bytes to and from a port of the sandbox's loopback; section 16. */
#pragma once
#include "api/req.h"

#define TUNNELS_MAX	    1024u /* at the same time: their connections are not the HTTP server's any more */
#define TUNNELS_PER_SANDBOX 128u  /* of the 512 that an agent takes of all kinds */

void createos_tunnel(struct req *q);

/* POST …/tunnel/{port}: bytes to and from a port of the sandbox's loopback. */
#pragma once
#include "api/req.h"

void createos_tunnel(struct req *q);

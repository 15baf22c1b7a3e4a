/*
 * The edge role as a process: one loop, the DNS proxy on it, a channel to the host role and one to
 * the api role. Everything it may touch was handed in at boot; after that it confines itself.
 */
#pragma once
#include "base/err.h"
#include "event/role.h"

/* Serve until told to stop (0), or until the host role is gone (-ECONNRESET). Takes role over. */
int edge_run(struct role *role, struct err *err);

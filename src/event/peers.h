/*
 * Clients' addresses and how many connections each has, for limits per address. A client of IPv6 has
 * all of its /64.
 */
#pragma once
#include <sys/socket.h>
#include "base/ip.h"
#include "base/table.h"
#include "event/turns.h"

struct peer {
	UT_hash_handle hh;
	struct ip ip;
	uint32_t n;
	struct turn_line line; /* of its requests, where turns are shared out */
};

/* One connection more of this address, or of an unknown one; NULL: no memory. An empty table is NULL. */
struct peer *peers_join(struct peer **table, const struct sockaddr *from);
/* One less; NULL is fine. */
void peers_leave(struct peer **table, struct peer *p);

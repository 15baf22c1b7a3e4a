/*
 * Names of private networks, answered here and never asked of anybody.
 *
 * A member is called, by the members of its networks, by its name and by its id: `otter`,
 * `otter.backend` (backend is the network), and each of them below fc.local. The answer is its
 * overlay address, which is the same in every network; so a name found in any network that asker
 * and member share is found. Whoever shares none is told NXDOMAIN below fc.local; elsewhere the
 * query goes on as if there were no networks, so a member's name shadows that one name, for its
 * fellows only. The reverse names of overlay addresses are treated alike.
 *
 * Tables come with SET and belong to the tenant: networks are one user's, so a name never crosses
 * users. Two sandboxes of one name meet for the moment in which one is being destroyed and the next
 * made: the one told of last is meant.
 */
#pragma once
#include "edge/core.h"

#define OVERLAY_TTL 5u /* seconds: members come and go */

/* The networks of SET replace what the tenant had. -ENOMEM: it is in none. */
int overlay_join(struct resolver *r, struct tenant *t, const struct ipc_edge_set *set);
void overlay_leave(struct resolver *r, struct tenant *t);
/* Answer if the name is ours to answer. */
bool overlay_reply(struct resolver *r, struct tenant *t, const struct dns_client *c,
	const struct dns_query *q, const struct name *name);

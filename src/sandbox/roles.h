/*
 * The unprivileged roles: weir-api and the weir-edge workers, started, given their descriptors,
 * and started again when they end.
 *
 *	fork -> router namespace, own session, user of the configuration, no capabilities, no way to
 *	gain any, killed with us -> exec -> boot descriptors by channel (event/role.h) -> work
 *
 * A role that ends is started again after a pause that doubles from 50 ms to 5 s and is forgotten
 * when the role has lived for ten seconds; one that stops answering is killed (watch.h). Between
 * the api role and each worker runs a channel of theirs; whichever end is new is sent to the other.
 * With the same beat the service manager is told that we ourselves go on (notify.h).
 */
#pragma once
#include <uv.h>
#include "base/err.h"
#include "event/chan.h"

struct daemon;
struct roles;

enum role_kind { ROLE_API, ROLE_EDGE };
struct role_peer { /* who speaks, for the broker; valid as long as the role lives */
	enum role_kind kind;
	uint32_t worker;
	uint32_t life; /* differs after a restart */
	struct chan *chan;
};

/* on_msg: a message of a role (sandbox/broker.h). */
int roles_start(struct daemon *d, struct roles **ret, struct err *err);
/* Ask them to end; daemon_check_stopped() is called when each has. */
void roles_stop(struct roles *r);
bool roles_ended(const struct roles *r);
void roles_free(struct roles *r); /* when they have ended; NULL is fine */

/* A new channel between the api role and an edge worker, both of which live. -EAGAIN: one of them
 * does not, and its start brings the channel. */
int roles_pair(struct roles *r, uint32_t worker);
/* Every edge worker that has a channel now. */
void roles_each_edge(struct roles *r, void (*fn)(struct chan *c, void *arg), void *arg);
/* The api role's channel if it runs and is of this life (0: of any), else NULL. */
struct chan *roles_api(struct roles *r, uint32_t life);

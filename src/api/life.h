/*
 * The life of a sandbox as two tables: which event leads from which state to which, and which
 * operation a state permits. Both refuse by default. Pure: no store, no clock, no peers.
 *
 *	            create ok              pause            frozen
 *	  creating ----------> running ------------> pausing -------> paused
 *	     | failed             ^  | died             | failed        |
 *	     v                    |  v                  v               | resume
 *	   failed                 | error <--------- running            v
 *	                          +----- thawed ------------------- resuming
 *	   forking, from a paused sandbox, or a machine that runs: running or paused; failed
 *	  any of them -- delete --> destroying -- reclaimed --> destroyed
 *
 * An operation that finds the sandbox between two states is held until it settles (LIFE_HOLD),
 * so that a client may call exec straight after resume has answered 202.
 */
#pragma once
#include "base/str.h"

enum life_state {
	LIFE_NONE = 0, /* in a table: the event is refused */
	LIFE_CREATING,
	LIFE_RUNNING,
	LIFE_PAUSING,
	LIFE_PAUSED,
	LIFE_RESUMING,
	LIFE_FORKING,
	LIFE_ERROR,
	LIFE_FAILED,
	LIFE_DESTROYING,
	LIFE_DESTROYED,
	LIFE_STATES
};

enum life_event {
	LIFE_READY,	   /* create finished */
	LIFE_UNBORN,	   /* create failed */
	LIFE_PAUSE,	   /* asked by the API, by idleness or from inside */
	LIFE_FROZEN,	   /* done */
	LIFE_UNFROZEN,	   /* freezing failed: it runs on */
	LIFE_RESUME,
	LIFE_THAWED,	   /* done, thawed or started again from its disk */
	LIFE_LOST,	   /* its processes are gone, its disk is not */
	LIFE_DELETE,
	LIFE_RECLAIMED,
	LIFE_EVENTS
};

enum life_op {
	LIFE_OP_READ,	/* views, egress, counters */
	LIFE_OP_DATA,	/* exec, files: needs the agent */
	LIFE_OP_PAUSE,
	LIFE_OP_RESUME,
	LIFE_OP_FORK,
	LIFE_OP_CHANGE, /* patch, egress, recharge, keys */
	LIFE_OP_DISK,	/* attach, detach */
	LIFE_OP_JOIN,	/* a private network */
	LIFE_OP_LEAVE,
	LIFE_OP_RESIZE,
	LIFE_OP_DELETE,
	LIFE_OPS
};

enum life_answer {
	LIFE_REFUSE = 0, /* 409 */
	LIFE_ALLOW,
	LIFE_HOLD, /* wait until the state settles, then ask again */
	LIFE_NOOP, /* already so: answer with the view as it is */
	LIFE_GONE, /* 404 */
};

/* The state after the event, or LIFE_NONE. */
enum life_state life_next(enum life_state from, enum life_event event);
enum life_answer life_may(enum life_state state, enum life_op op);
const char *life_state_name(enum life_state state);
int life_state_from(struct str name, enum life_state *ret);
const char *life_event_name(enum life_event event);
/* "pause", "run a command in or move files of", …: completes "cannot … a paused sandbox". */
const char *life_op_name(enum life_op op);
/* Will it leave this state by itself? */
bool life_transitional(enum life_state state);
/* Nothing of it is left but the row. */
bool life_terminal(enum life_state state);

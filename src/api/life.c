/* The life of a sandbox: see the header. */
#include "api/life.h"

static const enum life_state next_state[LIFE_STATES][LIFE_EVENTS] = { /* LIFE_NONE refuses */
	[LIFE_CREATING] = { [LIFE_READY] = LIFE_RUNNING,
			    [LIFE_UNBORN] = LIFE_FAILED,
			    [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_RUNNING] = { [LIFE_PAUSE] = LIFE_PAUSING,
			   [LIFE_LOST] = LIFE_ERROR,
			   [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_PAUSING] = { [LIFE_FROZEN] = LIFE_PAUSED,
			   [LIFE_UNFROZEN] = LIFE_RUNNING,
			   [LIFE_LOST] = LIFE_ERROR,
			   [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_PAUSED] = { [LIFE_RESUME] = LIFE_RESUMING,
			  [LIFE_LOST] = LIFE_ERROR,
			  [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_RESUMING] = { [LIFE_THAWED] = LIFE_RUNNING,
			    [LIFE_LOST] = LIFE_ERROR,
			    [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_FORKING] = { [LIFE_READY] = LIFE_RUNNING,
			   [LIFE_FROZEN] = LIFE_PAUSED,
			   [LIFE_UNBORN] = LIFE_FAILED,
			   [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_ERROR] = { [LIFE_RESUME] = LIFE_RESUMING,
			 [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_FAILED] = { [LIFE_DELETE] = LIFE_DESTROYING },
	[LIFE_DESTROYING] = { [LIFE_RECLAIMED] = LIFE_DESTROYED },
};

/* Short names make the table readable as one: columns are states in their order. */
#define NO LIFE_REFUSE
#define OK LIFE_ALLOW
#define HO LIFE_HOLD
#define IS LIFE_NOOP
#define GO LIFE_GONE
/* clang-format off */
static const enum life_answer may[LIFE_OPS][LIFE_STATES] = {
	/*                    none creating running pausing paused resuming forking error failed destroying destroyed */
	[LIFE_OP_READ]   = {  NO,  OK,      OK,     OK,     OK,    OK,      OK,     OK,   OK,    OK,        OK },
	[LIFE_OP_DATA]   = {  NO,  HO,      OK,     NO,     NO,    HO,      HO,     NO,   GO,    NO,        GO },
	[LIFE_OP_PAUSE]  = {  NO,  NO,      OK,     NO,     IS,    NO,      NO,     NO,   NO,    NO,        NO },
	[LIFE_OP_RESUME] = {  NO,  NO,      IS,     NO,     OK,    IS,      NO,     OK,   NO,    NO,        NO },
	[LIFE_OP_FORK]   = {  NO,  NO,      OK,     HO,     OK,    NO,      NO,     NO,   NO,    NO,        NO },
	[LIFE_OP_CHANGE] = {  NO,  HO,      OK,     OK,     OK,    OK,      OK,     OK,   NO,    NO,        NO },
	[LIFE_OP_DISK]   = {  NO,  NO,      OK,     NO,     NO,    NO,      NO,     NO,   NO,    NO,        NO },
	[LIFE_OP_JOIN]   = {  NO,  HO,      OK,     HO,     NO,    HO,      HO,     NO,   GO,    NO,        GO },
	[LIFE_OP_LEAVE]  = {  NO,  HO,      OK,     HO,     OK,    HO,      HO,     OK,   GO,    OK,        GO },
	[LIFE_OP_RESIZE] = {  NO,  NO,      OK,     NO,     NO,    NO,      NO,     NO,   NO,    NO,        NO },
	[LIFE_OP_DELETE] = {  NO,  OK,      OK,     OK,     OK,    OK,      OK,     OK,   OK,    IS,        IS },
};
/* clang-format on */
#undef NO
#undef OK
#undef HO
#undef IS
#undef GO

static const char *const state_names[LIFE_STATES] = {
	[LIFE_NONE] = "none",
	[LIFE_CREATING] = "creating",
	[LIFE_RUNNING] = "running",
	[LIFE_PAUSING] = "pausing",
	[LIFE_PAUSED] = "paused",
	[LIFE_RESUMING] = "resuming",
	[LIFE_FORKING] = "forking",
	[LIFE_ERROR] = "error",
	[LIFE_FAILED] = "failed",
	[LIFE_DESTROYING] = "destroying",
	[LIFE_DESTROYED] = "destroyed",
};

static const char *const event_names[LIFE_EVENTS] = {
	[LIFE_READY] = "ready",
	[LIFE_UNBORN] = "unborn",
	[LIFE_PAUSE] = "pause",
	[LIFE_FROZEN] = "frozen",
	[LIFE_UNFROZEN] = "unfrozen",
	[LIFE_RESUME] = "resume",
	[LIFE_THAWED] = "thawed",
	[LIFE_LOST] = "lost",
	[LIFE_DELETE] = "delete",
	[LIFE_RECLAIMED] = "reclaimed",
};

static const char *const op_names[LIFE_OPS] = {
	[LIFE_OP_READ] = "read it",
	[LIFE_OP_DATA] = "run commands or move files",
	[LIFE_OP_PAUSE] = "pause it",
	[LIFE_OP_RESUME] = "resume it",
	[LIFE_OP_FORK] = "fork it",
	[LIFE_OP_CHANGE] = "change it",
	[LIFE_OP_DISK] = "attach or detach disks",
	[LIFE_OP_JOIN] = "join a network",
	[LIFE_OP_LEAVE] = "leave a network",
	[LIFE_OP_RESIZE] = "resize it",
	[LIFE_OP_DELETE] = "delete it",
};

enum life_state life_next(enum life_state from, enum life_event event)
{
	return next_state[from][event];
}

enum life_answer life_may(enum life_state state, enum life_op op)
{
	return may[op][state];
}

const char *life_state_name(enum life_state state)
{
	return state_names[state];
}

int life_state_from(struct str name, enum life_state *ret)
{
	for (int s = LIFE_NONE + 1; s < LIFE_STATES; s++)
		if (str_eq_c(name, state_names[s])) {
			*ret = (enum life_state)s;
			return 0;
		}
	return -EINVAL;
}

const char *life_event_name(enum life_event event)
{
	return event_names[event];
}

const char *life_op_name(enum life_op op)
{
	return op_names[op];
}

bool life_transitional(enum life_state state)
{
	return state == LIFE_CREATING || state == LIFE_PAUSING || state == LIFE_RESUMING ||
		state == LIFE_FORKING || state == LIFE_DESTROYING;
}

bool life_terminal(enum life_state state)
{
	return state == LIFE_FAILED || state == LIFE_DESTROYED;
}

/*
 * One sandbox in memory: its row, its place in the kernel, what is being done to it.
 *
 * Every sandbox that is not destroyed has a box. Its row is the truth and is written through: a
 * change of state goes by box_event(), which asks the table of life.h, commits, and only then
 * shows. What takes several steps is an *operation*; a box runs one at a time and queues the
 * rest, so a policy change and a pause asked for at once happen one after the other. Requests to
 * the agent (exec, files) are not operations: any number run beside each other, each a `use` of
 * the box, and a pause or delete bounces those that do not end by themselves.
 *
 * Boxes are counted: the table of boxes, operations, uses and requests each hold a reference.
 */
#pragma once
#include "api/agent.h"
#include "api/api.h"
#include "api/denials.h"
#include "api/ingress.h"
#include "api/tick.h"
#include "base/table.h"
#include "policy/policy.h"

struct op;
struct network;
struct proc;
/* Step and outcome of an operation. done is called once, or never after op_forget(). */
typedef void (*op_start_fn)(struct op *op);
typedef void (*op_done_fn)(struct op *op, const struct err *err, void *arg);

struct op {
	STAILQ_ENTRY(op) next;
	struct box *box;
	const char *name;
	op_start_fn start;
	void (*clean)(struct op *op); /* free what the operation added; may be NULL */
	op_done_fn done;
	void *arg;
	struct op **slot; /* the asker's, or NULL */
	struct err err;	  /* the first failure, kept while steps are undone */
};
STAILQ_HEAD(op_list, op);

/* A request that is talking to the agent. */
struct use {
	LIST_ENTRY(use) next;
	struct box *box;
	/* End now: the sandbox pauses or goes. The bouncer removes itself by box_unuse(). */
	void (*bounce)(struct use *u, const struct err *err);
};
LIST_HEAD(use_list, use);

/* A command whose request was bounced by a pause: its connection stays open, or the agent would
 * kill it; its output is dropped. Ends by itself, or with the sandbox. */
struct orphan {
	LIST_ENTRY(orphan) next;
	void (*drop)(struct orphan *o); /* removes itself */
};

struct box {
	struct api *api;
	unsigned int refs;
	UT_hash_handle hh;
	struct sandbox_row row;
	struct policy *policy, *policy_before; /* in force, and the one before: for rule texts */
	uint32_t policy_before_id;
	struct ip ip4, ip6;
	struct network *nets[WEIR_NETS_MAX]; /* it is a member of, by their numbers: nets.h */
	uint32_t n_nets;
	struct agent_link link;
	bool in_kernel;	   /* the host role has it: slot, link, cgroup */
	bool wake_due;	   /* the agent must be told of new keys before it runs again */
	struct op *op;	   /* running */
	struct op_list queue;
	struct use_list uses;
	unsigned int n_uses;
	unsigned int relays; /* connections to its ports, each of a use: relay.h */
	uint64_t exec_bytes; /* output held for its buffered commands */
	LIST_HEAD(, orphan) orphans;
	struct agent_watch *watch;
	struct proc *entry;  /* its main command, watched */
	bool entry_due;	     /* its processes are new: the main command is to be started */
	struct tick *idle;  /* auto-pause */
	struct tick *expiry;
	struct tick *grace; /* of a pausing or destroying operation */
	TAILQ_HEAD(, hold) holds;
	struct denials denials;
	struct ingress ingress;
};

struct box *box_new(struct api *a, const char *id); /* in the table, one reference its own */
struct box *box_ref(struct box *b);
struct box *box_unref(struct box *b);
struct box *box_find(struct api *a, const char *id);
/* Has it a kernel, a clock and randomness of its own? */
bool box_is_machine(const struct box *b);
/* Out of the table: the row is terminal. Drops the table's reference. */
void box_forget(struct box *b);

/* Move to the next state, note why, commit. -EPERM (refused) or the store's error; then nothing
 * has changed. Wakes those who wait for a settled state. */
int box_event(struct box *b, enum life_event event, const char *detail, struct err *err);
/* Its owner has changed the row. */
int box_save(struct box *b, struct err *err);
/* The 409 that a state deserves. */
int box_refuse(const struct box *b, enum life_op op, struct err *err);

/* What the host role says about a sandbox: slot, link, addresses. */
int box_place(struct box *b, const struct ipc_sandbox *s, struct err *err);
void box_unplace(struct box *b);

/* --- operations --- */
/* Queue, and run when those before are done. The box owns op from here; it was made by calloc
 * and is freed after done. */
void op_queue(struct box *b, struct op *op);
/* The running operation is over: call done, free, run the next. err NULL: op->err, if it is set. */
void op_finish(struct op *op, const struct err *err);
/* The asker is gone: done will not be called. */
void op_forget(struct op *op);
/* There was no memory for the operation: done is called all the same. */
void op_refuse(struct box *b, op_done_fn done, void *arg);
/* Ignore a failure while undoing, but keep the first. */
void op_fail(struct op *op, const struct err *err);

/* --- uses --- */
void box_use(struct box *b, struct use *u, void (*bounce)(struct use *, const struct err *));
void box_unuse(struct use *u);
void box_bounce(struct box *b, const char *why);
/* Something was asked of the sandbox: the idle timer starts anew. */
void box_touch(struct box *b);
/* When all uses are over or after ms: fn(arg), maybe at once. */
void box_when_quiet(struct box *b, uint64_t ms, tick_fn fn, void *arg);

/* Output that this process holds for those who wait for a command's end: how much of n bytes may be
 * held for this sandbox, counted from now on; and that they are no more. */
size_t box_hold(struct box *b, size_t n);
void box_let_go(struct box *b, size_t n);

/* --- living --- */
/* Running: watch the agent for self-signals, start the idle timer. And the reverse. */
void box_awake(struct box *b);
void box_asleep(struct box *b);

/* entry.c: the row's main command, started when its processes are new and watched while it is awake.
 * Its end is the sandbox's: flow_lost() with one of these reasons. */
#define ENTRY_ENDED  "the entry point has ended"
#define ENTRY_FAILED "the entry point failed: "
void entry_awake(struct box *b);
void entry_asleep(struct box *b);

/* The row's expires_ms and sleeps_ms have been set or read: from now on the timer is about the nearer
 * one. At the first the sandbox is deleted, whatever it is doing; at the second it is paused, if it
 * runs. Moments of the wall clock: what passed while the daemon was down is made up for. */
void box_expiry(struct box *b);
/* Count sleep_s anew, as every resume does. The row is the caller's to save. */
void row_sleep_again(struct sandbox_row *row, uint64_t now_ms);

/* Bring the row's usage up to the kernel's counters. */
void box_count(struct box *b);

/* --- flows: each an operation; flow_*.c ---
 *
 * A slot is the asker's variable: it holds the operation while it is under way and NULL from
 * before done is called, which may be before the call returns. NULL: nobody waits. */

/* The box is in the table, its row committed as `creating`, its policy set. On failure nothing is
 * left but a `failed` row, and after ERR_CAPACITY not even that. */
void flow_create(struct box *b, op_done_fn done, void *arg, struct op **slot);
/* The same, `forking`, for one that goes on from what `from` is paused as, or stays paused. While the
 * host role copies, from does not go on: its operations wait. live: from may be a machine that runs. */
void flow_fork(struct box *b, struct box *from, bool paused, bool live, op_done_fn done, void *arg,
	struct op **slot);
/* pause, resume and delete commit the transitional state before they return 0; the rest happens
 * by itself. */
int flow_pause(struct box *b, const char *why, uint64_t delay_ms, struct err *err);
int flow_resume(struct box *b, struct err *err);
int flow_delete(struct box *b, const char *why, uint64_t delay_ms, struct err *err);
/* The host role says that its processes ended. */
void flow_lost(struct box *b, const char *why);
/* A new policy (taken): stored, made known to the edge, in force in the kernel, then done. */
void flow_policy(struct box *b, struct policy *policy, struct str json, uint32_t dialect,
	op_done_fn done, void *arg, struct op **slot);
/* The same where the new policy depends on the present one: make() is called when its turn has come,
 * unless the asker is gone by then. 1: nothing is to be changed, and done follows. */
typedef int (*policy_make_fn)(struct box *b, void *arg, struct policy **ret, char **ret_json,
	struct err *err);
void flow_policy_made(struct box *b, uint32_t dialect, policy_make_fn make, op_done_fn done,
	void *arg, struct op **slot);
/* A private network. Joining one it is in is no error; leaving another is -ENOENT. */
void flow_join(struct box *b, const struct network *n, op_done_fn done, void *arg,
	struct op **slot);
void flow_leave(struct box *b, const struct network *n, op_done_fn done, void *arg,
	struct op **slot);
/* How it may be reached from outside; negative: as it was. Done when it is so. */
struct ingress_want {
	int on, access /* enum ipc_ingress_access */, hold;
	int ports[IPC_INGRESS_PORTS]; /* those of the host, each by itself */
	struct str services; /* services.h; STR_NONE: as they were */
};
#define INGRESS_AS_IT_WAS { -1, -1, -1, { -1, -1 }, STR_NONE }
/* The row alone, and of it only the numbers. */
void ingress_want_set(struct sandbox_row *row, const struct ingress_want *w);
void flow_ingress(struct box *b, const struct ingress_want *want, op_done_fn done, void *arg,
	struct op **slot);
/* Tell host and edges again: its tokens have changed, or the kernel has another word. */
void flow_ingress_again(struct box *b, op_done_fn done, void *arg, struct op **slot);
void flow_grow(struct box *b, uint32_t disk_mib, op_done_fn done, void *arg, struct op **slot);
/* Another limit of memory, more or less. */
void flow_memory(struct box *b, uint32_t mem_mib, op_done_fn done, void *arg, struct op **slot);
/* After adoption: go on with what the row says was under way; `repolicy`: the kernel has another
 * policy than the row. frozen: as the kernel has it. */
void flow_adopt(struct box *b, bool frozen, bool repolicy);

/* Tell the agent who it is: host name, environment, keys. done comes once, maybe at once. */
void flow_wake(struct box *b, agent_done_fn done, void *arg);
/* The same between operations: in its turn. */
void flow_tell(struct box *b, agent_done_fn done, void *arg);
/* It was held to be copied, and is not the copy. done comes once, also when its agent did not hear. */
void flow_let_go(struct box *b, agent_done_fn done, void *arg);

/* For the edges: this sandbox and its policy. */
int box_policy_fd(const struct box *b, struct err *err); /* its policy as a sealed memory file */
/* The number that stands for its user where limits are counted per user. */
uint32_t box_share(const struct box *b);
void box_edge_set(const struct box *b, struct ipc_edge_set *ret);

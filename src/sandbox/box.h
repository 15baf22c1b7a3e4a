/*
 * Sandboxes as the host role has them: an id, a slot, and what the runtime made.
 *
 *	           spawn              freeze / thaw
 *	(nothing) -------> RUNNING <---------------> FROZEN
 *	                      | first process ends, or DESTROY kills it
 *	                      v
 *	                   ENDING --cleanup--> DEAD (ended by itself: waits for DESTROY)
 *	                      |
 *	                      +---cleanup---> link deleted ---> gone (DESTROY is answered)
 *
 * A frozen machine has no process: its memory is in a file (runtime/vm/snapshot.h).
 * Nothing waits on the loop: kill() asks, the pidfd tells, what takes its time is done beside it
 * (aside.h). DESTROY is answered when everything is reclaimed.
 * Each change is written to the sandbox's record (record.h) before it is answered, so that a killed
 * host role finds it again.
 */
#pragma once
#include <uv.h>
#include "base/err.h"
#include "policy/policy.h"
#include "sandbox/record.h"
#include "wire/ipc.h"

struct daemon;
struct slot;
struct boxes;
struct box;

int boxes_new(struct daemon *d, struct boxes **ret, struct err *err);
void boxes_free(struct boxes *b); /* leaves the sandboxes running */
unsigned int boxes_count(const struct boxes *b);
struct box *box_find(struct boxes *b, const char *id);
typedef int (*box_fn)(struct box *box, void *arg);
int boxes_each(struct boxes *b, box_fn fn, void *arg);

/* Is there anything against it, before a slot is ordered? */
int box_may_spawn(struct boxes *b, const struct ipc_spawn *req, struct err *err);
/* Begin in this slot, which is taken over also on failure. asked: when, for the log. */
int box_spawn(struct boxes *b, const struct ipc_spawn *req, struct slot *slot, uint64_t asked,
	struct box **ret, struct err *err);
/* The sandbox of a record, with what the runtime found of it. -ESRCH: nothing lives; it is DEAD. */
int box_adopt(struct boxes *b, const struct record *rec, struct err *err);
/* slot must be the sandbox's: a second check that the two sides mean the same. */
int box_commit(struct box *x, uint32_t slot, uint32_t share, uint32_t policy_id,
	const struct policy *p, struct err *err);
int box_nets(struct box *x, const struct ipc_nets *nets, struct err *err);
/* fds: its ports' listeners, borrowed until the next call. */
int box_ingress(struct box *x, const struct ipc_ingress *q, int fds[IPC_INGRESS_PORTS],
	unsigned int *n_fds, struct err *err);
int box_stats(struct box *x, struct ipc_stats *ret, struct err *err);
void box_describe(const struct box *x, struct ipc_sandbox *ret);

typedef void (*box_done_fn)(const struct err *err, void *arg);
/* 0: done is called once, perhaps at once. -EBUSY: the other of the two is under way. */
int box_freeze(struct box *x, box_done_fn done, void *arg, struct err *err);
int box_thaw(struct box *x, box_done_fn done, void *arg, struct err *err);
/* A copy of one that runs, for a fork, in two steps (runtime.h): 0: done will be called once. DROP: at once. The
 * next SPAWN from it has the copy. */
int box_copy(struct box *x, enum ipc_copy_step step, box_done_fn done, void *arg, struct err *err);
/* Those that nobody came for: who asked is gone. */
void boxes_drop_copies(struct boxes *b);
/* 0: done will be called once. -EBUSY while it grows already. */
int box_grow(struct box *x, const struct ipc_grow *how, box_done_fn done, void *arg, struct err *err);
/* done is called once, also when the sandbox is already on its way out. */
void box_destroy(struct box *x, bool keep_disk, box_done_fn done, void *arg);

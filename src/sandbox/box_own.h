/*
 * A sandbox of the host role, as box.c (its life), nap.c and copying.c (what it does beside the loop) share it.
 * Nobody else includes this.
 *
 * What is beside the loop uses the runtime's part of it, so its end waits: whoever finds its first
 * process gone sets `ended`, and the one that was at work cleans up when it is back.
 */
#pragma once
#include "base/table.h"
#include "sandbox/aside.h"
#include "sandbox/box.h"
#include "sandbox/runners.h"

#define WAITERS_MAX 8 /* DESTROYs of one sandbox that wait at once; more are told to retry */

enum box_state { BOX_RUNNING, BOX_FROZEN, BOX_ENDING, BOX_DEAD };

struct watch { /* on its own, since its handle closes later than the box may go */
	uv_poll_t poll;
	struct box *box;
};

struct waiter {
	box_done_fn fn;
	void *arg;
};

struct box {
	UT_hash_handle hh;
	struct boxes *in;
	struct record rec;
	enum box_state state;
	const struct runner *runner; /* NULL: DEAD since before we started */
	struct runtime_box *rt;	     /* NULL: DEAD, or cleaned up */
	struct watch *watch;	/* of rt's pidfd */
	bool destroying, keep_disk;
	uint32_t policy, spawn_us;
	struct box_port { /* of the host's, that leads to it through the edge */
		uint16_t number; /* 0: none */
		int fd;
	} port[IPC_INGRESS_PORTS];
	struct aside_job end, grow; /* where the queue of its end, and that of growth, have it */
	struct waiter grown;	    /* fn NULL: it does not grow */
	uint32_t grow_mib, mem_mib; /* 0: stays */
	struct aside_job copying;   /* where its copy is under way */
	struct waiter copied;	    /* fn NULL: it is not */
	bool copy_rest, copy_drop;  /* which of the two steps; nobody wants it any more */
	bool ended;		    /* while it grew, was copied, or took a nap */
	struct aside_job nap;	    /* its freeze, or a thaw that is slow */
	struct waiter nappers[WAITERS_MAX];
	unsigned int n_nappers; /* 0: none is under way */
	bool napping;		/* it is frozen; else thawed */
	int tap;		/* for the latter; negative: it needs none */
	struct waiter waiters[WAITERS_MAX];
	unsigned int n_waiters;
	struct err failed; /* what cleanup said, for the waiters */
};

struct boxes {
	struct daemon *d;
	struct box *by_id;
};

/* Write its record, with what the runtime says of it. */
int box_save(struct box *x, struct err *err);
/* Its first process, which it has; and not any more, before the pidfd is closed: libuv takes it out of its
 * epoll set there. */
int box_watch(struct box *x, struct err *err);
void box_unwatch(struct box *x);
/* Its first process is gone. Nobody may use what the runtime has of it from here on. */
void box_clean_up(struct box *x);
/* -ESRCH, unless it runs or is frozen. verb: "freeze", for the sentence. */
int box_must_live(const struct box *x, const char *verb, struct err *err);

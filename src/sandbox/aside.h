/*
 * Work beside the loop: what waits for a disk (a mounted file system grows) or for the kernel (the
 * control groups of a sandbox that has ended).
 *
 * A queue has one of libuv's threads at a time, so that however slow its work is, slots go on being
 * made in the others. work() runs there: what it uses is its own until done(), which runs on the
 * loop. Work that would have to wait says -EAGAIN instead and is tried again after all others have
 * been, and a pause: one sandbox that will not end holds up no other.
 */
#pragma once
#include <sys/queue.h>
#include <uv.h>
#include "base/err.h"

struct aside_job { /* part of what it is about: queueing cannot fail */
	TAILQ_ENTRY(aside_job) next;
	int (*work)(struct aside_job *job, struct err *err);
	void (*done)(struct aside_job *job, int result, const struct err *err);
	int result;
	bool tried;
	struct err err;
};

struct aside {
	uv_loop_t *loop;
	uv_work_t work;
	uv_timer_t again;
	struct aside_job *now; /* in the thread */
	TAILQ_HEAD(, aside_job) jobs;
};

int aside_open(struct aside *a, uv_loop_t *loop, struct err *err);
/* work and done are set; the job is not queued yet. */
void aside_do(struct aside *a, struct aside_job *job);
/* Finish what is queued, done() included; not inside a callback. Zeroed, never opened: fine. */
void aside_close(struct aside *a);

/*
 * Fault points: named places at which a test may end a process, hold it, or make a step fail.
 *
 *	FAULT("api.create.spawned");		between two steps
 *	r = FAULT_ERROR("host.record.save");	a step that may fail: 0, or a negative errno
 *
 * They exist only where WEIR_FAULTS is defined (meson -Dfaults=true). In any other build both are
 * nothing: no code, no name in the binary, no variable in the environment that is listened to.
 *
 * Each point is one `struct fault` in the section `weir_faults`, with its name inside, so a binary
 * can be asked for its points without being run. fault_open() puts a file in the section's place:
 * the same structs in the same order, mapped shared. Whoever has the file reads how often each
 * point was passed and arms points while the process runs; the counts go on over its lives.
 *
 * To arm: write `action` and `error`, then `left`: the left-th passing from now acts, once.
 */
#pragma once
#include "base/base.h"

#define FAULT_NAME_MAX 48

enum fault_action {
	FAULT_KILL = 1, /* the process, as kill -9 would */
	FAULT_HOLD,	/* say so in `held`, and wait until somebody writes 0 there */
	FAULT_FAIL,	/* FAULT_ERROR() is -error; nothing at a FAULT() */
};

struct fault {
	char name[FAULT_NAME_MAX];
	uint64_t passed, acted;
	uint32_t left; /* 0: not armed */
	uint32_t action, error;
	uint32_t held;	/* the process that waits here, 0: none */
	uint32_t fails; /* 1: a FAULT_ERROR() */
	uint32_t zero;
} __attribute__((aligned(16)));

#ifdef WEIR_FAULTS
#define FAULT_ENV "WEIR_FAULTS" /* names the directory of the roles' files */

/* Map <dir>/<role>.faults over the section. dir NULL: points count in memory alone. A file that
 * cannot be had is no failure: what is not armed does nothing. */
void fault_open(const char *dir, const char *role);
int fault_pass(struct fault *point);

#define fault_point_(label, may_fail)                                                              \
	({                                                                                         \
		static struct fault point_                                                         \
			__attribute__((section("weir_faults"), used, aligned(16))) = {             \
				.name = label, .fails = may_fail                                   \
			};                                                                         \
		fault_pass(&point_);                                                               \
	})
#define FAULT(label)	   ((void)fault_point_(label, 0))
#define FAULT_ERROR(label) fault_point_(label, 1)
#define FAULT_DIR	   getenv(FAULT_ENV)
#else
#define FAULT_ENV	   NULL
#define FAULT_DIR	   NULL
#define FAULT(label)	   ((void)0)
#define FAULT_ERROR(label) 0

static inline void fault_open(const char *dir, const char *role)
{
}
#endif

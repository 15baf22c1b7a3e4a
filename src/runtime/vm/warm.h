/*
 * Warm starts: new machines that begin as clones of one that has booted, and that nobody had.
 *
 * After a machine had to boot, a template for the next like it is made in the background: the same image
 * and size, booted by a starter (starter.h) without name, addresses or clock of anybody, on a link that
 * leads nowhere, with a fresh disk. When its agent listens it is stopped for good: its memory, sealed,
 * its devices, and its disk, a spare layer, are the template. A clone is what a fork is (fork.c), and is told
 * by the same wake who it is before it runs anything.
 *
 *	a machine that boots -> making (one at a time) -> kept, in order of use -> dropped
 *
 * The key says all in which a machine must agree with it. A template is dropped when there are more or
 * larger ones than the limits say, when a machine has not the room, when a clone of it did not come up
 * (that one boots instead), and with the daemon. Each is counted to a control group of its own.
 */
#pragma once
#include <sys/queue.h>
#include "runtime/vm/snapshot.h"
#include "runtime/vm/starter.h"

#define WARM_MAX     8	/* kept at once, beside the limit of their memory */
#define WARM_REST_S  30 /* after one could not be made */
#define WARM_KEY_MAX 320

struct runtime;
struct runtime_parked;
struct vm_fork_fds;
struct warm;

struct warms {
	uint32_t limit_mib; /* of machines' memory; 0: none are made */
	TAILQ_HEAD(, warm) list; /* longest unused first */
	struct warm *making; /* not in the list yet */
	struct vm_starter starter; /* its */
	bool unwanted;		   /* it was told to end, and has not yet */
	uint64_t numbers, rest_until;
	uint64_t made; /* ever */
	int news; /* readable when the starter says something */
};

void warms_open(struct warms *ws, uint32_t limit_mib);
void warms_close(struct runtime *rt);
/* Sets p's key; and has its seat begin from a template where there is one. fds: as in vm_fork_seat(). */
void warms_take(struct runtime *rt, struct runtime_parked *p, struct vm_fork_fds *fds);
/* p has booted: the next one like it need not. */
void warms_want(struct runtime *rt, const struct runtime_parked *p);
void warms_drop(struct runtime *rt, uint64_t number);
void warm_key(const struct vm_seat *s, char ret[WARM_KEY_MAX]);
bool warms_have(const struct warms *ws, const char *key);
/* Drop the one that is least needed; false: there is none. One that is being made ends in the background. */
bool warms_shrink(struct runtime *rt);
uint64_t warms_mib(const struct warms *ws);
uint64_t warms_count(const struct warms *ws); /* in the list */
/* As runtime.h has them. */
int warms_fd(const struct runtime *rt);
void warms_look(struct runtime *rt);

/*
 * Machines that stand ready: clones of a template (warm.h) for whoever comes next, at most `vm.ready`.
 *
 *	parked ahead -> loaded, rehearsed (rehearse.h), stopped -> taken by a spawn, and goes on
 *							        -> given back
 *
 * Each is a parked machine like others, in a slot of its own, in quarantine, and is used once. It has its
 * slot's addresses and fresh randomness; what makes it anybody's, the WAKE, comes when it is taken. It was
 * stopped before that, so no time passes in it. Its memory counts like a running machine's and to
 * `vm.warm_mib` as well; it is the first to be given back when somebody needs it.
 *
 * QEMU is told to go on by one line on its control channel (`word`), whose answer nobody reads: that it is
 * there says that the channel may be closed, which lets hands (hand.h) in again.
 */
#pragma once
#include "base/err.h"

struct runtime;
struct runtime_box;
struct runtime_parked;
struct runtime_seat;

/* As runtime.h has them. */
bool vm_may_stand(const struct runtime *rt, const struct runtime_seat *seat);
bool vm_fits(const struct runtime_parked *p, const struct runtime_seat *seat);
/* p is taken: it goes on. */
int ready_go(struct runtime_parked *p, struct err *err);
/* And box is what it has become: p's word is the box's. */
void ready_taken(struct runtime_box *box, struct runtime_parked *p);
/* `fd` of the runtime's news is readable. */
void ready_answered(struct runtime *rt, int fd);
/* Let the one go that has stood longest; false: there is none. */
bool ready_shrink(struct runtime *rt);
/* Those that can be taken; and the memory of them and of those that soon can. */
uint64_t ready_count(const struct runtime *rt);
uint64_t ready_mib(const struct runtime *rt);

/*
 * A rehearsal: the conversation that a new machine's first user would have with its agent, held once
 * before there is one.
 *
 * An emulated machine is slow the first time it does anything: QEMU translates each path of the guest's
 * kernel and of the agent when it is first taken, and no snapshot has what was translated. So a machine
 * that is to stand ready (starter.h) is woken, by fresh randomness, with its slot's addresses and names
 * that are nobody's, and runs one program, which is the agent itself: it says how it is used, and ends.
 * Nothing of the image's runs. The WAKE of whoever gets the machine says all of it anew.
 *
 * The messages are made by the host role; a hand (hand.h) sends them and reads what the agent says, over
 * sockets that the starter made in the router's namespace. rehearse() allocates nothing.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "host/slotnet.h"

enum { REHEARSE_WAKE, REHEARSE_EXEC, REHEARSE_TALKS };

struct rehearsal {
	struct buf say[REHEARSE_TALKS];
	int talk[REHEARSE_TALKS];
};

struct rehearsal *rehearsal_new(const struct slotnet_plan *plan); /* NULL: out of memory */
void rehearsal_free(struct rehearsal *r);
/* Sockets to the agent behind `link`; nothing is sent yet. */
int rehearsal_open(struct rehearsal *r, int router_ns, const char *link, struct err *err);
/* Until all was answered, or `end` (clock_mono_ns()). chunk: to work with. */
int rehearse(const struct rehearsal *r, uint64_t end, char *chunk, size_t size, struct err *err);

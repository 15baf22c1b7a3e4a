/*
 * Templates: machines that hold still, in memory, for others to go on from as clones.
 *
 * The content of a paused machine's file, once: its memory in a memory file, its devices in another.
 * The first clone's starter fills both, checks them against the file's digest and seals them; others
 * wait for it by the lock on the memory (a starter that dies lets go of it, and the next one begins
 * anew). A clone keeps what it maps, so a template may be dropped at any time.
 *
 * Templates are counted to a control group of their own and dropped, longest unused first, when there
 * are more or larger ones than the limits say. What is in one is its user's: it is found by the digest
 * of the file's head, and only by who names the sandbox.
 */
#pragma once
#include <sys/queue.h>
#include "runtime/vm/snapshot.h"

#define TEMPLATES_MAX	8 /* kept at once, beside vm.fork_mib of machines' memory; a larger one is alone */
#define TEMPLATES_GROUP "templates"

struct template {
	TAILQ_ENTRY(template) next; /* used later */
	struct snapshot_head head;
	int memory, state; /* memory files */
};

struct templates {
	TAILQ_HEAD(, template) list; /* longest unused first */
	uint32_t limit_mib;
	uint64_t made; /* ever */
};

void templates_open(struct templates *t, uint32_t limit_mib);
/* The one of this head, which is made, empty, if there is none. Valid until the next call. */
int template_get(struct templates *t, const struct snapshot_head *head, struct template **ret,
	struct err *err);
uint32_t templates_mib(const struct templates *t);
unsigned int templates_count(const struct templates *t);
void templates_drop(struct templates *t);

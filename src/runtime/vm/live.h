/*
 * Copying the memory of a machine that runs, in two passes: most of it while the machine runs, and what
 * has changed since while it stands still.
 *
 *	its own memory	the file is the memory. What has changed is found by comparing: only some kernels can
 *			tell (soft-dirty pages)
 *	a clone's	the file is the template, which cannot change; the second pass is over those pages
 *			alone that QEMU has of its own, which the kernel's map of them tells
 *
 * Runs in a hand (hand.h); allocates nothing. The copy has memory only where the machine has some.
 */
#pragma once
#include "base/err.h"

struct live {
	int file;	  /* the machine's memory file */
	int mem, pagemap; /* QEMU's, if the file is a template; else negative */
	int copy;	  /* the memory file to be filled */
	uint64_t bytes;
	uint64_t at; /* the memory's address in QEMU */
	char *from, *to; /* both files, mapped */
};

/* maps: QEMU's, of /proc. chunk: MEMORY_CHUNK bytes to work with, here and below. */
int live_open(struct live *l, int maps, char *chunk, struct err *err);
int live_pass(const struct live *l, bool first, char *chunk, struct err *err);

/*
 * Hands: short-lived processes without privileges, one per step of a pause or a resume or for a
 * growing disk, which speak to QEMU and read what it says. A user id of the sandbox's own range
 * that QEMU does not have, an empty root, no capabilities; what a hand needs it has as descriptors.
 *
 *	SAVE	stop the machine, and write what it streams into the file, up to a limit; its memory
 *		behind it, where that is its own
 *	HOLD	stop the machine for good, and write its devices into the file; its memory stays in its memory
 *		file
 *	CHECK	is what the file holds what its digest says? The memory, where it is apart, is put into
 *		a memory file meanwhile
 *	LOAD	have a QEMU that waits for it read the body; it stays stopped
 *	GO	let the machine run
 *	RESIZE	have its disk be so large: QEMU extends the file and tells the guest
 *	BEGIN	LOAD, then GO
 *	REHEARSE	BEGIN, then what its agent will be asked first (rehearse.h), and stop it again
 *	COPY	of a machine that runs, its memory (live.h); then, when it is told to, stop it, write its devices,
 *		copy what has changed and its disk, and let it go on
 *
 * QEMU streams into a pipe: it never has the file, so that it can neither fill the disk nor alter what
 * was digested.
 */
#pragma once
#include "runtime/cgroup.h"
#include "runtime/vm/rehearse.h"
#include "runtime/vm/snapshot.h"

#define HAND_LIMIT_S 120

enum hand_step { HAND_SAVE, HAND_HOLD, HAND_CHECK, HAND_LOAD, HAND_ASK /* is it there? */, HAND_GO, HAND_BEGIN,
	HAND_REHEARSE, HAND_RESIZE, HAND_COPY };

struct hand_copy { /* COPY: what else it needs */
	int memory;	       /* to be filled; `memory` of the work is the machine's */
	int mem, pagemap, maps; /* of QEMU, in /proc; the first two negative: its memory is its own */
	int disk, disk_copy;
	int devices, devices_qemu; /* a memory file, and the same for QEMU to write */
	uint64_t bytes; /* of memory */
};

struct hand_work {
	enum hand_step step;
	const char *qmp_dir, *qmp_name;
	int qmp; /* connected already; negative: by its name */
	int dir;  /* of the snapshots; its `empty` becomes the root */
	int file; /* at the body; -EBADF for GO */
	int memory; /* SAVE: the machine's own; CHECK: to be filled; negative: it is in the
		     * stream, or only compared */
	int state;  /* CHECK: gets the body as well; negative: nobody does. COPY: gets what a LOAD of it
		     * reads */
	struct cgroups *cgroups;
	const char *group; /* CHECK, COPY: whom the memory is counted to; NULL: us */
	uint32_t uid;
	bool bare;	/* LOAD, BEGIN: of devices as COPY writes them, which knows of no memory */
	uint64_t limit; /* SAVE, HOLD: of bytes in the stream; RESIZE: the size */
	const struct hand_copy *copy;
	const struct rehearsal *rehearsal;
	struct snapshot_head *head; /* SAVE and HOLD set bytes, body, qemu, COPY qemu; CHECK and LOAD compare with them */
};

/* Waits: seconds, for a large machine. Callable from any thread. */
int hand_run(const struct hand_work *w, struct err *err);
/* For who may not allocate any more: what it needs is made ahead. A digest is made once. */
struct hand;
struct hand *hand_new(void);
int hand_do(struct hand *h, const struct hand_work *w, struct err *err);
/* COPY: until it waits to be told, and the rest. What is freed meanwhile has not touched the machine. */
int hand_begin(struct hand *h, const struct hand_work *w, struct err *err);
int hand_end(struct hand *h, struct err *err);
void hand_free(struct hand *h);

/*
 * Copies of machines that run, for forks. The machine goes on as it was, in the same process and with the
 * same memory; the fork has memory, devices and disk of its own from the beginning.
 *
 *	may_copy (loop)   memory is promised; a control group and a disk are there under spare names
 *	copy (thread)	  a hand copies the memory while the machine runs, and then waits
 *	copy_rest (thread) the hand stops the machine, writes its devices, copies what has changed since and
 *			  the disk, and lets it go on
 *	park (loop)	  the next fork of the machine takes it
 *
 * A hand that is killed may leave the machine stopped: copy_rest() lets it go on then. For the host role that
 * is killed the box says on record that it is being copied, and the next one lets it go on.
 */
#pragma once
#include "runtime/layer.h"
#include "runtime/vm/hand.h"

struct runtime;
struct runtime_box;
struct runtime_parked;

struct vm_copy {
	char cgroup[40], layer[LAYER_NAME_MAX];
	struct hand *hand;
	struct hand_work work;
	struct hand_copy what;
	struct snapshot_head head;
	int memory, state; /* the copy's; while it is made, `what` borrows them */
	bool whole;
};

int vm_may_copy(struct runtime_box *box, struct err *err);
int vm_copy(struct runtime_box *box, struct err *err);
int vm_copy_rest(struct runtime_box *box, struct err *err);
void vm_copy_drop(struct runtime_box *box);
/* After adoption: its host role was killed while it was copied. */
void vm_copy_interrupted(struct runtime_box *box);

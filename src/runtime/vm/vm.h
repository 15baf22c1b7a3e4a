/*
 * What the files of this runtime have in common: one daemon's machines, those that are being started,
 * and those that are boxes. vm.c begins and ends them, pause.c has them sleep in files, template.c and
 * fork.c make many of one, warm.c has what nobody has used yet ready. tally.c counts.
 */
#pragma once
#include <stdatomic.h>
#include "runtime/known.h"
#include "runtime/vm/copy.h"
#include "runtime/vm/hand.h"
#include "runtime/vm/machine.h"
#include "runtime/vm/ready.h"
#include "runtime/vm/snapshot.h"
#include "runtime/vm/starter.h"
#include "runtime/vm/template.h"
#include "runtime/vm/warm.h"

#define OVERHEAD_MIB (MACHINE_TB_MIB + 96) /* QEMU itself, beyond the machine's memory */
#define VM_CGROUP    "vm-" /* groups of machines begin with it; those that nobody has are swept */
#define QEMU_TASKS   64 /* its threads: one per processor, and those that write to disks */

struct runtime {
	struct vm_kit kit;
	char accel[8]; /* as configured */
	uint32_t uid_base;
	int snapshots;
	struct templates templates;
	struct warms warms;
	struct runtime_parked *parked;
	struct runtime_box *boxes;
	char boot_id[40];
	_Atomic uint64_t starts[IPC_STARTS]; /* resumes are counted in threads */
};

struct runtime_parked {
	struct runtime *rt;
	struct runtime_parked *next;
	struct vm_seat seat;
	struct vm_starter starter;
	struct snapshot_head head;  /* of what it goes on from, if it is a fork */
	char from[IPC_ID_LEN];	    /* the sandbox; "": it begins anew */
	char key[WARM_KEY_MAX];	    /* of templates that it could begin from; "": none could be */
	struct slotnet_plan plan;   /* what of its link is everybody's */
	uint64_t warm;		    /* the number of that which it begins from; 0: it boots */
	uint64_t settling;
	bool unwanted; /* it stood ready, and was told to end: its memory is needed */
};

struct runtime_box {
	struct runtime *rt;
	struct runtime_box *next;
	char id[IPC_ID_LEN];
	struct known known;
	struct vm_made made;
	bool asleep;   /* in a file, with no process */
	bool promised; /* asleep, but being thawed: its memory is spoken for */
	bool held;     /* loaded, and not told to run */
	bool clone;    /* its memory is a template's, and what it wrote over it */
	bool copied;   /* it may stand still for a copy */
	struct vm_copy *copy; /* NULL: there is none */
	int word; /* it stood ready, and QEMU has not answered yet; else negative */
};

/* Of a machine's control group and layer, until a sandbox has it. */
void vm_new_names(struct vm_seat *s);

int vm_fill_image(const struct runtime *rt, const char *name, struct vm_seat *s, struct err *err);
/* What a template must agree in, beside the image. */
void vm_fill_size(const struct runtime *rt, const struct runtime_seat *from, struct vm_seat *s);

/* Is there room for one more machine of this size? Those that stand ready, and templates that nobody has to
 * have, make it. vm_has_room(): as things are. */
bool vm_has_room(const struct runtime *rt, uint32_t mem_mib);
int vm_check_memory(struct runtime *rt, uint32_t mem_mib, struct err *err);

/* Can what a snapshot was made with go on here? */
int vm_check_accel(const struct runtime *rt, const struct vm_made *made, struct err *err);

/* --- tally.c --- */
/* What p was is a sandbox now: how did it begin? IPC_STARTS: it did not, it sleeps. */
enum ipc_start vm_start_of(const struct runtime_parked *p);
void vm_began(struct runtime *rt, enum ipc_start how);
void vm_tally(const struct runtime *rt, struct ipc_machines *ret);

/* --- pause.c: runtime.h has what they are --- */
/* A step for this box; memory as in hand.h. */
struct hand_work vm_hand_for(const struct runtime_box *box, enum hand_step step, int file, int memory,
	struct snapshot_head *head);
int vm_freeze(struct runtime_box *box, struct err *err);
int vm_may_thaw(struct runtime_box *box, struct err *err);
int vm_thaw(struct runtime_box *box, const struct slotnet_plan *plan, int tap, struct err *err);
int vm_go_on(struct runtime_box *box, struct err *err);

/* --- fork.c --- */
/* The seat of one that goes on from what `from->from` was paused as, or as its copy. fds: what the seat borrows, to be
 * closed when its starter has been forked. */
struct vm_fork_fds {
	int file, memory, state;
};
int vm_fork_seat(struct runtime *rt, const struct runtime_seat *from, struct runtime_parked *p,
	struct vm_fork_fds *fds, struct err *err);
void vm_fork_fds_done(struct vm_fork_fds *fds);
/* Has it been copied, and nobody came for it yet? id NULL: no. */
bool vm_is_copied(const struct runtime *rt, const char *id);
/* Is something about to begin from it? */
bool vm_is_forked(const struct runtime *rt, const char *id);

/*
 * Bringing one machine up: a process that the host role forks does all that takes time, so that the
 * host role never waits, and reads what the guest says, so that the host role never does.
 *
 *	host role   starter                                   QEMU
 *	---------   ---------------------------------------   -----------------------------
 *	fork  --->  control group, guest bundle, the image's
 *	            disk, the writable layer; a jail (jail.h);
 *	            clone  --------------------------------->  own uid, exec, seccomp, boot
 *	 <- pidfd   reads the console until MACHINE_UP         kernel, first process, agent
 *	 <- ready   empties QEMU's root; exit
 *
 * One that goes on from a snapshot says nothing on its console. A resume: the host role's hand (hand.h)
 * has it load, then vm_starter_loaded() lets the starter finish. A fork: the starter copies the disk and
 * fills its template, if nobody has yet, and its own hand has it load, and run.
 *
 * A template (warm.h) boots on a link that leads nowhere; when it is up, the starter's hand has its
 * devices written, QEMU is ended, and what it was is sealed.
 *
 * One that stands ready (a clone of a template, for nobody yet) is loaded, rehearsed (rehearse.h) and stopped
 * again; its starter stays until it is taken, which qmp_go() on `word` does, or ends with its QEMU.
 *
 * QEMU is the host role's child (CLONE_PARENT) and outlives it; the starter does not: a machine that
 * was being started is then found by its control group, and swept.
 */
#pragma once
#include "runtime/cgroup.h"
#include "runtime/filter.h"
#include "runtime/layer.h"
#include "runtime/runtime.h"
#include "runtime/vm/accel.h"
#include "runtime/vm/snapshot.h"

#define VM_VCPUS_MAX	16
#define VM_BOOT_LIMIT_S 120 /* 1.5 s on an idle machine, by software; this is for one that is drowning */

struct vm_kit { /* what all starters of a daemon share; outlives them */
	struct cgroups *cgroups;
	struct layers *layers;
	char run_dir[200], image_dir[256], guest_dir[300];
	char agent[600], guest[600], rootfs[600]; /* programs of ours */
	uint64_t tsc, mono_ns; /* read together, when the daemon began */
	struct accel accel;    /* of machines that boot */
	struct filter filter;  /* of their QEMUs */
};

struct vm_seat {
	char cgroup[40], layer[LAYER_NAME_MAX];
	bool stored; /* the layer is there; else it is made */
	char image[IPC_NAME_LEN], digest[72];
	uint32_t vcpus, mem_mib, disk_mib;
	uint32_t uid; /* QEMU's */
	int tap, memory; /* the caller's; needed until the fork only */
	bool copied;	 /* a fork of one that runs: memory, devices and layer are there, for it alone */
	bool clone;	 /* the memory is a template's */
	bool template;	 /* nobody's: it boots, and is what others begin from; tap is negative */
	/* A fork, or a clone of a template; head NULL: neither. */
	const struct snapshot_head *head;
	const char *from; /* whose disk is copied */
	int file, state;  /* the paused machine's file; the template's devices; or negative */
	int dir;	  /* of the files of paused machines */
	struct hand *hand;
	bool asleep; /* to be paused: its file is a copy, by the control group's name, and there is no QEMU */
	struct rehearsal *rehearsal; /* NULL, or: it is to stand ready (rehearse.h) */
	int router_ns;		     /* then: where its agent is spoken to */
	const struct slotnet_plan *plan;
	char accel[ACCEL_NAME_MAX];
	char bundle[BUNDLE_KEY_MAX]; /* "": the current one, and it boots; else it waits for a snapshot */
};

struct vm_starter {
	int pidfd; /* the starter's; -EBADF: over */
	int chan;
	int qemu; /* pidfd; -EBADF: not begun yet */
	pid_t qemu_pid;
	int word; /* QEMU's control channel, of one that stands ready; else negative */
	bool ready, asleep, stands;
	char bundle[BUNDLE_KEY_MAX]; /* from ready on; of a template, so is */
	uint32_t version;	     /* QEMU's */
};

/* Fork one. Returns at once. */
int vm_starter_fork(const struct vm_kit *kit, const struct vm_seat *seat, struct vm_starter *ret,
	struct err *err);
/* Read what s->chan has. 1: the agent listens; 0: not yet; negative: it failed, or stood ready and has ended; err
 * has the reason. */
int vm_starter_look(struct vm_starter *s, struct err *err);
/* Wait for its QEMU, and tell that it has loaded, after which vm_starter_look() says how it ended. */
int vm_starter_qemu(struct vm_starter *s, struct err *err);
int vm_starter_loaded(struct vm_starter *s, struct err *err);
/* SIGKILL, without waiting. */
void vm_starter_kill(struct vm_starter *s);
/* End it if it is still there. Its control group and layer remain, for the caller to remove. */
void vm_starter_done(struct vm_starter *s);

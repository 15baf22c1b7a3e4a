/*
 * What QEMU may see: nothing.
 *
 *	1 own mount, process, ipc, uts and net namespaces; the net namespace is empty, the link is a
 *	  descriptor
 *	2 its root is a small tmpfs with /usr, read-only, which it is loaded from, the guest's kernel, and
 *	  a /proc of its own process namespace
 *	3 a user id of the sandbox's own range, no groups, no capabilities, no way to any
 *	4 a container's seccomp filter (filter.h): no namespaces, no modules, no keys, no BPF; then its own
 *	  (-sandbox): no fork, no exec, no set*id, no scheduling
 *	5 once the guest runs, all of that is taken away: what is mapped stays mapped, and no path leads
 *	  anywhere
 *
 * Files come as descriptors; limits are the control group's. None is on the length of its disk, a file
 * of the host's: QEMU itself extends it when a disk grows, so whoever is QEMU can.
 */
#pragma once
#include "runtime/filter.h"
#include "runtime/vm/machine.h"

struct jail_who {
	uint32_t uid;
	const struct filter *filter;
};

/* 1 and 2 in the calling process, a starter. run_dir: where the tmpfs is attached on its way. kvm_uid:
 * who may open /dev/kvm in there, which QEMU cannot be handed; 0: it is not there. */
int jail_make(const char *run_dir, const char *guest_dir, uint32_t kvm_uid, struct err *err);
/* 3, in a process of its own: its pid; it becomes QEMU on these descriptors. */
int jail_qemu(const struct machine_line *line, const struct jail_who *who, const int fds[MACHINE_FDS_END],
	int *ret_pidfd, struct err *err);
/* The id alone: no groups, no capabilities, no way to any, no core files. For good. */
int jail_drop(uint32_t uid);
/* For who reads what QEMU says, with the descriptors it has: no new sockets, programs or processes, nothing
 * of the kernel's history. For good; after jail_drop(). */
int jail_mute(void);
/* 5, in the starter. */
int jail_empty(struct err *err);

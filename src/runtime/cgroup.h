/*
 * Control groups of sandboxes, whatever the layout: pure v2, v1, or both mounted side by side
 * ("hybrid": v2 without controllers, limits in v1).
 *
 * Each controller is looked for in v2 first, then in v1. Freezing and killing use v2 wherever it
 * is mounted, because a v1-frozen task does not even die of SIGKILL. A group is known by its
 * name, `<mount>/<root>/<name>` in every hierarchy; nothing is kept open per group.
 *
 * The root is a top-level group of ours, never below the daemon's own: stopping a service would
 * end its sandboxes.
 */
#pragma once
#include "base/err.h"
#include "wire/ipc.h"

struct cgroups;

struct cgroup_limits { /* 0: none */
	uint32_t mem_mib, pids, vcpu_milli;
};

int cgroups_open(const char *root, struct cgroups **ret, struct err *err);
void cgroups_close(struct cgroups *cg);
/* Remove the root group itself; only works when it has no groups left. */
void cgroups_remove_root(struct cgroups *cg);
/* Descriptors that a child must keep for cgroup_enter(); returns how many. */
size_t cgroups_fds(const struct cgroups *cg, int *fds, size_t max);

int cgroup_make(struct cgroups *cg, const char *name, struct err *err);
/* The same, if it is not there. */
int cgroup_need(struct cgroups *cg, const char *name, struct err *err);
int cgroup_limit(struct cgroups *cg, const char *name, const struct cgroup_limits *l,
	struct err *err);
/* Another limit of memory, while processes run in it. Less than is in use, after what can be written
 * back was: -EBUSY, and the limit stays. May wait for the disk. */
int cgroup_memory(struct cgroups *cg, const char *name, uint32_t mib, struct err *err);
/* The v2 directory, for CLONE_INTO_CGROUP; negative when there is none. */
int cgroup_v2_open(struct cgroups *cg, const char *name);
/* Move the calling process in. In v1 this waits for an RCU grace period: 1 to 20 ms. */
int cgroup_enter(struct cgroups *cg, const char *name, struct err *err);
/* -EAGAIN: not all of it has frozen, within some milliseconds: ask again. Given up, and thawed, after
 * some seconds, counted from *since (0 at first). */
int cgroup_freeze(struct cgroups *cg, const char *name, uint64_t *since, struct err *err);
int cgroup_thaw(struct cgroups *cg, const char *name, struct err *err);
bool cgroup_frozen(struct cgroups *cg, const char *name);
/* SIGKILL to everything in it, frozen or not. Returns at once. */
int cgroup_kill(struct cgroups *cg, const char *name);
/* Takes the group away, killing what is in it. -EAGAIN: that has not ended yet; 0 also if there is
 * no group. The other one waits for it, bounded. */
int cgroup_try_remove(struct cgroups *cg, const char *name, struct err *err);
int cgroup_remove(struct cgroups *cg, const char *name, struct err *err);
/* cgroup_try_remove() for one who asks again while it says -EAGAIN: given up after a minute, counted
 * from *since (0 at first). */
int cgroup_settle(struct cgroups *cg, const char *name, uint64_t *since, struct err *err);
bool cgroup_oom(struct cgroups *cg, const char *name); /* has it lost a process for memory? */
int cgroup_stats(struct cgroups *cg, const char *name, struct ipc_stats *ret);
/* Is the process in this group? */
bool cgroup_has(struct cgroups *cg, const char *name, pid_t pid);
/* Every group below our root, in whichever hierarchy; fn may remove it. */
void cgroups_each(struct cgroups *cg, void (*fn)(const char *name, void *arg), void *arg);

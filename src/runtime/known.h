/*
 * A sandbox's first process and its control group: how a runtime knows them again after a restart of
 * the host role, and how it ends them.
 *
 * A process id is never believed: it is the process only if the machine has not rebooted, it has the
 * start time on record, and it is in the sandbox's control group.
 */
#pragma once
#include "base/buf.h"
#include "runtime/cgroup.h"

struct known {
	char boot[40];	 /* boot id of the machine */
	char cgroup[40]; /* "<prefix>-<16 hex digits>" */
	pid_t pid;
	uint64_t started; /* field 22 of /proc/<pid>/stat */
	uint32_t slot, mem_mib;
	/* Not on record: */
	int pidfd;
	int32_t status;	   /* of its end, as known_reap() has it */
	bool oom;	   /* a process was ended for memory */
	uint64_t settling; /* since when its end is awaited; 0: not yet */
};

int known_boot(char ret[static 40]);
/* The start time of k->pid, a process that cannot end unnoticed (its pidfd is held). */
int known_start(struct known *k);
/* Lines "key=value", and back; only a cgroup that begins with prefix is taken. */
int known_write(const struct known *k, struct buf *out);
int known_read(struct str text, const char *prefix, struct known *ret);
/* The pidfd of the process, or -ESRCH. */
int known_find(const struct known *k, const char *boot, struct cgroups *cg);
/* SIGKILL to everything it is. 0 also if it has ended. */
int known_kill(const struct known *k, struct cgroups *cg);
/* How it ended, and its group away, by one who asks again while it says -EAGAIN. */
int known_settle(struct known *k, struct cgroups *cg, struct err *err);
/* The same, waiting for what known_settle() did not do; then how it ended. The pidfd stays open. */
int known_end(struct known *k, struct cgroups *cg, int32_t *ret_status, bool *ret_oom,
	struct err *err);
/* As waitpid() would have told: -1 when it was not our child, or has not ended. */
int32_t known_reap(int pidfd);

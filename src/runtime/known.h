/*
 * How a runtime knows a sandbox's first process again after a restart of the host role.
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
};

int known_boot(char ret[static 40]);
/* The start time of k->pid, a process that cannot end unnoticed (its pidfd is held). */
int known_start(struct known *k);
/* Lines "key=value", and back; only a cgroup that begins with prefix is taken. */
int known_write(const struct known *k, struct buf *out);
int known_read(struct str text, const char *prefix, struct known *ret);
/* The pidfd of the process, or -ESRCH. */
int known_find(const struct known *k, const char *boot, struct cgroups *cg);
/* As waitpid() would have told: -1 when it was not our child, or has not ended. */
int32_t known_reap(int pidfd);

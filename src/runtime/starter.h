/*
 * The starter: a short-lived process that brings one sandbox into the world.
 *
 * The host role must not change namespaces, and nearly all of a start need not wait for a request:
 * what it depends on (a slot, an image, a disk size) is known or can be guessed. So each sandbox is
 * begun by a fork of the host role that does the slow parts and ends; the sandbox's first process
 * then parks one step before the end, until its name and limits are known:
 *
 *	host role   starter                              first process
 *	---------   ----------------------------------   -------------------------------------
 *	fork  --->  control groups, layer, own mount
 *	            namespace with nothing in it but
 *	            what a sandbox is made from; net
 *	            namespace, sysfs, id-mapped
 *	            image, overlay; clone  ----------->  waits
 *	 <- pidfd   id maps; exit  ------------------->  root, /proc, /dev, masks, limits
 *	 <- ready                                        (parked)
 *	order  --------------------------------------->  host name, /etc/hosts, capabilities, seccomp
 *	 <- EOF                                          exec of the agent
 *
 * The first process is made with CLONE_PARENT: the host role can wait for it; and with CLONE_VM: the
 * host role's memory map is copied once for a sandbox. End of file without an error message means
 * that the agent runs. If the host role dies the starter does too, a parked first process reads end
 * of file and ends, and a sandbox that was just being finished is found by its control group.
 */
#pragma once
#include "runtime/cgroup.h"
#include "runtime/layer.h"
#include "runtime/runtime.h"
#include "runtime/filter.h"

struct starter_kit { /* what all starters of a daemon share; outlives them */
	struct cgroups *cgroups;
	struct layers *layers;
	struct filter filter;
	int agent; /* sealed memory file */
	char run_dir[200];
};

struct starter_seat { /* what a sandbox is made in and from */
	const char *cgroup;
	const char *layer; /* a stored layer; NULL: a spare one of disk_mib is made */
	const char *from;  /* whose files a spare one begins with; NULL: none */
	uint32_t from_uid; /* that one's base id */
	uint32_t disk_mib; /* of a stored layer: it is grown to that; 0: stays as it is */
	uint32_t uid;	    /* the sandbox's base id on the host */
	uint32_t image_uid; /* the image's base id on disk */
	int netns, agent_sock, rootfs; /* the caller's; needed until the fork only */
};

struct starter {
	pid_t pid; /* the starter's, then the first process's */
	int pidfd; /* -EBADF: over */
	int first; /* the first process's pidfd; -EBADF: not cloned yet */
	pid_t first_pid;
	int chan;
	bool ready; /* parked */
	char cgroup[40];
	char layer[LAYER_NAME_MAX]; /* its layer; a spare one until it is claimed */
};

struct starter_order { /* what a parked sandbox lacks */
	char hostname[IPC_NAME_LEN];
	uint32_t mem_mib;
	bool revive; /* /etc/hosts is the tenant's by now */
	struct ip ip4, ip6;
};

/* Fork one. Returns at once. */
int starter_fork(const struct starter_kit *kit, const struct starter_seat *seat,
	struct starter *ret, struct err *err);
/* Read what s->chan has. 1: parked; 0: not yet; negative: it failed, err has the reason. */
int starter_look(struct starter *s, struct err *err);
/* Start the parked sandbox: returns when the agent runs, bounded. The first process stays in *s
 * for the caller to take or to end. */
int starter_go(struct starter *s, const struct starter_order *order, struct err *err);
/* SIGKILL, without waiting. What the group holds besides is the caller's to kill. */
void starter_kill(struct starter *s);
/* End it if it is still there. Its control group and layer remain, for the caller to remove. */
void starter_done(struct starter *s);

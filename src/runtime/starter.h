/*
 * The starter: a short-lived process that brings one sandbox into the world.
 *
 * The host role must not change namespaces, and the slow steps of a start (entering v1 control
 * groups, making and mounting a layer) need not wait for a request. So each sandbox is started by
 * a fork of the host role that does those first, then parks, gets a request, makes the sandbox's
 * first process, and ends:
 *
 *	host role   starter                              first process
 *	---------   ----------------------------------   -------------------------------------
 *	fork  --->  control groups, layer, own mount
 *	            namespace with nothing in it but
 *	            what a sandbox is made from
 *	            (parked)
 *	request ->  net namespace, sysfs, id-mapped
 *	            image, overlay; clone3  ---------->  waits
 *	            id maps
 *	 <- pidfd   go; exit                ---------->  root, /proc, /dev, files, masks, limits,
 *	                                                 capabilities, seccomp
 *	 <- EOF                                          exec of the agent
 *
 * The first process is made with CLONE_PARENT: the host role can wait for it. End of file without
 * an error message means that the agent runs. If the host role dies the starter does too, and the
 * sandbox it had not yet finished is found by its control group.
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

struct starter {
	pid_t pid;
	int pidfd;
	int chan;
	char cgroup[40];
	char layer[LAYER_NAME_MAX]; /* its layer; a spare one until it is claimed */
	uint32_t disk_mib;
};

struct starter_request {
	char id[IPC_ID_LEN], hostname[IPC_NAME_LEN];
	uint32_t uid;	    /* the sandbox's base id on the host */
	uint32_t image_uid; /* the image's base id on disk */
	uint32_t mem_mib;
	bool revive;
	struct ip ip4, ip6;
};

/* Fork one. layer: a stored layer's name to use it, NULL for a spare one of disk_mib. */
int starter_fork(const struct starter_kit *kit, const char *cgroup, const char *layer,
	uint32_t disk_mib, struct starter *ret, struct err *err);
/* Start the sandbox: takes as long as that takes, bounded. On success the starter has ended and
 * *ret_pid, *ret_pidfd are the sandbox's; on failure both are gone and err has the reason. */
int starter_go(struct starter *s, const struct starter_request *req, int netns, int agent_sock,
	int rootfs, pid_t *ret_pid, int *ret_pidfd, struct err *err);
/* End it if it is still there. Its control group and layer remain, for the caller to remove. */
void starter_done(struct starter *s);

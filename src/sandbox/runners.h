/*
 * The runtimes of this machine. Containers always; machines where QEMU is installed. What a sandbox
 * runs in is in its record, so that another default does not orphan those that run.
 */
#pragma once
#include <uv.h>
#include "runtime/runtime.h"

struct daemon;

enum { RUNNER_POOLED, RUNNER_VM, RUNNERS }; /* the first is the container runtime */

struct runner {
	const struct runtime_ops *ops;
	struct runtime *rt;
	bool able;	/* new sandboxes may begin in it; else why is the reason */
	struct err why;
	struct daemon *d;
	void (*heard)(struct daemon *d); /* after news */
	uv_poll_t news; /* data NULL: not watched */
};

/* Open all. Only what runtime.default asks for must be there. */
int runners_open(struct daemon *d, struct err *err);
void runners_close(struct daemon *d);
/* On the loop: what they have done in the background, of which `heard` is told. */
int runners_watch(struct daemon *d, void (*heard)(struct daemon *d), struct err *err);
void runners_unwatch(struct daemon *d);
/* The runtime of a record, or of a request that must be able to begin one ("": the pooled one).
 * NULL, with the reason: there is none. */
const struct runner *runner_known(const struct daemon *d, const char *name);
const struct runner *runner_find(const struct daemon *d, const char *name, struct err *err);
/* For the api role: which there are, which `auto` means, and why. */
void runners_tell(const struct daemon *d, struct ipc_host_info *ret);
/* How machines began, and what is kept for those to come. */
void runners_tally(const struct daemon *d, struct ipc_machines *ret);
/* A sandbox without a process: whichever has its layer drops it. */
int runners_drop_layer(struct daemon *d, const char *id, struct err *err);
/* After all adoptions. */
void runners_sweep(struct daemon *d);

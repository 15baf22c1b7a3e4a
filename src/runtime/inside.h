/* The first process of a sandbox, from clone to where it parks, and on to exec of the agent. */
#pragma once
#include "runtime/starter.h"

enum { DEV_NULL, DEV_ZERO, DEV_FULL, DEV_RANDOM, DEV_URANDOM, DEV_TTY, DEVS };

struct inside { /* made ready by the starter; all mounts are detached */
	const struct starter_kit *kit;
	int root;	/* overlay */
	int sysfs;	/* read-only, of the slot's net namespace */
	int dev[DEVS];	/* device nodes */
	int agent_sock;
	int chan;	/* close-on-exec; errors are sent here */
	int go;		/* read end: one byte when the id maps are written */
};

extern const char *const inside_dev_names[DEVS];
/* Does not return; err is sent over chan. */
_noreturn_ void inside_run(const struct inside *in);

/*
 * The agent as process 1 of a virtual machine. The initramfs holds it as /init beside the modules
 * that the kernel lacks; machine_boot() makes of that what a container is given: a root, the
 * kernel's file systems, a link with addresses. It then is the agent as everywhere else.
 *
 *	machine.c  modules, disks, mounts
 *	cmdline.c  what the host says on the kernel's command line
 *	held.c	   its processes held still while it is copied
 *	link.c	   addresses, routes and neighbours of eth0, also at a later wake
 *
 * All of it runs before anything of a tenant's, and what it reads was written by the host.
 */
#pragma once
#include "base/err.h"
#include "base/ip.h"
#include "wire/frame.h"

struct link_plan { /* family 0: not told yet */
	struct ip ip4, ip6, overlay;
	struct prefix overlays; /* of all sandboxes */
};

struct cmdline {
	struct link_plan link;
	uint32_t mtu; /* 0: as the device has it */
	char host[FRAME_NAME_MAX + 1];
};
/* Words "weir.<key>=<value>" of ours; other words are the kernel's. One of ours that is unknown, or
 * said twice, or no value of its kind, is ERR_INVALID. */
int cmdline_read(struct str text, struct cmdline *ret, struct err *err);

/* The link's own addresses and those of the plan; afterwards the gateway can be spoken to. */
int link_begin(const struct link_plan *plan, uint32_t mtu, struct err *err);
/* Other addresses from now on: those of before are gone, and their routes with them. What the new
 * plan does not name stays. */
int link_move(const struct link_plan *plan, struct err *err);

/* Is this a machine of its own, with its own clock and randomness? */
bool machine_is_ours(void);
/* Returns in the sandbox's root, with the link up. */
int machine_boot(struct err *err);
/* Nothing runs but this process, from the one to the other: before a snapshot, and at the wake after it.
 * held_begin() may be asked for twice. */
int held_open(struct err *err);
int held_begin(void);
/* In a new process, before it becomes a program: it begins with the others. */
void held_join(void);
void held_end(void);
/* The disk may have become larger: let the sandbox have it. The same size is no error. */
int machine_grow(void);
/* The agent listens: say so to the host, by one byte on the serial port, if there is one. */
#define MACHINE_READY 6 /* ACK */
void machine_ready(void);

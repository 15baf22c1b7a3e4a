/*
 * The machine that a sandbox of this runtime is, as QEMU is told to build it: a `microvm` with one
 * link, two disks and a serial line, and nothing that needs a bus to be searched.
 *
 *	descriptor	device
 *	MACHINE_TAP	virtio-net: the sandbox's end of its link
 *	MACHINE_ROOT	virtio-blk, serial "root": the image, read-only, shared by all
 *	MACHINE_DISK	virtio-blk, serial "disk": the writable layer
 *	MACHINE_CONSOLE	ttyS0, one way: what goes wrong before the agent listens, then one MACHINE_UP
 *	MACHINE_QMP	QEMU's control channel, listening: nothing of it reaches the guest
 *	MACHINE_MEMORY	its memory (memory.h)
 *
 * Files are named by descriptor (-add-fd; for memory there is only /proc/self/fd), so QEMU opens
 * nothing but the kernel and the initramfs, which lie in MACHINE_GUEST_DIR of the empty root it starts
 * in (jail.h).
 */
#pragma once
#include "base/err.h"
#include "host/slotnet.h"

#define MACHINE_QEMU	  "/usr/bin/qemu-system-x86_64"
#define MACHINE_PACKAGE	  "qemu-system-x86"
#define MACHINE_GUEST_DIR "/guest"
#define MACHINE_UP	  '\x06' /* the agent listens */
#define MACHINE_ARGS_MAX  64
#define MACHINE_TB_MIB	  64 /* translated code: bounded, or it is a quarter of the machine's memory */

enum { MACHINE_TAP = 3, MACHINE_ROOT, MACHINE_DISK, MACHINE_CONSOLE, MACHINE_QMP, MACHINE_MEMORY,
	MACHINE_FDS_END };

struct machine {
	uint32_t mem_mib, vcpus;
	uint32_t tsc_khz; /* the host's, as emulation shows it: no timer is there to measure by */
	const char *cmdline; /* what this kernel always has to be told */
	const char *accel;   /* accel.h */
	const struct slotnet_plan *net; /* NULL: neither link nor disks nor control; only a kernel to boot */
	bool incoming; /* not booted: it waits, stopped, for what another has become */
	bool clone;    /* its memory is a template's: what it writes is its own */
};

struct machine_line {
	const char *argv[MACHINE_ARGS_MAX]; /* ends with NULL */
	unsigned int n;
	char text[6144];
	size_t used;
};

/* -E2BIG: it does not fit. Allocates nothing. */
int machine_line(const struct machine *m, struct machine_line *ret);

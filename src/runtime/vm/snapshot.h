/*
 * Machines that are paused: one file each, `<state_dir>/vm/paused/<id>`.
 *
 *	0	struct snapshot_head, what it can go on with, and digests of itself and of what follows
 *	4096	the body: QEMU's stream
 *	4 MiB	its memory, where the stream leaves it out: as in its memory file (memory.h), holes too
 *
 * The memory is apart where it was the machine's own. Of one that maps a template privately nobody
 * but QEMU knows it, so it is in the stream, and there is nothing behind.
 *
 * It is written as `<id>.part` and renamed when it is whole and on the disk: the file is there, or the
 * machine was never paused. While it is there it *is* the machine, and a process that may still be
 * about is superfluous; it is removed right before the machine goes on. No QEMU ever has it open for
 * writing.
 */
#pragma once
#include "base/err.h"
#include "runtime/layer.h"
#include "runtime/vm/accel.h"
#include "wire/ipc.h"

#define SNAPSHOT_VERSION 2
#define SNAPSHOT_BODY	 4096
#define SNAPSHOT_MEMORY	 (4 << 20)
#define SNAPSHOT_DIGEST	 32
#define BUNDLE_KEY_MAX	 96

struct vm_made { /* what a machine was built from, and needs again */
	char image[IPC_NAME_LEN], digest[72], bundle[BUNDLE_KEY_MAX];
	char accel[ACCEL_NAME_MAX];
	uint32_t mem_mib, vcpu_milli;
};

struct snapshot_head {
	char magic[8];
	uint32_t version, qemu; /* of QEMU: three numbers, a byte each */
	struct vm_made made;
	uint64_t bytes;	 /* of the body */
	uint64_t memory; /* bytes; 0: it is in the body */
	uint8_t body[SNAPSHOT_DIGEST]; /* of body and memory */
	uint8_t own[SNAPSHOT_DIGEST]; /* of all above */
};

/* The directory, made at need; and `empty` in it, a root for who needs no files. */
int snapshots_open(const char *vm_dir, struct err *err);
/* A descriptor of the unfinished file. */
int snapshot_begin(int dir, const char *id, struct err *err);
void snapshot_abandon(int dir, const char *id);
/* The body is in fd: the rest of head is filled in here. Waits for the disk. */
int snapshot_commit(int dir, const char *id, int fd, struct snapshot_head *head, struct err *err);
/* Read-only, at the body. The head is right when this succeeds; the body is looked at elsewhere. */
int snapshot_open(int dir, const char *id, struct snapshot_head *ret, struct err *err);
/* That of a paused machine as that of another, which is paused, too, when it is claimed: all of `from`, a
 * descriptor, under a name that is swept. */
int snapshot_copy(int dir, int from, const char *spare, struct err *err);
int snapshot_claim(int dir, const char *spare, const char *id, struct err *err);
bool snapshot_exists(int dir, const char *id);
/* Its blocks are freed in the background: they are many, and far apart. Callable from any thread. */
void snapshot_remove(int dir, struct layers *layers, const char *id);
/* Remove those that nobody owns, and unfinished ones. */
void snapshots_sweep(int dir, bool (*owned)(const char *id, void *arg), void *arg);

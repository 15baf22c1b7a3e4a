/*
 * What the host role writes down of each sandbox, so that the next host role can adopt it: one
 * small text file per sandbox in <run_dir>/sandboxes, lines "key=value". It is replaced whole at
 * each change and removed when everything of the sandbox is reclaimed; a file without a sandbox is
 * what a crash leaves, and names what is to be swept.
 *
 * `boot` tells records of this boot from older ones, whose sandboxes died with the machine. Lines
 * that begin with "rt." belong to the runtime, which alone understands them.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/ip.h"
#include "wire/ipc.h"

#define RECORD_MAX    8192
#define RECORD_RT_MAX 4096

struct record {
	char id[IPC_ID_LEN];
	uint64_t boot;
	uint32_t slot, ifindex;
	char link[16];
	char runtime[16];
	struct ip ip4, ip6; /* ip6.family 0: none */
	bool dead;	    /* its first process has ended; what is left waits for DESTROY */
	int32_t exit_status;
	char rt[RECORD_RT_MAX]; /* lines of the runtime, without the prefix */
};

int record_encode(const struct record *r, struct buf *out);
/* Refuses what encode would not write. */
int record_decode(struct str text, struct record *ret, struct err *err);

int record_save(int dir, const struct record *r, struct err *err);
int record_load(int dir, const char *id, struct record *ret, struct err *err);
int record_remove(int dir, const char *id);
/* Call fn with each file's name that is a sandbox id; other files are removed. */
int record_each(int dir, int (*fn)(const char *id, void *arg), void *arg);

/* "sb-" and a lower-case ULID: the only names that ever become part of a path. */
bool record_id_ok(const char *id);
/* A number of this boot of the machine, never 0. */
uint64_t record_boot(void);

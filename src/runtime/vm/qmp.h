/*
 * QEMU's control channel (QMP): a Unix socket beside the machine, which outlives the host role.
 *
 * Making it and connecting to it is anybody's. What QEMU says is believed to be hostile, and read only
 * by a hand (hand.h): these functions look for a few words in lines of bounded length, and allocate
 * nothing.
 */
#pragma once
#include "base/err.h"

#define QMP_LINE_MAX 16384

struct qmp {
	int fd;
	uint64_t end;	  /* of the monotonic clock: then it is given up */
	uint32_t version; /* of QEMU */
	int migration;	  /* 1: completed, negative: failed */
	char text[QMP_LINE_MAX], *line;
	size_t used, eaten;
};

/* <dir>/<name>.qmp; a path too long for a socket is no obstacle. */
int qmp_listen(const char *dir, const char *name, struct err *err);
int qmp_connect(const char *dir, const char *name, struct err *err);
void qmp_unlink(const char *dir, const char *name);

/* Over a channel that a hand has greeted, whose answers nobody reads: let the machine run. */
int qmp_go(int fd, struct err *err);

int qmp_hello(struct qmp *q, struct err *err);
/* One command, as JSON, with a descriptor unless fd is negative; waits until it has worked. */
int qmp_do(struct qmp *q, const char *command, int fd, struct err *err);
/* Wait until the migration that was begun is over. */
int qmp_migrated(struct qmp *q, struct err *err);

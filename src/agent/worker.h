/*
 * Work on files is done in a child process each, which inherits the connection and does plain
 * blocking reads and writes. A hung network file system, a slow disk or a reader that stopped
 * holds up its own child and nothing else; if the peer leaves, the child notices by its next
 * read or write and ends. At most WORKERS_MAX at a time; those that stay until their client leaves
 * are counted apart.
 */
#pragma once
#include "agent/agent.h"

#define WORKER_FD 3 /* the connection, in the child */

struct workers {
	unsigned int max, n; /* at the same time */
	const char *full;    /* what is said to one more */
};
extern struct workers file_workers;

/* In the agent: hand the connection to a child, which runs body. */
void worker_start(struct conn *c, const union frame_body *m,
	void (*body)(const union frame_body *m), const char *name, struct workers *of);

/* --- in the child --- */
extern struct buf worker_in;
/* The frame at the front of worker_in, which its `size` bytes stay in until consumed. 0: the peer
 * left. */
int worker_frame(struct frame *f, size_t *size);
void worker_say(uint8_t type, const union frame_body *m);
_noreturn_ void worker_leave(void);
_noreturn_ void worker_refuse(int error, const char *fmt, ...) _printf_(2, 3);
void worker_path(char *path, size_t size, struct str s);

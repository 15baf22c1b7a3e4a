/*
 * A child process watched through its pidfd: no signal handler, no waiting for pids that others
 * own.
 */
#pragma once
#include <uv.h>
#include "base/err.h"

struct child;
/* status as from waitpid. The object is freed after the callback. */
typedef void (*child_fn)(struct child *c, int status, void *arg);

/* Watch pid, a child of ours that nobody else waits for. On failure it is killed and reaped. */
int child_watch(uv_loop_t *loop, pid_t pid, child_fn on_exit, void *arg, struct child **ret);
pid_t child_pid(const struct child *c);
void child_kill(struct child *c, int signal); /* NULL is fine */

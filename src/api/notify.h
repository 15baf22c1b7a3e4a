/*
 * Changes in a sandbox's file system, as they happen: below a path, which is made a directory if it is
 * not there. At most NOTIFIERS_MAX of them at a time in one sandbox (src/agent/agent.h), each of at
 * most 8,192 directories.
 *
 * One conversation each. It ends with exactly one on_end; freeing is fine at any time. What an agent
 * tells is a tenant's word; names come as their bytes, maybe in no encoding at all.
 */
#pragma once
#include "api/agent.h"
#include "wire/frame.h"

struct notify;
struct notify_ops {
	void (*on_open)(struct notify *x, void *arg); /* what happens from now on is told */
	/* path lives until the callback returns */
	void (*on_change)(struct notify *x, enum frame_change what, struct str path, void *arg);
	/* err NULL: what was looked at is no more */
	void (*on_end)(struct notify *x, const struct err *err, void *arg);
};
int notify_start(uv_loop_t *loop, const struct agent_link *link, struct str path, bool all,
	const struct notify_ops *ops, void *arg, struct notify **ret, struct err *err);
void notify_pause(struct notify *x, bool paused);
void notify_free(struct notify *x);

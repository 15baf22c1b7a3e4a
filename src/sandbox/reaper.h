/*
 * Deleting links, off the loop. A deletion waits 15 to 30 ms for RCU however many links it takes,
 * so a thread in the router namespace collects what is queued meanwhile, puts it all into one link
 * group, and deletes the group with one request. Each link's callback runs on the loop when it is
 * gone.
 */
#pragma once
#include <uv.h>
#include "base/err.h"

struct reaper;
typedef void (*reaper_fn)(void *arg);

int reaper_new(uv_loop_t *loop, int router_ns, struct reaper **ret, struct err *err);
/* -ENOMEM, else fn follows, also when the link was gone before. */
int reaper_add(struct reaper *r, uint32_t ifindex, reaper_fn fn, void *arg);
/* Finish what is queued (callbacks included), end the thread. NULL is fine. */
void reaper_free(struct reaper *r);

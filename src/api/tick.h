/* A timer on the heap: freeing it inside its own callback is fine. */
#pragma once
#include <uv.h>
#include "base/base.h"

struct tick;
typedef void (*tick_fn)(void *arg);
/* After ms, and then every `repeat` ms unless 0. NULL when out of memory. */
struct tick *tick_new(uv_loop_t *loop, uint64_t ms, uint64_t repeat, tick_fn fn, void *arg);
void tick_again(struct tick *t, uint64_t ms); /* start anew, also after it fired */
struct tick *tick_free(struct tick *t);	      /* NULL */

/*
 * A beat that waiting costs nothing.
 *
 * While a uv_timer runs, every wait of its loop has an end, so the kernel arms a timer for every wait
 * and takes it back at every waking, which in a virtual machine may mean to leave it: twice per request
 * where each request wakes the loop. A pulse is a timer descriptor that is armed once and read when it
 * is due. Fit for what comes round every second; not for deadlines that move.
 */
#pragma once
#include <uv.h>
#include "base/base.h"

struct pulse;
typedef void (*pulse_fn)(struct pulse *p);
struct pulse { /* embedded by its owner */
	uv_poll_t poll;
	int fd;
	pulse_fn fn;
};

int pulse_start(uv_loop_t *loop, uint64_t ms, pulse_fn fn, struct pulse *ret);
/* on_closed gets &p->poll, and may free what is around it. Only what was started is closed. */
void pulse_close(struct pulse *p, uv_close_cb on_closed);

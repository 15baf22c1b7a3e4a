/* The agent's loop as far as it is played the same for every part of it: nothing is waited for. To be
 * included once, after the source under test. */
#pragma once
#include "agent/agent.h"

char scratch[FRAME_MAX];

int watch_set(struct watch *w, uint32_t events)
{
	w->events = events;
	return 0;
}

void watch_close(struct watch *w)
{
	close(w->fd);
	w->fd = -EBADF;
}

/* Counting of beats: see the header. */
#include "sandbox/watch.h"

unsigned int watch_limit(const struct watch *w)
{
	return w->heard ? WATCH_LIMIT_BEATS : WATCH_FIRST_BEATS;
}

enum watch_verdict watch_beat(struct watch *w, bool excused)
{
	if (!w->asked)
		return WATCH_ASK;
	if (!excused && w->missed < watch_limit(w))
		w->missed++;
	return w->missed < watch_limit(w) ? WATCH_WAIT : WATCH_STUCK;
}

void watch_asked(struct watch *w)
{
	w->asked = true;
	w->missed = 0;
}

void watch_answer(struct watch *w)
{
	w->heard = true;
	w->asked = false;
}

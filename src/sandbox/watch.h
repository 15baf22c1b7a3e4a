/*
 * Is a role still there? It is asked (IPC_ALIVE) as it starts and then once a beat, and it is stuck
 * when it has left a question unanswered for a number of beats.
 *
 * What is counted is beats, not time, and only those for which the role can be blamed: not one that
 * came late, since then we ourselves were held up, or the machine was; not one at which the role
 * waits for a disk. A role that starts answers when its loop turns for the first time, and its store
 * may take its time to open: the first answer has a limit of its own.
 */
#pragma once
#include "base/base.h"

#define WATCH_BEAT_MS 1000
#ifdef WEIR_FAULTS /* a test holds roles at its points (base/fault.h) */
#define WATCH_LIMIT_BEATS 120
#else
#define WATCH_LIMIT_BEATS 5
#endif
#define WATCH_FIRST_BEATS 120 /* until the first answer */

struct watch { /* of one life of one role; zero at its start */
	bool heard;	     /* it has answered once */
	bool asked;	     /* a question is open */
	unsigned int missed; /* beats since then that count */
};

enum watch_verdict { WATCH_WAIT, WATCH_ASK, WATCH_STUCK };

unsigned int watch_limit(const struct watch *w); /* beats that a question may stay open now */
/* excused: this beat does not count. */
enum watch_verdict watch_beat(struct watch *w, bool excused);
void watch_asked(struct watch *w);
void watch_answer(struct watch *w);

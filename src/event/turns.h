/*
 * Whose turn it is: requests that wait, by the address that sent them.
 *
 * In one turn of the loop each address may begin TURN_AT_ONCE requests as they come, and of those that
 * wait two: the longest waiting of connections that had been silent before (fresh), and the longest
 * waiting of those sent ahead of an answer (behind). So how many connections an address has, and how many
 * requests it sends ahead, is its own affair: others wait for a few requests of it, not for all of them,
 * and its own connections that ask one thing at a time do not wait for its pipelines.
 */
#pragma once
#include <sys/queue.h>
#include "base/base.h"

#define TURN_AT_ONCE 4u /* fewer cost the many connections of one proxy a few per cent */

TAILQ_HEAD(turn_queue, turn);
TAILQ_HEAD(turn_lines, turn_line);

struct turn { /* a connection's; zeroed: it waits for nothing */
	TAILQ_ENTRY(turn) next;
	struct turn_queue *in; /* NULL: in none */
	struct turn_line *line;
	bool granted;
};

struct turn_line { /* an address's */
	TAILQ_ENTRY(turn_line) next; /* among the lines that somebody waits in */
	struct turn_queue fresh, behind;
	uint64_t last; /* turn in which it last began some at once */
	unsigned int begun; /* so many */
};

struct turns {
	struct turn_lines waiting;
	struct turn_queue granted;
	uint64_t now; /* turns of the loop: its owner counts */
};

void turns_init(struct turns *t);
void turn_line_init(struct turn_line *l);
/* May this connection begin a request? If not it waits in line, until turns_share() grants it. */
bool turn_take(struct turns *t, struct turn_line *l, struct turn *x, bool behind);
static inline bool turn_waits(const struct turn *x)
{
	return x->in;
}
/* It waits for nothing any more. */
void turn_leave(struct turns *t, struct turn *x);
/* Each line's two: go(x) for whom turn_take() says yes now. It may end any connection. */
void turns_share(struct turns *t, void (*go)(struct turn *x));
static inline bool turns_wait(const struct turns *t)
{
	return !TAILQ_EMPTY(&t->waiting);
}

/* Whose turn it is: see the header. */
#include "event/turns.h"

void turns_init(struct turns *t)
{
	TAILQ_INIT(&t->waiting);
	TAILQ_INIT(&t->granted);
	t->now = 1; /* a line that never had one has 0 */
}

void turn_line_init(struct turn_line *l)
{
	TAILQ_INIT(&l->fresh);
	TAILQ_INIT(&l->behind);
	l->last = 0;
}

static bool nobody_in(const struct turn_line *l)
{
	return TAILQ_EMPTY(&l->fresh) && TAILQ_EMPTY(&l->behind);
}

static void join(struct turns *t, struct turn_line *l, struct turn *x, bool behind)
{
	if (nobody_in(l))
		TAILQ_INSERT_TAIL(&t->waiting, l, next);
	x->line = l;
	x->in = behind ? &l->behind : &l->fresh;
	TAILQ_INSERT_TAIL(x->in, x, next);
}

bool turn_take(struct turns *t, struct turn_line *l, struct turn *x, bool behind)
{
	if (x->in)
		return false;
	if (x->granted) {
		x->granted = false;
		return true;
	}
	if (l->last != t->now) {
		l->last = t->now;
		l->begun = 0;
	}
	if (behind || l->begun == TURN_AT_ONCE || !TAILQ_EMPTY(&l->fresh)) {
		join(t, l, x, behind);
		return false;
	}
	l->begun++;
	return true;
}

void turn_leave(struct turns *t, struct turn *x)
{
	bool in_line = x->in && x->in != &t->granted;

	if (x->in)
		TAILQ_REMOVE(x->in, x, next);
	if (in_line && nobody_in(x->line))
		TAILQ_REMOVE(&t->waiting, x->line, next);
	x->in = NULL;
	x->granted = false;
}

static void grant(struct turns *t, struct turn *x)
{
	if (!x)
		return;
	turn_leave(t, x);
	x->in = &t->granted;
	TAILQ_INSERT_TAIL(x->in, x, next);
}

void turns_share(struct turns *t, void (*go)(struct turn *x))
{
	struct turn_line *l, *following;
	struct turn *x;

	for (l = TAILQ_FIRST(&t->waiting); l; l = following) {
		struct turn *behind = TAILQ_FIRST(&l->behind);

		following = TAILQ_NEXT(l, next); /* granting may take l out */
		grant(t, TAILQ_FIRST(&l->fresh));
		grant(t, behind);
	}
	while ((x = TAILQ_FIRST(&t->granted))) {
		turn_leave(t, x);
		x->granted = true;
		go(x);
	}
}

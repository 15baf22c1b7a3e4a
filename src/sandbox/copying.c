/*
 * Copies of a machine that runs, for a fork: two jobs beside the loop (runtime.h), each in a queue of its
 * own, since between the two the machine's processes stand still.
 *
 * A copy is the next SPAWN's from it. One that nobody comes for is dropped: when its asker says so, when
 * another api role asks what is here, at the next copy, and with the machine.
 */
#include "base/fault.h"
#include "base/log.h"
#include "sandbox/box_own.h"
#include "sandbox/daemon.h"

/* That it may be found stopped is on record before it is, and not after. */
static int copy_step(struct aside_job *job, struct err *err)
{
	struct box *x = container_of(job, struct box, copying);
	const struct runtime_ops *ops = x->runner->ops;
	int r;

	if (!x->copy_rest) {
		r = box_save(x, err);
		return r < 0 ? r : ops->copy(x->rt, err);
	}
	r = ops->copy_rest(x->rt, err);
	FAULT("host.copy.rest");
	return r;
}

static void copied(struct aside_job *job, int result, const struct err *why)
{
	struct box *x = container_of(job, struct box, copying);
	struct waiter w = x->copied;
	struct err err = *why;

	x->copied.fn = NULL;
	if (x->state == BOX_ENDING && result == 0)
		result = err_set(&err, -ESRCH, ERR_CONFLICT, "%s has ended", x->rec.id);
	if (result < 0 || x->copy_drop)
		x->runner->ops->copy_drop(x->rt);
	if (x->copy_rest && x->state == BOX_RUNNING && box_save(x, NULL) < 0)
		log_event(LOG_ERROR, "sandbox.record", "sandbox=%s", x->rec.id);
	w.fn(result < 0 ? &err : NULL, w.arg);
	if (x->ended)
		box_clean_up(x);
}

static void drop_copy(struct box *x)
{
	x->copy_drop = true; /* of one that is under way: when it is not any more */
	if (!x->copied.fn && x->rt && x->runner->ops->copy_drop)
		x->runner->ops->copy_drop(x->rt);
}

int box_copy(struct box *x, enum ipc_copy_step step, box_done_fn done, void *arg, struct err *err)
{
	const struct runtime_ops *ops = x->runner ? x->runner->ops : NULL;
	struct daemon *d = x->in->d;
	int r = box_must_live(x, "copy", err);

	if (step == IPC_COPY_DROP) {
		drop_copy(x);
		done(NULL, arg);
		return 0;
	}
	if (r < 0)
		return r;
	if (!ops->copy || x->state != BOX_RUNNING)
		return err_set(err, -EBUSY, ERR_CONFLICT, "%s is not one that runs and can be copied", x->rec.id);
	if (x->n_nappers || x->grown.fn || x->copied.fn)
		return err_set(err, -EBUSY, ERR_CONFLICT, "%s is being paused, grown or forked", x->rec.id);
	x->copy_rest = step == IPC_COPY_REST;
	x->copy_drop = false;
	if (!x->copy_rest && (r = ops->may_copy(x->rt, err)) < 0)
		return r;
	x->copied = (struct waiter){ done, arg };
	x->copying = (struct aside_job){ .work = copy_step, .done = copied };
	aside_do(x->copy_rest ? &d->rests : &d->copies, &x->copying);
	return 0;
}

static int drop_one(struct box *x, void *arg)
{
	drop_copy(x);
	return 0;
}

void boxes_drop_copies(struct boxes *b)
{
	boxes_each(b, drop_one, NULL);
}

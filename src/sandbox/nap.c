/*
 * What a sandbox does beside the loop: it freezes, thaws and grows.
 *
 * A freeze waits for the kernel, a machine's freeze and thaw for a disk; only a container's thaw is done
 * at once. Those who ask for what is under way are answered together. Where the first process ended
 * meanwhile, meant or not, the end of the sandbox goes on from here.
 */
#include "base/fault.h"
#include "base/fd.h"
#include "sandbox/box_own.h"
#include "sandbox/daemon.h"
#include "sandbox/slots.h"

/* --- freezing and thawing --- */

static int freeze(struct box *x, struct err *err)
{
	int r = x->runner->ops->freeze(x->rt, err);

	if (r != -EAGAIN)
		FAULT("host.freeze.done");
	return r;
}

static struct slotnet_plan plan_of(const struct box *x)
{
	const struct slot slot = { .number = x->rec.slot,
		.ip4 = x->rec.ip4,
		.ip6 = x->rec.ip6,
		.runner = x->runner };
	struct slotnet_plan plan = slots_plan(x->in->d->slots, &slot);

	plan.link = x->rec.link;
	return plan;
}

static int thaw(struct box *x, struct err *err)
{
	const struct runtime_ops *ops = x->runner->ops;
	const struct slotnet_plan plan = plan_of(x);
	int r;

	FAULT("host.thaw.asked");
	r = ops->thaw(x->rt, &plan, x->tap, err);
	if (r == 0 && ops->go_on) {
		r = box_save(x, err); /* from here on the next host role finds the process */
		FAULT("host.asleep.loaded");
		r = r < 0 ? r : ops->go_on(x->rt, err);
		FAULT("host.asleep.running");
		r = r < 0 ? r : box_save(x, err);
	}
	FAULT("host.thaw.done");
	return r;
}

/* Room for it, and the end of its link that its process held. Its policy stands as ever: nothing can
 * leave it that could not have left it before. */
static int ready_to_thaw(struct box *x, struct err *err)
{
	const struct runtime_ops *ops = x->runner->ops;
	int r = 0;

	x->tap = -EBADF;
	if (ops->link == SLOTNET_TAP && ops->pidfd(x->rt) < 0)
		r = x->tap = slotnet_tap(x->in->d->router_ns, x->rec.link, err);
	if (r >= 0 && ops->may_thaw)
		r = ops->may_thaw(x->rt, err);
	if (r < 0)
		x->tap = fd_close(x->tap);
	return MIN(r, 0);
}

static int nap(struct aside_job *job, struct err *err)
{
	struct box *x = container_of(job, struct box, nap);

	return x->napping ? freeze(x, err) : thaw(x, err);
}

/* What its process does is to be known again, or there is none. */
static int after_nap(struct box *x, int result, struct err *err)
{
	bool process = x->runner->ops->pidfd(x->rt) >= 0;

	if (!process) {
		box_unwatch(x);
		x->ended = false; /* as intended */
		x->state = BOX_FROZEN;
		return result;
	}
	if (!x->watch && !x->ended && box_watch(x, err) < 0)
		result = err->code;
	if (result == 0)
		x->state = x->napping ? BOX_FROZEN : BOX_RUNNING;
	else if (!x->napping && x->state != BOX_ENDING)
		x->runner->ops->kill(x->rt); /* half awake, and its file is gone or not to be trusted */
	return result;
}

static void napped(struct aside_job *job, int result, const struct err *why)
{
	struct box *x = container_of(job, struct box, nap);
	struct waiter w[WAITERS_MAX];
	unsigned int n = x->n_nappers;
	struct err err = *why;

	if (!x->napping)
		x->tap = fd_close(x->tap);
	if (x->state != BOX_ENDING)
		result = after_nap(x, result, &err);
	else if (result == 0)
		result = err_set(&err, -ESRCH, ERR_CONFLICT, "%s has ended", x->rec.id);
	memcpy(w, x->nappers, sizeof(w));
	x->n_nappers = 0;
	if (x->state == BOX_ENDING) {
		box_clean_up(x);
	} else if (x->ended) {
		x->state = BOX_ENDING;
		x->runner->ops->kill(x->rt);
		box_clean_up(x);
	}
	for (unsigned int i = 0; i < n; i++)
		w[i].fn(result < 0 ? &err : NULL, w[i].arg);
}

static int take_nap(struct box *x, bool napping, box_done_fn done, void *arg, struct err *err)
{
	const struct runtime_ops *ops = x->runner ? x->runner->ops : NULL;
	int r = box_must_live(x, napping ? "freeze" : "thaw", err);

	if (r < 0)
		return r;
	if (x->copied.fn)
		return err_set(err, -EBUSY, ERR_CONFLICT, "%s is being forked", x->rec.id);
	if (x->n_nappers && (x->napping != napping || x->n_nappers == WAITERS_MAX))
		return err_set(err, -EBUSY, ERR_CONFLICT, "%s is being %s", x->rec.id,
			x->napping ? "paused" : "resumed");
	if (!x->n_nappers && x->state == (napping ? BOX_FROZEN : BOX_RUNNING)) {
		done(NULL, arg);
		return 0;
	}
	if (!x->n_nappers && !napping && (r = ready_to_thaw(x, err)) < 0)
		return r;
	if (!napping && !ops->slow) {
		r = thaw(x, err);
		if (r < 0)
			return r;
		x->state = BOX_RUNNING;
		done(NULL, arg);
		return 0;
	}
	x->nappers[x->n_nappers++] = (struct waiter){ done, arg };
	if (x->n_nappers > 1)
		return 0;
	if (napping)
		FAULT("host.freeze.asked");
	x->napping = napping;
	x->nap = (struct aside_job){ .work = nap, .done = napped };
	aside_do(ops->slow ? &x->in->d->naps : &x->in->d->freezes, &x->nap);
	return 0;
}

int box_freeze(struct box *x, box_done_fn done, void *arg, struct err *err)
{
	return take_nap(x, true, done, arg, err);
}

int box_thaw(struct box *x, box_done_fn done, void *arg, struct err *err)
{
	return take_nap(x, false, done, arg, err);
}

/* --- growing --- */

/* Seconds for a large disk, or as long as a slow one likes. */
static int grow(struct aside_job *job, struct err *err)
{
	struct box *x = container_of(job, struct box, grow);
	int r;

	FAULT("host.grow.asked");
	r = x->grow_mib ? x->runner->ops->grow(x->rt, x->grow_mib, err) : 0;
	if (r == 0 && x->mem_mib)
		r = x->runner->ops->limit(x->rt, x->mem_mib, err);
	FAULT("host.grow.done");
	return r;
}

static void grown(struct aside_job *job, int result, const struct err *err)
{
	struct box *x = container_of(job, struct box, grow);
	struct waiter w = x->grown;

	x->grown.fn = NULL;
	w.fn(result < 0 ? err : NULL, w.arg);
	if (x->ended)
		box_clean_up(x);
}

int box_grow(struct box *x, const struct ipc_grow *how, box_done_fn done, void *arg, struct err *err)
{
	int r = box_must_live(x, "grow", err);

	if (r < 0)
		return r;
	if (x->grown.fn || x->copied.fn)
		return err_set(err, -EBUSY, ERR_CONFLICT, "%s is %s already", x->rec.id,
			x->grown.fn ? "growing" : "being forked");
	if (how->mem_mib && !x->runner->ops->limit)
		return err_field(err, -EOPNOTSUPP, ERR_UNSUPPORTED, "memory",
			"a sandbox with runtime %s keeps the memory that it began with",
			x->runner->ops->name);
	x->grown = (struct waiter){ done, arg };
	x->grow_mib = how->disk_mib;
	x->mem_mib = how->mem_mib;
	x->grow = (struct aside_job){ .work = grow, .done = grown };
	aside_do(&x->in->d->growth, &x->grow);
	return 0;
}

/*
 * Taking a sandbox away: requests bounced, edge told, kernel objects and disk reclaimed. What
 * cannot be reclaimed now is tried again; the row stays `destroying` until it is true.
 */
#include "api/flow.h"
#include "api/peers.h"
#include "base/fault.h"
#include "base/log.h"

#define RETRY_MS 5000u

/* --- shared: edge DEL, host DESTROY --- */

struct take_back {
	struct op *op;
	bool keep_disk;
	void (*then)(struct op *op);
};

static void on_destroyed(struct chan_msg *m, const struct err *err, void *arg)
{
	struct take_back t = *(struct take_back *)arg;

	FAULT("api.delete.destroyed");
	free(arg);
	/* What the host role does not know is gone. */
	if (err && err->code != -ENOENT && err->code != -ESRCH)
		op_fail(t.op, err);
	t.then(t.op);
}

static void on_edge_gone(const struct err *err, void *arg)
{
	struct take_back *t = arg;
	struct box *b = t->op->box;
	struct ipc_destroy d = { .keep_disk = t->keep_disk };

	FAULT("api.delete.edge_gone");
	if (err && err->code != -ENOENT)
		log_event(LOG_WARN, "sandbox.edge_del", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err->text)));
	snprintf(d.id, sizeof(d.id), "%s", b->row.id);
	host_call(b->api, IPC_HOST_DESTROY, &d, sizeof(d), -1, on_destroyed, t);
}

void flow_take_back(struct op *op, bool keep_disk, void (*then)(struct op *op))
{
	struct take_back *t = malloc(sizeof(*t));
	struct box *b = op->box;
	struct ipc_edge_retire gone = { .slot = b->row.slot, .policy = b->row.policy };
	struct err err;

	if (!t) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		op_fail(op, &err);
		then(op);
		return;
	}
	*t = (struct take_back){ op, keep_disk, then };
	if (b->in_kernel)
		edges_call(b->api, IPC_EDGE_DEL, &gone, sizeof(gone), -1, on_edge_gone, t);
	else
		on_edge_gone(NULL, t);
}

static void on_unknown_destroyed(struct chan_msg *m, const struct err *err, void *arg)
{
	if (err && err->code != -ENOENT && err->code != -ESRCH)
		log_event(LOG_ERROR, "sandbox.destroy_unknown", "text=%s", log_q(str_c(err->text)));
}

void flow_destroy_unknown(struct api *a, const char *id)
{
	struct ipc_destroy d = { 0 };

	snprintf(d.id, sizeof(d.id), "%s", id);
	log_event(LOG_WARN, "sandbox.destroy_unknown", "sandbox=%s", log_q(str_c(id)));
	host_call(a, IPC_HOST_DESTROY, &d, sizeof(d), -1, on_unknown_destroyed, NULL);
}

/* --- delete --- */

struct delete_op {
	struct op op;
	uint64_t delay_ms;
};

static void again(void *arg)
{
	struct op *op = arg;

	op->box->grace = tick_free(op->box->grace);
	op->start(op);
}

static void reclaimed(struct op *op)
{
	struct box *b = op->box;
	struct err err;

	if (!op->err.code && box_event(b, LIFE_RECLAIMED, b->row.reason, &err) < 0)
		op_fail(op, &err);
	if (op->err.code) {
		log_event(LOG_ERROR, "sandbox.destroy", "sandbox=%s retry_ms=%u text=%s", b->row.id,
			RETRY_MS, log_q(str_c(op->err.text)));
		op->err.code = 0;
		b->grace = tick_free(b->grace);
		b->grace = tick_new(b->api->loop, RETRY_MS, 0, again, op);
		if (!b->grace)
			op_finish(op, NULL); /* the next start tries again */
		return;
	}
	FAULT("api.delete.reclaimed");
	box_ref(b);
	box_forget(b);
	op_finish(op, NULL);
	box_unref(b);
}

static void take(void *arg)
{
	struct op *op = arg;
	struct box *b = op->box;

	b->grace = tick_free(b->grace);
	box_bounce(b, "sandbox is destroying");
	box_asleep(b);
	flow_take_back(op, false, reclaimed);
}

static void delete_start(struct op *op)
{
	struct delete_op *d = container_of(op, struct delete_op, op);
	struct box *b = op->box;

	b->grace = tick_free(b->grace);
	if (d->delay_ms)
		b->grace = tick_new(b->api->loop, d->delay_ms, 0, take, op);
	d->delay_ms = 0;
	if (!b->grace)
		take(op);
}

int flow_delete(struct box *b, const char *why, uint64_t delay_ms, struct err *err)
{
	struct delete_op *d = calloc(1, sizeof(*d));
	int r = d ? 0 : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");

	/* A delete that was cut short by a restart finds its row in place already. */
	if (r == 0 && b->row.state != LIFE_DESTROYING)
		r = box_event(b, LIFE_DELETE, why, err);
	if (r < 0) {
		free(d);
		return r;
	}
	FAULT("api.delete.stored");
	d->op = (struct op){ .name = "delete", .start = delete_start };
	d->delay_ms = delay_ms;
	op_queue(b, &d->op);
	return 0;
}

int flow_end_failed(struct api *a, struct sandbox_row *row, struct err *err)
{
	row->state = LIFE_DESTROYED;
	row->destroyed_ms = api_now_ms();
	return store_sandbox_save(a->store, row, err);
}

/* --- lost --- */

static void on_reserved(struct chan_msg *m, const struct err *err, void *arg)
{
	if (err) /* it will wake at another address, then */
		log_event(LOG_WARN, "api.reserve", "text=%s", log_q(str_c(err->text)));
}

static void lost_reclaimed(struct op *op)
{
	struct box *b = op->box;
	struct ipc_reserve *keep = calloc(1, sizeof(*keep));

	if (op->err.code)
		log_event(LOG_ERROR, "sandbox.lost", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(op->err.text)));
	box_unplace(b);
	/* Its address stays its own: a resume wants the slot back. */
	if (keep && b->row.slot && b->row.state == LIFE_ERROR) {
		keep->n = 1;
		keep->slots[0] = b->row.slot;
		host_call(b->api, IPC_HOST_RESERVE, keep, sizeof(*keep), -1, on_reserved, NULL);
	}
	free(keep);
	op_finish(op, NULL);
}

static void lost_start(struct op *op)
{
	flow_take_back(op, true, lost_reclaimed);
}

void flow_reclaim(struct box *b)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return; /* a resume or delete takes the rest away */
	*op = (struct op){ .name = "lost", .start = lost_start };
	op_queue(b, op);
}

void flow_lost(struct box *b, const char *why)
{
	struct err err;

	/* Creating and destroying have their own ends; an error is known. */
	if (life_next(b->row.state, LIFE_LOST) == LIFE_NONE)
		return;
	if (box_event(b, LIFE_LOST, why, &err) < 0) {
		log_event(LOG_ERROR, "sandbox.lost", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
		return;
	}
	box_bounce(b, why);
	box_asleep(b);
	flow_reclaim(b);
}

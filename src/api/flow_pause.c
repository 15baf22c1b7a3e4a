/*
 * Pausing and resuming. A pause first lets requests to the agent end by themselves for a moment,
 * then bounces the rest (buffered commands with 409, streams with an error line; what they started
 * stays, frozen), then freezes. A machine's agent is told before, since it goes on by running: it
 * holds what runs in it until it is woken, also when the pause fails. A resume thaws; if the
 * processes are gone since the host restarted, it starts the sandbox again from its disk.
 */
#include "api/flow.h"
#include "api/peers.h"
#include "base/fault.h"
#include "base/log.h"

#define SLEEP_MS 10000u
#define QUIET_MS 300u /* for short requests to end before they are bounced */

struct pause_op {
	struct op op;
	uint64_t delay_ms;
};

static void complain(struct box *b, const char *event, const struct err *err)
{
	log_event(LOG_WARN, event, "sandbox=%s text=%s", b->row.id, log_q(str_c(err->text)));
}

/* The state changed meanwhile (deleted, lost): this operation is moot. */
static bool moot(struct op *op, enum life_state during)
{
	struct err err;

	if (op->box->row.state == during)
		return false;
	err_field(&err, -ECANCELED, ERR_CONFLICT, "status", "sandbox is %s",
		life_state_name(op->box->row.state));
	op_finish(op, &err);
	return true;
}

/* It runs on, whether or not its agent heard so. */
static void on_woken_after_all(const struct err *err, void *arg)
{
	struct op *op = arg;
	struct err why;

	if (err)
		complain(op->box, "sandbox.pause_undo", err);
	if (moot(op, LIFE_PAUSING))
		return;
	if (box_event(op->box, LIFE_UNFROZEN, op->err.text, &why) == 0)
		box_awake(op->box);
	op_finish(op, NULL);
}

static void pause_failed(struct op *op, const struct err *err)
{
	complain(op->box, "sandbox.pause_failed", err);
	op_fail(op, err);
	if (box_is_machine(op->box))
		flow_wake(op->box, on_woken_after_all, op);
	else
		on_woken_after_all(NULL, op);
}

static void on_frozen(struct chan_msg *m, const struct err *err, void *arg)
{
	struct op *op = arg;
	struct box *b = op->box;
	struct err why;

	FAULT("api.pause.frozen");
	if (moot(op, LIFE_PAUSING))
		return;
	if (err) {
		pause_failed(op, err);
		return;
	}
	if (box_event(b, LIFE_FROZEN, b->row.reason, &why) < 0) {
		op_fail(op, &why);
	}
	op_finish(op, NULL);
}

static void on_held(const struct err *err, void *arg)
{
	struct op *op = arg;
	struct ipc_id id = { 0 };

	FAULT("api.pause.held");
	if (moot(op, LIFE_PAUSING))
		return;
	if (err) {
		pause_failed(op, err);
		return;
	}
	snprintf(id.id, sizeof(id.id), "%s", op->box->row.id);
	host_call(op->box->api, IPC_HOST_FREEZE, &id, sizeof(id), -1, on_frozen, op);
}

static void hold_and_freeze(struct op *op, agent_done_fn held)
{
	struct box *b = op->box;
	struct err err;

	FAULT("api.pause.quiet");
	b->grace = tick_free(b->grace);
	if (moot(op, LIFE_PAUSING))
		return;
	box_bounce(b, "sandbox is pausing; the command stays as it is and goes on at resume");
	box_asleep(b);
	if (!box_is_machine(b))
		held(NULL, op);
	else if (agent_sleep(b->api->loop, &b->link, SLEEP_MS, held, op, &err) < 0)
		held(&err, op);
}

static void freeze(void *arg)
{
	hold_and_freeze(arg, on_held);
}

static void quieten(void *arg)
{
	struct op *op = arg;

	box_when_quiet(op->box, QUIET_MS, freeze, op);
}

static void pause_start(struct op *op)
{
	struct pause_op *p = container_of(op, struct pause_op, op);
	struct box *b = op->box;

	if (moot(op, LIFE_PAUSING))
		return;
	if (p->delay_ms) {
		b->grace = tick_free(b->grace);
		b->grace = tick_new(b->api->loop, p->delay_ms, 0, quieten, op);
		if (b->grace)
			return;
	}
	quieten(op);
}

int flow_pause(struct box *b, const char *why, uint64_t delay_ms, struct err *err)
{
	struct pause_op *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = box_event(b, LIFE_PAUSE, why, err);
	if (r < 0) {
		free(p);
		return r;
	}
	FAULT("api.pause.stored");
	p->op = (struct op){ .name = "pause", .start = pause_start };
	p->delay_ms = delay_ms;
	op_queue(b, &p->op);
	return 0;
}

static void up_again(struct op *op, const struct err *err)
{
	struct box *b = op->box;
	struct err why;

	if (moot(op, LIFE_RESUMING))
		return;
	if (err) {
		complain(b, "sandbox.resume_failed", err);
		op_fail(op, err);
		box_event(b, LIFE_LOST, err->text, &why);
	} else if (box_event(b, LIFE_THAWED, "", &why) < 0) {
		op_fail(op, &why);
	} else {
		box_awake(b);
	}
	op_finish(op, NULL);
}

static void on_woken(const struct err *err, void *arg)
{
	struct op *op = arg;

	if (!err)
		op->box->wake_due = false;
	up_again(op, err);
}

static void on_thawed(struct chan_msg *m, const struct err *err, void *arg)
{
	struct op *op = arg;

	FAULT("api.resume.thawed");
	if (!err && (op->box->wake_due || box_is_machine(op->box)) &&
		op->box->row.state == LIFE_RESUMING) /* a machine has a clock of its own, which stood */
		flow_wake(op->box, on_woken, op);
	else
		up_again(op, err);
}

static void thaw_start(struct op *op)
{
	struct box *b = op->box;
	struct ipc_id id = { 0 };

	if (moot(op, LIFE_RESUMING))
		return;
	if (!b->in_kernel) { /* an operation before us took it away */
		op_finish(op, NULL);
		flow_revive(b);
		return;
	}
	snprintf(id.id, sizeof(id.id), "%s", b->row.id);
	host_call(b->api, IPC_HOST_THAW, &id, sizeof(id), -1, on_thawed, op);
}

static int queue_thaw(struct box *b, struct err *err)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	*op = (struct op){ .name = "resume", .start = thaw_start };
	op_queue(b, op);
	return 0;
}

int flow_resume(struct box *b, struct err *err)
{
	int r = box_event(b, LIFE_RESUME, "", err);

	FAULT("api.resume.stored");
	return r < 0 ? r : queue_thaw(b, err);
}

/* --- adoption --- */

/* Begun before the restart. A machine that does not answer has been stopped already, and so was held. */
static void on_held_again(const struct err *err, void *arg)
{
	struct op *op = arg;

	if (err)
		complain(op->box, "sandbox.pause_again", err);
	on_held(NULL, op);
}

static void freeze_now(struct op *op)
{
	hold_and_freeze(op, on_held_again);
}

/* … and has got to its end, but for telling. */
static void freeze_found(struct op *op)
{
	on_held(NULL, op);
}

/* The row says paused and the kernel does not: it must not run. */
static void on_frozen_again(struct chan_msg *m, const struct err *err, void *arg)
{
	struct op *op = arg;

	if (err)
		complain(op->box, "sandbox.refreeze", err);
	op_finish(op, err);
}

static void freeze_paused(struct op *op)
{
	struct ipc_id id = { 0 };

	if (moot(op, LIFE_PAUSED))
		return;
	snprintf(id.id, sizeof(id.id), "%s", op->box->row.id);
	host_call(op->box->api, IPC_HOST_FREEZE, &id, sizeof(id), -1, on_frozen_again, op);
}

static void queue(struct box *b, const char *name, op_start_fn start)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op) {
		log_event(LOG_ERROR, "sandbox.adopt", "sandbox=%s text=out\\x20of\\x20memory",
			b->row.id);
		return;
	}
	*op = (struct op){ .name = name, .start = start };
	op_queue(b, op);
}

static void gone_on(const struct err *err, void *arg)
{
	op_finish(arg, NULL); /* it is told anew at its next wake */
}

/* The api role before may have held it, to have it copied. */
static void let_go(struct op *op)
{
	if (op->box->row.state == LIFE_RUNNING)
		flow_let_go(op->box, gone_on, op);
	else
		op_finish(op, NULL);
}

void flow_adopt(struct box *b, bool frozen, bool repolicy)
{
	struct err err;

	if (repolicy)
		flow_repolicy(b);
	switch (b->row.state) {
	case LIFE_RUNNING:
		if (frozen && (box_event(b, LIFE_PAUSE, "found frozen at the start", &err) < 0 ||
				      box_event(b, LIFE_FROZEN, "found frozen at the start", &err) < 0))
			complain(b, "sandbox.adopt", &err);
		else if (!frozen)
			box_awake(b);
		if (!frozen && box_is_machine(b))
			queue(b, "let_go", let_go);
		break;
	case LIFE_PAUSING: /* answered 202 before the restart: finish */
		queue(b, "pause", frozen ? freeze_found : freeze_now);
		break;
	case LIFE_PAUSED:
		if (!frozen)
			queue(b, "refreeze", freeze_paused);
		break;
	case LIFE_RESUMING:
		queue(b, "resume", thaw_start);
		break;
	case LIFE_ERROR: /* frozen: a resume may thaw it. Otherwise only its disk counts */
		if (!frozen)
			flow_reclaim(b);
		break;
	case LIFE_NONE:
	case LIFE_CREATING:
	case LIFE_FORKING:
	case LIFE_FAILED:
	case LIFE_DESTROYING:
	case LIFE_DESTROYED:
	case LIFE_STATES:
		break;
	}
}

/*
 * From nothing to running, and from an error back to running.
 *
 *	SPAWN (host)  ->  NETS (host), if any  ->  SET (edges)  ->  COMMIT (host)  ->  WAKE (agent)
 *	->  INGRESS (host, edges), if any
 *
 * The sandbox is quarantined until COMMIT: no packet leaves before its policy stands. A resume
 * after the host restarted takes the same steps with the writable layer that is still there.
 *
 * So does a fork. It runs from SPAWN on, but nothing in it does except the agent, which held all the
 * rest when its source was paused: WAKE, which gives it a name, a time and randomness of its own, lets
 * go. One that is to stay paused has no agent yet; it is woken by its first resume. SPAWN is also an
 * operation of the source, whose next ones wait for it.
 *
 * A machine that runs is copied first, in the same turn, and goes on:
 *
 *	COPY BEGIN (host)  ->  SLEEP (source's agent)  ->  COPY REST (host)  ->  GO (source's agent)  ->  SPAWN
 *
 * From SLEEP to GO its processes stand still; requests to it wait or go on. Once SLEEP was sent GO is, whatever
 * becomes of the rest.
 *
 * Undo at each step is the same: take everything back (edge DEL, host DESTROY); both accept what
 * they do not know. If the sandbox is deleted meanwhile, the operation stops where it is and
 * leaves the taking back to the delete, which waits in the queue behind it.
 */
#include "api/box.h"
#include "api/calls.h"
#include "api/flow.h"
#include "api/peers.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

struct start_op {
	struct op op;
	enum life_state during; /* the state in which it may go on: creating, forking or resuming */
	bool revive, moved;	/* moved: its old slot was taken, any will do */
	struct box *from;	/* a fork, from this one */
	bool paused, live;
	struct op *turn; /* of from's operations, ours: while SPAWN is under way */
	bool dropped;		/* the row is gone too */
	int policy_fd;
};

static void start_clean(struct op *op)
{
	struct start_op *s = container_of(op, struct start_op, op);

	fd_close(s->policy_fd);
	box_unref(s->from);
}

/* Is the sandbox still in the state that this operation is about? */
static bool goes_on(struct start_op *s)
{
	struct err err;

	if (s->op.box->row.state == s->during)
		return true;
	err_field(&err, -ECANCELED, ERR_CONFLICT, "status", "meanwhile the sandbox is %s",
		life_state_name(s->op.box->row.state));
	op_finish(&s->op, &err);
	return false;
}

static bool refused(enum err_kind kind)
{
	return kind == ERR_CAPACITY || kind == ERR_INVALID || kind == ERR_NOT_FOUND ||
		kind == ERR_UNSUPPORTED || kind == ERR_CONFLICT || kind == ERR_FORBIDDEN;
}

static void give_up(struct op *op)
{
	struct start_op *s = container_of(op, struct start_op, op);
	struct box *b = op->box;
	struct err err;
	int r;

	box_unplace(b);
	if (!goes_on(s))
		return;
	if (!s->revive && refused(op->err.kind)) {
		/* 503 promises that nothing happened, and so does a refusal: no row, no name taken. */
		r = store_begin(b->api->store, &err);
		if (r == 0)
			r = store_sandbox_drop(b->api->store, b->row.id, &err);
		if (r == 0)
			r = store_commit(b->api->store, &err);
		store_rollback(b->api->store);
		b->row.state = r == 0 ? LIFE_DESTROYED : b->row.state;
		s->dropped = r == 0;
	}
	if (!s->dropped &&
		box_event(b, s->revive ? LIFE_LOST : LIFE_UNBORN, op->err.text, &err) < 0)
		log_event(LOG_ERROR, "sandbox.start_failed", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
	log_event(LOG_WARN, "sandbox.not_started", "sandbox=%s text=%s", b->row.id,
		log_q(str_c(op->err.text)));
	box_ref(b);
	if (life_terminal(b->row.state))
		box_forget(b);
	op_finish(op, NULL);
	box_unref(b);
}

static void undo(struct start_op *s, const struct err *err)
{
	FAULT("api.create.undo");
	op_fail(&s->op, err);
	flow_take_back(&s->op, s->revive, give_up);
}

static void running(struct start_op *s)
{
	struct box *b = s->op.box;
	struct err err;

	if (box_event(b, s->revive ? LIFE_THAWED : s->paused ? LIFE_FROZEN : LIFE_READY, "", &err) < 0) {
		undo(s, &err);
		return;
	}
	FAULT("api.create.running");
	b->entry_due = !s->from || !box_is_machine(b); /* a machine's fork has it already */
	if (!s->paused)
		box_awake(b);
	op_finish(&s->op, NULL);
}

static void on_ingress(const struct err *err, void *arg)
{
	struct start_op *s = arg;

	FAULT("api.create.ingress");
	if (!goes_on(s))
		return;
	if (err)
		undo(s, err);
	else
		running(s);
}

/* Told as running a moment before it is called so: who is answered may be visited. */
static void on_woken(const struct err *err, void *arg)
{
	struct start_op *s = arg;

	FAULT("api.create.woken");
	if (!goes_on(s))
		return;
	if (err)
		undo(s, err);
	else if (ingress_any(&s->op.box->row))
		ingress_apply(s->op.box, s->paused ? IPC_INGRESS_PAUSED : IPC_INGRESS_RUNNING, on_ingress, s);
	else
		running(s);
}

static void on_committed(struct chan_msg *m, const struct err *err, void *arg)
{
	struct start_op *s = arg;

	FAULT("api.create.committed");
	if (!goes_on(s))
		return;
	if (err)
		undo(s, err);
	else if (s->paused)
		on_woken(NULL, s);
	else
		flow_wake(s->op.box, on_woken, s);
}

static void on_set(const struct err *err, void *arg)
{
	struct start_op *s = arg;
	struct box *b = s->op.box;
	struct ipc_commit commit = { .slot = b->row.slot, .policy = b->row.policy,
		.share = box_share(b) };

	FAULT("api.create.set");
	if (!goes_on(s))
		return;
	if (err) {
		undo(s, err);
		return;
	}
	snprintf(commit.id, sizeof(commit.id), "%s", b->row.id);
	host_call(b->api, IPC_HOST_COMMIT, &commit, sizeof(commit), s->policy_fd, on_committed, s);
}

static void tell_edges(struct start_op *s)
{
	struct box *b = s->op.box;
	struct ipc_edge_set set;

	box_edge_set(b, &set);
	edges_call(b->api, IPC_EDGE_SET, &set, sizeof(set), s->policy_fd, on_set, s);
}

static void on_nets(struct chan_msg *m, const struct err *err, void *arg)
{
	struct start_op *s = arg;

	FAULT("api.create.nets");
	if (!goes_on(s))
		return;
	if (err)
		undo(s, err);
	else
		tell_edges(s);
}

/* Its turn among the source's operations is over. */
static void end_turn(struct start_op *s)
{
	if (s->turn)
		op_finish(take_ptr(s->turn), NULL);
}

static void on_spawned(struct chan_msg *m, const struct err *err, void *arg);

static void spawn(struct start_op *s)
{
	struct box *b = s->op.box;
	struct ipc_spawn spawn = { .slot = s->revive && !s->moved ? b->row.slot : 0,
		.vcpu_milli = b->row.cpu_milli,
		.mem_mib = b->row.mem_mib,
		.disk_mib = b->row.disk_mib,
		.pids = b->api->config.sandbox_pids,
		.revive = s->revive,
		.paused = s->paused };

	snprintf(spawn.id, sizeof(spawn.id), "%s", b->row.id);
	snprintf(spawn.hostname, sizeof(spawn.hostname), "%s", b->row.name);
	snprintf(spawn.image, sizeof(spawn.image), "%s", b->row.rootfs);
	snprintf(spawn.runtime, sizeof(spawn.runtime), "%s", b->row.runtime);
	snprintf(spawn.from, sizeof(spawn.from), "%s", s->from ? s->from->row.id : "");
	host_call(b->api, IPC_HOST_SPAWN, &spawn, sizeof(spawn), -1, on_spawned, s);
}

static void on_spawned(struct chan_msg *m, const struct err *err, void *arg)
{
	struct start_op *s = arg;
	struct box *b = s->op.box;
	const struct ipc_sandbox *got;
	struct weir_counters sum;
	struct ipc_nets nets;
	struct err why;
	int r = 0;

	FAULT("api.create.spawned");
	end_turn(s);
	if (err && s->revive && !s->moved && b->row.slot && (err->code == -EBUSY ||
		err->code == -EADDRINUSE || err->code == -EEXIST)) {
		s->moved = true;
		spawn(s);
		return;
	}
	got = err ? NULL : (const struct ipc_sandbox *)m->payload.p;
	if (got && m->payload.n != sizeof(*got))
		r = err_set(&why, -EBADMSG, ERR_INTERNAL, "the host role's answer does not read");
	else if (got) /* even if it is not wanted any more: who takes it away must know it */
		r = box_place(b, got, &why);
	if (!goes_on(s))
		return;
	if (err || r < 0) {
		undo(s, err ? err : &why);
		return;
	}
	b->row.spawn_us = got->spawn_us;
	/* The slot's counters may hold a former tenant's bytes: count from here. */
	if (api_counters(b->api, b->row.slot, &sum) == 0) {
		b->row.out_base = (int64_t)b->row.out_used - (int64_t)sum.out_bytes;
		b->row.in_base = (int64_t)b->row.in_used - (int64_t)sum.in_bytes;
	}
	s->policy_fd = box_policy_fd(b, &why);
	if (s->policy_fd < 0) {
		undo(s, &why);
		return;
	}
	if (!b->n_nets) {
		tell_edges(s);
		return;
	}
	box_rules_send(b);
	box_nets_message(b, &nets);
	host_call(b->api, IPC_HOST_NETS, &nets, sizeof(nets), -1, on_nets, s);
}

/* --- forks: a turn among the source's operations --- */

#define HOLD_MS 5000u

static bool copy_wanted(struct start_op *s)
{
	if (s->op.box->row.state == s->during)
		return true;
	end_turn(s);
	goes_on(s);
	return false;
}

static void copy_undo(struct start_op *s, const struct err *err)
{
	end_turn(s);
	undo(s, err);
}

static void copy_call(struct start_op *s, enum ipc_copy_step step, host_fn fn)
{
	struct ipc_copy copy = { .step = step };

	snprintf(copy.id, sizeof(copy.id), "%s", s->from->row.id);
	host_call(s->op.box->api, IPC_HOST_COPY, &copy, sizeof(copy), -1, fn, s);
}

static void on_dropped(struct chan_msg *m, const struct err *err, void *arg)
{
	struct start_op *s = arg;

	if (!copy_wanted(s))
		return;
	copy_undo(s, &s->op.err);
}

/* It goes on: now the copy, or the end of that. */
static void on_let_go(const struct err *err, void *arg)
{
	struct start_op *s = arg;

	FAULT("api.fork.let_go");
	if (s->op.err.code < 0 || s->op.box->row.state != s->during)
		copy_call(s, IPC_COPY_DROP, on_dropped);
	else
		spawn(s);
}

static void on_copied(struct chan_msg *m, const struct err *err, void *arg)
{
	struct start_op *s = arg;

	FAULT("api.fork.copied");
	if (err)
		op_fail(&s->op, err);
	flow_let_go(s->from, on_let_go, s);
}

static void on_held(const struct err *err, void *arg)
{
	struct start_op *s = arg;

	FAULT("api.fork.held");
	if (err)
		op_fail(&s->op, err);
	if (s->op.err.code < 0 || s->op.box->row.state != s->during)
		flow_let_go(s->from, on_let_go, s);
	else
		copy_call(s, IPC_COPY_REST, on_copied);
}

static void on_copy_begun(struct chan_msg *m, const struct err *err, void *arg)
{
	struct start_op *s = arg;
	struct box *from = s->from;
	struct err why;

	FAULT("api.fork.begun");
	if (err) {
		if (copy_wanted(s))
			copy_undo(s, err);
		return;
	}
	if (s->op.box->row.state != s->during)
		copy_call(s, IPC_COPY_DROP, on_dropped);
	else if (agent_sleep(from->api->loop, &from->link, HOLD_MS, on_held, s, &why) < 0)
		on_held(&why, s);
}

static void on_turn(struct op *op)
{
	struct start_op *s = op->arg;
	struct err err;

	s->turn = op;
	if (!goes_on(s)) { /* and s is gone */
		op_finish(op, NULL);
	} else if (op->box->row.state == LIFE_RUNNING && s->live) {
		copy_call(s, IPC_COPY_BEGIN, on_copy_begun);
	} else if (op->box->row.state != LIFE_PAUSED) {
		s->turn = NULL;
		box_refuse(op->box, LIFE_OP_FORK, &err);
		undo(s, &err);
		op_finish(op, NULL);
	} else {
		spawn(s);
	}
}

static void take_turn(struct start_op *s)
{
	struct op *op = calloc(1, sizeof(*op));
	struct err err;

	if (op) {
		*op = (struct op){ .name = "fork", .start = on_turn, .arg = s };
		op_queue(s->from, op);
		return;
	}
	err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	undo(s, &err);
}

static void start(struct op *op)
{
	struct start_op *s = container_of(op, struct start_op, op);

	if (!goes_on(s))
		return;
	if (s->from)
		take_turn(s);
	else
		spawn(s);
}

static void start_flow(struct box *b, bool revive, struct box *from, bool paused, bool live,
	op_done_fn done, void *arg, struct op **slot)
{
	struct start_op *s = calloc(1, sizeof(*s));
	struct err err;

	if (!s) { /* as a failed first step, without the memory to say so in order */
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		box_event(b, revive ? LIFE_LOST : LIFE_UNBORN, err.text, NULL);
		if (done) {
			struct op none = { .box = b };

			done(&none, &err, arg);
		}
		return;
	}
	s->op = (struct op){ .name = revive ? "revive" : "create", .start = start,
		.clean = start_clean, .done = done, .arg = arg, .slot = slot };
	s->during = revive ? LIFE_RESUMING : from ? LIFE_FORKING : LIFE_CREATING;
	s->revive = revive;
	s->from = from ? box_ref(from) : NULL;
	s->paused = paused;
	s->live = live;
	s->policy_fd = -EBADF;
	op_queue(b, &s->op);
}

void flow_create(struct box *b, op_done_fn done, void *arg, struct op **slot)
{
	start_flow(b, false, NULL, false, false, done, arg, slot);
}

void flow_revive(struct box *b)
{
	start_flow(b, true, NULL, false, false, NULL, NULL, NULL);
}

void flow_fork(struct box *b, struct box *from, bool paused, bool live, op_done_fn done, void *arg,
	struct op **slot)
{
	start_flow(b, false, from, paused, live, done, arg, slot);
}

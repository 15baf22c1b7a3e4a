/*
 * A policy change; growing the disk, and another limit of memory.
 *
 *	store (new version)  ->  SET (edges)  ->  COMMIT (host: written beside, flipped)  ->  RETIRE
 *
 * Stored first: a crash in between leaves a row whose policy the kernel does not have, and the
 * next start brings it there. A failure takes the row, and the edges, back to the version before.
 * Changes of one sandbox run one after the other, so the last PUT answered is the one in force.
 * While the sandbox is paused its slot still exists, and the change takes the same way; without a
 * slot (error) storing is all, and the resume puts it in force before the first packet.
 */
#include "api/birth.h"
#include "api/flow.h"
#include "api/peers.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

struct policy_op {
	struct op op;
	policy_make_fn make;   /* NULL: it is made already */
	struct policy *policy; /* until it is the box's */
	char *json;
	uint32_t dialect;
	/* what was before */
	uint32_t old_id, old_version, old_dialect;
	uint64_t old_updated_ms;
	char *old_json;
	struct policy *old_policy;
	int fd;
	bool stored;
};

static void policy_clean(struct op *op)
{
	struct policy_op *p = container_of(op, struct policy_op, op);

	policy_free(p->policy);
	policy_free(p->old_policy);
	free(p->json);
	free(p->old_json);
	fd_close(p->fd);
}

static int save_version(struct box *b, struct err *err)
{
	struct version_row v = { .version = b->row.policy_version, .policy = b->row.policy,
		.dialect = b->row.dialect, .json = str_c(b->row.policy_json), .at_ms = api_now_ms() };
	int r = store_begin(b->api->store, err);

	snprintf(v.sandbox, sizeof(v.sandbox), "%s", b->row.id);
	if (r == 0)
		r = store_version_add(b->api->store, &v, err);
	if (r == 0)
		r = store_sandbox_save(b->api->store, &b->row, err);
	if (r == 0)
		r = store_commit(b->api->store, err);
	store_rollback(b->api->store);
	return r;
}

static void row_back(struct policy_op *p)
{
	struct box *b = p->op.box;

	policy_free(b->policy);
	b->policy = take_ptr(p->old_policy);
	free(b->row.policy_json);
	b->row.policy_json = take_ptr(p->old_json);
	b->row.policy = p->old_id;
	b->row.policy_version = p->old_version;
	b->row.updated_ms = p->old_updated_ms;
	b->row.dialect = p->old_dialect;
}

static void store_back(struct policy_op *p)
{
	struct box *b = p->op.box;
	uint32_t version = b->row.policy_version;
	struct err err;
	int r;

	row_back(p);
	r = store_begin(b->api->store, &err);
	if (r == 0)
		r = store_version_drop(b->api->store, b->row.id, version, &err);
	if (r == 0)
		r = store_sandbox_save(b->api->store, &b->row, &err);
	if (r == 0)
		r = store_commit(b->api->store, &err);
	store_rollback(b->api->store);
	if (r < 0)
		log_event(LOG_ERROR, "sandbox.policy_undo", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
}

static void ignore(const struct err *err, void *arg)
{
}

static void retire(struct box *b, uint32_t id)
{
	struct ipc_edge_retire r = { .slot = b->row.slot, .policy = id };

	edges_call(b->api, IPC_EDGE_RETIRE, &r, sizeof(r), -1, ignore, NULL);
}

static void on_set_back(const struct err *err, void *arg)
{
	op_finish(arg, NULL);
}

/* The edges may have the new version: give them the old one again. */
static void undo(struct policy_op *p, const struct err *err)
{
	struct box *b = p->op.box;
	uint32_t failed = b->row.policy;
	struct ipc_edge_set set;
	struct err why;

	FAULT("api.policy.undo");
	op_fail(&p->op, err);
	log_event(LOG_ERROR, "sandbox.policy_failed", "sandbox=%s text=%s", b->row.id,
		log_q(str_c(err->text)));
	store_back(p);
	fd_close(p->fd);
	p->fd = box_policy_fd(b, &why);
	if (!b->in_kernel || p->fd < 0) {
		op_finish(&p->op, NULL);
		return;
	}
	box_edge_set(b, &set);
	edges_call(b->api, IPC_EDGE_SET, &set, sizeof(set), p->fd, on_set_back, p);
	retire(b, failed);
}

static void done(struct policy_op *p)
{
	struct box *b = p->op.box;

	FAULT("api.policy.done");
	policy_free(b->policy_before);
	b->policy_before = take_ptr(p->old_policy);
	b->policy_before_id = p->old_id;
	log_event(LOG_INFO, "sandbox.policy", "sandbox=%s version=%u policy=%u", b->row.id,
		b->row.policy_version, b->row.policy);
	op_finish(&p->op, NULL);
}

static void on_committed(struct chan_msg *m, const struct err *err, void *arg)
{
	struct policy_op *p = arg;

	FAULT("api.policy.committed");
	if (err) {
		undo(p, err);
		return;
	}
	if (p->old_id)
		retire(p->op.box, p->old_id);
	done(p);
}

static void on_set(const struct err *err, void *arg)
{
	struct policy_op *p = arg;
	struct box *b = p->op.box;
	struct ipc_commit commit = { .slot = b->row.slot, .policy = b->row.policy,
		.share = box_share(b) };

	FAULT("api.policy.set");
	if (err) {
		undo(p, err);
		return;
	}
	snprintf(commit.id, sizeof(commit.id), "%s", b->row.id);
	host_call(b->api, IPC_HOST_COMMIT, &commit, sizeof(commit), p->fd, on_committed, p);
}

/* The box's row and policy become the new ones; what was is kept for undo. */
static int swap_in(struct policy_op *p, struct err *err)
{
	struct box *b = p->op.box;
	uint32_t id;
	int r = api_policy_id(b->api, &id, err);

	if (r < 0)
		return r;
	p->old_id = b->row.policy;
	p->old_version = b->row.policy_version;
	p->old_dialect = b->row.dialect;
	p->old_updated_ms = b->row.updated_ms;
	p->old_json = b->row.policy_json;
	p->old_policy = b->policy;
	b->row.policy = id;
	b->row.policy_version++;
	b->row.updated_ms = api_now_ms();
	b->row.dialect = p->dialect;
	b->row.policy_json = take_ptr(p->json);
	b->policy = take_ptr(p->policy);
	r = save_version(b, err);
	if (r < 0)
		row_back(p);
	return r;
}

static void policy_start(struct op *op)
{
	struct policy_op *p = container_of(op, struct policy_op, op);
	struct box *b = op->box;
	struct ipc_edge_set set;
	struct err err;
	int r;

	if (life_may(b->row.state, LIFE_OP_CHANGE) != LIFE_ALLOW) {
		box_refuse(b, LIFE_OP_CHANGE, &err);
		op_finish(op, &err);
		return;
	}
	r = p->make && op->done ? p->make(b, op->arg, &p->policy, &p->json, &err) : !!p->make;
	if (r == 0)
		r = swap_in(p, &err);
	if (r != 0) {
		op_finish(op, r < 0 ? &err : NULL);
		return;
	}
	FAULT("api.policy.stored");
	if (!b->in_kernel) {
		done(p);
		return;
	}
	p->fd = box_policy_fd(b, &err);
	if (p->fd < 0) {
		undo(p, &err);
		return;
	}
	box_edge_set(b, &set);
	edges_call(b->api, IPC_EDGE_SET, &set, sizeof(set), p->fd, on_set, p);
}

void flow_policy(struct box *b, struct policy *policy, struct str json, uint32_t dialect,
	op_done_fn fn, void *arg, struct op **slot)
{
	struct policy_op *p = calloc(1, sizeof(*p));
	char *copy = str_dup(json);

	if (!p || !copy) {
		free(p);
		free(copy);
		policy_free(policy);
		op_refuse(b, fn, arg);
		return;
	}
	p->op = (struct op){ .name = "policy", .start = policy_start, .clean = policy_clean,
		.done = fn, .arg = arg, .slot = slot };
	p->policy = policy;
	p->json = copy;
	p->dialect = dialect;
	p->fd = -EBADF;
	op_queue(b, &p->op);
}

void flow_policy_made(struct box *b, uint32_t dialect, policy_make_fn make, op_done_fn fn,
	void *arg, struct op **slot)
{
	struct policy_op *p = calloc(1, sizeof(*p));

	if (!p) {
		op_refuse(b, fn, arg);
		return;
	}
	p->op = (struct op){ .name = "policy", .start = policy_start, .clean = policy_clean,
		.done = fn, .arg = arg, .slot = slot };
	p->make = make;
	p->dialect = dialect;
	p->fd = -EBADF;
	op_queue(b, &p->op);
}

void flow_repolicy(struct box *b)
{
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	struct policy *same = NULL;
	struct err err;

	/* The same rules under a new id: ids are never used twice. */
	if (policy_encode(b->policy, &blob) < 0 ||
		policy_decode(buf_str(&blob), &same, &err) < 0) {
		log_event(LOG_ERROR, "sandbox.repolicy", "sandbox=%s", b->row.id);
		return;
	}
	flow_policy(b, same, str_c(b->row.policy_json), b->row.dialect, NULL, NULL, NULL);
}

/* --- growing the writable layer; memory --- */

struct grow_op {
	struct op op;
	uint32_t disk_mib, mem_mib; /* 0: stays */
};

static void grown(const struct err *err, void *arg)
{
	struct grow_op *g = arg;
	struct box *b = g->op.box;
	struct sandbox_row before = b->row;
	struct err why;

	if (!err) {
		b->row.disk_mib = g->disk_mib ? g->disk_mib : before.disk_mib;
		if (g->mem_mib)
			birth_memory(&b->row, g->mem_mib);
		if (box_save(b, &why) < 0) {
			b->row = before;
			err = &why;
		}
	}
	op_finish(&g->op, err);
}

/* A machine's file system is its own: its agent makes it as large as its disk is now. */
static void on_grown(struct chan_msg *m, const struct err *err, void *arg)
{
	struct grow_op *g = arg;

	if (!err && !strcmp(g->op.box->row.runtime, "vm"))
		flow_wake(g->op.box, grown, g);
	else
		grown(err, g);
}

static void grow_start(struct op *op)
{
	struct grow_op *g = container_of(op, struct grow_op, op);
	struct box *b = op->box;
	struct ipc_grow grow = { .disk_mib = g->disk_mib };
	struct err err;

	if (life_may(b->row.state, LIFE_OP_RESIZE) != LIFE_ALLOW) {
		box_refuse(b, LIFE_OP_RESIZE, &err);
		op_finish(op, &err);
		return;
	}
	if (g->disk_mib <= b->row.disk_mib) { /* another resize was faster */
		err_field(&err, -EINVAL, ERR_INVALID, "disk_mib",
			"must exceed the current size of %u MiB", b->row.disk_mib);
		op_finish(op, &err);
		return;
	}
	snprintf(grow.id, sizeof(grow.id), "%s", b->row.id);
	host_call(b->api, IPC_HOST_GROW, &grow, sizeof(grow), -1, on_grown, g);
}

/* Kernel, then store: what a crash in between leaves is undone by the next change, and by a new
 * start. Without processes storing is all. */
static void memory_start(struct op *op)
{
	struct grow_op *g = container_of(op, struct grow_op, op);
	struct box *b = op->box;
	struct ipc_grow grow = { .mem_mib = g->mem_mib };
	struct err err;

	if (life_may(b->row.state, LIFE_OP_CHANGE) != LIFE_ALLOW) {
		box_refuse(b, LIFE_OP_CHANGE, &err);
		op_finish(op, &err);
	} else if (!b->in_kernel) {
		on_grown(NULL, NULL, g);
	} else {
		snprintf(grow.id, sizeof(grow.id), "%s", b->row.id);
		host_call(b->api, IPC_HOST_GROW, &grow, sizeof(grow), -1, on_grown, g);
	}
}

static void grow_queue(struct box *b, const struct grow_op *asked)
{
	struct grow_op *g = malloc(sizeof(*g));

	if (!g) {
		op_refuse(b, asked->op.done, asked->op.arg);
		return;
	}
	*g = *asked;
	op_queue(b, &g->op);
}

void flow_memory(struct box *b, uint32_t mem_mib, op_done_fn fn, void *arg, struct op **slot)
{
	grow_queue(b, &(struct grow_op){ .mem_mib = mem_mib,
		.op = { .name = "memory", .start = memory_start, .done = fn, .arg = arg, .slot = slot } });
}

void flow_grow(struct box *b, uint32_t disk_mib, op_done_fn fn, void *arg, struct op **slot)
{
	grow_queue(b, &(struct grow_op){ .disk_mib = disk_mib,
		.op = { .name = "resize", .start = grow_start, .done = fn, .arg = arg, .slot = slot } });
}

/*
 * Joining and leaving a private network.
 *
 *	store and books  ->  NET (host), if rules name members  ->  NETS (host)  ->  SET (edges)
 *
 * Both peers are told the whole set, so telling them again does no harm. If one of them fails, the
 * change is taken back everywhere and the asker hears of it. What a crash in between leaves, or a
 * taking back that fails as well, is put right by the next start, which compares what LIST says with
 * the store (adopt.c). Without a slot (error) the books are all, and the resume tells the rest.
 */
#include "api/calls.h"
#include "api/flow.h"
#include "api/peers.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

struct nets_op {
	struct op op;
	char network[IPC_ID_LEN]; /* "": nothing changes, the peers are told */
	bool join, changed;
	int policy_fd;
};

static void nets_clean(struct op *op)
{
	fd_close(container_of(op, struct nets_op, op)->policy_fd);
}

void box_nets_message(const struct box *b, struct ipc_nets *ret)
{
	*ret = (struct ipc_nets){ .slot = b->row.slot, .n = b->n_nets };
	snprintf(ret->id, sizeof(ret->id), "%s", b->row.id);
	for (uint32_t i = 0; i < b->n_nets; i++) {
		ret->nets[i] = b->nets[i]->row.number;
		ret->versions[i] = b->nets[i]->version;
	}
}

static int change(struct nets_op *o, bool join, struct err *err)
{
	struct box *b = o->op.box;
	struct network *n = nets_find(b->api, b->row.user, str_c(o->network));
	int r;

	if (!n)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "network not found");
	if (!join) {
		r = store_member_drop(b->api->store, n->row.id, b->row.id, err);
		if (r == 0)
			box_leave(b, n);
		return r;
	}
	r = box_join(b, n, err);
	if (r < 0)
		return r;
	r = store_member_add(b->api->store, n->row.id, b->row.id, err);
	if (r < 0)
		box_leave(b, n);
	return r;
}

static void tell(struct nets_op *o);

static void done(struct nets_op *o)
{
	const struct box *b = o->op.box;

	FAULT("api.nets.done");
	if (o->network[0] && !o->op.err.code)
		log_event(LOG_INFO, "sandbox.network", "sandbox=%s network=%s member=%s",
			b->row.id, o->network, o->join ? "yes" : "no");
	op_finish(&o->op, NULL);
}

static void undo(struct nets_op *o, const struct err *err)
{
	bool first = !o->op.err.code;
	struct err why;

	FAULT("api.nets.undo");
	op_fail(&o->op, err);
	log_event(LOG_ERROR, "sandbox.network_failed", "sandbox=%s network=%s text=%s",
		o->op.box->row.id, o->network, log_q(str_c(err->text)));
	if (!first || !o->changed || change(o, !o->join, &why) < 0) {
		done(o);
		return;
	}
	tell(o);
}

static void on_edges(const struct err *err, void *arg)
{
	struct nets_op *o = arg;

	FAULT("api.nets.edges");
	if (err)
		undo(o, err);
	else
		done(o);
}

static void on_host(struct chan_msg *m, const struct err *err, void *arg)
{
	struct nets_op *o = arg;
	struct box *b = o->op.box;
	struct ipc_edge_set set;
	struct err why;

	FAULT("api.nets.host");
	if (!err && o->policy_fd < 0)
		o->policy_fd = box_policy_fd(b, &why);
	if (err || o->policy_fd < 0) {
		undo(o, err ? err : &why);
		return;
	}
	box_edge_set(b, &set);
	edges_call(b->api, IPC_EDGE_SET, &set, sizeof(set), o->policy_fd, on_edges, o);
}

static void tell(struct nets_op *o)
{
	struct ipc_nets nets;

	if (o->join || !o->network[0])
		box_rules_send(o->op.box); /* they may name it: before it is a member */
	box_nets_message(o->op.box, &nets);
	host_call(o->op.box->api, IPC_HOST_NETS, &nets, sizeof(nets), -1, on_host, o);
}

static int begin(struct nets_op *o, struct err *err)
{
	struct box *b = o->op.box;
	const struct network *n = nets_find(b->api, b->row.user, str_c(o->network));
	int r;

	if (!n || (!o->join && !box_in(b, n)))
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "network not found");
	if (o->join && box_in(b, n))
		return 0;
	if (life_may(b->row.state, o->join ? LIFE_OP_JOIN : LIFE_OP_LEAVE) != LIFE_ALLOW)
		return box_refuse(b, o->join ? LIFE_OP_JOIN : LIFE_OP_LEAVE, err);
	r = change(o, o->join, err);
	o->changed = r == 0;
	return r;
}

static void nets_start(struct op *op)
{
	struct nets_op *o = container_of(op, struct nets_op, op);
	struct err err;

	if (o->network[0] && begin(o, &err) < 0) {
		op_finish(op, &err);
		return;
	}
	FAULT("api.nets.stored");
	if (op->box->in_kernel && (o->changed || !o->network[0]))
		tell(o);
	else
		done(o);
}

static void queue(struct box *b, const char *network, bool join, op_done_fn fn, void *arg,
	struct op **slot)
{
	struct nets_op *o = calloc(1, sizeof(*o));

	if (!o) {
		op_refuse(b, fn, arg);
		return;
	}
	o->op = (struct op){ .name = "networks", .start = nets_start, .clean = nets_clean,
		.done = fn, .arg = arg, .slot = slot };
	snprintf(o->network, sizeof(o->network), "%s", network);
	o->join = join;
	o->policy_fd = -EBADF;
	op_queue(b, &o->op);
}

void flow_join(struct box *b, const struct network *n, op_done_fn fn, void *arg, struct op **slot)
{
	queue(b, n->row.id, true, fn, arg, slot);
}

void flow_leave(struct box *b, const struct network *n, op_done_fn fn, void *arg,
	struct op **slot)
{
	queue(b, n->row.id, false, fn, arg, slot);
}

void flow_nets_again(struct box *b)
{
	queue(b, "", false, NULL, NULL, NULL);
}

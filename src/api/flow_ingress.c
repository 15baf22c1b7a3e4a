/*
 * Opening and closing a sandbox to the outside, changing how, and putting it right after a restart.
 *
 *	store  ->  INGRESS (host: the slot's flag, its ports)  ->  INGRESS (edges)
 *
 * Host and edges are told the whole truth each time, so telling them again does no harm. What fails
 * is taken back everywhere, and the asker hears of it. A crash in between leaves a row that the next
 * start puts in force. A port of the host that somebody else has is no failure: another pair is
 * tried. Without a slot (error) storing is all, and the resume tells the rest.
 */
#include "api/flow.h"
#include "api/ingress.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"

#define PORT_TRIES 64u

/* --- in force: host, then edges --- */

struct apply {
	struct box *box;
	enum ipc_ingress_state state;
	unsigned int tries;
	edges_fn fn;
	void *arg;
};

static void ask_host(struct apply *p);

static void applied(struct apply *p, const struct err *err)
{
	struct apply done = *p;

	free(p);
	done.fn(err, done.arg);
}

static void on_edges(const struct err *err, void *arg)
{
	FAULT("api.ingress.edges");
	applied(arg, err);
}

/* One for each port that was asked for, in their order. */
static void take_listeners(struct box *b, struct chan_msg *m)
{
	uint32_t open = ingress_ports_open(b->api, &b->row);
	unsigned int at = 0;

	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++) {
		fd_close(b->ingress.port_fd[i]);
		b->ingress.port_fd[i] = open & 1u << i ? chan_take_fd(m, at++) : -EBADF;
	}
}

/* What is open stays where it is, whatever else cannot be opened. */
static bool may_move(const struct box *b)
{
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		if (b->ingress.port_fd[i] >= 0)
			return false;
	return true;
}

static void on_host(struct chan_msg *m, const struct err *err, void *arg)
{
	struct apply *p = arg;
	struct box *b = p->box;
	struct err why;

	FAULT("api.ingress.host");
	if (err && err->code == -EADDRINUSE) {
		if (may_move(b) && p->tries++ < PORT_TRIES) {
			b->row.port_proxy = b->row.port_direct = 0;
			ask_host(p);
			return;
		}
		err_field(&why, -ENOSPC, ERR_CAPACITY, "host_ports", may_move(b) ?
			"no two ports of the host are free (ingress.ports)" :
			"this sandbox's other port of the host is somebody else's now");
		err = &why;
	}
	if (!err && p->tries && box_save(b, &why) < 0)
		err = &why;
	if (err) {
		applied(p, err);
		return;
	}
	take_listeners(b, m);
	ingress_tell(b, p->state, on_edges, p);
}

static void ask_host(struct apply *p)
{
	struct box *b = p->box;
	struct ipc_ingress q = { .slot = b->row.slot, .on = ingress_any(&b->row) };
	struct err err;
	uint32_t open;

	if (b->row.ingress_ports & ingress_ports_given(b->api) && !b->row.port_proxy) {
		if (ingress_pick_ports(b, &err) < 0) {
			applied(p, &err);
			return;
		}
		p->tries += !p->tries; /* so that they are stored */
	}
	snprintf(q.id, sizeof(q.id), "%s", b->row.id);
	open = ingress_ports_open(b->api, &b->row);
	if (open & INGRESS_PORTS_PROXY)
		q.port[0] = (uint16_t)b->row.port_proxy;
	if (open & INGRESS_PORTS_DIRECT)
		q.port[1] = (uint16_t)b->row.port_direct;
	host_call(b->api, IPC_HOST_INGRESS, &q, sizeof(q), -1, on_host, p);
}

void ingress_apply(struct box *b, enum ipc_ingress_state state, edges_fn fn, void *arg)
{
	struct apply *p = malloc(sizeof(*p));
	struct err err;

	if (!p) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		fn(&err, arg);
		return;
	}
	*p = (struct apply){ .box = b, .state = state, .fn = fn, .arg = arg };
	ask_host(p);
}

/* --- the operation --- */

struct ingress_op {
	struct op op;
	struct ingress_want want;
	struct ingress_want before;
	char *services; /* wanted; from the change on those before; NULL: they stay */
	uint32_t before_ports[IPC_INGRESS_PORTS];
	bool changes;
};

static struct ingress_want want_of(const struct sandbox_row *row)
{
	return (struct ingress_want){ .on = (int)row->ingress, .access = (int)row->ingress_access,
		.hold = (int)row->ingress_hold,
		.ports = { !!(row->ingress_ports & INGRESS_PORTS_PROXY),
			!!(row->ingress_ports & INGRESS_PORTS_DIRECT) } };
}

void ingress_want_set(struct sandbox_row *row, const struct ingress_want *w)
{
	row->ingress = w->on < 0 ? row->ingress : (uint32_t)w->on;
	row->ingress_access = w->access < 0 ? row->ingress_access : (uint32_t)w->access;
	row->ingress_hold = w->hold < 0 ? row->ingress_hold : (uint32_t)w->hold;
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		if (w->ports[i] >= 0)
			row->ingress_ports = (row->ingress_ports & ~(1u << i)) | (uint32_t)w->ports[i] << i;
}

static bool is_so(const struct sandbox_row *row, const struct ingress_want *w)
{
	struct sandbox_row want = *row; /* its texts are not looked at */

	ingress_want_set(&want, w);
	if (w->services.p && !str_eq_c(w->services, row->services))
		return false;
	return want.ingress == row->ingress && want.ingress_access == row->ingress_access &&
		want.ingress_hold == row->ingress_hold && want.ingress_ports == row->ingress_ports;
}

/* What is wanted becomes what is, or the reverse. */
static void swap_services(struct ingress_op *o)
{
	char *services = o->services;

	if (!services)
		return;
	o->services = o->op.box->row.services;
	o->op.box->row.services = services;
}

static void clean(struct op *op)
{
	free(container_of(op, struct ingress_op, op)->services);
}

static void finish(struct ingress_op *o)
{
	const struct sandbox_row *row = &o->op.box->row;

	FAULT("api.ingress.done");
	if (o->changes && !o->op.err.code)
		log_event(LOG_INFO, "sandbox.ingress", "sandbox=%s on=%u access=%u hold=%u ports=%u",
			row->id, row->ingress, row->ingress_access, row->ingress_hold,
			row->ingress_ports);
	op_finish(&o->op, NULL);
}

static void on_taken_back(const struct err *err, void *arg)
{
	struct ingress_op *o = arg;

	if (err)
		log_event(LOG_ERROR, "sandbox.ingress_undo", "sandbox=%s text=%s",
			o->op.box->row.id, log_q(str_c(err->text)));
	finish(o);
}

static void undo(struct ingress_op *o, const struct err *err)
{
	struct box *b = o->op.box;
	struct err why;

	FAULT("api.ingress.undo");
	op_fail(&o->op, err);
	log_event(LOG_ERROR, "sandbox.ingress_failed", "sandbox=%s text=%s", b->row.id,
		log_q(str_c(err->text)));
	if (!o->changes) {
		finish(o);
		return;
	}
	ingress_want_set(&b->row, &o->before);
	swap_services(o);
	b->row.port_proxy = o->before_ports[0];
	b->row.port_direct = o->before_ports[1];
	if (box_save(b, &why) < 0) {
		on_taken_back(&why, o);
		return;
	}
	ingress_apply(b, b->ingress.state, on_taken_back, o);
}

static void on_applied(const struct err *err, void *arg)
{
	struct ingress_op *o = arg;

	if (err)
		undo(o, err);
	else
		finish(o);
}

static int change(struct ingress_op *o, struct err *err)
{
	struct box *b = o->op.box;
	struct sandbox_row *row = &b->row;
	int r;

	if (life_may(row->state, LIFE_OP_CHANGE) != LIFE_ALLOW)
		return box_refuse(b, LIFE_OP_CHANGE, err);
	o->before = want_of(row);
	o->before_ports[0] = row->port_proxy;
	o->before_ports[1] = row->port_direct;
	ingress_want_set(row, &o->want);
	swap_services(o);
	/* What somebody has seen stays seen, whatever comes of this. */
	row->id_told |= row->ingress || !str_eq_c(STR(SERVICES_NONE), row->services);
	r = row->ingress_ports & ingress_ports_given(b->api) && !row->port_proxy ? ingress_pick_ports(b, err) : 0;
	if (r == 0)
		r = box_save(b, err);
	if (r < 0) {
		ingress_want_set(row, &o->before);
		swap_services(o);
		row->port_proxy = o->before_ports[0];
		row->port_direct = o->before_ports[1];
	}
	return r;
}

static void ingress_start(struct op *op)
{
	struct ingress_op *o = container_of(op, struct ingress_op, op);
	struct box *b = op->box;
	struct err err;

	if (o->changes && is_so(&b->row, &o->want)) {
		op_finish(op, NULL);
		return;
	}
	if (o->changes && change(o, &err) < 0) {
		op_finish(op, &err);
		return;
	}
	FAULT("api.ingress.stored");
	if (b->in_kernel)
		ingress_apply(b, ingress_state_of(b), on_applied, o);
	else
		finish(o);
}

static void queue(struct box *b, const struct ingress_want *want, op_done_fn fn, void *arg,
	struct op **slot)
{
	struct ingress_op *o = calloc(1, sizeof(*o));
	bool services = want && want->services.p;

	if (o && services && !(o->services = str_dup(want->services)))
		free(take_ptr(o));
	if (!o) {
		op_refuse(b, fn, arg);
		return;
	}
	o->op = (struct op){ .name = "ingress", .start = ingress_start, .clean = clean, .done = fn, .arg = arg,
		.slot = slot };
	o->changes = want != NULL;
	if (want)
		o->want = *want;
	if (services)
		o->want.services = str_c(o->services);
	op_queue(b, &o->op);
}

void flow_ingress(struct box *b, const struct ingress_want *want, op_done_fn fn, void *arg,
	struct op **slot)
{
	queue(b, want, fn, arg, slot);
}

void flow_ingress_again(struct box *b, op_done_fn fn, void *arg, struct op **slot)
{
	queue(b, NULL, fn, arg, slot);
}

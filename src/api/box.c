/* One sandbox in memory: see the header. */
#include "api/box.h"
#include "api/nets.h"
#include "api/req.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

void hold_settled(struct box *b); /* dispatch.c */

struct box *box_new(struct api *a, const char *id)
{
	struct box *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->api = a;
	b->refs = 1;
	snprintf(b->row.id, sizeof(b->row.id), "%s", id);
	STAILQ_INIT(&b->queue);
	LIST_INIT(&b->uses);
	LIST_INIT(&b->orphans);
	TAILQ_INIT(&b->holds);
	LIST_INIT(&b->denials.followers);
	ingress_init(b);
	HASH_ADD_STR(a->boxes, row.id, b);
	if (!table_has(b)) {
		free(b);
		return NULL;
	}
	return b;
}

struct box *box_ref(struct box *b)
{
	b->refs++;
	return b;
}

struct box *box_unref(struct box *b)
{
	if (!b || --b->refs)
		return NULL;
	box_asleep(b);
	tick_free(b->grace);
	tick_free(b->expiry);
	denials_done(&b->denials);
	ingress_done(b);
	policy_free(b->policy);
	policy_free(b->policy_before);
	sandbox_row_done(&b->row);
	free(b);
	return NULL;
}

struct box *box_find(struct api *a, const char *id)
{
	struct box *b;

	HASH_FIND_STR(a->boxes, id, b);
	return b;
}

bool box_is_machine(const struct box *b)
{
	return !strcmp(b->row.runtime, "vm");
}

void box_forget(struct box *b)
{
	box_unplace(b);
	b->expiry = tick_free(b->expiry);
	box_leave_all(b);
	ingress_done(b);
	HASH_DEL(b->api->boxes, b);
	denials_done(&b->denials);
	box_unref(b);
}

/* --- state --- */

static void stamp(struct sandbox_row *row, enum life_event event, uint64_t now)
{
	switch (row->state) {
	case LIFE_RUNNING:
		row->running_ms = now;
		if (event == LIFE_THAWED) {
			row->resumed_ms = now;
			row->generation++;
			row_sleep_again(row, now);
		}
		break;
	case LIFE_PAUSED:
		row->paused_ms = now;
		break;
	case LIFE_DESTROYED:
	case LIFE_FAILED:
		row->destroyed_ms = now;
		break;
	case LIFE_NONE:
	case LIFE_CREATING:
	case LIFE_PAUSING:
	case LIFE_RESUMING:
	case LIFE_FORKING:
	case LIFE_ERROR:
	case LIFE_DESTROYING:
	case LIFE_STATES:
		break;
	}
}

int box_event(struct box *b, enum life_event event, const char *detail, struct err *err)
{
	enum life_state to = life_next(b->row.state, event);
	struct sandbox_row before = b->row;
	char *reason;
	int r;

	if (to == LIFE_NONE)
		return err_field(err, -EPERM, ERR_CONFLICT, "status", "cannot %s: sandbox is %s",
			life_event_name(event), life_state_name(b->row.state));
	reason = str_dup(str_c(detail ? detail : ""));
	if (!reason)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	box_count(b);
	b->row.state = to;
	b->row.reason = reason;
	stamp(&b->row, event, api_now_ms());
	r = store_begin(b->api->store, err);
	if (r == 0)
		r = store_sandbox_save(b->api->store, &b->row, err);
	if (r == 0)
		r = store_note(b->api->store, b->row.id, life_event_name(event), reason, err);
	if (r == 0 && b->n_nets && life_terminal(to))
		r = store_member_clear(b->api->store, b->row.id, err);
	if (r == 0 && b->ingress.n_tokens && life_terminal(to))
		r = store_token_clear(b->api->store, b->row.id, err);
	if (r == 0)
		r = store_commit(b->api->store, err);
	store_rollback(b->api->store);
	if (r < 0) {
		b->row = before;
		free(reason);
		return r;
	}
	free(before.reason);
	log_event(LOG_INFO, "sandbox.state", "sandbox=%s from=%s to=%s event=%s reason=%s",
		b->row.id, life_state_name(before.state), life_state_name(to),
		life_event_name(event), log_q(str_c(reason)));
	box_expiry(b);
	ingress_state(b);
	if (!life_transitional(to))
		hold_settled(b);
	return 0;
}

int box_save(struct box *b, struct err *err)
{
	uint64_t before = b->row.updated_ms;
	int r;

	b->row.updated_ms = api_now_ms();
	r = store_sandbox_save(b->api->store, &b->row, err);
	if (r < 0)
		b->row.updated_ms = before;
	return r;
}

int box_refuse(const struct box *b, enum life_op op, struct err *err)
{
	return err_field(err, -EBUSY, ERR_CONFLICT, "status", "sandbox is %s; cannot %s",
		life_state_name(b->row.state), life_op_name(op));
}

/* --- place in the kernel --- */

int box_place(struct box *b, const struct ipc_sandbox *s, struct err *err)
{
	if (!ipc_text_ok(s->link, sizeof(s->link)) || !s->slot || s->slot > WEIR_SLOTS_MAX)
		return err_set(err, -EBADMSG, ERR_INTERNAL, "the host role's answer does not read");
	if (b->api->by_slot[s->slot] && b->api->by_slot[s->slot] != b)
		return err_set(err, -EEXIST, ERR_INTERNAL, "slot %u is %s's", s->slot,
			b->api->by_slot[s->slot]->row.id);
	b->in_kernel = true;
	b->row.slot = s->slot;
	b->ip4 = s->ip4;
	b->ip6 = s->ip6;
	snprintf(b->row.ip4, sizeof(b->row.ip4), "%s", s->ip4.family ? ip_text(s->ip4).s : "");
	snprintf(b->row.ip6, sizeof(b->row.ip6), "%s", s->ip6.family ? ip_text(s->ip6).s : "");
	memcpy(b->link.link, s->link, sizeof(b->link.link));
	b->link.ifindex = s->ifindex;
	b->api->by_slot[s->slot] = b;
	return 0;
}

void box_unplace(struct box *b)
{
	struct weir_counters sum;

	box_asleep(b);
	while (!LIST_EMPTY(&b->orphans)) {
		struct orphan *o = LIST_FIRST(&b->orphans);

		o->drop(o);
	}
	if (!b->in_kernel)
		return;
	box_count(b);
	if (api_counters(b->api, b->row.slot, &sum) == 0)
		for (unsigned int r = 0; r < WEIR_R_MAX; r++)
			b->api->denied[r] += sum.denied[r];
	b->in_kernel = false;
	if (b->api->by_slot[b->row.slot] == b)
		b->api->by_slot[b->row.slot] = NULL;
}

int box_policy_fd(const struct box *b, struct err *err)
{
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	int r = policy_encode(b->policy, &blob);

	if (r >= 0)
		r = memfd_sealed("policy", buf_str(&blob));
	return r < 0 ? err_sys(err, r, "encode the policy") : r;
}

uint32_t box_share(const struct box *b)
{
	return api_share(b->row.user);
}

void box_edge_set(const struct box *b, struct ipc_edge_set *ret)
{
	*ret = (struct ipc_edge_set){ .slot = b->row.slot,
		.ifindex = b->link.ifindex,
		.policy = b->row.policy,
		.has_ipv6 = b->ip6.family != 0,
		.ip4 = b->ip4,
		.ip6 = b->ip6 };
	snprintf(ret->id, sizeof(ret->id), "%s", b->row.id);
	snprintf(ret->hostname, sizeof(ret->hostname), "%s", b->row.name);
	ret->n_nets = b->n_nets;
	for (uint32_t i = 0; i < b->n_nets; i++) {
		ret->nets[i].number = b->nets[i]->row.number;
		snprintf(ret->nets[i].name, sizeof(ret->nets[i].name), "%s", b->nets[i]->row.name);
	}
}

/* --- expiry --- */

#define EXPIRY_LOOK_MS UINT64_C(600000) /* the wall clock may be set: look again from time to time */
#define EXPIRY_AGAIN_MS 1000u

void row_sleep_again(struct sandbox_row *row, uint64_t now_ms)
{
	row->sleeps_ms = row->sleep_s ? now_ms + row->sleep_s * UINT64_C(1000) : 0;
}

/* The nearer moment that means something in this state; 0: none. */
static uint64_t next_moment(const struct sandbox_row *row)
{
	uint64_t sleep = row->state == LIFE_RUNNING ? row->sleeps_ms : 0;
	bool ending = life_terminal(row->state) || row->state == LIFE_DESTROYING;
	uint64_t end = ending ? 0 : row->expires_ms;

	return sleep && (!end || sleep < end) ? sleep : end;
}

static void on_expiry(void *arg)
{
	struct box *b = arg;
	uint64_t now = api_now_ms(), at = next_moment(&b->row);
	struct err err;
	int r;

	if (!at || at > now) {
		box_expiry(b);
		return;
	}
	box_ref(b);
	if (b->row.expires_ms && b->row.expires_ms <= now)
		r = flow_delete(b, "expired", 0, &err);
	else
		r = flow_pause(b, "its time to live is over", 0, &err);
	if (r < 0) { /* the store is full: again */
		log_event(LOG_ERROR, "sandbox.expiry", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
		tick_again(b->expiry, EXPIRY_AGAIN_MS);
	}
	box_unref(b);
}

void box_expiry(struct box *b)
{
	uint64_t now = api_now_ms(), at = next_moment(&b->row), in;

	b->expiry = tick_free(b->expiry);
	if (!at)
		return;
	in = MIN(at > now ? at - now : 0, EXPIRY_LOOK_MS);
	b->expiry = tick_new(b->api->loop, in, 0, on_expiry, b);
	if (!b->expiry)
		log_event(LOG_ERROR, "sandbox.expiry", "sandbox=%s text=out\\x20of\\x20memory",
			b->row.id);
}

/* --- usage --- */

void box_count(struct box *b)
{
	struct weir_counters sum;

	if (!b->in_kernel || api_counters(b->api, b->row.slot, &sum) < 0)
		return;
	b->row.out_used = (uint64_t)((int64_t)sum.out_bytes + b->row.out_base);
	b->row.in_used = (uint64_t)((int64_t)sum.in_bytes + b->row.in_base);
}

/* --- operations --- */

static void run_next(struct box *b)
{
	while (!b->op && !STAILQ_EMPTY(&b->queue)) {
		b->op = STAILQ_FIRST(&b->queue);
		STAILQ_REMOVE_HEAD(&b->queue, next);
		b->op->start(b->op);
	}
}

void op_queue(struct box *b, struct op *op)
{
	op->box = box_ref(b);
	if (op->slot)
		*op->slot = op;
	STAILQ_INSERT_TAIL(&b->queue, op, next);
	if (!b->op)
		run_next(b);
}

void op_refuse(struct box *b, op_done_fn fn, void *arg)
{
	struct op none = { .box = b };
	struct err err;

	err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (fn)
		fn(&none, &err, arg);
}

void op_fail(struct op *op, const struct err *err)
{
	if (!op->err.code)
		op->err = *err;
	if (!op->err.code)
		op->err.code = -EIO; /* an error without a number is one all the same */
}

void op_finish(struct op *op, const struct err *err)
{
	struct box *b = op->box;

	if (err)
		op_fail(op, err);
	b->op = NULL;
	if (op->slot)
		*op->slot = NULL;
	if (op->done)
		op->done(op, op->err.code ? &op->err : NULL, op->arg);
	if (op->clean)
		op->clean(op);
	free(op);
	run_next(b);
	box_unref(b);
}

void op_forget(struct op *op)
{
	if (!op)
		return;
	op->done = NULL;
	op->slot = NULL;
}

/* --- uses --- */

void box_use(struct box *b, struct use *u, void (*bounce)(struct use *, const struct err *))
{
	u->box = box_ref(b);
	u->bounce = bounce;
	LIST_INSERT_HEAD(&b->uses, u, next);
	b->n_uses++;
	box_touch(b);
}

void box_unuse(struct use *u)
{
	struct box *b = u->box;

	if (!b)
		return;
	u->box = NULL;
	LIST_REMOVE(u, next);
	b->n_uses--;
	box_touch(b);
	/* A pause that waits for quiet goes on in the next turn: we may be inside a callback of
	 * the very request that ended. */
	if (!b->n_uses && b->grace)
		tick_again(b->grace, 0);
	box_unref(b);
}

void box_bounce(struct box *b, const char *why)
{
	struct err err;

	err_field(&err, -EBUSY, ERR_CONFLICT, "status", "%s", why);
	while (!LIST_EMPTY(&b->uses)) {
		struct use *u = LIST_FIRST(&b->uses);

		u->bounce(u, &err);
		if (LIST_FIRST(&b->uses) == u)
			abort(); /* a bouncer that stays would be bounced for ever */
	}
}

void box_when_quiet(struct box *b, uint64_t ms, tick_fn fn, void *arg)
{
	b->grace = tick_free(b->grace);
	if (!b->n_uses) {
		fn(arg);
		return;
	}
	b->grace = tick_new(b->api->loop, ms, 0, fn, arg);
	if (!b->grace)
		fn(arg);
}

#define HELD_ALL_MAX (256u << 20) /* over all sandboxes: bounds this process */

size_t box_hold(struct box *b, size_t n)
{
	/* The less is left, the less one sandbox may hold: none takes the last of it. */
	uint64_t share = (HELD_ALL_MAX - b->api->exec_bytes) / 4;

	n = MIN(n, share - MIN(share, b->exec_bytes));
	b->api->exec_bytes += n;
	b->exec_bytes += n;
	return n;
}

void box_let_go(struct box *b, size_t n)
{
	b->api->exec_bytes -= n;
	b->exec_bytes -= n;
}

/* --- living --- */

static void on_idle(void *arg)
{
	struct box *b = arg;
	struct err err;
	char why[64];

	if (b->n_uses || b->row.state != LIFE_RUNNING)
		return;
	if (ingress_in_use(b)) { /* its end is reported, and touches again */
		box_touch(b);
		return;
	}
	snprintf(why, sizeof(why), "idle for %u seconds", b->row.auto_pause_s);
	if (flow_pause(b, why, 0, &err) < 0)
		log_event(LOG_WARN, "sandbox.auto_pause", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
}

void box_touch(struct box *b)
{
	if (!b->row.auto_pause_s || b->row.state != LIFE_RUNNING) {
		b->idle = tick_free(b->idle);
		return;
	}
	if (b->idle)
		tick_again(b->idle, b->row.auto_pause_s * UINT64_C(1000));
	else
		b->idle = tick_new(b->api->loop, b->row.auto_pause_s * UINT64_C(1000), 0, on_idle, b);
}

/* The program inside asked for it. Its 202 has been sent; leave it a moment to be read. */
#define SELF_SIGNAL_MS 250u

static void on_signal(struct agent_watch *w, enum agent_signal what, struct str reason, void *arg)
{
	struct box *b = arg;
	char why[192];
	struct err err;
	int r;

	snprintf(why, sizeof(why), "asked from inside: %.*s", (int)MIN(reason.n, (size_t)128),
		reason.n ? reason.p : "");
	if (!reason.n || !str_utf8(str_c(why)))
		snprintf(why, sizeof(why), "asked from inside");
	r = what == AGENT_SIGNAL_DELETE ? flow_delete(b, why, SELF_SIGNAL_MS, &err) :
					  flow_pause(b, why, SELF_SIGNAL_MS, &err);
	if (r < 0)
		log_event(LOG_WARN, "sandbox.self_signal", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
}

void box_awake(struct box *b)
{
	if (!b->watch &&
		agent_watch_start(b->api->loop, &b->link, on_signal, b, &b->watch) < 0)
		log_event(LOG_WARN, "sandbox.watch", "sandbox=%s", b->row.id);
	entry_awake(b);
	box_touch(b);
}

void box_asleep(struct box *b)
{
	entry_asleep(b);
	agent_watch_free(take_ptr(b->watch));
	b->idle = tick_free(b->idle);
}

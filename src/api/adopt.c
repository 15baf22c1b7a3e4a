/*
 * Adoption: after a start, the store says what should be and LIST what is. Four steps: read the
 * rows; ask LIST; go through both; tell the edges. Only then is the role ready.
 *
 *	row            in LIST                          not in LIST
 *	creating,      destroyed, row failed            row failed (nobody was answered)
 *	 forking
 *	running        adopted; policy and networks     error: the host restarted. A resume
 *	               renewed if the kernel has other  starts it from its disk
 *	pausing        frozen                           error
 *	paused         frozen if it is not              error
 *	resuming       thawed                           error
 *	error          processes taken away             error
 *	destroying     destroyed                        destroyed
 *	none, ended    destroyed                        –
 */
#include "api/calls.h"
#include "api/dialect.h"
#include "api/flow.h"
#include "api/peers.h"
#include "base/fd.h"
#include "base/log.h"

#define LIST_MAX (WEIR_SLOTS_MAX + 1)

struct adoption {
	struct api *a;
	struct ipc_sandbox *list;
	uint32_t n;
	uint32_t policy_seen;
};

static void adoption_done(struct adoption *d, const struct err *err)
{
	struct api *a = d->a;
	struct box *b, *tmp;

	free(d->list);
	free(d);
	if (err) {
		log_event(LOG_ERROR, "api.adopt", "text=%s", log_q(str_c(err->text)));
		snprintf(a->not_ready, sizeof(a->not_ready), "adoption failed: %.150s", err->text);
		a->on_stop(a, 1); /* nothing is safe to serve: start again */
		return;
	}
	a->ready = true;
	HASH_ITER (hh, a->boxes, b, tmp)
		box_expiry(b);
	edges_sync(a);
	log_event(LOG_INFO, "api.ready", "sandboxes=%u", HASH_COUNT(a->boxes));
}

/* --- rows --- */

static int load_row(struct sandbox_row *row, void *arg)
{
	struct api *a = arg;
	struct box *b = box_new(a, row->id);
	struct err err;

	if (!b)
		return -ENOMEM;
	b->row = *row;
	*row = (struct sandbox_row){ 0 }; /* its texts are the box's now */
	if (b->row.ip4[0])
		ip_from(str_c(b->row.ip4), &b->ip4);
	if (b->row.ip6[0])
		ip_from(str_c(b->row.ip6), &b->ip6);
	if (dialect_policy(a, b->row.dialect, str_c(b->row.policy_json), &b->policy, &err) == 0)
		return 0;
	/* What was accepted once and no longer reads (the operator's floor grew) must not open:
	 * default deny, and say so. */
	log_event(LOG_ERROR, "sandbox.policy_unreadable", "sandbox=%s text=%s", b->row.id,
		log_q(str_c(err.text)));
	b->policy = policy_new(POLICY_NATIVE, WEIR_DENY);
	return b->policy ? 0 : -ENOMEM;
}

/* --- comparing --- */

/* The kernel has rules where the store has none, or no word of the network: told below. */
static void compare_rules(struct box *b, const struct ipc_sandbox *s)
{
	for (uint32_t i = 0; i < s->n_nets; i++)
		b->nets[i]->untold |= s->net_versions[i] != 0;
}

/* Networks with rules are told whatever the kernel has: whom they name may have changed meanwhile. */
static void adopt_rules(struct api *a)
{
	struct network *n, *tmp;

	HASH_ITER (hh, a->nets, n, tmp)
		if (n->members && (n->rules || n->untold))
			net_rules_send(a, n, NULL, NULL);
}

static void adopt_listed(struct adoption *d, const struct ipc_sandbox *s)
{
	struct api *a = d->a;
	struct box *b = box_find(a, s->id);
	bool repolicy;
	struct err err;

	d->policy_seen = MAX(d->policy_seen, s->policy);
	if (!b) {
		flow_destroy_unknown(a, s->id);
		return;
	}
	if (box_place(b, s, &err) < 0) {
		log_event(LOG_ERROR, "sandbox.adopt", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
		flow_destroy_unknown(a, s->id);
		return;
	}
	if (b->row.state == LIFE_CREATING || b->row.state == LIFE_FORKING || b->row.state == LIFE_DESTROYING)
		return; /* below */
	if (s->state == IPC_RUN_DEAD) {
		if (b->row.state == LIFE_ERROR)
			flow_reclaim(b);
		else
			flow_lost(b, "the sandbox's first process ended while the daemon was down");
		return;
	}
	repolicy = s->policy != b->row.policy || b->policy->dialect == POLICY_NATIVE;
	flow_adopt(b, s->state == IPC_RUN_FROZEN, repolicy);
	if (s->n_nets > IPC_NETS_MAX || !box_nets_are(b, s->nets, s->n_nets))
		flow_nets_again(b);
	else
		compare_rules(b, s);
	/* The host ports' listeners are anew in any case. Known to the edges until then without. */
	b->ingress.told = ingress_any(&b->row);
	if (b->ingress.told || s->ingress)
		flow_ingress_again(b, NULL, NULL, NULL);
}

static void adopt_rest(struct box *b)
{
	struct err err = { 0 };

	switch (b->row.state) {
	case LIFE_CREATING: /* nobody was answered: undo */
	case LIFE_FORKING:
		box_ref(b);
		flow_destroy_unknown(b->api, b->row.id);
		if (box_event(b, LIFE_UNBORN, "the daemon restarted during creation", &err) == 0)
			box_forget(b);
		box_unref(b);
		break;
	case LIFE_DESTROYING:
		flow_delete(b, b->row.reason, 0, &err);
		break;
	case LIFE_RUNNING:
	case LIFE_PAUSING:
	case LIFE_PAUSED:
	case LIFE_RESUMING:
		if (!b->in_kernel)
			box_event(b, LIFE_LOST, "the host restarted; resume starts it from its disk",
				&err);
		break;
	case LIFE_ERROR:
	case LIFE_NONE:
	case LIFE_FAILED:
	case LIFE_DESTROYED:
	case LIFE_STATES:
		break;
	}
	if (err.code)
		log_event(LOG_ERROR, "sandbox.adopt", "sandbox=%s text=%s", b->row.id,
			log_q(str_c(err.text)));
}

static void reserve_ignored(struct chan_msg *m, const struct err *err, void *arg)
{
	if (err)
		log_event(LOG_WARN, "api.reserve", "text=%s", log_q(str_c(err->text)));
}

/* Slots of sandboxes that have a disk and no processes are not for others. */
static void reserve(struct api *a)
{
	auto_free struct ipc_reserve *keep = calloc(1, sizeof(*keep));
	struct box *b, *tmp;

	if (!keep)
		return;
	HASH_ITER (hh, a->boxes, b, tmp) {
		if (b->in_kernel || !b->row.slot || b->row.state == LIFE_DESTROYING)
			continue;
		keep->slots[keep->n++] = b->row.slot;
		if (keep->n < ARRAY_SIZE(keep->slots))
			continue;
		host_call(a, IPC_HOST_RESERVE, keep, sizeof(*keep), -1, reserve_ignored, NULL);
		keep->n = 0;
	}
	if (keep->n)
		host_call(a, IPC_HOST_RESERVE, keep, sizeof(*keep), -1, reserve_ignored, NULL);
}

static void policy_seen(struct adoption *d, const struct ipc_sandbox *s)
{
	d->policy_seen = MAX(d->policy_seen, s->policy);
	for (uint32_t i = 0; i < MIN(s->n_nets, (uint32_t)IPC_NETS_MAX); i++)
		if (s->net_versions[i] != UINT32_MAX)
			d->policy_seen = MAX(d->policy_seen, s->net_versions[i]);
}

static void compare(struct adoption *d)
{
	struct api *a = d->a;
	struct box *b, *tmp;
	struct err err;

	for (uint32_t i = 0; i < d->n; i++)
		policy_seen(d, &d->list[i]);
	if (store_policy_seen(a->store, d->policy_seen, &err) < 0) {
		adoption_done(d, &err);
		return;
	}
	for (uint32_t i = 0; i < d->n; i++)
		if (ipc_text_ok(d->list[i].id, sizeof(d->list[i].id)))
			adopt_listed(d, &d->list[i]);
	HASH_ITER (hh, a->boxes, b, tmp)
		adopt_rest(b);
	adopt_rules(a);
	reserve(a);
	adoption_done(d, NULL);
}

/* --- LIST --- */

static int read_list(struct adoption *d, struct chan_msg *m, struct err *err)
{
	auto_buf struct buf all = BUF_MAX(LIST_MAX * sizeof(struct ipc_sandbox));
	struct ipc_list head;
	struct str items;
	int r;

	if (m->payload.n < sizeof(head))
		return err_set(err, -EBADMSG, ERR_INTERNAL, "LIST's answer is too short");
	memcpy(&head, m->payload.p, sizeof(head));
	items = str_skip(m->payload, sizeof(head));
	if (m->n_fds) {
		auto_fd int fd = chan_take_fd(m, 0);

		r = memfd_read(fd, all.max, &all);
		if (r < 0)
			return err_sys(err, r, "read LIST's answer");
		items = buf_str(&all);
		/* The file may repeat the head. */
		if (items.n == sizeof(head) + head.n * sizeof(struct ipc_sandbox))
			items = str_skip(items, sizeof(head));
	}
	if (head.n > LIST_MAX || items.n != head.n * sizeof(struct ipc_sandbox))
		return err_set(err, -EBADMSG, ERR_INTERNAL, "LIST's answer does not read");
	d->list = calloc(head.n + 1, sizeof(*d->list));
	if (!d->list)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (items.n)
		memcpy(d->list, items.p, items.n);
	d->n = head.n;
	return 0;
}

static void on_list(struct chan_msg *m, const struct err *err, void *arg)
{
	struct adoption *d = arg;
	struct err why;

	if (err)
		adoption_done(d, err);
	else if (read_list(d, m, &why) < 0)
		adoption_done(d, &why);
	else
		compare(d);
}

void api_adopt(struct api *a)
{
	struct adoption *d = calloc(1, sizeof(*d));
	uint32_t live = 0;
	struct err err;
	int r;

	if (!d) {
		a->on_stop(a, 1);
		return;
	}
	d->a = a;
	for (int s = LIFE_NONE + 1; s < LIFE_STATES; s++)
		if (!life_terminal((enum life_state)s))
			live |= 1u << s;
	err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = store_sandboxes(a->store, NULL, live, UINT32_MAX, 0, load_row, a, NULL, &err);
	if (r == 0)
		r = nets_load(a, &err);
	if (r == 0)
		r = ingress_load(a, &err);
	if (r < 0) {
		adoption_done(d, &err);
		return;
	}
	host_call(a, IPC_HOST_LIST, NULL, 0, -1, on_list, d);
}

/* Sandboxes of the host role, from their beginning to their end: see the header. */
#include <fcntl.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/table.h"
#include "sandbox/box_own.h"
#include "sandbox/daemon.h"
#include "sandbox/events.h"
#include "sandbox/listen.h"
#include "sandbox/net.h"
#include "sandbox/slots.h"

/* --- the record --- */

int box_save(struct box *x, struct err *err)
{
	auto_buf struct buf rt = BUF_MAX(RECORD_RT_MAX);
	struct daemon *d = x->in->d;
	int r = 0;

	if (x->rt) {
		r = x->runner->ops->record(x->rt, &rt);
		if (r == 0)
			r = str_copy(x->rec.rt, sizeof(x->rec.rt), buf_str(&rt));
		if (r < 0)
			return err_sys(err, r, "record of %s", x->rec.id);
	}
	return record_save(d->records_dir, &x->rec, err);
}

/* --- the set --- */

int boxes_new(struct daemon *d, struct boxes **ret, struct err *err)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return err_sys(err, -ENOMEM, "sandboxes");
	(*ret)->d = d;
	return 0;
}

struct box *box_find(struct boxes *b, const char *id)
{
	struct box *x;

	HASH_FIND_STR(b->by_id, id, x);
	return x;
}

unsigned int boxes_count(const struct boxes *b)
{
	return HASH_COUNT(b->by_id);
}

int boxes_each(struct boxes *b, box_fn fn, void *arg)
{
	struct box *x, *next;
	int r = 0;

	HASH_ITER(hh, b->by_id, x, next) {
		r = fn(x, arg);
		if (r < 0)
			break;
	}
	return r;
}

static void watch_closed(uv_handle_t *h)
{
	free(container_of((uv_poll_t *)h, struct watch, poll));
}

void box_unwatch(struct box *x)
{
	if (x->watch)
		uv_close((uv_handle_t *)&take_ptr(x->watch)->poll, watch_closed);
}

static void ports_close(struct box_port port[IPC_INGRESS_PORTS])
{
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		port[i] = (struct box_port){ .fd = fd_close(port[i].fd) };
}

static void box_free(struct box *x)
{
	HASH_DEL(x->in->by_id, x);
	box_unwatch(x);
	ports_close(x->port);
	free(x);
}

void boxes_free(struct boxes *b)
{
	struct box *x, *next;

	if (!b)
		return;
	HASH_ITER(hh, b->by_id, x, next)
		box_free(x);
	free(b);
}

static struct box *box_add(struct boxes *b, const char *id)
{
	struct box *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->in = b;
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		x->port[i].fd = -EBADF;
	snprintf(x->rec.id, sizeof(x->rec.id), "%s", id);
	HASH_ADD_STR(b->by_id, rec.id, x);
	if (!table_has(x)) {
		free(x);
		return NULL;
	}
	return x;
}

/* --- the end of a sandbox --- */

static void answer_waiters(struct box *x)
{
	for (unsigned int i = 0; i < x->n_waiters; i++)
		x->waiters[i].fn(x->failed.code ? &x->failed : NULL, x->waiters[i].arg);
	x->n_waiters = 0;
}

static void link_gone(void *arg)
{
	struct box *x = arg;
	struct daemon *d = x->in->d;

	FAULT("host.destroy.unlinked");
	record_remove(d->records_dir, x->rec.id);
	FAULT("host.destroy.forgotten");
	log_event(LOG_INFO, "sandbox.end", "sandbox=%s slot=%u", x->rec.id, x->rec.slot);
	answer_waiters(x);
	box_free(x);
	daemon_check_stopped(d);
}

/* Ended by itself and nobody asked to destroy it yet: it waits as DEAD, its link goes. */
static void dead_link_gone(void *arg)
{
	struct box *x = arg;

	x->state = BOX_DEAD;
	if (x->destroying) /* asked for in the meantime */
		box_destroy(x, x->keep_disk, NULL, NULL);
}

static void cleaned(struct aside_job *job, int result, const struct err *why)
{
	struct box *x = container_of(job, struct box, end);
	struct daemon *d = x->in->d;
	bool by_itself = !x->destroying, oom = false; /* otherwise the record goes with the link */
	int32_t status = -1;
	struct err err = { .code = 0 };

	FAULT("host.destroy.settled");
	if (result < 0)
		err = *why;
	if (x->runner->ops->cleanup(take_ptr(x->rt), by_itself || x->keep_disk, &status, &oom,
		    result < 0 ? NULL : &err) < 0 || result < 0) {
		log_event(LOG_ERROR, "sandbox.cleanup", "sandbox=%s error=\"%s\"", x->rec.id,
			err.text);
		x->failed = err;
	}
	FAULT("host.destroy.cleaned");
	x->rec.dead = true;
	x->rec.rt[0] = '\0';
	x->rec.exit_status = status;
	x->policy = 0;
	if (by_itself) {
		x->state = BOX_ENDING;
		if (box_save(x, &err) < 0)
			log_event(LOG_ERROR, "sandbox.record", "sandbox=%s error=\"%s\"", x->rec.id,
				err.text);
		log_event(LOG_WARN, "sandbox.exit", "sandbox=%s status=%d oom=%d", x->rec.id,
			status, oom);
		event_exited(d, x->rec.id, status, oom);
	}
	slots_drop(d->slots, x->rec.slot, x->rec.ifindex, by_itself,
		by_itself ? dead_link_gone : link_gone, x);
}

static int settle(struct aside_job *job, struct err *err)
{
	struct box *x = container_of(job, struct box, end);

	return x->runner->ops->settle(x->rt, err);
}

void box_clean_up(struct box *x)
{
	FAULT("host.destroy.ended");
	box_unwatch(x);
	x->ended = x->grown.fn || x->copied.fn || x->n_nappers;
	if (x->ended)
		return; /* what it does comes back here (nap.c, copying.c) */
	x->end = (struct aside_job){ .work = settle, .done = cleaned };
	aside_do(&x->in->d->ends, &x->end);
}

static void on_pidfd(uv_poll_t *poll, int status, int events)
{
	struct box *x = container_of(poll, struct watch, poll)->box;

	if (x->n_nappers) { /* perhaps meant: nap.c knows */
		box_unwatch(x);
		x->ended = true;
		return;
	}
	if (x->state != BOX_ENDING) {
		x->state = BOX_ENDING;
		x->runner->ops->kill(x->rt); /* what pid 1 left behind in the cgroup */
	}
	box_clean_up(x);
}

int box_watch(struct box *x, struct err *err)
{
	struct daemon *d = x->in->d;
	struct watch *w = calloc(1, sizeof(*w));
	int r = w ? uv_poll_init(&d->loop, &w->poll, x->runner->ops->pidfd(x->rt)) : -ENOMEM;

	if (r < 0) {
		free(w);
		return err_sys(err, r, "watch %s", x->rec.id);
	}
	w->box = x;
	x->watch = w;
	r = uv_poll_start(&w->poll, UV_READABLE, on_pidfd);
	return r < 0 ? err_sys(err, r, "watch %s", x->rec.id) : 0;
}

void box_destroy(struct box *x, bool keep_disk, box_done_fn done, void *arg)
{
	struct daemon *d = x->in->d;

	if (done && x->n_waiters == WAITERS_MAX) {
		struct err err;

		err_set(&err, -EBUSY, ERR_CAPACITY, "%s is being destroyed already", x->rec.id);
		done(&err, arg);
		return;
	}
	if (done)
		x->waiters[x->n_waiters++] = (struct waiter){ done, arg };
	if (x->destroying && x->state != BOX_DEAD)
		return;
	FAULT("host.destroy.asked");
	x->destroying = true;
	x->keep_disk = keep_disk;
	if (x->state == BOX_RUNNING || x->state == BOX_FROZEN) {
		x->state = BOX_ENDING;
		x->runner->ops->kill(x->rt); /* the pidfd tells when it has worked */
		FAULT("host.destroy.killed");
		if (!x->watch && !x->n_nappers)
			box_clean_up(x); /* it has no process */
		return;
	}
	if (x->state == BOX_ENDING)
		return; /* its link is going: dead_link_gone() comes back here */
	if (!keep_disk)
		runners_drop_layer(d, x->rec.id, &x->failed);
	slots_release(d->slots, x->rec.slot);
	link_gone(x);
}

/* --- the beginning --- */

static int spawn_in_slot(
	struct box *x, struct slot *slot, const struct ipc_spawn *req, struct err *err)
{
	struct daemon *d = x->in->d;
	struct runtime_spec spec = { .id = req->id,
		.hostname = req->hostname,
		.slot = slot->number,
		.vcpu_milli = req->vcpu_milli,
		.mem_mib = req->mem_mib,
		.disk_mib = req->disk_mib,
		.pids = req->pids,
		.ip4 = slot->ip4,
		.ip6 = slot->ip6 };
	struct record *rec = &x->rec;
	int r;

	rec->boot = d->boot;
	rec->slot = slot->number;
	rec->ifindex = slot->net.ifindex;
	rec->ip4 = slot->ip4;
	rec->ip6 = slot->ip6;
	snprintf(rec->link, sizeof(rec->link), "%s", slot->link);
	snprintf(rec->runtime, sizeof(rec->runtime), "%s", slot->runner->ops->name);
	x->runner = slot->runner;
	r = x->runner->ops->spawn(x->runner->rt, &spec, take_ptr(slot->parked), &x->rt, err);
	if (r < 0)
		return r;
	FAULT("host.spawn.started");
	/* A crash before this line leaves a sandbox without a record: the next start sweeps it, and
	 * the api role has not been told of it. */
	if (x->runner->ops->frozen(x->rt))
		x->state = BOX_FROZEN;
	r = x->runner->ops->pidfd(x->rt) < 0 ? 0 : box_watch(x, err);
	return r < 0 ? r : box_save(x, err);
}

static void undo_spawn(struct box *x, const struct slot *slot)
{
	struct daemon *d = x->in->d;

	if (x->watch) {
		/* It lives, but has no record: a destroy that nobody waits for. */
		box_destroy(x, false, NULL, NULL);
		return;
	}
	if (x->rt) { /* it lives, and cannot be watched: out of descriptors or memory */
		x->runner->ops->kill(x->rt);
		x->runner->ops->cleanup(
			take_ptr(x->rt), false, &x->rec.exit_status, &(bool){ false }, NULL);
	}
	record_remove(d->records_dir, x->rec.id);
	box_free(x);
	slots_drop(d->slots, slot->number, slot->net.ifindex, false, NULL, NULL);
}

int box_may_spawn(struct boxes *b, const struct ipc_spawn *req, struct err *err)
{
	if (!record_id_ok(req->id) || (req->from[0] && !record_id_ok(req->from)))
		return err_field(err, -EINVAL, ERR_INVALID, "id", "not the id of a sandbox");
	if (!runner_find(b->d, req->runtime, err))
		return -ENOSYS;
	if (box_find(b, req->id))
		return err_set(err, -EEXIST, ERR_CONFLICT, "%s exists already", req->id);
	return 0;
}

int box_spawn(struct boxes *b, const struct ipc_spawn *req, struct slot *slot, uint64_t asked,
	struct box **ret, struct err *err)
{
	struct box *x;
	int r = box_may_spawn(b, req, err);

	FAULT("host.spawn.slot");
	x = r < 0 ? NULL : box_add(b, req->id);
	if (!x) {
		slots_give_up(b->d->slots, slot);
		return r < 0 ? r : err_sys(err, -ENOMEM, "sandbox");
	}
	r = spawn_in_slot(x, slot, req, err);
	if (r < 0)
		undo_spawn(x, slot);
	slotnet_done(&slot->net);
	if (r < 0)
		return r;
	FAULT("host.spawn.recorded");
	x->spawn_us = (uint32_t)((clock_mono_ns() - asked) / 1000);
	log_event(LOG_INFO, "sandbox.spawn", "sandbox=%s slot=%u link=%s took_us=%u", x->rec.id,
		x->rec.slot, x->rec.link, x->spawn_us);
	*ret = x;
	return 0;
}

int box_adopt(struct boxes *b, const struct record *rec, struct err *err)
{
	struct daemon *d = b->d;
	struct box *x = box_add(b, rec->id);
	int r;

	if (!x)
		return err_sys(err, -ENOMEM, "sandbox");
	x->rec = *rec;
	x->state = BOX_DEAD;
	r = slots_adopt(d->slots, rec->slot, err);
	if (r < 0) {
		box_free(x);
		return r;
	}
	x->runner = rec->dead ? NULL : runner_known(d, rec->runtime);
	r = x->runner ? x->runner->ops->adopt(
				x->runner->rt, rec->id, str_c(rec->rt), &x->rt, err)
		      : -ESRCH;
	if (r < 0 && r != -ESRCH)
		log_event(LOG_WARN, "adopt.failed", "sandbox=%s error=\"%s\"", rec->id, err->text);
	if (r == 0) {
		struct slot slot = { .number = rec->slot,
			.ip4 = rec->ip4,
			.ip6 = rec->ip6,
			.runner = x->runner,
			.net.ifindex = rec->ifindex };

		x->state = x->runner->ops->frozen(x->rt) ? BOX_FROZEN : BOX_RUNNING;
		r = net_adopt(d, &slot, &x->policy, err);
		if (r == 0 && x->runner->ops->pidfd(x->rt) >= 0)
			r = box_watch(x, err);
		return r; /* its record is the one that was read */
	}
	if (x->rt)
		x->runner->ops->cleanup(
			take_ptr(x->rt), true, &x->rec.exit_status, &(bool){ false }, err);
	x->rec.dead = true;
	x->rec.rt[0] = '\0';
	slots_keep(d->slots, rec->slot);
	return box_save(x, err) < 0 ? err->code : -ESRCH;
}

/* --- between --- */

int box_must_live(const struct box *x, const char *verb, struct err *err)
{
	if (x->state == BOX_RUNNING || x->state == BOX_FROZEN)
		return 0;
	return err_set(err, -ESRCH, ERR_CONFLICT, "cannot %s: %s has ended", verb, x->rec.id);
}

int box_commit(struct box *x, uint32_t slot, uint32_t share, uint32_t id, const struct policy *p,
	struct err *err)
{
	int r = box_must_live(x, "commit", err);

	if (r == 0 && slot != x->rec.slot)
		return err_set(err, -EINVAL, ERR_INTERNAL, "%s is in slot %u, not %u", x->rec.id,
			x->rec.slot, slot);
	FAULT("host.commit.asked");
	if (r == 0)
		r = net_commit(x->in->d, x->rec.slot, share, id, p, err);
	FAULT("host.commit.done");
	if (r == 0)
		x->policy = id; /* not recorded: after a restart the kernel itself is asked */
	return r;
}

int box_nets(struct box *x, const struct ipc_nets *nets, struct err *err)
{
	int r = box_must_live(x, "connect", err);

	if (r == 0 && nets->slot != x->rec.slot)
		return err_set(err, -EINVAL, ERR_INTERNAL, "%s is in slot %u, not %u", x->rec.id,
			x->rec.slot, nets->slot);
	FAULT("host.nets.asked");
	if (r == 0) /* not recorded, like the policy */
		r = net_members(x->in->d, x->rec.slot, nets, err);
	FAULT("host.nets.done");
	return r;
}

static struct box_port *port_of(struct box *x, uint16_t number)
{
	for (unsigned int i = 0; number && i < IPC_INGRESS_PORTS; i++)
		if (x->port[i].number == number)
			return &x->port[i];
	return NULL;
}

/* The new ports beside the old ones: a port that stays keeps its listener, and its backlog. */
static int ports_open(struct box *x, const uint16_t number[IPC_INGRESS_PORTS], struct err *err)
{
	struct box_port port[IPC_INGRESS_PORTS], *have;
	int r = 0;

	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		port[i] = (struct box_port){ .fd = -EBADF };
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS && r >= 0; i++) {
		if (!number[i])
			continue;
		have = port_of(x, number[i]);
		r = have ? fcntl(have->fd, F_DUPFD_CLOEXEC, 3)
			 : listener_of_port(x->in->d, number[i], err);
		if (have && r < 0)
			r = err_sys(err, -errno, "keep port %u", number[i]);
		if (r >= 0)
			port[i] = (struct box_port){ number[i], r };
	}
	if (r < 0) {
		ports_close(port);
		return r;
	}
	ports_close(x->port);
	memcpy(x->port, port, sizeof(port));
	return 0;
}

int box_ingress(struct box *x, const struct ipc_ingress *q, int fds[IPC_INGRESS_PORTS],
	unsigned int *n_fds, struct err *err)
{
	int r = box_must_live(x, "open", err);

	if (r == 0 && q->slot != x->rec.slot)
		return err_set(err, -EINVAL, ERR_INTERNAL, "%s is in slot %u, not %u", x->rec.id,
			x->rec.slot, q->slot);
	FAULT("host.ingress.asked");
	if (r == 0)
		r = ports_open(x, q->port, err);
	if (r == 0) /* not recorded, like the policy; the ports are asked for anew */
		r = net_ingress(x->in->d, x->rec.slot, q->on, err);
	FAULT("host.ingress.done");
	*n_fds = 0;
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS && r == 0; i++)
		if (x->port[i].number)
			fds[(*n_fds)++] = x->port[i].fd;
	return r;
}

int box_stats(struct box *x, struct ipc_stats *ret, struct err *err)
{
	int r = box_must_live(x, "measure", err);

	if (r < 0)
		return r;
	r = x->runner->ops->stats(x->rt, ret);
	return r < 0 ? err_sys(err, r, "measure %s", x->rec.id) : 0;
}

void box_describe(const struct box *x, struct ipc_sandbox *ret)
{
	const struct record *rec = &x->rec;

	*ret = (struct ipc_sandbox){ .slot = rec->slot,
		.ifindex = rec->ifindex,
		.policy = x->policy,
		.ip4 = rec->ip4,
		.ip6 = rec->ip6,
		.spawn_us = x->spawn_us,
		.exit_status = -1 };
	memcpy(ret->id, rec->id, sizeof(ret->id));
	memcpy(ret->link, rec->link, sizeof(ret->link));
	if (!rec->dead) {
		net_members_get(x->in->d, rec->slot, ret);
		ret->ingress = net_ingress_get(x->in->d, rec->slot);
	}
	ret->state = x->state == BOX_RUNNING  ? IPC_RUN_RUNNING
		     : x->state == BOX_FROZEN ? IPC_RUN_FROZEN
					      : IPC_RUN_DEAD;
	if (rec->dead)
		ret->exit_status = rec->exit_status;
}

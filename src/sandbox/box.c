/* Sandboxes of the host role: see the header. */
#include <fcntl.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/table.h"
#include "sandbox/box.h"
#include "sandbox/daemon.h"
#include "sandbox/events.h"
#include "sandbox/listen.h"
#include "sandbox/net.h"
#include "sandbox/slots.h"

#define WAITERS_MAX 8 /* DESTROYs of one sandbox that wait at once; more are told to retry */

enum box_state { BOX_RUNNING, BOX_FROZEN, BOX_ENDING, BOX_DEAD };

struct watch { /* on its own, since its handle closes later than the box may go */
	uv_poll_t poll;
	struct box *box;
};

struct waiter {
	box_done_fn fn;
	void *arg;
};

struct box {
	UT_hash_handle hh;
	struct boxes *in;
	struct record rec;
	enum box_state state;
	const struct runner *runner; /* NULL: DEAD since before we started */
	struct runtime_box *rt;	     /* NULL: DEAD, or cleaned up */
	struct watch *watch;	/* of rt's pidfd */
	bool destroying, keep_disk;
	uint32_t policy, spawn_us;
	struct box_port { /* of the host's, that leads to it through the edge */
		uint16_t number; /* 0: none */
		int fd;
	} port[IPC_INGRESS_PORTS];
	struct aside_job end, grow; /* where the queue of its end, and that of growth, have it */
	struct waiter grown;	    /* fn NULL: it does not grow */
	uint32_t grow_mib, mem_mib; /* 0: stays */
	bool ended;		    /* while it grew, or took a nap */
	struct aside_job nap;	    /* its freeze, or a thaw that is slow */
	struct waiter nappers[WAITERS_MAX];
	unsigned int n_nappers; /* 0: none is under way */
	bool napping;		/* it is frozen; else thawed */
	int tap;		/* for the latter; negative: it needs none */
	struct waiter waiters[WAITERS_MAX];
	unsigned int n_waiters;
	struct err failed; /* what cleanup said, for the waiters */
};

struct boxes {
	struct daemon *d;
	struct box *by_id;
};

/* --- the record --- */

static int save(struct box *x, struct err *err)
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

/* Before the pidfd is closed: libuv takes it out of its epoll set here. */
static void unwatch(struct box *x)
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
	unwatch(x);
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
		if (save(x, &err) < 0)
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

/* Its first process is gone. Nobody may use what the runtime has of it from here on. */
static void clean_up(struct box *x)
{
	FAULT("host.destroy.ended");
	unwatch(x);
	x->ended = x->grown.fn || x->n_nappers;
	if (x->ended)
		return; /* grown() and napped() come back here */
	x->end = (struct aside_job){ .work = settle, .done = cleaned };
	aside_do(&x->in->d->ends, &x->end);
}

static void on_pidfd(uv_poll_t *poll, int status, int events)
{
	struct box *x = container_of(poll, struct watch, poll)->box;

	if (x->n_nappers) { /* perhaps meant: napped() knows */
		unwatch(x);
		x->ended = true;
		return;
	}
	if (x->state != BOX_ENDING) {
		x->state = BOX_ENDING;
		x->runner->ops->kill(x->rt); /* what pid 1 left behind in the cgroup */
	}
	clean_up(x);
}

static int watch(struct box *x, struct err *err)
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
			clean_up(x); /* it has no process */
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
	r = x->runner->ops->pidfd(x->rt) < 0 ? 0 : watch(x, err);
	return r < 0 ? r : save(x, err);
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
			r = watch(x, err);
		return r; /* its record is the one that was read */
	}
	if (x->rt)
		x->runner->ops->cleanup(
			take_ptr(x->rt), true, &x->rec.exit_status, &(bool){ false }, err);
	x->rec.dead = true;
	x->rec.rt[0] = '\0';
	slots_keep(d->slots, rec->slot);
	return save(x, err) < 0 ? err->code : -ESRCH;
}

/* --- between --- */

static int must_live(const struct box *x, const char *verb, struct err *err)
{
	if (x->state == BOX_RUNNING || x->state == BOX_FROZEN)
		return 0;
	return err_set(err, -ESRCH, ERR_CONFLICT, "cannot %s: %s has ended", verb, x->rec.id);
}

int box_commit(struct box *x, uint32_t slot, uint32_t share, uint32_t id, const struct policy *p,
	struct err *err)
{
	int r = must_live(x, "commit", err);

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
	int r = must_live(x, "connect", err);

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
	int r = must_live(x, "open", err);

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

/* --- naps: freezing and thawing --- */

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
		r = save(x, err); /* from here on the next host role finds the process */
		FAULT("host.asleep.loaded");
		r = r < 0 ? r : ops->go_on(x->rt, err);
		FAULT("host.asleep.running");
		r = r < 0 ? r : save(x, err);
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
		unwatch(x);
		x->ended = false; /* as intended */
		x->state = BOX_FROZEN;
		return result;
	}
	if (!x->watch && !x->ended && watch(x, err) < 0)
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
		clean_up(x);
	} else if (x->ended) {
		x->state = BOX_ENDING;
		x->runner->ops->kill(x->rt);
		clean_up(x);
	}
	for (unsigned int i = 0; i < n; i++)
		w[i].fn(result < 0 ? &err : NULL, w[i].arg);
}

static int take_nap(struct box *x, bool napping, box_done_fn done, void *arg, struct err *err)
{
	const struct runtime_ops *ops = x->runner ? x->runner->ops : NULL;
	int r = must_live(x, napping ? "freeze" : "thaw", err);

	if (r < 0)
		return r;
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

/* --- between --- */

int box_stats(struct box *x, struct ipc_stats *ret, struct err *err)
{
	int r = must_live(x, "measure", err);

	if (r < 0)
		return r;
	r = x->runner->ops->stats(x->rt, ret);
	return r < 0 ? err_sys(err, r, "measure %s", x->rec.id) : 0;
}

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
		clean_up(x);
}

int box_grow(struct box *x, const struct ipc_grow *how, box_done_fn done, void *arg, struct err *err)
{
	int r = must_live(x, "grow", err);

	if (r < 0)
		return r;
	if (x->grown.fn)
		return err_set(err, -EBUSY, ERR_CONFLICT, "%s is growing already", x->rec.id);
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

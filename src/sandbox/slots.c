/* Slots: see the header. */
#include <fcntl.h>
#include <sys/queue.h>
#include "base/fd.h"
#include "base/log.h"
#include "bpf/maps.h"
#include "host/netns.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"
#include "sandbox/reaper.h"
#include "sandbox/slots.h"

#define REFILL_AFTER_MS 5 /* let the create that emptied the pool go first */
#define PATIENCE_MS	50 /* and those behind it, as long as the pool can serve them */
#define MAKERS_MAX	4 /* for the pool, at once: mostly waiting */
#define RETRY_AFTER_MS	1000
#define STAND_AFTER_MS	300 /* since the last order: a machine that is made to stand ready takes a processor */
#define NAMES_AHEAD	4096 /* link names reserved in the file at a time */

enum slot_state { SLOT_FREE, SLOT_MAKING, SLOT_READY, SLOT_TAKEN, SLOT_DYING, SLOT_KEPT };

TAILQ_HEAD(seats, seat);

struct slots {
	struct daemon *d;
	uint8_t state[WEIR_SLOTS_MAX + 1];
	bool reserved[WEIR_SLOTS_MAX + 1];
	uint32_t max, next, used;
	uint64_t next_name, names_end;
	struct seats ready, making; /* oldest first */
	unsigned int n_ready, n_making, n_orders;
	unsigned int n_leaving; /* parked sandboxes that are being killed */
	struct slots_want bet; /* what the pool is made for; no image: nothing yet */
	bool serving, closing;
	uv_timer_t refill;
	/* Of the other runtime, if what it parks may stand ready: likewise, oldest first. */
	struct seats standing;
	unsigned int n_standing, n_rising;
	struct slots_want stand;
	uv_timer_t rise;
};

struct watch { /* of a descriptor; closes in its own time */
	uv_poll_t poll;
	void *arg;
};

/* A slot on its way to being taken: in `making`, first its net by a worker thread, then what is
 * parked in it; in `ready` until somebody orders it. */
struct seat {
	TAILQ_ENTRY(seat) next;
	struct slots *s;
	struct slot slot;
	struct slots_want want;
	slots_fn fn; /* NULL: for the pool */
	void *arg;
	uv_work_t work;
	bool by_thread; /* the thread has it */
	bool stale;	/* for the pool, and its image is going */
	bool again;	/* the short way has failed */
	struct watch *watch;
	int r;
	struct err err;
};

/* --- numbers and names --- */

static void set_state(struct slots *s, uint32_t number, enum slot_state state)
{
	s->used += (s->state[number] == SLOT_FREE) - (state == SLOT_FREE);
	s->state[number] = (uint8_t)state;
}

static uint32_t pick_number(struct slots *s)
{
	for (uint32_t i = 0; i < s->max; i++) {
		uint32_t n = s->next;

		s->next = n == s->max ? 1 : n + 1;
		if (s->state[n] == SLOT_FREE && !s->reserved[n])
			return n;
	}
	return 0;
}

static int load_names(struct slots *s)
{
	auto_buf struct buf b = BUF_MAX(64);
	int r = file_read(AT_FDCWD, s->d->path.links, &b);

	s->next_name = 1;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	while (b.n && b.p[b.n - 1] == '\n')
		b.n--;
	return str_u64(buf_str(&b), UINT32_MAX, &s->next_name);
}

static int next_name(struct slots *s, char *ret, size_t size)
{
	if (s->next_name >= s->names_end) {
		char text[32];
		int n = snprintf(text, sizeof(text), "%" PRIu64 "\n", s->next_name + NAMES_AHEAD),
		    r;

		r = file_replace(AT_FDCWD, s->d->path.links, str_n(text, (size_t)n), 0600, false);
		if (r < 0)
			return r;
		s->names_end = s->next_name + NAMES_AHEAD;
	}
	snprintf(ret, size, "w%" PRIu64, s->next_name++);
	return 0;
}

static int plan(struct slots *s, uint32_t number, struct slot *ret, struct err *err)
{
	int r = next_name(s, ret->link, sizeof(ret->link));

	if (r < 0)
		return err_sys(err, r, "write %s", s->d->path.links);
	ret->number = number;
	ret->ip4 = ip_plus(s->d->cfg.net_range4.ip, number);
	ret->ip6 = (struct ip){ .family = 0 };
	if (s->d->uplink.ipv6)
		ret->ip6 = ip_plus(s->d->cfg.net_range6.ip, number);
	ret->net = SLOTNET_NONE;
	ret->parked = NULL;
	return 0;
}

struct slotnet_plan slots_plan(const struct slots *s, const struct slot *slot)
{
	return (struct slotnet_plan){
		.kind = slot->runner->ops->link,
		.link = slot->link, .ip4 = slot->ip4, .ip6 = slot->ip6, .mtu = s->d->uplink.mtu,
		.overlay = ip_plus(s->d->cfg.net_overlay4.ip, slot->number),
		.overlays = s->d->cfg.net_overlay4,
	};
}

/* --- what is parked --- */

static void watch_closed(uv_handle_t *h)
{
	free(container_of((uv_poll_t *)h, struct watch, poll));
}

/* Before the descriptor is closed: libuv takes it out of its epoll set here. */
static struct watch *unwatch(struct watch *w)
{
	if (w)
		uv_close((uv_handle_t *)&w->poll, watch_closed);
	return NULL;
}

static struct watch *watch(struct slots *s, int fd, uv_poll_cb fn, void *arg)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w || uv_poll_init(&s->d->loop, &w->poll, fd) < 0) {
		free(w);
		return NULL;
	}
	w->arg = arg;
	if (uv_poll_start(&w->poll, UV_READABLE, fn) < 0)
		return unwatch(w);
	return w;
}

struct leaving {
	struct slots *s;
	const struct runtime_ops *ops;
	struct runtime_parked *parked;
	struct watch *watch;
	struct aside_job job;
};

static int settle_parked(struct aside_job *job, struct err *err)
{
	struct leaving *l = container_of(job, struct leaving, job);

	return l->ops->parked_settle(l->parked, err);
}

static void discard(struct aside_job *job, int result, const struct err *err)
{
	struct leaving *l = container_of(job, struct leaving, job);

	if (result < 0)
		log_event(LOG_ERROR, "pool.discard", "error=\"%s\"", err->text);
	l->ops->discard(l->parked);
	l->s->n_leaving--;
	free(l);
}

static void on_left(uv_poll_t *poll, int status, int events)
{
	struct leaving *l = container_of(poll, struct watch, poll)->arg;

	unwatch(l->watch);
	l->job = (struct aside_job){ .work = settle_parked, .done = discard };
	aside_do(&l->s->d->ends, &l->job);
}

/* Its processes end in the background: tens of milliseconds, mostly of waiting in the kernel. */
static void let_go(struct slots *s, const struct runtime_ops *ops, struct runtime_parked *p)
{
	struct leaving *l;
	int fd;

	if (!p)
		return;
	l = calloc(1, sizeof(*l));
	fd = ops->leave(p);
	if (l)
		*l = (struct leaving){ .s = s, .ops = ops, .parked = p, .watch = watch(s, fd, on_left, l) };
	if (l && l->watch) {
		s->n_leaving++;
		return;
	}
	free(l);
	ops->discard(p);
}

/* --- making --- */

static void refill_later(struct slots *s, uint64_t ms);
static void bet_on(struct slots *s, const struct slots_want *w);
static void refill_on(struct slots *s, uint64_t ms);
static void refill_in_a_pause(struct slots *s);
static void rise_later(struct slots *s);
static void furnish(struct seat *x);

/* For nobody yet, and not of the pooled runtime. */
static bool stands(const struct seat *x)
{
	return !x->fn && !x->slot.runner->ops->pooled;
}

/* One that is ready gets out of its list. */
static void take_ready(struct slots *s, struct seat *x)
{
	if (stands(x)) {
		TAILQ_REMOVE(&s->standing, x, next);
		s->n_standing--;
		return;
	}
	TAILQ_REMOVE(&s->ready, x, next);
	s->n_ready--;
}

static void put_ready(struct slots *s, struct seat *x)
{
	set_state(s, x->slot.number, SLOT_READY);
	if (stands(x)) {
		TAILQ_INSERT_TAIL(&s->standing, x, next);
		s->n_standing++;
		log_event(LOG_INFO, "slot.stands", "slot=%u runtime=%s", x->slot.number,
			x->slot.runner->ops->name);
		rise_later(s);
		return;
	}
	TAILQ_INSERT_TAIL(&s->ready, x, next);
	s->n_ready++;
	refill_on(s, 0);
}

static struct seat *seat_new(struct slots *s, const struct slots_want *want, slots_fn fn, void *arg)
{
	struct seat *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->s = s;
	x->want = *want;
	x->fn = fn;
	x->arg = arg;
	x->slot.net = SLOTNET_NONE;
	x->slot.runner = want->runner;
	TAILQ_INSERT_TAIL(&s->making, x, next);
	s->n_making++;
	s->n_orders += fn != NULL;
	s->n_rising += stands(x);
	return x;
}

static void seat_free(struct seat *x)
{
	unwatch(x->watch);
	free(x);
}

/* Nothing about it is a particular sandbox's. */
static bool is_plain(const struct slots_want *w)
{
	return !w->number && !w->revive[0] && !w->from[0] && w->image[0];
}

static void bet_on(struct slots *s, const struct slots_want *w)
{
	if (is_plain(w) && w->runner->ops->pooled)
		s->bet = *w;
	else if (is_plain(w) && w->runner->ops->may_stand)
		s->stand = *w;
}

/* It is made, or has failed (x->r): to who ordered it, or into the pool. */
static void settle(struct seat *x)
{
	struct slots *s = x->s;

	TAILQ_REMOVE(&s->making, x, next);
	s->n_making--;
	s->n_rising -= stands(x);
	if (s->closing && x->r == 0)
		x->r = err_set(&x->err, -ESHUTDOWN, ERR_CAPACITY, "the daemon is stopping");
	if (x->r == 0 && x->stale && !x->fn)
		x->r = err_set(&x->err, -ENOENT, ERR_NOT_FOUND, "its image is gone");
	if (x->r == 0 && !x->fn) {
		put_ready(s, x);
		return;
	}
	if (x->r < 0 && x->slot.net.ifindex)
		slots_give_up(s, &x->slot);
	else if (x->r < 0 && x->slot.number)
		set_state(s, x->slot.number, SLOT_FREE);
	x->watch = unwatch(x->watch);
	if (x->r < 0 && !x->fn) {
		if (!s->closing)
			log_event(LOG_ERROR, "slot.make", "slot=%u error=\"%s\"", x->slot.number,
				x->err.text);
		/* It may have been the image, or the size. */
		if (stands(x)) {
			s->stand.image[0] = '\0';
		} else {
			s->bet.image[0] = '\0';
			refill_later(s, RETRY_AFTER_MS);
		}
	}
	if (x->fn) {
		s->n_orders--;
		if (x->r == 0) {
			set_state(s, x->slot.number, SLOT_TAKEN);
			bet_on(s, &x->want); /* not before it is known to work */
		}
		x->fn(x->r < 0 ? NULL : &x->slot, x->r < 0 ? &x->err : NULL, x->arg);
		refill_in_a_pause(s);
	}
	seat_free(x);
}

static void on_parked(uv_poll_t *poll, int status, int events)
{
	struct seat *x = container_of(poll, struct watch, poll)->arg;
	struct slots *s = x->s;
	int r = x->slot.runner->ops->parked_look(x->slot.parked, &x->err);

	if (s->state[x->slot.number] == SLOT_READY) {
		if (r > 0)
			return;
		/* It died in the pool. */
		log_event(LOG_WARN, "slot.lost", "slot=%u error=\"%s\"", x->slot.number,
			x->err.text);
		take_ready(s, x);
		x->watch = unwatch(x->watch);
		slots_give_up(s, &x->slot);
		seat_free(x);
		refill_later(s, RETRY_AFTER_MS);
		rise_later(s);
		return;
	}
	if (r == 0)
		return;
	if (r == -EAGAIN && !x->again && !s->closing) {
		x->again = true;
		x->watch = unwatch(x->watch);
		let_go(s, x->slot.runner->ops, take_ptr(x->slot.parked));
		x->err = (struct err){ .code = 0 };
		furnish(x);
		return;
	}
	x->r = MIN(r, 0);
	settle(x);
}

/* Borrows from all three. */
static struct runtime_seat seat_for(const struct slot *slot, const struct slots_want *w,
	const struct slotnet_plan *plan)
{
	return (struct runtime_seat){ .slot = slot->number,
		.plan = plan,
		.net = &slot->net,
		.image = w->image,
		.vcpu_milli = w->vcpu_milli,
		.mem_mib = w->mem_mib,
		.disk_mib = w->disk_mib,
		.revive = w->revive[0] ? w->revive : NULL,
		.from = w->from[0] ? w->from : NULL,
		.paused = w->paused };
}

/* The net is there: what is parked in it. */
static void furnish(struct seat *x)
{
	struct slots *s = x->s;
	const struct slots_want *w = &x->want;
	const struct runner *run = x->slot.runner;
	struct slotnet_plan plan = slots_plan(s, &x->slot);
	struct runtime_seat seat = seat_for(&x->slot, w, &plan);

	seat.ahead = stands(x);
	seat.router_ns = s->d->router_ns;

	if (!w->image[0]) { /* nobody has asked for anything yet: a net is better than nothing */
		settle(x);
		return;
	}
	x->r = run->ops->park(run->rt, &seat, &x->slot.parked, &x->err);
	if (x->r == 0) {
		x->watch = watch(s, run->ops->parked_fd(x->slot.parked), on_parked, x);
		if (!x->watch)
			x->r = err_sys(&x->err, -ENOMEM, "watch what is parked");
	}
	if (x->r < 0)
		settle(x);
}

static void make_in_thread(uv_work_t *w)
{
	struct seat *x = container_of(w, struct seat, work);
	struct slotnet_plan p = slots_plan(x->s, &x->slot);
	struct netns_visit v = NETNS_HOME;
	auto_rtnl struct rtnl router = RTNL_NONE;

	x->r = netns_visit(&v, x->s->d->router_ns);
	if (x->r == 0)
		x->r = rtnl_open(&router);
	netns_leave(&v);
	if (x->r == 0)
		x->r = slotnet_make(&router, x->s->d->router_ns, &p, &x->slot.net, &x->err);
	else
		err_sys(&x->err, x->r, "router namespace");
}

/* On the loop's thread: programs and quarantine. */
static void made(uv_work_t *w, int status)
{
	struct seat *x = container_of(w, struct seat, work);

	x->by_thread = false;
	if (status < 0)
		x->r = err_set(&x->err, status, ERR_INTERNAL, "cancelled");
	if (x->r == 0)
		x->r = net_attach(x->s->d, &x->slot, &x->err);
	if (x->r < 0 || x->s->closing)
		settle(x);
	else
		furnish(x);
}

static void make(struct seat *x, uint32_t number)
{
	struct slots *s = x->s;

	x->r = plan(s, number, &x->slot, &x->err);
	if (x->r == 0) {
		set_state(s, number, SLOT_MAKING);
		if (uv_queue_work(&s->d->loop, &x->work, make_in_thread, made) == 0) {
			x->by_thread = true;
			return;
		}
		x->r = err_sys(&x->err, -EAGAIN, "make a slot");
	}
	settle(x);
}

static void refill(uv_timer_t *t)
{
	struct slots *s = t->data;

	while (!s->closing && !s->n_orders && s->n_making < MAKERS_MAX &&
		s->n_ready + s->n_making - s->n_rising < s->d->cfg.pool_slots) {
		uint32_t number = pick_number(s);
		struct seat *x = number ? seat_new(s, &s->bet, NULL, NULL) : NULL;

		if (!x)
			return;
		make(x, number);
		if (s->n_making == 0)
			return; /* it failed at once, and will be tried again */
	}
}

static void refill_later(struct slots *s, uint64_t ms)
{
	if (s->serving && !s->closing)
		uv_timer_start(&s->refill, refill, ms, 0);
}

/* Unless somebody asked for patience. */
static void refill_on(struct slots *s, uint64_t ms)
{
	if (!uv_is_active((uv_handle_t *)&s->refill))
		refill_later(s, ms);
}

/* One was taken. Making the next costs more than using this one, and a burst wants all processors:
 * the fuller the pool, the longer a pause in the requests must be. A steady stream of them drains it
 * to where the pauses are long enough. */
static void refill_in_a_pause(struct slots *s)
{
	refill_later(s, REFILL_AFTER_MS + PATIENCE_MS * s->n_ready / MAX(s->d->cfg.pool_slots, 1u));
}

/* One at a time, when it has been quiet for a moment: whoever orders needs the processors more. */
static void rise(uv_timer_t *t)
{
	struct slots *s = t->data;
	const struct slots_want *w = &s->stand;
	const struct slot slot = { .runner = w->runner };
	struct slotnet_plan plan;
	struct runtime_seat seat;
	uint32_t number;
	struct seat *x;

	if (s->closing || s->n_orders || s->n_rising || !w->image[0] || s->n_standing >= s->d->cfg.vm_ready)
		return; /* whatever changes this calls again */
	plan = slots_plan(s, &slot);
	seat = seat_for(&slot, w, &plan);
	number = w->runner->ops->may_stand(w->runner->rt, &seat) ? pick_number(s) : 0;
	x = number ? seat_new(s, w, NULL, NULL) : NULL;
	if (x)
		make(x, number);
}

static void rise_later(struct slots *s)
{
	if (s->serving && !s->closing && s->d->cfg.vm_ready)
		uv_timer_start(&s->rise, rise, STAND_AFTER_MS, 0);
}

void slots_news(struct daemon *d)
{
	if (d->slots)
		rise_later(d->slots);
}

/* --- taking and giving back --- */

static struct seat *find_fitting(struct slots *s, const struct slots_want *w)
{
	struct seats *list = w->runner->ops->pooled ? &s->ready : &s->standing;
	struct seat *x;

	TAILQ_FOREACH(x, list, next) {
		struct slotnet_plan plan = slots_plan(s, &x->slot);
		struct runtime_seat seat = seat_for(&x->slot, w, &plan);

		if (!s->reserved[x->slot.number] && x->slot.parked &&
			x->slot.runner->ops->fits(x->slot.parked, &seat))
			return x;
	}
	return NULL;
}

/* One that the pool is having made, and is as wanted. */
static struct seat *find_coming(struct slots *s, const struct slots_want *w)
{
	struct seat *x;

	TAILQ_FOREACH(x, &s->making, next)
		if (!x->fn && !x->stale && !s->reserved[x->slot.number] &&
			x->want.disk_mib == w->disk_mib &&
			!strcmp(x->want.image, w->image))
			return x;
	return NULL;
}

/* A ready net: with this number, or the one that has stood longest. */
static struct seat *find_net(struct slots *s, uint32_t number)
{
	struct seat *x;

	TAILQ_FOREACH(x, &s->ready, next)
		if (number ? x->slot.number == number : !s->reserved[x->slot.number])
			return x;
	return NULL;
}

/* This number, which the pool is having made for nobody yet. */
static struct seat *find_making(struct slots *s, uint32_t number)
{
	struct seat *x;

	TAILQ_FOREACH(x, &s->making, next)
		if (!x->fn && x->slot.number == number)
			return x;
	return NULL;
}

/* What is parked in its net, if anything, is not what is wanted. */
static void furnish_for(struct seat *x, const struct slots_want *w, slots_fn fn, void *arg)
{
	x->watch = unwatch(x->watch);
	let_go(x->s, x->slot.runner->ops, take_ptr(x->slot.parked));
	x->again = false;
	x->want = *w;
	x->fn = fn;
	x->arg = arg;
	x->s->n_orders++;
	if (!x->by_thread)
		furnish(x); /* else when its net is there */
}

static void refuse(struct slots *s, int code, enum err_kind kind, const char *text, slots_fn fn,
	void *arg)
{
	struct err err;

	err_set(&err, code, kind, "%s", text);
	fn(NULL, &err, arg);
}

void slots_order(struct slots *s, const struct slots_want *w, slots_fn fn, void *arg)
{
	bool pooled = w->runner->ops->pooled, plain = pooled && !w->number && !w->revive[0] && !w->from[0];
	bool ahead = pooled || w->runner->ops->may_stand;
	uint32_t number = w->number;
	struct seat *x;

	if (s->closing) {
		refuse(s, -ESHUTDOWN, ERR_CAPACITY, "the daemon is stopping", fn, arg);
		return;
	}
	rise_later(s);
	x = ahead && is_plain(w) ? find_fitting(s, w) : NULL;
	if (x) {
		struct slot slot = x->slot;

		take_ready(s, x);
		seat_free(x);
		set_state(s, slot.number, SLOT_TAKEN);
		bet_on(s, w);
		fn(&slot, NULL, arg);
		refill_in_a_pause(s);
		return;
	}
	x = plain ? find_coming(s, w) : NULL;
	if (x) {
		x->fn = fn;
		x->arg = arg;
		s->n_orders++;
		return;
	}
	/* A net alone is made: what is parked in a ready one is worth more. */
	x = pooled && (number || w->image[0]) ? find_net(s, number) : NULL;
	if (x) {
		take_ready(s, x);
		set_state(s, x->slot.number, SLOT_MAKING);
		TAILQ_INSERT_TAIL(&s->making, x, next);
		s->n_making++;
		furnish_for(x, w, fn, arg);
		return;
	}
	x = pooled && number ? find_making(s, number) : NULL;
	if (x) {
		furnish_for(x, w, fn, arg);
		return;
	}
	if (number > s->max) {
		refuse(s, -EINVAL, ERR_INVALID, "that slot is beyond net.range4", fn, arg);
		return;
	}
	if (number && s->state[number] != SLOT_FREE) {
		refuse(s, -EBUSY, ERR_CONFLICT, "that slot is in use", fn, arg);
		return;
	}
	if (!number)
		number = pick_number(s);
	x = number ? seat_new(s, w, fn, arg) : NULL;
	if (x)
		make(x, number);
	else if (number)
		refuse(s, -ENOMEM, ERR_INTERNAL, "out of memory", fn, arg);
	else
		refuse(s, -ENOSPC, ERR_CAPACITY, "all slots are in use", fn, arg);
}

void slots_give_up(struct slots *s, struct slot *slot)
{
	slotnet_done(&slot->net);
	let_go(s, slot->runner->ops, take_ptr(slot->parked));
	slots_drop(s, slot->number, slot->net.ifindex, false, NULL, NULL);
}

struct dying {
	struct slots *s;
	uint32_t number;
	bool keep;
	void (*done)(void *arg);
	void *arg;
};

static void link_gone(void *arg)
{
	struct dying *x = arg;

	set_state(x->s, x->number, x->keep ? SLOT_KEPT : SLOT_FREE);
	if (x->done)
		x->done(x->arg);
	refill_on(x->s, REFILL_AFTER_MS);
	free(x);
}

void slots_drop(struct slots *s, uint32_t number, uint32_t ifindex, bool keep,
	void (*done)(void *arg), void *arg)
{
	struct dying *x = malloc(sizeof(*x));

	net_detach(s->d, number);
	set_state(s, number, SLOT_DYING);
	if (x)
		*x = (struct dying){
			.s = s, .number = number, .keep = keep, .done = done, .arg = arg
		};
	if (x && reaper_add(s->d->reaper, ifindex, link_gone, x) == 0)
		return;
	/* Out of memory: the number rests until the next start, whose sweep takes the link. */
	log_event(LOG_ERROR, "slot.drop", "slot=%u error=\"out of memory\"", number);
	free(x);
	if (done)
		done(arg);
}

void slots_release(struct slots *s, uint32_t number)
{
	if (s->state[number] == SLOT_KEPT)
		set_state(s, number, SLOT_FREE);
}

int slots_adopt(struct slots *s, uint32_t number, struct err *err)
{
	if (!number || number > s->max)
		return err_set(err, -EINVAL, ERR_INTERNAL, "slot %u is beyond net.range4", number);
	if (s->state[number] != SLOT_FREE)
		return err_set(
			err, -EBUSY, ERR_INTERNAL, "slot %u belongs to two sandboxes", number);
	set_state(s, number, SLOT_TAKEN);
	return 0;
}

void slots_keep(struct slots *s, uint32_t number)
{
	set_state(s, number, SLOT_KEPT);
}

/* image NULL: all of them. */
static void let_ready_go(struct slots *s, struct seats *list, const char *image)
{
	struct seat *x, *next;

	for (x = TAILQ_FIRST(list); x; x = next) {
		next = TAILQ_NEXT(x, next);
		if (image && strcmp(x->want.image, image) != 0)
			continue;
		take_ready(s, x);
		x->watch = unwatch(x->watch);
		slots_give_up(s, &x->slot);
		seat_free(x);
	}
}

void slots_forget(struct slots *s, const char *image)
{
	struct seat *x;

	TAILQ_FOREACH(x, &s->making, next)
		x->stale |= !x->fn && strcmp(x->want.image, image) == 0;
	if (strcmp(s->bet.image, image) == 0)
		s->bet.image[0] = '\0';
	if (strcmp(s->stand.image, image) == 0)
		s->stand.image[0] = '\0';
	let_ready_go(s, &s->ready, image);
	let_ready_go(s, &s->standing, image);
}

void slots_reserve(struct slots *s, const uint32_t *numbers, unsigned int n)
{
	memset(s->reserved, 0, sizeof(s->reserved));
	for (unsigned int i = 0; i < n; i++)
		if (numbers[i] <= s->max)
			s->reserved[numbers[i]] = true;
}

void slots_serve(struct slots *s)
{
	s->serving = true;
	refill_later(s, 0);
}

unsigned int slots_used(const struct slots *s)
{
	return s->used;
}

int slots_new(struct daemon *d, struct slots **ret, struct err *err)
{
	struct slots *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_sys(err, -ENOMEM, "slots");
	s->d = d;
	s->max = MIN(WEIR_SLOTS_MAX, d->uplink.slots);
	s->next = 1;
	TAILQ_INIT(&s->ready);
	TAILQ_INIT(&s->making);
	TAILQ_INIT(&s->standing);
	s->bet.runner = &d->runners[RUNNER_POOLED];
	r = load_names(s);
	if (r < 0) {
		free(s);
		return err_sys(err, r, "read %s", d->path.links);
	}
	uv_timer_init(&d->loop, &s->refill);
	uv_timer_init(&d->loop, &s->rise);
	s->refill.data = s->rise.data = s;
	*ret = s;
	return 0;
}

static void freed(uv_handle_t *h)
{
	free(h->data);
}

static void refill_closed(uv_handle_t *h)
{
	struct slots *s = h->data;

	uv_close((uv_handle_t *)&s->rise, freed);
}

void slots_close(struct slots *s)
{
	if (!s)
		return;
	s->closing = true;
	uv_timer_stop(&s->refill);
	uv_timer_stop(&s->rise);
	/* What is parked is killed together and waited for together; a thread ends its net first. */
	let_ready_go(s, &s->ready, NULL);
	let_ready_go(s, &s->standing, NULL);
	while (s->n_making || s->n_leaving)
		uv_run(&s->d->loop, UV_RUN_ONCE);
}

void slots_free(struct slots *s)
{
	if (s)
		uv_close((uv_handle_t *)&s->refill, refill_closed);
}

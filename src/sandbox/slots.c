/* Slots: see the header. */
#include <fcntl.h>
#include "base/fd.h"
#include "base/log.h"
#include "bpf/maps.h"
#include "host/netns.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"
#include "sandbox/reaper.h"
#include "sandbox/slots.h"

#define REFILL_AFTER_MS 5 /* let the create that emptied the pool go first */
#define MAKERS_MAX	2 /* at once; more would only queue at the kernel's rtnl lock */
#define RETRY_AFTER_MS	1000
#define NAMES_AHEAD	4096 /* link names reserved in the file at a time */

enum slot_state { SLOT_FREE, SLOT_MAKING, SLOT_READY, SLOT_TAKEN, SLOT_DYING, SLOT_KEPT };

struct slots {
	struct daemon *d;
	uint8_t state[WEIR_SLOTS_MAX + 1];
	bool reserved[WEIR_SLOTS_MAX + 1];
	uint32_t max, next, used;
	uint64_t next_name, names_end;
	struct slot *ready; /* array of cfg.pool_slots */
	unsigned int n_ready, n_making;
	bool serving, closing;
	uv_timer_t refill;
};

struct maker { /* one slot being made by a worker thread */
	uv_work_t work;
	struct slots *s;
	struct slot slot;
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
	ret->net = (struct slotnet){ .ns = -EBADF, .agent_fd = -EBADF };
	return 0;
}

static struct slotnet_plan net_plan(const struct slots *s, const struct slot *slot)
{
	return (struct slotnet_plan){
		.link = slot->link, .ip4 = slot->ip4, .ip6 = slot->ip6, .mtu = s->d->uplink.mtu
	};
}

/* --- making --- */

/* The network is there: programs and quarantine, on the loop's thread. */
static int finish(struct slots *s, struct slot *slot, struct err *err)
{
	int r = net_attach(s->d, slot, err);

	if (r == 0)
		return 0;
	slot->net.ns = fd_close(slot->net.ns);
	slot->net.agent_fd = fd_close(slot->net.agent_fd);
	slots_drop(s, slot->number, slot->net.ifindex, false, NULL, NULL);
	return r;
}

static int make_now(struct slots *s, uint32_t number, struct slot *ret, struct err *err)
{
	struct slotnet_plan p;
	int r = plan(s, number, ret, err);

	if (r < 0)
		return r;
	p = net_plan(s, ret);
	r = slotnet_make(&s->d->router, s->d->router_ns, &p, &ret->net, err);
	if (r < 0)
		return r;
	set_state(s, number, SLOT_MAKING);
	return finish(s, ret, err);
}

static void make_in_thread(uv_work_t *w)
{
	struct maker *m = container_of(w, struct maker, work);
	struct slotnet_plan p = net_plan(m->s, &m->slot);
	struct netns_visit v = NETNS_HOME;
	auto_rtnl struct rtnl router = RTNL_NONE;

	m->r = netns_visit(&v, m->s->d->router_ns);
	if (m->r == 0)
		m->r = rtnl_open(&router);
	netns_leave(&v);
	if (m->r == 0)
		m->r = slotnet_make(&router, m->s->d->router_ns, &p, &m->slot.net, &m->err);
	else
		err_sys(&m->err, m->r, "router namespace");
}

static void refill_later(struct slots *s, uint64_t ms);

static void made(uv_work_t *w, int status)
{
	struct maker *m = container_of(w, struct maker, work);
	struct slots *s = m->s;

	s->n_making--;
	if (status < 0)
		m->r = err_set(&m->err, status, ERR_INTERNAL, "cancelled");
	if (m->r < 0)
		set_state(s, m->slot.number, SLOT_FREE);
	else
		m->r = finish(s, &m->slot, &m->err);
	if (m->r < 0) {
		if (!s->closing)
			log_event(LOG_ERROR, "slot.make", "slot=%u error=\"%s\"", m->slot.number,
				m->err.text);
		refill_later(s, RETRY_AFTER_MS);
	} else {
		set_state(s, m->slot.number, SLOT_READY);
		s->ready[s->n_ready++] = m->slot;
		refill_later(s, 0);
	}
	free(m);
}

static void refill(uv_timer_t *t)
{
	struct slots *s = t->data;

	while (!s->closing && s->n_ready + s->n_making < s->d->cfg.pool_slots &&
		s->n_making < MAKERS_MAX) {
		uint32_t number = pick_number(s);
		struct maker *m = number ? calloc(1, sizeof(*m)) : NULL;

		if (!m)
			return;
		m->s = s;
		m->r = plan(s, number, &m->slot, &m->err);
		if (m->r < 0 || uv_queue_work(&s->d->loop, &m->work, make_in_thread, made) != 0) {
			free(m);
			refill_later(s, RETRY_AFTER_MS);
			return;
		}
		set_state(s, number, SLOT_MAKING);
		s->n_making++;
	}
	if (!s->n_making && !s->closing)
		s->d->rt_ops->prepare(s->d->rt, s->d->cfg.pool_slots);
}

static void refill_later(struct slots *s, uint64_t ms)
{
	if (s->serving && !s->closing)
		uv_timer_start(&s->refill, refill, ms, 0);
}

/* --- taking and giving back --- */

static bool take_ready(struct slots *s, uint32_t number, struct slot *ret)
{
	/* Oldest first; order among the ready is of no consequence afterwards. */
	for (unsigned int i = 0; i < s->n_ready; i++) {
		if (number ? s->ready[i].number != number : s->reserved[s->ready[i].number])
			continue;
		*ret = s->ready[i];
		memmove(s->ready + i, s->ready + i + 1, (s->n_ready - i - 1) * sizeof(*ret));
		s->n_ready--;
		return true;
	}
	return false;
}

int slots_take(struct slots *s, uint32_t number, struct slot *ret, struct err *err)
{
	int r;

	if (number > s->max)
		return err_set(err, -EINVAL, ERR_INVALID, "slot %u is beyond net.range4", number);
	if (!take_ready(s, number, ret)) {
		if (number && s->state[number] != SLOT_FREE)
			return err_set(err, -EBUSY, ERR_CONFLICT, "slot %u is in use", number);
		if (!number)
			number = pick_number(s);
		if (!number)
			return err_set(
				err, -ENOSPC, ERR_CAPACITY, "all %u slots are in use", s->max);
		r = make_now(s, number, ret, err);
		if (r < 0)
			return r;
	}
	set_state(s, ret->number, SLOT_TAKEN);
	refill_later(s, REFILL_AFTER_MS);
	return 0;
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
	refill_later(x->s, REFILL_AFTER_MS);
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
	s->ready = calloc(d->cfg.pool_slots + 1, sizeof(s->ready[0]));
	r = s->ready ? load_names(s) : -ENOMEM;
	if (r < 0) {
		free(s->ready);
		free(s);
		return err_sys(err, r, "read %s", d->path.links);
	}
	uv_timer_init(&d->loop, &s->refill);
	s->refill.data = s;
	*ret = s;
	return 0;
}

static void freed(uv_handle_t *h)
{
	struct slots *s = h->data;

	free(s->ready);
	free(s);
}

void slots_close(struct slots *s)
{
	if (!s)
		return;
	s->closing = true;
	uv_timer_stop(&s->refill);
	while (s->n_making) /* at most MAKERS_MAX, milliseconds each */
		uv_run(&s->d->loop, UV_RUN_ONCE);
	for (unsigned int i = 0; i < s->n_ready; i++) {
		struct slot *x = &s->ready[i];

		x->net.ns = fd_close(x->net.ns);
		x->net.agent_fd = fd_close(x->net.agent_fd);
		slots_drop(s, x->number, x->net.ifindex, false, NULL, NULL);
	}
	s->n_ready = 0;
}

void slots_free(struct slots *s)
{
	if (s)
		uv_close((uv_handle_t *)&s->refill, freed);
}

/* Warm starts: see the header. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/qmp.h"
#include "runtime/vm/vm.h"

#define KERNELS "/boot"
#define UID	2 /* of slot 0, which no sandbox has; its hands have the next */

struct warm {
	TAILQ_ENTRY(warm) next; /* used later */
	uint64_t number;
	char key[WARM_KEY_MAX];
	struct vm_seat seat;
	struct slotnet_plan plan; /* without addresses */
	struct snapshot_head head;
	int memory, state;
};

void warms_open(struct warms *ws, uint32_t limit_mib)
{
	*ws = (struct warms){ .limit_mib = limit_mib,
		.starter = { .pidfd = -EBADF, .qemu = -EBADF, .chan = -EBADF, .word = -EBADF },
		.news = limit_mib ? epoll_create1(EPOLL_CLOEXEC) : -EBADF };
	TAILQ_INIT(&ws->list);
}

int warms_fd(const struct runtime *rt)
{
	return rt->warms.news;
}

/* What is kept in the list; and one that is being made has a QEMU as well. */
uint64_t warms_mib(const struct warms *ws)
{
	const struct warm *w;
	uint64_t sum = ws->making && !ws->unwanted ? ws->making->seat.mem_mib + OVERHEAD_MIB : 0;

	TAILQ_FOREACH(w, &ws->list, next)
		sum += w->seat.mem_mib;
	return sum;
}

uint64_t warms_count(const struct warms *ws)
{
	const struct warm *w;
	uint64_t n = 0;

	TAILQ_FOREACH(w, &ws->list, next)
		n++;
	return n;
}

/* Clones keep what they map. */
static void warm_end(struct runtime *rt, struct warm *w)
{
	if (!w)
		return;
	qmp_unlink(rt->kit.run_dir, w->seat.cgroup);
	cgroup_remove(rt->kit.cgroups, w->seat.cgroup, NULL);
	layer_discard(rt->kit.layers, w->seat.layer, NULL);
	fd_close(w->memory);
	fd_close(w->state);
	free(w);
}

static void drop(struct runtime *rt, struct warm *w)
{
	TAILQ_REMOVE(&rt->warms.list, w, next);
	warm_end(rt, w);
}

void warms_drop(struct runtime *rt, uint64_t number)
{
	struct warm *w;

	TAILQ_FOREACH(w, &rt->warms.list, next)
		if (w->number == number)
			break;
	if (w)
		drop(rt, w);
}

/* The one that was being made. */
static void ended(struct runtime *rt)
{
	struct warms *ws = &rt->warms;

	vm_starter_done(&ws->starter);
	warm_end(rt, take_ptr(ws->making));
	ws->unwanted = false;
}

bool warms_shrink(struct runtime *rt)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct warms *ws = &rt->warms;

	if (!TAILQ_EMPTY(&ws->list)) {
		drop(rt, TAILQ_FIRST(&ws->list));
		return true;
	}
	if (!ws->making || ws->unwanted)
		return false;
	ws->unwanted = true;
	vm_starter_kill(&ws->starter);
	cgroup_kill(rt->kit.cgroups, ws->making->seat.cgroup);
	epoll_ctl(ws->news, EPOLL_CTL_DEL, ws->starter.chan, NULL);
	ev.data.fd = -EBADF;
	if (epoll_ctl(ws->news, EPOLL_CTL_ADD, ws->starter.qemu >= 0 ? ws->starter.qemu : ws->starter.pidfd,
		    &ev) < 0)
		ended(rt); /* it is waited for */
	return true;
}

void warms_close(struct runtime *rt)
{
	while (warms_shrink(rt))
		;
	if (rt->warms.making)
		ended(rt);
	rt->warms.news = fd_close(rt->warms.news);
}

/* --- what a machine must agree in --- */

/* When the kernels, or QEMU, last changed: the next boot may be another one's then. */
static long long changed(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (long long)st.st_ctim.tv_sec * (long long)NS_PER_SEC + st.st_ctim.tv_nsec;
}

void warm_key(const struct vm_seat *s, char ret[WARM_KEY_MAX])
{
	int n = snprintf(ret, WARM_KEY_MAX, "%s %s %u MiB %u cpus disk %u MiB net %s/%u %u by %lld %lld",
		s->digest, s->accel, s->mem_mib, s->vcpus, s->disk_mib,
		ip_text(s->plan->overlays.ip).s, s->plan->overlays.len, s->plan->mtu, changed(KERNELS),
		changed(MACHINE_QEMU));

	if (n < 0 || n >= WARM_KEY_MAX)
		ret[0] = '\0';
}

static struct warm *find(const struct warms *ws, const char *key)
{
	struct warm *w;

	TAILQ_FOREACH(w, &ws->list, next)
		if (!strcmp(w->key, key))
			break;
	return w;
}

bool warms_have(const struct warms *ws, const char *key)
{
	return key[0] && find(ws, key);
}

void warms_take(struct runtime *rt, struct runtime_parked *p, struct vm_fork_fds *fds)
{
	struct warms *ws = &rt->warms;
	struct vm_seat *s = &p->seat;
	struct warm *w;

	if (!ws->limit_mib)
		return;
	warm_key(s, p->key);
	w = p->key[0] ? find(ws, p->key) : NULL;
	if (!w)
		return;
	fds->memory = fcntl(w->memory, F_DUPFD_CLOEXEC, 3);
	fds->state = fcntl(w->state, F_DUPFD_CLOEXEC, 3);
	if (fds->memory < 0 || fds->state < 0) { /* it boots */
		fds->memory = fd_close(fds->memory);
		fds->state = fd_close(fds->state);
		return;
	}
	TAILQ_REMOVE(&ws->list, w, next);
	TAILQ_INSERT_TAIL(&ws->list, w, next);
	p->warm = w->number;
	p->head = w->head;
	memcpy(s->bundle, w->head.made.bundle, sizeof(s->bundle));
	s->head = &p->head;
	s->from = w->seat.layer;
	s->dir = rt->snapshots;
	s->clone = true;
	s->memory = fds->memory;
	s->state = fds->state;
	s->file = -EBADF;
}

/* --- making --- */

static struct warm *warm_new(struct runtime *rt, const struct runtime_parked *p)
{
	struct warm *w = calloc(1, sizeof(*w));
	struct vm_seat *s;

	if (!w)
		return NULL;
	s = &w->seat;
	w->number = ++rt->warms.numbers;
	memcpy(w->key, p->key, sizeof(w->key));
	vm_new_names(s);
	memcpy(s->image, p->seat.image, sizeof(s->image));
	memcpy(s->digest, p->seat.digest, sizeof(s->digest));
	memcpy(s->accel, p->seat.accel, sizeof(s->accel));
	s->mem_mib = p->seat.mem_mib;
	s->vcpus = p->seat.vcpus;
	s->disk_mib = p->seat.disk_mib;
	s->uid = rt->uid_base + UID;
	s->template = true;
	s->tap = s->file = -EBADF;
	s->dir = rt->snapshots;
	w->plan = p->plan;
	s->plan = &w->plan;
	w->memory = w->state = -EBADF;
	return w;
}

static int begin(struct runtime *rt, struct warm *w, struct err *err)
{
	const struct cgroup_limits limits = { w->seat.mem_mib + OVERHEAD_MIB, QEMU_TASKS, w->seat.vcpus * 1000 };
	struct warms *ws = &rt->warms;
	struct vm_seat *s = &w->seat;
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = -EBADF };
	int r = w->memory = s->memory = memory_new(s->mem_mib, err);

	r = r < 0 ? r : (w->state = s->state = memory_new(0, err));
	r = r < 0 ? r : cgroup_make(rt->kit.cgroups, s->cgroup, err);
	r = r < 0 ? r : cgroup_limit(rt->kit.cgroups, s->cgroup, &limits, err);
	if (r < 0)
		return r;
	s->hand = hand_new();
	r = s->hand ? vm_starter_fork(&rt->kit, s, &ws->starter, err) : err_sys(err, -ENOMEM, "a hand");
	hand_free(take_ptr(s->hand));
	if (r == 0 && epoll_ctl(ws->news, EPOLL_CTL_ADD, ws->starter.chan, &ev) < 0)
		r = err_sys(err, -errno, "watch a starter");
	return r;
}

static void failed(struct runtime *rt, struct warm *w, const struct err *err)
{
	log_event(LOG_WARN, "vm.template", "what=failed error=\"%s\"", err->text);
	rt->warms.rest_until = clock_mono_ns() + WARM_REST_S * NS_PER_SEC;
	vm_starter_done(&rt->warms.starter);
	warm_end(rt, w);
}

static bool make_room(struct runtime *rt, uint32_t mib)
{
	struct warms *ws = &rt->warms;
	struct warm *w;
	uint64_t sum = 0;
	unsigned int n = 0;

	TAILQ_FOREACH(w, &ws->list, next) {
		sum += w->seat.mem_mib;
		n++;
	}
	for (; n && (n >= WARM_MAX || sum + mib > ws->limit_mib); n--) {
		w = TAILQ_FIRST(&ws->list);
		sum -= w->seat.mem_mib;
		drop(rt, w);
	}
	return vm_check_memory(rt, mib, NULL) == 0;
}

void warms_want(struct runtime *rt, const struct runtime_parked *p)
{
	struct warms *ws = &rt->warms;
	struct err err = { .code = 0 };
	struct warm *w;

	if (ws->making || ws->news < 0 || find(ws, p->key) || p->seat.mem_mib > ws->limit_mib ||
		clock_mono_ns() < ws->rest_until || !make_room(rt, p->seat.mem_mib))
		return;
	w = warm_new(rt, p);
	if (!w)
		return;
	if (begin(rt, w, &err) < 0)
		failed(rt, w, &err);
	else
		ws->making = w;
}

static void look(struct runtime *rt)
{
	struct warms *ws = &rt->warms;
	struct err err = { .code = 0 };
	struct warm *w = ws->making;
	int r = w && !ws->unwanted ? vm_starter_look(&ws->starter, &err) : 0;

	if (ws->unwanted)
		ended(rt);
	if (r == 0)
		return;
	ws->making = NULL;
	if (r < 0) {
		failed(rt, w, &err);
		return;
	}
	w->head = (struct snapshot_head){ .qemu = ws->starter.version, .memory = (uint64_t)w->seat.mem_mib << 20 };
	memcpy(w->head.made.bundle, ws->starter.bundle, sizeof(w->head.made.bundle));
	vm_starter_done(&ws->starter);
	qmp_unlink(rt->kit.run_dir, w->seat.cgroup);
	w->seat.plan = NULL;
	w->seat.memory = w->seat.state = -EBADF;
	TAILQ_INSERT_TAIL(&ws->list, w, next);
	ws->made++;
	log_event(LOG_INFO, "vm.template", "what=ready image=%s mem_mib=%u vcpus=%u disk_mib=%u",
		log_q(str_c(w->seat.image)), w->seat.mem_mib, w->seat.vcpus, w->seat.disk_mib);
}

void warms_look(struct runtime *rt)
{
	struct epoll_event ev[16];
	int n = epoll_wait(rt->warms.news, ev, ARRAY_SIZE(ev), 0);

	for (int i = 0; i < n; i++)
		if (ev[i].data.fd >= 0)
			ready_answered(rt, ev[i].data.fd);
		else
			look(rt);
}

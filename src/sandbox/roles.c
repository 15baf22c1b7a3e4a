/*
 * Supervision of the unprivileged roles: see the header.
 *
 * A role is in one of three states: running (child and channel), pausing (timer), or ended for good
 * (the daemon stops). The channel may close before the process has ended, or after: only the
 * process's end starts it again, and a closed channel gets a process killed that lingers. One that
 * neither ends nor answers is found by watch.h and killed: its end starts it again too.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/boot.h"
#include "sandbox/broker.h"
#include "sandbox/builds.h"
#include "sandbox/child.h"
#include "sandbox/daemon.h"
#include "sandbox/notify.h"
#include "sandbox/roles.h"
#include "sandbox/spawn.h"
#include "sandbox/watch.h"

#define PAUSE_MIN_MS  50
#define PAUSE_MAX_MS  5000
#define LIVED_LONG_NS (10 * NS_PER_SEC)
#define STOP_LIMIT_MS 5000 /* a role that has not ended by then is killed */

struct role {
	struct roles *in;
	struct role_peer peer; /* peer.chan: NULL while there is none */
	struct child *child;
	bool dropped;
	struct watch watch;
	uv_timer_t pause;
	uint64_t started;
	uint64_t pause_ms;
};

struct roles {
	struct daemon *d;
	unsigned int n; /* role[0] is the api, then the workers */
	bool stopping;
	uint32_t lives;
	uv_timer_t limit, beat;
	uint64_t last_beat;
	int manager; /* notify.h */
	unsigned int open_handles;
	/* Ends of channels between api and worker that their role has not been given yet. */
	int for_api[DAEMON_WORKERS_MAX], for_edge[DAEMON_WORKERS_MAX];
	struct role role[1 + DAEMON_WORKERS_MAX];
};

static const char *role_name(const struct role *x)
{
	return x->peer.kind == ROLE_API ? "api" : "edge";
}

/* --- channels between them --- */

/* Worker w's channel needs two new ends. */
static int new_pair(struct roles *r, uint32_t w)
{
	int p[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		return -errno;
	fd_close(r->for_api[w]);
	fd_close(r->for_edge[w]);
	r->for_api[w] = p[0];
	r->for_edge[w] = p[1];
	return 0;
}

/* The api role starts: an end for each worker; running workers are sent theirs. */
static int pairs_for_api(struct roles *r)
{
	for (uint32_t w = 0; w + 1 < r->n; w++) {
		struct role *edge = &r->role[1 + w];

		if (r->for_api[w] >= 0)
			continue;
		if (new_pair(r, w) < 0)
			return -errno;
		if (edge->peer.chan && boot_fd(edge->peer.chan, "peer.api", r->for_edge[w]) == 0)
			r->for_edge[w] = fd_close(r->for_edge[w]);
	}
	return 0;
}

static void give_api(struct roles *r, uint32_t w)
{
	struct ipc_edge_up up = { .worker = w };
	struct chan *api = r->role[0].peer.chan;

	if (api && chan_send(api, IPC_EVENT_EDGE, &up, sizeof(up), &r->for_api[w], 1) == 0)
		r->for_api[w] = fd_close(r->for_api[w]);
}

/* Worker w starts: if the api role runs, it is told of the new worker. */
static int pair_for_edge(struct roles *r, uint32_t w)
{
	if (r->for_edge[w] >= 0)
		return 0;
	if (new_pair(r, w) < 0)
		return -errno;
	give_api(r, w);
	return 0;
}

int roles_pair(struct roles *r, uint32_t w)
{
	struct chan *edge;
	int k;

	if (w + 1 >= r->n)
		return -EINVAL;
	edge = r->role[1 + w].peer.chan;
	if (!edge || !r->role[0].peer.chan)
		return -EAGAIN;
	k = new_pair(r, w);
	if (k == 0)
		k = boot_fd(edge, "peer.api", r->for_edge[w]);
	if (k < 0)
		return k;
	r->for_edge[w] = fd_close(r->for_edge[w]);
	give_api(r, w);
	log_event(LOG_WARN, "role.pair", "worker=%u", w);
	return 0;
}

static int give_boot(struct role *x, struct err *err)
{
	struct roles *r = x->in;
	uint32_t w = x->peer.worker;
	int k;

	if (x->peer.kind == ROLE_EDGE) {
		k = pair_for_edge(r, w);
		if (k < 0)
			return err_sys(err, k, "channel between roles");
		k = boot_edge(r->d, x->peer.chan, w, r->for_edge[w], err);
		r->for_edge[w] = fd_close(r->for_edge[w]);
		return k;
	}
	k = pairs_for_api(r);
	if (k < 0)
		return err_sys(err, k, "channel between roles");
	k = boot_api(r->d, x->peer.chan, r->for_api, err);
	for (w = 0; w + 1 < r->n; w++)
		r->for_api[w] = fd_close(r->for_api[w]);
	return k;
}

/* --- one role --- */

static void start(struct role *x);

static void on_pause_over(uv_timer_t *t)
{
	start(t->data);
}

static void pause_then_start(struct role *x)
{
	if (x->in->stopping)
		return;
	if (clock_mono_ns() - x->started > LIVED_LONG_NS)
		x->pause_ms = 0;
	x->pause_ms = MIN(MAX(x->pause_ms * 2, (uint64_t)PAUSE_MIN_MS), (uint64_t)PAUSE_MAX_MS);
	uv_timer_start(&x->pause, on_pause_over, x->pause_ms, 0);
}

static void close_chan(struct role *x)
{
	chan_free(take_ptr(x->peer.chan));
}

static void on_exit_of(struct child *c, int status, void *arg)
{
	struct role *x = arg;
	struct daemon *d = x->in->d;

	x->child = NULL;
	close_chan(x);
	if (WIFSIGNALED(status))
		log_event(x->in->stopping ? LOG_INFO : LOG_ERROR, "role.end",
			"role=%s worker=%u signal=%d", role_name(x), x->peer.worker,
			WTERMSIG(status));
	else
		log_event(x->in->stopping ? LOG_INFO : LOG_ERROR, "role.end",
			"role=%s worker=%u status=%d", role_name(x), x->peer.worker,
			WEXITSTATUS(status));
	if (x->peer.kind == ROLE_API && !x->in->stopping)
		builds_orphaned(d->builds, x->peer.life);
	pause_then_start(x);
	daemon_check_stopped(d);
}

static void on_msg(struct chan *c, struct chan_msg *m, void *arg)
{
	struct role *x = arg;

	if (!x->dropped && broker_msg(x->in->d, &x->peer, m) == -EPROTO) {
		x->dropped = true; /* what it sent meanwhile is not looked at */
		child_kill(x->child, SIGKILL);
	}
}

static void on_close(struct chan *c, int err, void *arg)
{
	struct role *x = arg;

	close_chan(x);
	if (!x->in->stopping) /* without its channel it is of no use */
		child_kill(x->child, SIGKILL);
}

/* --- is it alive? --- */

static void on_alive(struct chan_msg *m, void *arg)
{
	struct role *x = arg;

	if (m->status == 0) /* not the end of the channel */
		watch_answer(&x->watch);
}

/* 'R', 'S', 'D', 'T' …; '?' if it cannot be told. */
static char state_of(pid_t pid)
{
	auto_buf struct buf b = BUF_MAX(1024);
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(AT_FDCWD, path, &b) < 0)
		return '?';
	for (size_t i = b.n; i-- > 2;)
		if (b.p[i - 2] == ')')
			return b.p[i];
	return '?';
}

static void ask(struct role *x)
{
	if (chan_call(x->peer.chan, IPC_ALIVE, NULL, 0, NULL, 0, on_alive, x) == 0)
		watch_asked(&x->watch);
}

static void check_on(struct role *x, bool late)
{
	char state;

	if (!x->child || !x->peer.chan || x->dropped)
		return;
	state = x->watch.asked ? state_of(child_pid(x->child)) : 'S';
	switch (watch_beat(&x->watch, late || state == 'D')) {
	case WATCH_WAIT:
		return;
	case WATCH_ASK:
		ask(x);
		return;
	case WATCH_STUCK:
		log_event(LOG_ERROR, "role.stuck",
			"role=%s worker=%u pid=%d state=%c text=\"has not answered for %u s: killed, "
			"and started again\"",
			role_name(x), x->peer.worker, (int)child_pid(x->child), state,
			watch_limit(&x->watch) * WATCH_BEAT_MS / 1000);
		x->dropped = true;
		child_kill(x->child, SIGKILL);
	}
}

/* A beat that comes late says that we were held up, by ourselves or by the machine; whoever did not
 * answer meanwhile may have been held up too. */
static void on_beat(uv_timer_t *t)
{
	struct roles *r = t->data;
	uint64_t now = clock_mono_ns();
	bool late = now - r->last_beat > 2 * WATCH_BEAT_MS * NS_PER_MS;

	r->last_beat = now;
	notify_alive(r->manager);
	for (unsigned int i = 0; i < r->n; i++)
		check_on(&r->role[i], late);
}

/* --- life --- */

static int run_program_of(struct role *x, struct err *err)
{
	struct daemon *d = x->in->d;
	const char *name = x->peer.kind == ROLE_API ? "weir-api" : "weir-edge";
	const char *argv[] = { name, NULL };
	char path[600];
	int p[2], k;
	pid_t pid;

	k = daemon_program(name, path, sizeof(path));
	if (k < 0)
		return err_sys(err, k, "find %s", name);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		return err_sys(err, -errno, "channel");
	auto_fd int ours = p[0], theirs = p[1];
	pid = spawn_program(&(struct spawn_as){ .path = path,
				    .argv = argv,
				    .daemon = d->cfg.daemon_name,
				    .netns = d->router_ns,
				    .drop = true,
				    .uid = d->uid,
				    .gid = d->gid,
				    .chan = theirs,
				    .output = -1,
				    .pass_env = FAULT_ENV },
		err);
	if (pid < 0)
		return pid;
	k = child_watch(&d->loop, pid, on_exit_of, x, &x->child);
	if (k < 0)
		return err_sys(err, k, "watch %s", name);
	k = chan_open(&d->loop, take_fd(ours), role_name(x), on_msg, on_close, x, &x->peer.chan);
	if (k < 0)
		return err_sys(err, k, "channel");
	x->peer.life = ++x->in->lives;
	x->watch = (struct watch){ 0 };
	k = give_boot(x, err);
	if (k == 0)
		ask(x);
	return k;
}

static void start(struct role *x)
{
	struct err err = { .code = 0 };

	x->started = clock_mono_ns();
	x->dropped = false;
	if (run_program_of(x, &err) == 0) {
		log_event(LOG_INFO, "role.start", "role=%s worker=%u pid=%d", role_name(x),
			x->peer.worker, (int)child_pid(x->child));
		return;
	}
	log_event(LOG_ERROR, "role.start", "role=%s worker=%u error=\"%s\"", role_name(x),
		x->peer.worker, err.text);
	close_chan(x);
	if (x->child)
		child_kill(x->child, SIGKILL); /* its end starts it again */
	else
		pause_then_start(x);
}

/* --- all of them --- */

void roles_each_edge(struct roles *r, void (*fn)(struct chan *c, void *arg), void *arg)
{
	for (unsigned int i = 1; r && i < r->n; i++)
		if (r->role[i].peer.chan)
			fn(r->role[i].peer.chan, arg);
}

int roles_start(struct daemon *d, struct roles **ret, struct err *err)
{
	struct roles *r = calloc(1, sizeof(*r));

	if (!r)
		return err_sys(err, -ENOMEM, "roles");
	r->d = d;
	r->n = 1 + d->cfg.edge_workers;
	uv_timer_init(&d->loop, &r->limit);
	uv_timer_init(&d->loop, &r->beat);
	r->limit.data = r->beat.data = r;
	for (unsigned int i = 0; i < DAEMON_WORKERS_MAX; i++)
		r->for_api[i] = r->for_edge[i] = -EBADF;
	*ret = r;
	for (unsigned int i = 0; i < r->n; i++) {
		struct role *x = &r->role[i];

		x->in = r;
		x->peer.kind = i ? ROLE_EDGE : ROLE_API;
		x->peer.worker = i ? i - 1 : 0;
		uv_timer_init(&d->loop, &x->pause);
		x->pause.data = x;
	}
	/* Workers first: names resolve by the time the api role answers. */
	for (unsigned int i = r->n; i-- > 0;)
		start(&r->role[i]);
	r->manager = notify_open();
	notify_alive(r->manager);
	r->last_beat = clock_mono_ns();
	uv_timer_start(&r->beat, on_beat, WATCH_BEAT_MS, WATCH_BEAT_MS);
	return 0;
}

static void on_limit(uv_timer_t *t)
{
	struct roles *r = t->data;

	for (unsigned int i = 0; i < r->n; i++)
		child_kill(r->role[i].child, SIGKILL);
}

void roles_stop(struct roles *r)
{
	if (r->stopping)
		return;
	r->stopping = true;
	uv_timer_stop(&r->beat);
	for (unsigned int i = 0; i < r->n; i++) {
		struct role *x = &r->role[i];

		uv_timer_stop(&x->pause);
		if (!x->peer.chan || chan_send(x->peer.chan, IPC_SHUTDOWN, NULL, 0, NULL, 0) < 0)
			child_kill(x->child, SIGTERM);
	}
	uv_timer_start(&r->limit, on_limit, STOP_LIMIT_MS, 0);
}

bool roles_ended(const struct roles *r)
{
	for (unsigned int i = 0; i < r->n; i++)
		if (r->role[i].child)
			return false;
	return true;
}

static void pause_closed(uv_handle_t *h)
{
	struct role *x = h->data;

	if (--x->in->open_handles == 0)
		free(x->in);
}

static void timer_closed(uv_handle_t *h)
{
	struct roles *r = h->data;

	if (--r->open_handles == 0)
		free(r);
}

void roles_free(struct roles *r)
{
	if (!r)
		return;
	r->stopping = true;
	r->open_handles = 2 + r->n;
	for (unsigned int i = 0; i < r->n; i++) {
		struct role *x = &r->role[i];

		chan_free(take_ptr(x->peer.chan));
		uv_close((uv_handle_t *)&x->pause, pause_closed);
	}
	for (unsigned int i = 0; i < DAEMON_WORKERS_MAX; i++) {
		fd_close(r->for_api[i]);
		fd_close(r->for_edge[i]);
	}
	fd_close(r->manager);
	uv_close((uv_handle_t *)&r->limit, timer_closed);
	uv_close((uv_handle_t *)&r->beat, timer_closed);
}

struct chan *roles_api(struct roles *r, uint32_t life)
{
	struct role_peer *p = r ? &r->role[0].peer : NULL;

	return p && (!life || p->life == life) ? p->chan : NULL;
}

/*
 * Image builds: see the header.
 *
 *	FREE -> PLACING -> PLACED -> RUNNING -> FREE
 *
 * A build is known by its id in COMMIT and by its name to people. What it holds (net, log, secret,
 * group, timer) is let go in one place, end().
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "base/log.h"
#include "runtime/cgroup.h"
#include "sandbox/builds.h"
#include "sandbox/child.h"
#include "sandbox/daemon.h"
#include "sandbox/events.h"
#include "sandbox/net.h"
#include "sandbox/roles.h"
#include "sandbox/slots.h"
#include "sandbox/spawn.h"

#define STATUS_LATE   124 /* as timeout(1) has it */
#define STATUS_ORPHAN 143

enum state { FREE, PLACING, PLACED, RUNNING };

struct build {
	struct builds *in;
	enum state state;
	struct ipc_build ask;
	uint32_t life, serial; /* whom to answer */
	struct slot slot;
	int auth, log; /* log: its writing end, until weir-build has it */
	struct child *child;
	bool grouped, late, orphan;
	uv_timer_t limit;
};

struct builds {
	struct daemon *d;
	struct cgroups *cg;
	struct build build[BUILDS_MAX];
	struct {
		struct child *child; /* NULL: nothing is being dropped */
		uint32_t life, serial;
	} drop;
};

int builds_new(struct daemon *d, struct builds **ret, struct err *err)
{
	struct builds *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_sys(err, -ENOMEM, "builds");
	b->d = d;
	r = cgroups_open(d->cfg.cgroup_root, &b->cg, err);
	if (r < 0) {
		free(b);
		return r;
	}
	for (unsigned int i = 0; i < BUILDS_MAX; i++) {
		b->build[i].in = b;
		b->build[i].auth = b->build[i].log = -EBADF;
		uv_timer_init(&d->loop, &b->build[i].limit);
		b->build[i].limit.data = &b->build[i];
	}
	*ret = b;
	return 0;
}

static bool name_ok(const char *name)
{
	if (!*name || *name == '.' || *name == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._:-") == strlen(name);
}

static struct build *find(const struct builds *b, const char *id)
{
	for (unsigned int i = 0; i < BUILDS_MAX; i++)
		if (b->build[i].state >= PLACED && strcmp(b->build[i].ask.id, id) == 0)
			return (struct build *)&b->build[i];
	return NULL;
}

bool builds_has(const struct builds *b, const char *id)
{
	return find(b, id) != NULL;
}

/* --- the end --- */

static void end(struct build *x, int32_t code)
{
	struct daemon *d = x->in->d;

	uv_timer_stop(&x->limit);
	x->auth = fd_close(x->auth);
	x->log = fd_close(x->log);
	if (x->grouped)
		cgroup_remove(x->in->cg, x->ask.id, NULL);
	x->grouped = false;
	if (x->state >= PLACED)
		slots_give_up(d->slots, &x->slot);
	x->state = FREE;
	log_event(code ? LOG_WARN : LOG_INFO, "build.end", "image=%s status=%d", x->ask.name, code);
	event_build(d, &x->ask, code);
	daemon_check_stopped(d);
}

static void on_exit_of(struct child *c, int status, void *arg)
{
	struct build *x = arg;

	x->child = NULL;
	end(x, x->late ? STATUS_LATE : x->orphan ? STATUS_ORPHAN :
		       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void kill_all(struct build *x)
{
	if (x->grouped)
		cgroup_kill(x->in->cg, x->ask.id);
	child_kill(x->child, SIGKILL);
}

static void on_limit(uv_timer_t *t)
{
	struct build *x = t->data;
	char line[128];
	int n;

	if (x->state == PLACED) {
		end(x, STATUS_LATE);
		return;
	}
	x->late = true;
	n = snprintf(line, sizeof(line), "weir-build: ended after %u seconds (build.time_s)\n",
		x->in->d->cfg.build_time_s);
	if (x->log >= 0 && write(x->log, line, (size_t)n) < 0)
		log_event(LOG_DEBUG, "build.log", "nobody reads it");
	kill_all(x);
}

/* --- placing --- */

static void refuse(struct build *x, const struct err *err)
{
	struct chan *api = roles_api(x->in->d->roles, x->life);

	x->auth = fd_close(x->auth);
	x->state = FREE;
	if (api)
		chan_reply_err(api, x->serial, err);
	daemon_check_stopped(x->in->d);
}

static void on_slot(struct slot *slot, const struct err *why, void *arg)
{
	struct build *x = arg;
	struct daemon *d = x->in->d;
	struct chan *api = roles_api(d->roles, x->life);
	struct ipc_sandbox s = { .state = IPC_RUN_RUNNING };
	struct err err;
	int p[2];

	if (!slot) {
		refuse(x, why);
		return;
	}
	x->slot = *slot;
	if (!api || d->phase != DAEMON_SERVING || pipe2(p, O_CLOEXEC) < 0) {
		slots_give_up(d->slots, &x->slot);
		err_set(&err, -ESHUTDOWN, ERR_CAPACITY, "the build cannot start now");
		refuse(x, &err);
		return;
	}
	x->state = PLACED;
	x->log = p[1];
	snprintf(s.id, sizeof(s.id), "%s", x->ask.id);
	snprintf(s.link, sizeof(s.link), "%s", x->slot.link);
	s.slot = x->slot.number;
	s.ifindex = x->slot.net.ifindex;
	s.ip4 = x->slot.ip4;
	s.ip6 = x->slot.ip6;
	uv_timer_start(&x->limit, on_limit, BUILDS_COMMIT_S * 1000u, 0);
	chan_reply(api, x->serial, 0, &s, sizeof(s), &p[0], 1);
	fd_close(p[0]);
}

int builds_ask(struct builds *b, const struct ipc_build *q, int auth, uint32_t life, uint32_t serial,
	struct err *err)
{
	struct slots_want want = { .runner = &b->d->runners[RUNNER_POOLED] };
	struct build *x = NULL;
	auto_fd int fd = auth;
	unsigned int n = 0;

	if (!name_ok(q->name))
		return err_field(
			err, -EINVAL, ERR_INVALID, "name", "not a name of the image catalogue");
	if (!name_ok(q->id) || builds_has(b, q->id))
		return err_set(err, -EPROTO, ERR_INTERNAL, "not an id for a build");
	for (unsigned int i = 0; i < BUILDS_MAX; i++) {
		struct build *other = &b->build[i];
		bool counts = other->state != FREE && other->life == life; /* else it is just ending */

		n += counts;
		if (counts && strcmp(other->ask.name, q->name) == 0)
			return err_set(
				err, -EBUSY, ERR_CONFLICT, "%s is being built already", q->name);
		if (other->state == FREE)
			x = other;
	}
	if (!x || n >= b->d->cfg.build_at_once)
		return err_set(err, -EBUSY, ERR_CAPACITY,
			"%u images are being built already (build.at_once)", n);
	x->state = PLACING;
	x->ask = *q;
	x->life = life;
	x->serial = serial;
	x->auth = take_fd(fd);
	x->late = x->orphan = false;
	slots_order(b->d->slots, &want, on_slot, x);
	return 0;
}

/* --- running --- */

/* In the child, before it gives anything up. */
static int enter(void *arg)
{
	struct build *x = arg;

	return cgroup_enter(x->in->cg, x->ask.id, NULL);
}

static int make_group(struct build *x, struct err *err)
{
	const struct cgroup_limits limits = { .mem_mib = x->in->d->cfg.build_memory_mib,
		.pids = BUILDS_PIDS };
	int r = cgroup_make(x->in->cg, x->ask.id, err);

	x->grouped = r == 0;
	return r < 0 ? r : cgroup_limit(x->in->cg, x->ask.id, &limits, err);
}

static int start(struct build *x, struct err *err)
{
	const struct config *c = &x->in->d->cfg;
	char path[600], disk[16], layers[16];
	const char *argv[24] = { "weir-build", x->ask.name, "--store", x->in->d->path.images,
		"--network", "slot", "--disk-mib", disk };
	size_t n = 8;
	pid_t pid;
	int r = daemon_program("weir-build", path, sizeof(path));

	if (r < 0)
		return err_sys(err, r, "find weir-build");
	snprintf(disk, sizeof(disk), "%u", c->build_disk_mib);
	snprintf(layers, sizeof(layers), "%u", c->images_layers_mib);
	if (x->ask.from[0]) {
		const char *more[] = { "--from", x->ask.from, "--auth", "/proc/self/fd/3",
			"--layers-mib", layers };

		memcpy(argv + n, more, sizeof(more));
		n += ARRAY_SIZE(more);
	}
	if (c->build_proxy[0]) {
		argv[n++] = "--proxy";
		argv[n++] = c->build_proxy;
	}
	if (c->build_ca[0]) {
		argv[n++] = "--ca";
		argv[n++] = c->build_ca;
	}
	r = make_group(x, err);
	if (r < 0)
		return r;
	pid = spawn_program(&(struct spawn_as){ .path = path,
				    .argv = argv,
				    .daemon = c->daemon_name,
				    .netns = x->slot.net.ns,
				    .chan = x->ask.from[0] ? x->auth : -1,
				    .output = x->log,
				    .enter = enter,
				    .arg = x,
				    .pass_env = "WEIR_RECIPES" },
		err);
	if (pid < 0)
		return pid;
	r = child_watch(&x->in->d->loop, pid, on_exit_of, x, &x->child);
	if (r < 0)
		return err_sys(err, r, "watch weir-build");
	log_event(LOG_INFO, "build.start", "image=%s slot=%u pid=%d", x->ask.name, x->slot.number,
		(int)pid);
	return 0;
}

int builds_commit(struct builds *b, const struct ipc_commit *q, const struct policy *p,
	struct err *err)
{
	struct build *x = find(b, q->id);
	int r;

	if (!x || x->state != PLACED)
		return err_set(err, -ENOENT, ERR_NOT_FOUND, "no build %s waits for its policy", q->id);
	if (q->slot != x->slot.number)
		return err_set(err, -EINVAL, ERR_INTERNAL, "%s is in slot %u, not %u", q->id,
			x->slot.number, q->slot);
	r = net_commit(b->d, q->slot, q->share, q->policy, p, err);
	if (r == 0)
		r = start(x, err);
	if (r < 0) {
		end(x, 1);
		return r;
	}
	x->state = RUNNING;
	x->auth = fd_close(x->auth);
	uv_timer_start(&x->limit, on_limit, b->d->cfg.build_time_s * UINT64_C(1000), 0);
	return 0;
}

/* --- dropping --- */

static void on_dropped(struct child *c, int status, void *arg)
{
	struct builds *b = arg;
	struct chan *api = roles_api(b->d->roles, b->drop.life);
	struct err err;

	b->drop.child = NULL;
	if (status)
		err_set(&err, -EIO, ERR_INTERNAL, "weir-build --drop failed (wait status %d)", status);
	if (api && status)
		chan_reply_err(api, b->drop.serial, &err);
	else if (api)
		chan_reply(api, b->drop.serial, 0, NULL, 0, NULL, 0);
	daemon_check_stopped(b->d);
}

int builds_drop(struct builds *b, const char *name, uint32_t life, uint32_t serial, struct err *err)
{
	const char *argv[] = { "weir-build", "--drop", name, "--store", b->d->path.images, NULL };
	char path[600];
	pid_t pid;
	int r;

	if (!name_ok(name))
		return err_field(err, -EINVAL, ERR_INVALID, "name", "not a name of an image");
	if (b->drop.child)
		return err_set(err, -EBUSY, ERR_CAPACITY, "an image is being removed already");
	r = daemon_program("weir-build", path, sizeof(path));
	if (r < 0)
		return err_sys(err, r, "find weir-build");
	slots_forget(b->d->slots, name);
	pid = spawn_program(&(struct spawn_as){ .path = path,
				    .argv = argv,
				    .daemon = b->d->cfg.daemon_name,
				    .netns = -1,
				    .chan = -1,
				    .output = -1 },
		err);
	if (pid < 0)
		return pid;
	b->drop.life = life;
	b->drop.serial = serial;
	r = child_watch(&b->d->loop, pid, on_dropped, b, &b->drop.child);
	return r < 0 ? err_sys(err, r, "watch weir-build") : 0;
}

/* --- stopping --- */

/* One that is being placed finds nobody to answer: on_slot(). */
void builds_orphaned(struct builds *b, uint32_t life)
{
	for (unsigned int i = 0; i < BUILDS_MAX; i++) {
		struct build *x = &b->build[i];

		if (x->life != life || x->state < PLACED)
			continue;
		log_event(LOG_WARN, "build.orphan", "image=%s", x->ask.name);
		x->orphan = true;
		if (x->state == PLACED)
			end(x, STATUS_ORPHAN);
		else
			kill_all(x);
	}
}

void builds_stop(struct builds *b)
{
	child_kill(b->drop.child, SIGKILL);
	for (unsigned int i = 0; i < BUILDS_MAX; i++) {
		struct build *x = &b->build[i];

		if (x->state == PLACED)
			end(x, STATUS_LATE);
		else
			child_kill(x->child, SIGKILL);
	}
}

bool builds_ended(const struct builds *b)
{
	for (unsigned int i = 0; i < BUILDS_MAX; i++)
		if (b->build[i].state != FREE)
			return false;
	return !b->drop.child;
}

static void closed(uv_handle_t *h)
{
}

void builds_close(struct builds *b)
{
	for (unsigned int i = 0; b && i < BUILDS_MAX; i++)
		uv_close((uv_handle_t *)&b->build[i].limit, closed);
}

void builds_free(struct builds *b)
{
	if (b)
		cgroups_close(b->cg);
	free(b);
}

/*
 * Taking a daemon down to nothing (daemon.h, daemon_down), from whatever state a crash, a kill or
 * an orderly stop left it in.
 *
 * Nothing here needs a loop or a role. Each step is tried even if one before it failed: the first
 * failure is what is reported, and `weird --leaks` shows what it left. Order matters in one place:
 * sandboxes end before their links and programs go, so none runs unguarded even for a moment.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include "base/fd.h"
#include "base/log.h"
#include "datapath/datapath.h"
#include "host/netns.h"
#include "host/nft.h"
#include "host/sysctl.h"
#include "sandbox/box.h"
#include "sandbox/daemon.h"
#include "sandbox/net.h"

#define STOP_LIMIT_MS 60000 /* for a running weird to take its sandboxes down */
#define KILL_LIMIT_MS 10000 /* for one sandbox's processes to end */

/* Remember the first failure. */
static void note(int r, const struct err *e, struct err *first)
{
	if (r >= 0)
		return;
	log_event(LOG_ERROR, "down.failed", "error=\"%s\"", e->text);
	if (!first->code)
		*first = *e;
}

static int stop_running(struct daemon *d, struct err *err)
{
	pid_t pid = 0;
	int r = daemon_lock(d, &pid, err);

	if (r != -EBUSY)
		return r;
	auto_fd int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGINT, NULL, 0) == 0 &&
		poll(&p, 1, STOP_LIMIT_MS) != 1)
		return err_set(
			err, -ETIMEDOUT, ERR_TIMEOUT, "weird, process %d, does not end", (int)pid);
	return daemon_lock(d, &pid, err);
}

struct ending {
	struct daemon *d;
	struct err *first;
};

static int end_one(const char *id, void *arg)
{
	struct ending *e = arg;
	const struct runner *run;
	auto_free struct record *rec = malloc(sizeof(*rec));
	struct runtime_box *box = NULL;
	struct err err = { .code = 0 };
	int r;

	if (!rec)
		return -ENOMEM;
	r = record_load(e->d->records_dir, id, rec, &err);
	run = r == 0 ? runner_known(e->d, rec->runtime) : NULL;
	if (run && rec->boot == e->d->boot && !rec->dead) {
		r = run->ops->adopt(run->rt, id, str_c(rec->rt), &box, &err);
		if (r == 0) {
			struct pollfd p = { .fd = run->ops->pidfd(box), .events = POLLIN };

			run->ops->kill(box);
			poll(&p, 1, KILL_LIMIT_MS); /* what is left after that, cleanup reports */
		}
		if (box)
			note(run->ops->cleanup(box, false, &rec->exit_status, &(bool){ false }, &err),
				&err, e->first);
	} else {
		runners_drop_layer(e->d, id, &err);
	}
	record_remove(e->d->records_dir, id);
	return 0;
}

static void end_sandboxes(struct daemon *d, struct err *first)
{
	struct ending e = { .d = d, .first = first };
	struct err err = { .code = 0 };
	int r = runners_open(d, &err);

	note(r, &err, first);
	if (r < 0)
		return;
	r = record_each(d->records_dir, end_one, &e);
	note(r < 0 ? err_sys(&err, r, "read the records") : 0, &err, first);
	runners_sweep(d);
	runners_close(d); /* which takes the top cgroup away */
}

static void remove_files(struct daemon *d)
{
	const struct daemon_paths *p = &d->path;

	d->records_dir = fd_close(d->records_dir);
	rmdir(p->sandboxes);
	unlink(p->links);
	unlink(p->api_addr);
	unlink(p->ingress_addr);
	unlink(p->lock); /* held until we end: whoever opened it before finds it unlinked */
}

int daemon_take_away(struct daemon *d, struct err *err)
{
	const char *name = d->cfg.daemon_name;
	struct err first = { .code = 0 }, e = { .code = 0 };
	char probe[IF_NAMESIZE];
	int r;

	rtnl_done(&d->router);
	d->router_ns = fd_close(d->router_ns);
	r = link_del(&d->host, d->uplink.name, &e);
	note(r == -ENODEV ? 0 : r, &e, &first);
	snprintf(probe, sizeof(probe), "%sp", name);
	link_del(&d->host, probe, NULL);
	note(nft_remove(name, &e), &e, &first);
	r = sysctl_restore(d->path.sysctl_memo);
	note(r < 0 ? err_sys(&e, r, "put the host's sysctls back") : 0, &e, &first);
	note(datapath_unpin(BPFFS, name, &e), &e, &first);
	r = netns_unpin(d->path.router_ns);
	note(r < 0 ? err_sys(&e, r, "unpin the router namespace") : 0, &e, &first);
	remove_files(d);
	if (first.code && err)
		*err = first;
	return first.code;
}

int daemon_down(struct daemon *d, struct err *err)
{
	struct err first = { .code = 0 }, e = { .code = 0 };
	int r = stop_running(d, err);

	if (r < 0)
		return r;
	d->boot = record_boot();
	d->records_dir = open(d->path.sandboxes, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = daemon_look(d, err);
	if (r < 0)
		return r;
	if (d->records_dir >= 0) /* otherwise it never came up, or was taken down already */
		end_sandboxes(d, &first);
	r = daemon_take_away(d, &e);
	if (!first.code && r < 0)
		first = e;
	if (first.code)
		*err = first;
	return first.code;
}

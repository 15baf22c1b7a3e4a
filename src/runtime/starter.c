/*
 * The starter: see the header. Two halves in one file: what the host role calls, and what runs in
 * the forked process. The second half allocates nothing and ends by _exit.
 */
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "runtime/fork.h"
#include "runtime/inside.h"
#include "runtime/lift.h"
#include "runtime/path.h"
#include "runtime/sys.h"

#define GO_LIMIT_MS 20000 /* a machine under full load; then the start has failed */
#define KEEP_MAX    32
#define STACK_SIZE  (256 << 10)
#define STACK_GUARD (64 << 10) /* a page, whatever its size */
#define OOM_SCORE   "200" /* inherited by the sandbox: the host's own programs go last */

/* --- in the starter --- */

struct work { /* what a starter has made so far */
	const struct starter_kit *kit;
	const struct starter_seat *seat;
	const char *layer_name;
	int chan;
	int proc, lower, layer; /* directories of the stage; /root is the first process's business */
	int dev[DEVS];
	pid_t holder; /* of the image's map */
	struct layer_at at;
	int go[2];	  /* to the first process: its id maps are written */
	struct inside in; /* the first process reads it when our frames are gone */
};

static int stage_dir(const char *name)
{
	if (mkdir(name, 0755) < 0)
		return -errno;
	return open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* The host's nodes are taken while its /dev is in sight. */
static int take_devices(struct work *w, dev_t number[DEVS], struct err *err)
{
	for (size_t i = 0; i < DEVS; i++) {
		char path[32];
		struct stat st;

		snprintf(path, sizeof(path), "/dev/%s", inside_dev_names[i]);
		w->dev[i] = mount_copy(AT_FDCWD, path);
		if (w->dev[i] < 0)
			return err_sys(err, w->dev[i], "take %s", path);
		if (fstat(w->dev[i], &st) < 0 || !S_ISCHR(st.st_mode))
			return err_set(err, -ENODEV, ERR_INTERNAL, "%s is not a device", path);
		number[i] = st.st_rdev;
	}
	return 0;
}

/* Better are nodes of our own: a node is a file, and whoever shares one with its neighbours and the
 * host can lock it, and watch them use it. Where none may be made the host's remain. */
static void make_devices(struct work *w, const dev_t number[DEVS])
{
	for (size_t i = 0; i < DEVS; i++) {
		auto_fd int copy = -EBADF;
		char path[32];

		snprintf(path, sizeof(path), "/dev-%s", inside_dev_names[i]);
		if (mknod(path, S_IFCHR | 0666, number[i]) < 0 || chmod(path, 0666) < 0)
			continue;
		copy = mount_copy(AT_FDCWD, path);
		if (copy < 0 || mount_attr_clear(copy, MOUNT_ATTR_NODEV) < 0)
			continue;
		fd_close(w->dev[i]);
		w->dev[i] = take_fd(copy);
	}
}

/*
 * A mount namespace with a small tmpfs as its root: the host's mounts are not copied into each
 * sandbox's namespace, and nothing a sandbox is made from depends on them. /proc is the host's,
 * without what is mounted below it; the first process may mount its own only while it sees one.
 */
static int make_stage(struct work *w, struct err *err)
{
	const struct mount_opt opts[] = { { "mode", "755" }, { "size", "64k" } };
	auto_fd int tmp = -EBADF, proc = -EBADF, at = -EBADF;
	dev_t number[DEVS];
	int r;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(err, -errno, "make a mount namespace");
	r = take_devices(w, number, err);
	if (r < 0)
		return r;
	proc = mount_copy(AT_FDCWD, "/proc");
	tmp = mount_new("tmpfs", opts, ARRAY_SIZE(opts), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (proc < 0 || tmp < 0)
		return err_sys(err, proc < 0 ? proc : tmp, "make the stage");
	at = open(w->kit->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = at < 0 ? -errno : mount_on(tmp, at);
	if (r < 0)
		return err_sys(err, r, "attach the stage on %s", w->kit->run_dir);
	if (fchdir(tmp) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(err, -errno, "enter the stage");
	make_devices(w, number);
	w->proc = stage_dir("proc");
	w->lower = stage_dir("lower");
	w->layer = stage_dir("layer");
	if (mkdir("root", 0755) < 0 || w->proc < 0 || w->lower < 0 || w->layer < 0)
		return err_sys(err, -EIO, "make the stage's directories");
	r = mount_on(proc, w->proc);
	return r < 0 ? err_sys(err, r, "attach the stage's /proc") : 0;
}

static int put_map(pid_t pid, const char *file, uint32_t inside, uint32_t outside)
{
	char path[48], text[48];
	int n = snprintf(text, sizeof(text), "%u %u %u", inside, outside, IDS_PER_SANDBOX);

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	return file_write_kernel(AT_FDCWD, path, str_n(text, (size_t)n));
}

static int put_maps(pid_t pid, uint32_t inside, uint32_t outside)
{
	int r = put_map(pid, "gid_map", inside, outside);

	return r < 0 ? r : put_map(pid, "uid_map", inside, outside);
}

/*
 * A process in our memory, on a stack of its own: what a starter makes runs nothing but our code
 * until exec, and copies of the host role's memory map were a third of what a start cost.
 * The one word that both could write is errno, and the two never fail at the same time: the holder
 * calls nothing that fails, and the first process waits until the starter only has to end.
 */
static pid_t clone_sharing(int flags, int (*fn)(void *), struct work *w, int *pidfd)
{
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	pid_t pid;

	if (stack == MAP_FAILED || mprotect(stack, STACK_GUARD, PROT_NONE) < 0)
		return -errno;
	pid = clone(fn, stack + STACK_SIZE, flags | CLONE_VM | CLONE_PIDFD, w, pidfd);
	return pid < 0 ? -errno : pid;
}

_noreturn_ static int hold_map(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(0, ~0u, 0);
	for (;;)
		pause();
}

/*
 * A user namespace that will be nothing but a map from the image's ids on disk to the sandbox's.
 * Somebody must be in it until its map is written and its file opened: a process that does nothing
 * and ends with the starter (or with the control group).
 */
static int make_map_holder(struct work *w, struct err *err)
{
	int pidfd = -EBADF;

	w->holder = clone_sharing(CLONE_NEWUSER | SIGCHLD, hold_map, w, &pidfd);
	fd_close(pidfd);
	return w->holder < 0 ? err_sys(err, w->holder, "make a user namespace") : 0;
}

static int map_namespace(const struct work *w, uint32_t from, uint32_t to)
{
	char path[48];
	int fd, r = put_maps(w->holder, from, to);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", w->holder);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* It may not have run yet; should we end before it does, no death signal would find it. */
	kill(w->holder, SIGKILL);
	return fd;
}

/* Of a frozen sandbox, into a layer that is new; its ids become ours. */
static int copy_files(struct work *w, struct err *err)
{
	auto_fd int userns = -EBADF;
	int r = make_map_holder(w, err);

	if (r < 0)
		return r;
	userns = map_namespace(w, w->seat->from_uid, w->seat->uid);
	if (userns < 0)
		return err_sys(err, userns, "map another's ids");
	return layer_copy_files(w->kit->layers, w->seat->from, &w->at, userns, err);
}

/* What needs no more than a control group and a layer. */
static int make_place(struct work *w, struct err *err)
{
	const struct starter_kit *kit = w->kit;
	int r = cgroup_enter(kit->cgroups, w->seat->cgroup, err);

	if (r == 0 && !w->seat->layer)
		r = layer_make(kit->layers, w->layer_name, w->seat->disk_mib, err);
	else if (r == 0 && w->seat->disk_mib) /* checking a large one takes its time: not the host role's */
		r = layer_grow(kit->layers, w->layer_name, w->seat->disk_mib, false, err);
	r = r < 0 ? r : layer_mount(kit->layers, w->layer_name, &w->at, err);
	r = r < 0 || !w->seat->from ? r : copy_files(w, err);
	r = r < 0 ? r : make_stage(w, err);
	r = r < 0 ? r : make_map_holder(w, err);
	if (r < 0)
		return r;
	r = mount_on(w->at.mnt, w->layer);
	return r < 0 ? err_sys(err, r, "attach the writable layer") : 0;
}

static int mount_image(struct work *w, struct err *err)
{
	auto_fd int userns = -EBADF;
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY };
	int r;

	userns = map_namespace(w, w->seat->image_uid, LIFTED(LIFT_USERNS) ? 0 : w->seat->uid);
	if (userns < 0)
		return err_sys(err, userns, "map the image's ids");
	attr.userns_fd = (uint64_t)userns;
	if (mount_setattr(w->seat->rootfs, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_sys(err, -errno, "map the image's ids");
	r = mount_on(w->seat->rootfs, w->lower);
	return r < 0 ? err_sys(err, r, "attach the image") : 0;
}

/* upper/ and work/ belong to the sandbox's root; a stored layer must already. */
static int own_layer(struct work *w, struct err *err)
{
	static const char *const names[] = { "upper", "work" };
	uint32_t uid = LIFTED(LIFT_USERNS) ? 0 : w->seat->uid;
	char path[80];
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "/layer/%s/%s", w->at.sub, names[i]);
		if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			return err_set(err, -ENOTDIR, ERR_INTERNAL, "the writable layer has no %s/",
				names[i]);
		if (st.st_uid == uid)
			continue;
		if (w->seat->layer && st.st_uid != 0)
			return err_set(err, -EINVAL, ERR_INTERNAL,
				"the writable layer belongs to another slot (ids from %u, not %u)",
				st.st_uid, uid);
		if (chown(path, uid, uid) < 0)
			return err_sys(err, -errno, "give the writable layer to the sandbox");
	}
	return 0;
}

static int mount_overlay(struct work *w, struct err *err)
{
	char upper[80], work[80];
	const struct mount_opt opts[] = { { "source", "weir" }, { "lowerdir", "/lower" },
		{ "upperdir", upper }, { "workdir", work }, { "redirect_dir", "nofollow" },
		{ "metacopy", "off" }, { "index", "off" } };
	struct statvfs vfs;
	int mnt;

	snprintf(upper, sizeof(upper), "/layer/%s/upper", w->at.sub);
	snprintf(work, sizeof(work), "/layer/%s/work", w->at.sub);
	mnt = mount_new("overlay", opts, ARRAY_SIZE(opts), LIFTED(LIFT_NODEV) ? 0 : MOUNT_ATTR_NODEV);
	if (mnt < 0)
		return err_sys(err, mnt, "mount the overlay");
	if (fstatvfs(mnt, &vfs) < 0 || vfs.f_flag & ST_RDONLY) {
		close(mnt);
		return err_set(err, -EROFS, ERR_INTERNAL, "the overlay came up read-only");
	}
	return mnt;
}

static int mount_sysfs(struct err *err)
{
	int mnt = mount_new("sysfs", NULL, 0,
		(LIFTED(LIFT_MASKS) ? 0 : MOUNT_ATTR_RDONLY) | MOUNT_ATTR_NOSUID |
			MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);

	return mnt < 0 ? err_sys(err, mnt, "mount /sys") : mnt;
}

/*
 * What the kernel counts per user namespace (inotify, namespaces, queued signals, message queues), it
 * counts for the one who made that namespace as well, against a limit for each: were that root, one
 * sandbox could use up what all others and the host have. So the sandbox's own id makes it. Only the
 * effective id, which is what counts; capabilities come back with it.
 */
static int be(uint32_t id)
{
	/* Root's group first comes back last: with the capabilities. Not by the C library, as inside. */
	if (id == 0 && syscall(SYS_setresuid, -1, 0, -1) < 0)
		return -errno;
	if (syscall(SYS_setresgid, -1, id, -1) < 0 ||
		(id != 0 && syscall(SYS_setresuid, -1, id, -1) < 0))
		return -errno;
	/* A change of ids takes back the death signal. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

/* The sandbox's first process, in all its namespaces. */
static pid_t clone_inside(struct work *w, int flags, int (*fn)(void *), int *pidfd)
{
	int r = be(LIFTED(LIFT_OWNER) ? 0 : w->seat->uid), back;
	pid_t pid = r < 0 ? r : clone_sharing(flags | CLONE_NEWUSER, fn, w, pidfd);

	back = be(0);
	return back < 0 && pid >= 0 ? back : pid;
}

_noreturn_ static int begin_inside(void *arg)
{
	struct work *w = arg;

	close(w->go[1]);
	inside_run(&w->in);
}

static int bring(struct work *w, struct err *err)
{
	int flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
		    CLONE_PARENT;
	struct inside *in = &w->in;
	struct fork_news news = { 0 };
	int pidfd = -EBADF, r;

	/* Before the user namespace: afterwards it is EPERM, and sysfs would show the host's links. */
	if (setns(w->seat->netns, CLONE_NEWNET) < 0)
		return err_sys(err, -errno, "enter the net namespace");
	*in = (struct inside){ .kit = w->kit, .agent_sock = w->seat->agent_sock, .chan = w->chan };
	memcpy(in->dev, w->dev, sizeof(in->dev));
	in->sysfs = mount_sysfs(err);
	r = in->sysfs < 0 ? in->sysfs : mount_image(w, err);
	r = r < 0 ? r : own_layer(w, err);
	r = r < 0 ? r : (in->root = mount_overlay(w, err));
	if (r < 0)
		return r;
	if (pipe2(w->go, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "make a pipe");
	in->go = w->go[0];
	news.pid = LIFTED(LIFT_USERNS) ? clone_sharing(flags, begin_inside, w, &pidfd) :
					 clone_inside(w, flags, begin_inside, &pidfd);
	if (news.pid < 0)
		return err_sys(err, news.pid, "make the sandbox's namespaces");
	FAULT("host.starter.cloned");
	if (fork_send(w->chan, &news, sizeof(news), pidfd) < 0)
		return -EPIPE; /* the host role is gone; our end lets the first process end too */
	if (!LIFTED(LIFT_USERNS)) {
		r = put_maps(news.pid, 0, w->seat->uid);
		if (r < 0)
			return err_sys(err, r, "write the sandbox's id maps");
	}
	return write(w->go[1], "", 1) == 1 ? 0 : -errno;
}

static int starter_main(struct work *w, struct err *err)
{
	const struct starter_kit *kit = w->kit;
	int keep[KEEP_MAX];
	size_t n = 0;
	int r;

	fork_signals();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "weir-starter");
	prctl(PR_SET_DUMPABLE, 0);
	keep[n++] = w->chan;
	keep[n++] = kit->agent;
	keep[n++] = w->seat->netns;
	keep[n++] = w->seat->agent_sock;
	keep[n++] = w->seat->rootfs;
	n += cgroups_fds(kit->cgroups, keep + n, KEEP_MAX - n);
	n += layers_fds(kit->layers, keep + n, KEEP_MAX - n);
	r = LIFTED(LIFT_FDS) ? 0 : fork_keep(keep, n);
	r = r < 0 ? r : file_write_kernel(AT_FDCWD, "/proc/self/oom_score_adj", STR(OOM_SCORE));
	if (r < 0)
		return err_sys(err, r, "prepare a starter");
	r = make_place(w, err);
	if (r < 0)
		return r;
	FAULT("host.starter.placed");
	return bring(w, err);
}

/* --- in the host role --- */

int starter_fork(const struct starter_kit *kit, const struct starter_seat *seat,
	struct starter *ret, struct err *err)
{
	struct starter s = { .pidfd = -EBADF, .first = -EBADF, .chan = -EBADF };
	auto_fd int group = cgroup_v2_open(kit->cgroups, seat->cgroup);

	snprintf(s.cgroup, sizeof(s.cgroup), "%s", seat->cgroup);
	if (seat->layer)
		snprintf(s.layer, sizeof(s.layer), "%s", seat->layer);
	else
		snprintf(s.layer, sizeof(s.layer), LAYER_SPARE "%.24s", seat->cgroup);
	s.pid = fork_begin(group, &s.pidfd, &s.chan, "a starter", err);
	if (s.pid == 0) {
		struct work w = { .kit = kit, .seat = seat, .layer_name = s.layer, .chan = s.chan };
		struct fork_news news = { 0 };
		int r = starter_main(&w, &news.err);

		if (r < 0)
			fork_send(w.chan, &news, sizeof(news), -EBADF);
		_exit(r < 0);
	}
	if (s.pid < 0)
		return s.pid;
	*ret = s;
	return 0;
}

/* 1: parked; 0: end of file; -EAGAIN: no more news; what else is negative is a failure. */
static int next_news(struct starter *s, struct err *err)
{
	struct fork_news news;
	int fd, r = fork_recv(s->chan, &news, sizeof(news), &fd);

	if (r <= 0)
		return r == 0 || r == -EAGAIN ? r : err_sys(err, r, "hear from a starter");
	if (news.pid > 0 && fd < 0) /* no descriptor was free then: it is our child, and waits */
		fd = pidfd_open(news.pid, 0);
	if (news.pid > 0 && fd >= 0 && s->first < 0) {
		s->first = fd;
		s->first_pid = news.pid;
		return next_news(s, err);
	}
	fd_close(fd);
	if (news.err.code < 0) {
		if (err)
			*err = news.err;
		return news.err.code;
	}
	return s->first >= 0 ? 1 : -EBADMSG;
}

int starter_look(struct starter *s, struct err *err)
{
	int r = next_news(s, err);

	if (r == -EAGAIN)
		return s->ready;
	if (r == 0)
		return err_set(err, -EIO, ERR_INTERNAL,
			"the sandbox's first process ended before it ran (out of memory?)");
	if (r < 0)
		return r;
	/* The first process runs only once the starter has nothing left to do but end. */
	fork_reap(s->pidfd);
	s->pidfd = fd_close(s->pidfd);
	s->ready = true;
	return 1;
}

static bool ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

int starter_go(struct starter *s, const struct starter_order *order, struct err *err)
{
	uint64_t end = clock_mono_ns() + GO_LIMIT_MS * NS_PER_MS;
	int r = fork_send(s->chan, order, sizeof(*order), -EBADF);

	if (r < 0 && r != -EPIPE)
		return err_sys(err, r, "order the sandbox to start");
	for (;;) {
		uint64_t now = clock_mono_ns();
		struct pollfd p = { .fd = s->chan, .events = POLLIN };

		r = now >= end ? 0 : poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1);
		if (r == 0)
			return err_sys(err, -ETIMEDOUT, "wait for the sandbox to start");
		if (r < 0 && errno != EINTR)
			return err_sys(err, -errno, "wait for the sandbox to start");
		if (r < 0)
			continue;
		r = next_news(s, err);
		if (r == 0)
			break;
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	s->chan = fd_close(s->chan);
	return ended(s->first) ? err_set(err, -EIO, ERR_INTERNAL,
					 "the sandbox's first process ended before it ran (out of memory?)")
			       : 0;
}

void starter_kill(struct starter *s)
{
	if (s->pidfd >= 0)
		pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
	if (s->first >= 0)
		pidfd_send_signal(s->first, SIGKILL, NULL, 0);
}

void starter_done(struct starter *s)
{
	starter_kill(s);
	if (s->pidfd >= 0) {
		fork_reap(s->pidfd);
		/* It may have made a first process that nobody has read of yet. */
		while (s->first < 0 && next_news(s, NULL) > 0)
			;
		if (s->first >= 0)
			pidfd_send_signal(s->first, SIGKILL, NULL, 0);
	}
	if (s->first >= 0)
		fork_reap(s->first);
	s->pidfd = fd_close(s->pidfd);
	s->first = fd_close(s->first);
	s->chan = fd_close(s->chan);
}

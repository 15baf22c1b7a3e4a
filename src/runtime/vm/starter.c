/*
 * Bringing one machine up: see the header. Two halves: what the host role calls, and what runs in
 * the forked process, which allocates nothing and ends by _exit.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <x86intrin.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "bpf/maps.h"
#include "host/link.h"
#include "runtime/fork.h"
#include "runtime/sys.h"
#include "runtime/vm/hand.h"
#include "runtime/vm/helper.h"
#include "runtime/vm/jail.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/qmp.h"
#include "runtime/vm/starter.h"
#include "runtime/vm/template.h"

#define KEEP_MAX	 32
#define OOM_SCORE	 "200" /* the host's own programs go last */
#define CONSOLE_KEPT	 300   /* bytes of what it said, for the error */
#define CLOCK_MEASURE_NS (20 * NS_PER_MS)

struct news {
	struct fork_news n;
	char bundle[BUNDLE_KEY_MAX];
	uint32_t version;
};

/* --- in the starter --- */

struct work {
	const struct vm_kit *kit;
	const struct vm_seat *seat;
	int chan;
	int tap, root, disk, qmp, console[2];
	int spoken, load, lock; /* connected to qmp, if a hand of ours is needed; what QEMU reads; the template's */
	struct snapshot_head held; /* of a template */
	int qemu; /* pidfd */
	char bundle[400], cmdline[1024];
	struct machine_line line;
};

/* The rate of the time stamp counter, against the clock: the longer the daemon runs, the better. */
static uint32_t tsc_khz(const struct vm_kit *kit)
{
	uint64_t past = clock_mono_ns() - kit->mono_ns;
	struct timespec rest = { .tv_nsec = (long)(CLOCK_MEASURE_NS - past) };

	if (past < CLOCK_MEASURE_NS)
		nanosleep(&rest, NULL);
	return (uint32_t)((double)(__rdtsc() - kit->tsc) * 1e6 / (double)(clock_mono_ns() - kit->mono_ns));
}

static int take_bundle(struct work *w, struct err *err)
{
	const struct vm_kit *kit = w->kit;
	const char *const argv[] = { kit->guest, "--dir", kit->guest_dir, "--agent", kit->agent, NULL };
	auto_fd int fd = -EBADF;
	char path[420];
	ssize_t n;
	int r = 0;

	if (w->seat->bundle[0])
		snprintf(w->bundle, sizeof(w->bundle), "%s/%s", kit->guest_dir, w->seat->bundle);
	else
		r = helper_run(argv, w->bundle, sizeof(w->bundle), err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/cmdline", w->bundle);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, w->cmdline, sizeof(w->cmdline) - 1);
	if (n < 0)
		return err_sys(err, -errno, "read %s", path);
	w->cmdline[n] = '\0';
	w->cmdline[strcspn(w->cmdline, "\n")] = '\0';
	return 0;
}

/* The image as a file system on one file, which weir-rootfs makes beside the tree when asked. */
static int open_root(struct work *w, struct err *err)
{
	const char *const argv[] = { w->kit->rootfs, w->seat->image, "--store", w->kit->image_dir, NULL };
	char path[420];
	int r;

	snprintf(path, sizeof(path), "%s/images/%s/rootfs.ext4", w->kit->image_dir,
		w->seat->digest + strlen("sha256:"));
	w->root = open(path, O_RDONLY | O_CLOEXEC);
	if (w->root < 0 && errno == ENOENT) {
		r = helper_run(argv, NULL, 0, err);
		if (r < 0)
			return err_wrap(err, r, "image %s", w->seat->image);
		w->root = open(path, O_RDONLY | O_CLOEXEC);
	}
	return w->root < 0 ? err_sys(err, -errno, "open %s", path) : 0;
}

static int open_disk(struct work *w, struct err *err)
{
	struct layers *layers = w->kit->layers;
	const struct vm_seat *s = w->seat;
	int r = s->stored || s->copied ? 0
		: s->from ? layer_copy(layers, s->from, s->layer, err)
			  : layer_make(layers, s->layer, s->disk_mib, err);

	r = r < 0 ? r : (w->disk = layer_image(layers, w->seat->layer, err));
	return MIN(r, 0);
}

/* --- forks --- */

static struct hand_work hand_for(const struct work *w, enum hand_step step, int file)
{
	return (struct hand_work){ .step = step,
		.qmp = w->spoken,
		.dir = w->seat->dir,
		.file = file,
		.memory = -EBADF,
		.state = -EBADF,
		.cgroups = w->kit->cgroups,
		.uid = w->seat->uid + 1,
		.rehearsal = step == HAND_REHEARSE ? w->seat->rehearsal : NULL,
		.head = (struct snapshot_head *)(uintptr_t)w->seat->head };
}

static int speak(struct work *w, struct err *err)
{
	int r = w->spoken = qmp_connect(w->kit->run_dir, w->seat->cgroup, err);

	return MIN(r, 0);
}

/* The same file with a lock and a place of its own. */
static int again(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int fill(const struct work *w, struct err *err)
{
	const struct vm_seat *s = w->seat;
	struct hand_work check = hand_for(w, HAND_CHECK, s->file);
	int r;

	check.memory = s->memory;
	check.state = s->state;
	check.group = TEMPLATES_GROUP;
	/* Who was at it before may have been killed. */
	if (ftruncate(s->memory, 0) < 0 || ftruncate(s->state, 0) < 0 || lseek(s->state, 0, SEEK_SET) < 0 ||
		ftruncate(s->memory, (off_t)s->head->memory) < 0)
		return err_sys(err, -errno, "fill a template");
	FAULT("host.fork.fill");
	r = hand_do(s->hand, &check, err);
	if (r < 0)
		return r;
	r = memory_seal(s->state);
	r = r < 0 ? r : memory_seal(s->memory); /* the last one says that it is whole */
	return r < 0 ? err_sys(err, r, "seal a template") : 0;
}

/* Before the jail, from which there is no way to files and to the socket. */
static int open_source(struct work *w, struct err *err)
{
	const struct vm_seat *s = w->seat;
	int r = 0;

	if (s->rehearsal)
		r = rehearsal_open(s->rehearsal, s->router_ns, s->plan->link, err);
	if (r < 0)
		return r;
	if (s->clone)
		r = w->lock = again(s->memory, O_RDWR);
	if (r >= 0)
		r = w->load = s->copied || s->clone ? again(s->state, O_RDONLY) : s->file;
	return r < 0 ? err_sys(err, r, "open what a machine begins from") : speak(w, err);
}

static int fill_template(struct work *w, struct err *err)
{
	int r = flock(w->lock, LOCK_EX) < 0 ? err_sys(err, -errno, "lock a template") : 0;

	if (r == 0 && !memory_sealed(w->seat->memory))
		r = fill(w, err);
	w->lock = fd_close(w->lock);
	return r;
}

static int check_stream(struct work *w, struct err *err)
{
	struct hand_work check = hand_for(w, HAND_CHECK, w->seat->file);
	int r = hand_do(w->seat->hand, &check, err);

	if (r == 0 && lseek(w->load, SNAPSHOT_BODY, SEEK_SET) < 0)
		r = err_sys(err, -errno, "read the snapshot");
	return r;
}

/* QEMU gets ready meanwhile: it has nothing to do with its memory before it loads. */
static int have_source(struct work *w, struct err *err)
{
	const struct vm_seat *s = w->seat;

	return s->copied ? 0 : s->clone ? fill_template(w, err) : check_stream(w, err);
}

/* What others must not share is still the same: nothing but the agent runs before it is woken, and no
 * packet leaves. */
static int begin_fork(struct work *w, struct err *err)
{
	struct hand_work begin_it = hand_for(w, w->seat->rehearsal ? HAND_REHEARSE : HAND_BEGIN, w->load);
	int r = have_source(w, err);

	begin_it.bare = w->seat->copied;
	FAULT("host.fork.load");
	return r < 0 ? r : hand_do(w->seat->hand, &begin_it, err);
}

static int copy_asleep(struct work *w, struct err *err)
{
	const struct vm_seat *s = w->seat;
	struct hand_work check = hand_for(w, HAND_CHECK, s->file);
	int r = hand_do(s->hand, &check, err);

	r = r < 0 ? r : layer_copy(w->kit->layers, s->from, s->layer, err);
	FAULT("host.fork.copied");
	return r < 0 ? r : snapshot_copy(s->dir, s->file, s->cgroup, err);
}

/* --- QEMU --- */

static int run_qemu(struct work *w, struct news *news, struct err *err)
{
	const struct machine m = { .mem_mib = w->seat->mem_mib,
		.vcpus = w->seat->vcpus,
		.tsc_khz = tsc_khz(w->kit),
		.cmdline = w->cmdline,
		.accel = w->seat->accel,
		.net = w->seat->plan,
		.incoming = w->seat->bundle[0],
		.clone = w->seat->clone };
	const struct jail_who who = { .uid = w->seat->uid, .filter = &w->kit->filter };
	auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fds[MACHINE_FDS_END] = { null, null };
	int r = machine_line(&m, &w->line);

	if (r < 0)
		return err_sys(err, r, "QEMU's command line");
	if (pipe2(w->console, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "make a pipe");
	fds[STDERR_FILENO] = fds[MACHINE_CONSOLE] = w->console[1];
	fds[MACHINE_TAP] = w->tap;
	fds[MACHINE_ROOT] = w->root;
	fds[MACHINE_DISK] = w->disk;
	fds[MACHINE_QMP] = w->qmp;
	fds[MACHINE_MEMORY] = w->seat->memory;
	if (null < 0)
		return err_sys(err, -errno, "open /dev/null");
	r = jail_make(w->kit->run_dir, w->bundle, accel_is_kvm(m.accel) ? w->seat->uid : 0, err);
	r = r < 0 ? r : jail_qemu(&w->line, &who, fds, &w->qemu, err);
	w->console[1] = fd_close(w->console[1]);
	w->qmp = fd_close(w->qmp); /* or who has connected to it would not hear that QEMU has ended */
	if (r < 0)
		return r;
	news->n.pid = r;
	return 0;
}

/* What it said before it ended, as one line of printable characters. */
static int ended_early(const char *said, size_t n, struct err *err)
{
	char text[CONSOLE_KEPT + 1];
	size_t k = 0;

	for (size_t i = n > CONSOLE_KEPT ? n - CONSOLE_KEPT : 0; i < n; i++)
		text[k++] = said[i] >= ' ' && said[i] < 0x7f ? said[i] : ' ';
	while (k > 0 && text[k - 1] == ' ')
		k--;
	text[k] = '\0';
	return err_set(err, -EIO, ERR_INTERNAL, "the machine ended before its agent listened%s%s",
		k ? ": " : "", text);
}

static int wait_up(struct work *w, struct err *err)
{
	uint64_t end = clock_mono_ns() + VM_BOOT_LIMIT_S * NS_PER_SEC;
	char said[2 * CONSOLE_KEPT];
	size_t n = 0;

	for (;;) {
		uint64_t now = clock_mono_ns();
		struct pollfd p = { .fd = w->console[0], .events = POLLIN };
		int r = now >= end ? 0 : poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1);
		ssize_t k;

		if (r == 0)
			return err_set(err, -ETIMEDOUT, ERR_TIMEOUT,
				"the machine did not come up in %d s", VM_BOOT_LIMIT_S);
		if (n == sizeof(said)) {
			memmove(said, said + CONSOLE_KEPT, CONSOLE_KEPT);
			n = CONSOLE_KEPT;
		}
		k = r < 0 ? -1 : read(w->console[0], said + n, sizeof(said) - n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return ended_early(said, n, err);
		if (memchr(said + n, MACHINE_UP, (size_t)k))
			return 0;
		n += (size_t)k;
	}
}

static int wait_loaded(struct work *w, struct err *err)
{
	char loaded;

	if (recv(w->chan, &loaded, sizeof(loaded), 0) != sizeof(loaded))
		return err_set(err, -EPIPE, ERR_INTERNAL, "the host role is gone");
	return 0;
}

/* --- templates --- */

/* A link of the same kind as all, which leads nowhere. */
static int own_link(struct work *w, struct err *err)
{
	static const uint8_t mac[6] = WEIR_MAC_GATEWAY;

	if (unshare(CLONE_NEWNET) < 0)
		return err_sys(err, -errno, "make a network namespace");
	w->tap = link_tap((struct link_end){ "nowhere", mac }, err);
	return MIN(w->tap, 0);
}

static int wait_ended(int pidfd, struct err *err)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int r;

	do
		r = poll(&p, 1, VM_BOOT_LIMIT_S * 1000);
	while (r < 0 && errno == EINTR);
	return r > 0 ? 0 : err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "QEMU does not end");
}

/* Nothing of it runs from here on, and nobody can change what it was. */
static int hold(struct work *w, struct err *err)
{
	const struct vm_seat *s = w->seat;
	struct hand_work hold_it = hand_for(w, HAND_HOLD, s->state);
	int r;

	hold_it.head = &w->held;
	hold_it.limit = SNAPSHOT_MEMORY - SNAPSHOT_BODY;
	FAULT("host.template.up");
	r = hand_do(s->hand, &hold_it, err);
	pidfd_send_signal(w->qemu, SIGKILL, NULL, 0);
	r = r < 0 ? r : wait_ended(w->qemu, err);
	FAULT("host.template.held");
	if (r < 0)
		return r;
	r = memory_seal(s->state);
	r = r < 0 ? r : memory_seal(s->memory);
	return r < 0 ? err_sys(err, r, "seal a template") : 0;
}

/* --- standing ready --- */

/* Until it is taken, or not wanted: either way this process is killed. Or until QEMU ends. */
static void stand(int qemu)
{
	struct pollfd p = { .fd = qemu, .events = POLLIN };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

/* --- from beginning to end --- */

static int begin(struct work *w, struct err *err)
{
	const struct vm_kit *kit = w->kit;
	int keep[KEEP_MAX], r;
	size_t n = 0;

	fork_signals();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "weir-vm-starter");
	prctl(PR_SET_DUMPABLE, 0);
	keep[n++] = w->chan;
	keep[n++] = w->seat->tap;
	keep[n++] = w->seat->memory;
	if (w->seat->hand) {
		keep[n++] = w->seat->file;
		keep[n++] = w->seat->state;
		keep[n++] = w->seat->dir;
	}
	if (w->seat->rehearsal)
		keep[n++] = w->seat->router_ns;
	n += cgroups_fds(kit->cgroups, keep + n, KEEP_MAX - n);
	n += layers_fds(kit->layers, keep + n, KEEP_MAX - n);
	r = fork_keep(keep, n);
	r = r < 0 ? r : file_write_kernel(AT_FDCWD, "/proc/self/oom_score_adj", STR(OOM_SCORE));
	return r < 0 ? err_sys(err, r, "prepare a starter") : 0;
}

static int starter_main(struct work *w, struct err *err)
{
	struct news news = { 0 };
	int r = begin(w, err);

	r = r < 0 ? r : cgroup_enter(w->kit->cgroups, w->seat->cgroup, err);
	if (r == 0 && w->seat->asleep)
		return copy_asleep(w, err);
	r = r < 0 ? r : take_bundle(w, err);
	r = r < 0 ? r : open_root(w, err);
	r = r < 0 ? r : open_disk(w, err);
	r = r < 0 ? r : (w->qmp = qmp_listen(w->kit->run_dir, w->seat->cgroup, err));
	r = r < 0 || !w->seat->head ? r : open_source(w, err);
	if (r >= 0 && w->seat->template)
		r = (r = own_link(w, err)) < 0 ? r : speak(w, err);
	r = r < 0 ? r : run_qemu(w, &news, err);
	if (r < 0)
		return r;
	if (fork_send(w->chan, &news, sizeof(news), w->qemu) < 0)
		return -EPIPE; /* the host role is gone: the next one sweeps the control group */
	r = w->seat->head	 ? begin_fork(w, err)
	    : w->seat->bundle[0] ? wait_loaded(w, err)
				 : wait_up(w, err);
	if (r >= 0 && w->seat->template)
		return hold(w, err);
	return r < 0 ? r : jail_empty(err);
}

/* --- in the host role --- */

int vm_starter_fork(const struct vm_kit *kit, const struct vm_seat *seat, struct vm_starter *ret,
	struct err *err)
{
	struct vm_starter s = { .pidfd = -EBADF, .qemu = -EBADF, .chan = -EBADF, .word = -EBADF,
		.asleep = seat->asleep, .stands = seat->rehearsal };
	auto_fd int group = cgroup_v2_open(kit->cgroups, seat->cgroup);
	pid_t pid = fork_begin(group, &s.pidfd, &s.chan, "a starter", err);

	if (pid == 0) {
		struct work w = { .kit = kit, .seat = seat, .chan = s.chan, .tap = seat->tap, .root = -EBADF,
			.disk = -EBADF, .spoken = -EBADF, .load = -EBADF, .lock = -EBADF, .qemu = -EBADF };
		struct news news = { 0 };
		const char *key;

		starter_main(&w, &news.n.err); /* and how it went: ready if there is no error */
		key = strrchr(w.bundle, '/');
		snprintf(news.bundle, sizeof(news.bundle), "%s", key ? key + 1 : "");
		news.version = w.held.qemu;
		if (seat->rehearsal && news.n.err.code >= 0) {
			FAULT("host.ready.up");
			fork_send(w.chan, &news, sizeof(news), w.spoken);
			fd_close(w.spoken); /* whoever takes it closes it last */
			stand(w.qemu);
			_exit(0);
		}
		fork_send(w.chan, &news, sizeof(news), -EBADF);
		_exit(0);
	}
	if (pid < 0)
		return pid;
	*ret = s;
	return 0;
}

static int take_news(struct vm_starter *s, struct err *err)
{
	struct news news;
	int fd, r = fork_recv(s->chan, &news, sizeof(news), &fd);

	if (r < 0)
		return r == -EAGAIN ? 0 : err_sys(err, r, "hear from a starter");
	if (r == 0 && s->ready && s->stands)
		return err_set(err, -EIO, ERR_INTERNAL, "the machine has ended");
	if (r == 0)
		return s->ready ? 0 : err_set(err, -EIO, ERR_INTERNAL,
					      "the machine's starter ended (out of memory?)");
	if (news.n.pid > 0 && s->qemu < 0) {
		s->qemu = fd >= 0 ? fd : pidfd_open(news.n.pid, 0);
		s->qemu_pid = news.n.pid;
		return take_news(s, err);
	}
	if (news.n.err.code < 0 || !s->stands || s->word >= 0)
		fd = fd_close(fd);
	if (news.n.err.code < 0) {
		if (err)
			*err = news.n.err;
		return news.n.err.code;
	}
	if (fd >= 0)
		s->word = fd;
	memcpy(s->bundle, news.bundle, sizeof(s->bundle));
	s->bundle[sizeof(s->bundle) - 1] = '\0';
	s->version = news.version;
	s->ready = s->asleep || (s->qemu >= 0 && (!s->stands || s->word >= 0));
	return s->ready ? 1 : -EBADMSG;
}

int vm_starter_look(struct vm_starter *s, struct err *err)
{
	int r = s->ready && !s->stands ? 1 : take_news(s, err);

	return r == 0 && s->ready ? 1 : r;
}

/* Until it says something. */
static int wait_news(struct vm_starter *s, struct err *err)
{
	struct pollfd p = { .fd = s->chan, .events = POLLIN };
	int r;

	do
		r = poll(&p, 1, VM_BOOT_LIMIT_S * 1000);
	while (r < 0 && errno == EINTR);
	return r > 0 ? 0 : err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "a machine's starter says nothing");
}

int vm_starter_qemu(struct vm_starter *s, struct err *err)
{
	int r = 0;

	while (r == 0 && s->qemu < 0) {
		r = wait_news(s, err);
		if (r == 0)
			r = vm_starter_look(s, err);
		r = MIN(r, 0);
	}
	return r;
}

int vm_starter_loaded(struct vm_starter *s, struct err *err)
{
	int r = 0;

	if (send(s->chan, "l", 1, MSG_NOSIGNAL) < 0)
		return err_sys(err, -errno, "tell a machine's starter");
	while (r == 0 && !s->ready) {
		r = wait_news(s, err);
		if (r == 0)
			r = vm_starter_look(s, err);
		r = MIN(r, 0);
	}
	return r;
}

void vm_starter_kill(struct vm_starter *s)
{
	if (s->pidfd >= 0)
		pidfd_send_signal(s->pidfd, SIGKILL, NULL, 0);
	if (s->qemu >= 0)
		pidfd_send_signal(s->qemu, SIGKILL, NULL, 0);
}

void vm_starter_done(struct vm_starter *s)
{
	vm_starter_kill(s);
	if (s->pidfd >= 0) {
		fork_reap(s->pidfd);
		while (s->qemu < 0 && take_news(s, NULL) > 0)
			;
		if (s->qemu >= 0)
			pidfd_send_signal(s->qemu, SIGKILL, NULL, 0);
	}
	if (s->qemu >= 0)
		fork_reap(s->qemu);
	s->pidfd = fd_close(s->pidfd);
	s->qemu = fd_close(s->qemu);
	s->chan = fd_close(s->chan);
	s->word = fd_close(s->word);
}

/* What machines run by: see the header. What runs in the forked process allocates nothing. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "runtime/fork.h"
#include "runtime/sys.h"
#include "runtime/vm/accel.h"
#include "runtime/vm/helper.h"
#include "runtime/vm/jail.h"
#include "runtime/vm/starter.h"

#define GUEST_SPEAKS "weir-init: " /* the agent as first process, which finds no disk */
#define HEARD_MAX    4096
#define KEY_MAX	     300

/* The host's own; the same without what paravirtual hosts refuse to let be set; what all have had for
 * fifteen years. */
static const char *const models[] = { "host", "host,-arch-capabilities", "Nehalem" };

bool accel_is_kvm(const char *name)
{
	return strncmp(name, ACCEL_KVM, strlen(ACCEL_KVM)) == 0;
}

bool accel_fits(const char *made, const char *have)
{
	return !accel_is_kvm(made) || !strcmp(made, have);
}

static void emulated(struct accel *ret, const char *why)
{
	snprintf(ret->name, sizeof(ret->name), ACCEL_TCG);
	snprintf(ret->why, sizeof(ret->why), "%s", why);
}

/* --- one try, in a process of its own --- */

struct try {
	const struct vm_kit *kit;
	const char *bundle, *cmdline, *name;
	uint32_t uid;
	int chan, console[2];
	struct machine_line line;
};

/* Until it speaks, ends, or the time is over. What it says is looked through for one word. */
static int wait_speaks(int console, struct err *err)
{
	uint64_t end = clock_mono_ns() + ACCEL_TRY_S * NS_PER_SEC;
	char heard[HEARD_MAX];
	size_t n = 0;

	for (;;) {
		uint64_t now = clock_mono_ns();
		struct pollfd p = { .fd = console, .events = POLLIN };
		ssize_t k;

		if (now >= end || poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1) == 0)
			return err_set(err, -ETIMEDOUT, ERR_TIMEOUT, "did not boot in %d s", ACCEL_TRY_S);
		if (n == sizeof(heard)) {
			memmove(heard, heard + n / 2, n - n / 2);
			n -= n / 2;
		}
		k = read(console, heard + n, sizeof(heard) - n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return err_set(err, -EIO, ERR_UNSUPPORTED, "QEMU ended");
		n += (size_t)k;
		if (memmem(heard, n, GUEST_SPEAKS, strlen(GUEST_SPEAKS)))
			return 0;
	}
}

static int try_main(struct try *t, struct err *err)
{
	const struct machine m = { .mem_mib = 128, .vcpus = 1, .cmdline = t->cmdline, .accel = t->name };
	const struct jail_who who = { .uid = t->uid, .filter = &t->kit->filter };
	auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct fork_news news = { 0 };
	int fds[MACHINE_FDS_END], pidfd = -EBADF, r;

	fork_signals();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "weir-vm-accel");
	if (null < 0 || pipe2(t->console, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "make a pipe");
	for (int i = 0; i < MACHINE_FDS_END; i++)
		fds[i] = null;
	fds[MACHINE_CONSOLE] = t->console[1];
	r = machine_line(&m, &t->line);
	r = r < 0 ? r : jail_make(t->kit->run_dir, t->bundle, t->uid, err);
	r = r < 0 ? r : jail_qemu(&t->line, &who, fds, &pidfd, err);
	t->console[1] = fd_close(t->console[1]);
	if (r < 0)
		return r;
	news.pid = r;
	r = fork_send(t->chan, &news, sizeof(news), pidfd);
	return r < 0 ? r : wait_speaks(t->console[0], err);
}

/* Both processes are ours to end: QEMU's comes with the first message. */
static int hear(int chan, struct err *err)
{
	struct pollfd p = { .fd = chan, .events = POLLIN };
	int qemu = -EBADF, r;

	for (;;) {
		struct fork_news news;
		int fd;

		do
			r = poll(&p, 1, (ACCEL_TRY_S + 5) * 1000);
		while (r < 0 && errno == EINTR);
		r = r <= 0 ? -ETIMEDOUT : fork_recv(chan, &news, sizeof(news), &fd);
		if (r <= 0) {
			r = err_set(err, -EIO, ERR_INTERNAL, "was not tried to the end");
			break;
		}
		if (news.pid > 0) {
			qemu = fd;
			continue;
		}
		fd_close(fd);
		news.err.text[sizeof(news.err.text) - 1] = '\0';
		r = MIN(news.err.code, 0);
		if (r < 0)
			err_set(err, r, ERR_UNSUPPORTED, "%s", news.err.text);
		break;
	}
	if (qemu >= 0) {
		pidfd_send_signal(qemu, SIGKILL, NULL, 0);
		fork_reap(qemu);
		fd_close(qemu);
	}
	return r;
}

static int boots(struct try *t, struct err *err)
{
	int pidfd = -EBADF, r;
	pid_t pid = fork_begin(-1, &pidfd, &t->chan, "a trial of KVM", err);

	if (pid == 0) {
		struct fork_news news = { 0 };

		if (try_main(t, &news.err) < 0 && !news.err.code)
			err_sys(&news.err, -EIO, "try KVM");
		fork_send(t->chan, &news, sizeof(news), -EBADF);
		_exit(0);
	}
	if (pid < 0)
		return pid;
	r = hear(t->chan, err);
	fd_close(t->chan);
	pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	fork_reap(pidfd);
	fd_close(pidfd);
	return r;
}

static void try_all(const struct vm_kit *kit, const char *bundle, const char *cmdline, uint32_t uid,
	struct accel *ret)
{
	auto_free struct try *t = calloc(1, sizeof(*t));
	size_t n = 0;

	emulated(ret, "out of memory");
	for (size_t i = 0; t && i < ARRAY_SIZE(models); i++) {
		uint64_t began = clock_mono_ns();
		struct err err;

		*t = (struct try){ .kit = kit, .bundle = bundle, .cmdline = cmdline, .uid = uid,
			.name = ret->name };
		snprintf(ret->name, sizeof(ret->name), ACCEL_KVM "%s", models[i]);
		if (boots(t, &err) == 0) {
			snprintf(ret->why, sizeof(ret->why), "a guest booted with -cpu %s in %" PRIu64 " ms",
				models[i], (clock_mono_ns() - began) / NS_PER_MS);
			return;
		}
		n += (size_t)snprintf(ret->why + n, sizeof(ret->why) - n, "%s-cpu %s: %.60s",
			n ? "; " : "/dev/kvm is there, but no guest boots with it (", models[i], err.text);
		n = MIN(n, sizeof(ret->why) - 2);
	}
	snprintf(ret->why + n, sizeof(ret->why) - n, ")");
	snprintf(ret->name, sizeof(ret->name), ACCEL_TCG);
}

/* --- what was found before --- */

static bool recall(int dir, const char *key, struct accel *ret)
{
	auto_buf struct buf text = BUF_MAX(2048);
	struct str rest, first;

	if (file_read(dir, ACCEL_FILE, &text) < 0)
		return false;
	rest = buf_str(&text);
	first = str_cut(&rest, '\n');
	return str_eq_c(first, key) &&
	       str_copy(ret->name, sizeof(ret->name), str_cut(&rest, '\n')) == 0 &&
	       str_copy(ret->why, sizeof(ret->why), str_cut(&rest, '\n')) == 0 &&
	       (accel_is_kvm(ret->name) || !strcmp(ret->name, ACCEL_TCG));
}

static void keep(int dir, const char *key, const struct accel *a)
{
	auto_buf struct buf text = BUF_MAX(2048);

	buf_fmt(&text, "%s\n%s\n%s\n", key, a->name, a->why);
	if (buf_failed(&text) == 0)
		file_replace(dir, ACCEL_FILE, buf_str(&text), 0644, false); /* else it is tried again */
}

/* What the finding depends on. */
static int key_of(const char *bundle, char ret[KEY_MAX], struct err *err)
{
	const char *const argv[] = { MACHINE_QEMU, "--version", NULL };
	char version[120];
	struct utsname u;
	int r = helper_run(argv, version, sizeof(version), err);

	if (r < 0)
		return r;
	uname(&u);
	snprintf(ret, KEY_MAX, "Linux %.60s, %.100s, %.100s", u.release, version,
		strrchr(bundle, '/') ? strrchr(bundle, '/') + 1 : bundle);
	return 0;
}

static int read_cmdline(const char *bundle, char *ret, size_t size, struct err *err)
{
	auto_buf struct buf text = BUF_MAX(4096);
	auto_fd int dir = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct str all;
	int r = dir < 0 ? -errno : file_read(dir, "cmdline", &text);

	all = buf_str(&text);
	r = r < 0 ? r : str_copy(ret, size, str_cut(&all, '\n'));
	return r < 0 ? err_sys(err, r, "read %s/cmdline", bundle) : 0;
}

static int look(const struct vm_kit *kit, uint32_t uid, struct accel *ret, struct err *err)
{
	const char *const argv[] = { kit->guest, "--dir", kit->guest_dir, "--agent", kit->agent, NULL };
	char bundle[400], key[KEY_MAX], cmdline[1024];
	auto_fd int dir = -EBADF, lock = -EBADF;
	int r = helper_run(argv, bundle, sizeof(bundle), err);

	r = r < 0 ? r : key_of(bundle, key, err);
	r = r < 0 ? r : read_cmdline(bundle, cmdline, sizeof(cmdline), err);
	if (r < 0)
		return r;
	dir = open(kit->guest_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	lock = dir < 0 ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return err_sys(err, -errno, "lock %s", kit->guest_dir);
	if (recall(dir, key, ret))
		return 0;
	try_all(kit, bundle, cmdline, uid, ret);
	keep(dir, key, ret);
	return 0;
}

void accel_choose(const struct vm_kit *kit, const char *want, uint32_t uid, struct accel *ret)
{
	auto_fd int kvm = -EBADF;
	struct err err;
	char why[200];

	if (!strcmp(want, ACCEL_TCG)) {
		emulated(ret, "vm.accel = tcg");
		return;
	}
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		snprintf(why, sizeof(why), "/dev/kvm: %s", strerror(errno));
		emulated(ret, why);
	} else if (look(kit, uid, ret, &err) < 0) {
		emulated(ret, err.text);
	}
}

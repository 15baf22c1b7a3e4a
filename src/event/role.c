/*
 * How an unprivileged role begins and how it shuts itself in.
 *
 * Boot: blocking reads of descriptor 3 in the channels' own form (chan_wire.h), each bringing one
 * named descriptor, until IPC_BOOT_DONE. Nothing foreign has been read by then, so a message out
 * of line means another build of Weir on the other end: boot fails with a sentence.
 *
 * Confinement: no_new_privs, then a seccomp filter. What every role needs is `common` below; a
 * role adds its own names. A call outside both traps; the handler answers EPERM in the call's
 * place and says so once per call number, so that a forgotten entry shows in the log instead of
 * ending the role. Two calls are refused more gently or by argument: clone3 is ENOSYS (glibc then
 * uses clone, which is allowed for threads only), and no page becomes executable.
 */
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <ucontext.h>
#include "base/fd.h"
#include "event/chan_wire.h"
#include "event/role.h"

#define ROLE_FDS_MAX 512 /* workers times listeners, maps, peers: far below this */

struct named_fd {
	char name[IPC_NAME_LEN];
	int fd;
};

struct role {
	struct ipc_boot_done info;
	unsigned int n;
	struct named_fd fds[ROLE_FDS_MAX];
};

#ifndef __has_feature /* clang's way of telling */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
/* The leak checker traces its process at exit, which a confined role may not let itself do. */
static bool confined;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return confined;
}
#define note_confined() (confined = true)
#else
#define note_confined() ((void)0)
#endif

/* --- boot --- */

static int boot_fd(struct role *r, struct chan_packet *p, struct err *err)
{
	struct ipc_boot_fd m;

	if (p->head.size != sizeof(m) || p->n_fds != 1)
		return err_set(err, -EPROTO, ERR_INTERNAL, "boot: malformed descriptor message");
	memcpy(&m, p->payload, sizeof(m));
	if (!ipc_text_ok(m.name, sizeof(m.name)))
		return err_set(err, -EPROTO, ERR_INTERNAL, "boot: unterminated descriptor name");
	if (r->n == ROLE_FDS_MAX)
		return err_set(err, -ENFILE, ERR_INTERNAL, "boot: more than %u descriptors",
			ROLE_FDS_MAX);
	memcpy(r->fds[r->n].name, m.name, sizeof(m.name));
	r->fds[r->n++].fd = take_fd(p->fds[0]);
	p->n_fds = 0;
	return 0;
}

static int boot_done(struct role *r, const struct chan_packet *p, struct err *err)
{
	if (p->head.size != sizeof(r->info))
		return err_set(err, -EPROTO, ERR_INTERNAL, "boot: malformed last message");
	memcpy(&r->info, p->payload, sizeof(r->info));
	if (r->info.version != IPC_VERSION)
		return err_set(err, -EPROTO, ERR_INTERNAL,
			"boot: weird speaks version %u between roles, this program speaks %u",
			r->info.version, IPC_VERSION);
	return 0;
}

/* 1: another message may follow; 0: boot is complete. */
static int boot_message(struct role *r, struct chan_packet *p, struct err *err)
{
	int k = chan_wire_recv(ROLE_CHAN_FD, 0, p);

	if (k == 0)
		return err_set(err, -ECONNRESET, ERR_INTERNAL, "boot: weird closed the channel");
	if (k < 0)
		return err_sys(err, k, "boot: read the channel to weird");
	k = -EPROTO;
	if (p->head.kind == CHAN_SEND && p->head.type == IPC_BOOT_FD)
		k = boot_fd(r, p, err) < 0 ? -EPROTO : 1;
	else if (p->head.kind == CHAN_SEND && p->head.type == IPC_BOOT_DONE)
		k = boot_done(r, p, err);
	else
		err_set(err, k, ERR_INTERNAL, "boot: unexpected message %u", p->head.type);
	for (unsigned int i = 0; i < p->n_fds; i++)
		fd_close(p->fds[i]);
	return k;
}

int role_boot(struct role **ret, struct err *err)
{
	auto_free struct chan_packet *p = calloc(1, sizeof(*p));
	struct role *r = calloc(1, sizeof(*r));
	int type = 0, k;
	socklen_t n = sizeof(type);

	if (!p || !r) {
		free(r);
		return err_sys(err, -ENOMEM, "boot");
	}
	if (getsockopt(ROLE_CHAN_FD, SOL_SOCKET, SO_TYPE, &type, &n) < 0 ||
		type != SOCK_SEQPACKET || fcntl(ROLE_CHAN_FD, F_SETFD, FD_CLOEXEC) < 0)
		k = err_set(err, -EBADF, ERR_INTERNAL,
			"descriptor %d is no channel: this program is started by weird", ROLE_CHAN_FD);
	else
		do
			k = boot_message(r, p, err);
		while (k > 0);
	if (k < 0) {
		role_boot_done(r);
		return k;
	}
	*ret = r;
	return 0;
}

int role_fd(struct role *r, const char *name)
{
	for (unsigned int i = 0; i < r->n; i++)
		if (r->fds[i].fd >= 0 && str_eq(str_c(r->fds[i].name), str_c(name)))
			return take_fd(r->fds[i].fd);
	return -ENOENT;
}

const struct ipc_boot_done *role_info(const struct role *r)
{
	return &r->info;
}

void role_boot_done(struct role *r)
{
	if (!r)
		return;
	for (unsigned int i = 0; i < r->n; i++)
		fd_close(r->fds[i].fd);
	free(r);
}

/* --- confinement --- */

static const char *const common[] = {
	/* bytes */
	"read", "write", "readv", "writev", "pread64", "pwrite64", "lseek", "close", "close_range",
	"recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "shutdown", "accept4",
	"getsockopt", "setsockopt", "getsockname", "getpeername", "dup", "dup3", "fcntl", "pipe2",
	"fstat", "newfstatat", "statx", "memfd_create", "ftruncate",
	/* waiting */
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "poll",
	"ppoll", "futex", "nanosleep", "clock_nanosleep", "restart_syscall", "sched_yield",
	/* memory */
	"brk", "munmap", "mremap", "madvise", "membarrier",
	/* signals, threads, ends */
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "getpid", "gettid",
	"set_robust_list", "rseq", "set_tid_address", "exit", "exit_group",
	/* knowing */
	"clock_gettime", "clock_getres", "gettimeofday", "getrandom", "uname", "sysinfo", "getcpu",
	"sched_getaffinity", "getuid", "geteuid", "getgid", "getegid", "getrusage", "getppid",
	NULL,
};

static unsigned char complained[64]; /* a bit for each of the first 512 call numbers */

/* Async-signal-safe: no stdio, no malloc. */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	static const char text[] = "seccomp: system call refused, number ";
	unsigned int nr = (unsigned int)info->si_syscall;
	int saved = errno;
	ucontext_t *uc = context;

#if defined(__x86_64__)
	uc->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
	uc->uc_mcontext.regs[0] = (unsigned long)-EPERM;
#else
#error "how does this architecture return from a system call?"
#endif
	if (nr < sizeof(complained) * 8 && !(complained[nr / 8] & 1u << nr % 8)) {
		char line[sizeof(text) + 12], *end = line + sizeof(text) - 1;
		char digits[12];
		int n = 0;

		complained[nr / 8] |= (unsigned char)(1u << nr % 8);
		memcpy(line, text, sizeof(text) - 1);
		do
			digits[n++] = (char)('0' + nr % 10);
		while (nr /= 10);
		while (n)
			*end++ = digits[--n];
		*end++ = '\n';
		if (write(STDERR_FILENO, line, (size_t)(end - line)) < 0)
			errno = saved; /* nowhere to complain */
	}
	errno = saved;
}

static int allow_names(scmp_filter_ctx ctx, const char *const *names, struct err *err)
{
	for (; *names; names++) {
		int nr = seccomp_syscall_resolve_name(*names), r;

		if (nr == __NR_SCMP_ERROR)
			return err_set(err, -EINVAL, ERR_INTERNAL,
				"seccomp: no system call is named %s", *names);
		if (nr < 0) /* known to libseccomp, absent on this architecture */
			continue;
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
		if (r < 0 && r != -EEXIST)
			return err_sys(err, r, "seccomp: allow %s", *names);
	}
	return 0;
}

/* Calls that are fine with some arguments. */
static int allow_shapes(scmp_filter_ctx ctx)
{
	static const unsigned long ioctls[] = { FIONBIO, FIOCLEX, FIONREAD, TCGETS };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++)
		r = r < 0 ? r : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
			SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, ioctls[i]));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Naming threads, and reading limits: glibc and libuv do both. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffffu, PR_SET_NAME));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, UINT64_MAX, 0));
	return r;
}

int role_confine(const char *const *syscalls, struct err *err)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER };
	scmp_filter_ctx ctx;
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(err, -errno, "set no_new_privs");
	if (sigaction(SIGSYS, &sa, NULL) < 0)
		return err_sys(err, -errno, "handle SIGSYS");
	ctx = seccomp_init(SCMP_ACT_TRAP);
	if (!ctx)
		return err_sys(err, -ENOMEM, "seccomp filter");
	r = allow_names(ctx, common, err);
	if (r == 0 && syscalls)
		r = allow_names(ctx, syscalls, err);
	if (r == 0) {
		r = allow_shapes(ctx);
		if (r == 0)
			r = seccomp_load(ctx);
		if (r < 0)
			err_sys(err, r, "install the seccomp filter");
		else
			note_confined();
	}
	seccomp_release(ctx);
	return r;
}

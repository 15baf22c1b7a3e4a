/*
 * The sandbox's system call filter.
 *
 * What is not named in `allowed` answers ENOSYS, as an older kernel would, so that the C library
 * falls back; what programs probe for by permission answers EPERM. Nested namespaces are refused
 * whichever way they are asked for (clone, unshare, setns; clone3 hides its flags in memory and is
 * ENOSYS), because a user namespace hands out the kernel's whole privileged surface. For the same
 * reason there are no mounts, keys, BPF, perf, io_uring or userfaultfd.
 *
 * Only the native ABI: i386 (whose socketcall cannot be filtered) and x32 answer ENOSYS.
 *
 * Arguments: the kernel takes 32 bits of an ioctl request or a socket family although a register
 * has 64. A comparison that refuses masks the upper half; one that allows need not, since a value
 * with upper bits set matches no allowed one.
 *
 * Core dumps: a core_pattern with a pipe runs its program on the host, as root, for a crash the
 * tenant chose. A core limit of exactly 1 byte stops that, a limit of 0 does not; so the limit is
 * 1 (inside.c) and setting it pretends to succeed.
 */
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "runtime/filter.h"
#include "runtime/sys.h"

#define auto_ctx _cleanup_(ctx_done)
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define NAMESPACES                                                                                 \
	{                                                                                          \
		CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER,           \
			CLONE_NEWPID, CLONE_NEWNET                                                 \
	}
#define NAMESPACES_ALL                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
		CLONE_NEWPID | CLONE_NEWNET)

static const char *const allowed[] = {
	/* files */
	"access", "chdir", "chmod", "chown", "chroot", "close", "close_range", "copy_file_range",
	"creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate",
	"fchdir", "fchmod", "fchmodat", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr",
	"flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync",
	"ftruncate", "futimesat", "getcwd", "getdents", "getdents64", "getxattr", "lchown",
	"lgetxattr", "link", "linkat", "listxattr", "llistxattr", "lremovexattr", "lseek",
	"lsetxattr", "lstat", "mkdir", "mkdirat", "mknod", "mknodat", "name_to_handle_at",
	"newfstatat", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64",
	"pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
	"removexattr", "rename", "renameat", "renameat2", "rmdir", "sendfile", "setxattr",
	"splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range",
	"syncfs", "tee", "truncate", "umask", "unlink", "unlinkat", "utime", "utimensat",
	"utimes", "vmsplice", "write", "writev",
	/* waiting and events */
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
	"epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "inotify_add_watch",
	"inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy",
	"io_getevents", "io_pgetevents", "io_setup", "io_submit", "pause", "pipe", "pipe2", "poll",
	"ppoll", "pselect6", "select", "signalfd", "signalfd4", "timerfd_create",
	"timerfd_gettime", "timerfd_settime",
	/* memory */
	"brk", "get_mempolicy", "madvise", "memfd_create", "mincore", "mlock", "mlock2",
	"mlockall", "mmap", "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap",
	"pkey_alloc", "pkey_free", "pkey_mprotect", "process_madvise", "remap_file_pages",
	/* processes, threads, signals */
	"arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork",
	"futex", "futex_waitv", "get_robust_list", "get_thread_area", "getcpu", "getpgid",
	"getpgrp", "getpid", "getppid", "getpriority", "getrlimit", "getrusage", "getsid",
	"gettid", "ioprio_get", "ioprio_set", "kcmp", "kill", "landlock_add_rule",
	"landlock_create_ruleset", "landlock_restrict_self", "membarrier", "modify_ldt",
	"nanosleep", "pidfd_getfd", "pidfd_open", "pidfd_send_signal", "prctl",
	"process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace", "restart_syscall",
	"rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
	"rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo",
	"sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
	"sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
	"sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp",
	"set_robust_list", "set_thread_area", "set_tid_address", "setpgid", "setpriority",
	"setsid", "sigaltstack", "sysinfo", "tgkill", "time", "times", "tkill", "uname", "vfork",
	"wait4", "waitid",
	/* identities */
	"getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid", "getuid",
	"setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid",
	"setreuid", "setuid",
	/* time */
	"adjtimex", "alarm", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep",
	"getitimer", "gettimeofday", "setitimer", "timer_create", "timer_delete",
	"timer_getoverrun", "timer_gettime", "timer_settime",
	/* sockets (socket() and socketpair(): below) */
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt",
	"listen", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt",
	"shutdown",
	/* System V and POSIX IPC, in an IPC namespace of their own */
	"mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
	"msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat",
	"shmctl", "shmdt", "shmget",
	/* with exceptions in the second filter */
	"ioctl", "prlimit64", "setrlimit",
	/* the rest */
	"getrandom",
};

/* Refused with EPERM: programs look at the errno of these to choose another way. */
static const char *const forbidden[] = {
	"acct", "add_key", "bpf", "clock_settime", "delete_module", "fanotify_init",
	"fanotify_mark", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module",
	"ioperm", "iopl", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mbind",
	"migrate_pages", "mount", "mount_setattr", "move_mount", "move_pages", "open_by_handle_at",
	"open_tree", "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "reboot",
	"request_key", "set_mempolicy", "setdomainname", "sethostname", "setns", "settimeofday",
	"swapoff", "swapon", "syslog", "umount2", "userfaultfd", "vhangup",
};

static void ctx_done(scmp_filter_ctx *ctx)
{
	seccomp_release(*ctx);
}

/* The library's macros leave a field out, which clang warns about. */
static struct scmp_arg_cmp arg(unsigned int n, enum scmp_compare op, uint64_t a, uint64_t b)
{
	return (struct scmp_arg_cmp){ .arg = n, .op = op, .datum_a = a, .datum_b = b };
}

/* A name that this libseccomp does not know is a call that stays ENOSYS. */
static int add(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned int n,
	const struct scmp_arg_cmp *args)
{
	int nr = seccomp_syscall_resolve_name(name);

	return nr == __NR_SCMP_ERROR ? 0 : seccomp_rule_add_array(ctx, action, nr, n, args);
}

static int add_namespaces(scmp_filter_ctx ctx)
{
	static const uint64_t flags[] = NAMESPACES;
	struct scmp_arg_cmp none = arg(0, SCMP_CMP_MASKED_EQ, NAMESPACES_ALL, 0);
	/* CLONE_NEWTIME shares its bit with clone's exit signal; only unshare can mean it. */
	struct scmp_arg_cmp none_time =
		arg(0, SCMP_CMP_MASKED_EQ, NAMESPACES_ALL | CLONE_NEWTIME, 0);
	struct scmp_arg_cmp time = arg(0, SCMP_CMP_MASKED_EQ, CLONE_NEWTIME, CLONE_NEWTIME);
	int r = add(ctx, SCMP_ACT_ALLOW, "clone", 1, &none);

	r = r < 0 ? r : add(ctx, SCMP_ACT_ALLOW, "unshare", 1, &none_time);
	r = r < 0 ? r : add(ctx, SCMP_ACT_ERRNO(EPERM), "unshare", 1, &time);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(flags); i++) {
		struct scmp_arg_cmp some = arg(0, SCMP_CMP_MASKED_EQ, flags[i], flags[i]);

		r = add(ctx, SCMP_ACT_ERRNO(EPERM), "clone", 1, &some);
		r = r < 0 ? r : add(ctx, SCMP_ACT_ERRNO(EPERM), "unshare", 1, &some);
	}
	return r;
}

/*
 * Unix, IPv4 and IPv6 with the protocols that policies judge, and NETLINK_ROUTE, which libc reads
 * interfaces with. No packet, vsock, crypto or Bluetooth sockets, no protocol that would load a
 * module; pairs are Unix's alone, since the kernel makes both sockets before it finds that their
 * family has no pairs. MPTCP is refused by name: Go asks for it and falls back to TCP on
 * EPROTONOSUPPORT.
 */
static int add_sockets(scmp_filter_ctx ctx)
{
	static const int inet[] = { AF_INET, AF_INET6 };
	static const int protocols[] = { 0, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6 };
	static const int polite[] = { IPPROTO_MPTCP, 33 /* DCCP */, 115 /* L2TP */, 132 /* SCTP */,
		136 /* UDP-Lite */, 255 /* raw */ };
	struct scmp_arg_cmp one = arg(0, SCMP_CMP_EQ, AF_UNIX, 0);
	struct scmp_arg_cmp two[2];
	int r = add(ctx, SCMP_ACT_ALLOW, "socket", 1, &one);

	r = r < 0 ? r : add(ctx, SCMP_ACT_ALLOW, "socketpair", 1, &one);
	one = arg(0, SCMP_CMP_NE, AF_UNIX, 0);
	r = r < 0 ? r : add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), "socketpair", 1, &one);
	for (size_t f = 0; f < ARRAY_SIZE(inet); f++) {
		two[0] = arg(0, SCMP_CMP_EQ, (uint64_t)inet[f], 0);
		for (size_t i = 0; r == 0 && i < ARRAY_SIZE(protocols); i++) {
			two[1] = arg(2, SCMP_CMP_EQ, (uint64_t)protocols[i], 0);
			r = add(ctx, SCMP_ACT_ALLOW, "socket", 2, two);
		}
		for (size_t i = 0; r == 0 && i < ARRAY_SIZE(polite); i++) {
			two[1] = arg(2, SCMP_CMP_EQ, (uint64_t)polite[i], 0);
			r = add(ctx, SCMP_ACT_ERRNO(EPROTONOSUPPORT), "socket", 2, two);
		}
	}
	two[0] = arg(0, SCMP_CMP_EQ, AF_NETLINK, 0);
	for (uint64_t p = 0; r == 0 && p < 32; p++) { /* MAX_LINKS of the kernel */
		two[1] = arg(2, SCMP_CMP_EQ, p, 0);
		r = add(ctx, p ? SCMP_ACT_ERRNO(EPROTONOSUPPORT) : SCMP_ACT_ALLOW, "socket", 2, two);
	}
	for (uint64_t family = 0; r == 0 && family <= AF_MAX; family++) {
		one = arg(0, SCMP_CMP_EQ, family, 0);
		if (family != AF_UNIX && family != AF_INET && family != AF_INET6 &&
			family != AF_NETLINK)
			r = add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), "socket", 1, &one);
	}
	return r;
}

/* Typing into a terminal for its other user (CVE-2017-5226), the console's own tricks, and line
 * disciplines, each of which is a module that anybody's terminal would load. */
static int add_ioctls(scmp_filter_ctx ctx)
{
	static const uint64_t refused[] = { TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD };
	struct scmp_arg_cmp cmp[ARRAY_SIZE(refused)];
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		cmp[i] = arg(1, SCMP_CMP_MASKED_EQ, 0xffffffffu, refused[i]);
		r = r < 0 ? r : add(ctx, SCMP_ACT_ERRNO(EPERM), "ioctl", 1, &cmp[i]);
	}
	return r;
}

static int add_core_limit(scmp_filter_ctx ctx)
{
	struct scmp_arg_cmp core[2] = { arg(0, SCMP_CMP_MASKED_EQ, 0xffffffffu, RLIMIT_CORE) };
	int r = add(ctx, SCMP_ACT_ERRNO(0), "setrlimit", 1, core);

	core[0] = arg(1, SCMP_CMP_MASKED_EQ, 0xffffffffu, RLIMIT_CORE);
	core[1] = arg(2, SCMP_CMP_NE, 0, 0);
	return r < 0 ? r : add(ctx, SCMP_ACT_ERRNO(0), "prlimit64", 2, core);
}

static int add_personality(scmp_filter_ctx ctx)
{
	static const uint64_t personas[] = { 0, 0x0040000 /* not randomised: gdb */, 0xffffffff };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(personas); i++) {
		struct scmp_arg_cmp cmp = arg(0, SCMP_CMP_EQ, personas[i], 0);

		r = add(ctx, SCMP_ACT_ALLOW, "personality", 1, &cmp);
	}
	return r;
}


static int build_allow(scmp_filter_ctx ctx)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(allowed); i++)
		r = add(ctx, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(forbidden); i++)
		r = add(ctx, SCMP_ACT_ERRNO(EPERM), forbidden[i], 0, NULL);
	r = r < 0 ? r : add_namespaces(ctx);
	r = r < 0 ? r : add_sockets(ctx);
	return r < 0 ? r : add_personality(ctx);
}

/* "Allowed but for a few arguments" cannot be said in an allow list: it is a filter of its own. */
static int build_exceptions(scmp_filter_ctx ctx)
{
	int r = add_ioctls(ctx);

	return r < 0 ? r : add_core_limit(ctx);
}

static int export(scmp_filter_ctx ctx, struct sock_filter **ret_code, unsigned short *ret_n)
{
	auto_fd int fd = memfd_create("seccomp", MFD_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return -errno;
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	if ((size_t)st.st_size / sizeof(**ret_code) > BPF_MAXINSNS)
		return -E2BIG;
	*ret_n = (unsigned short)((size_t)st.st_size / sizeof(**ret_code));
	*ret_code = malloc((size_t)st.st_size);
	return *ret_code ? fd_read_all(fd, *ret_code, (size_t)st.st_size) : -ENOMEM;
}

int filter_compile(struct filter *ret, struct err *err)
{
	static const struct {
		uint32_t otherwise, foreign_abi;
		int (*build)(scmp_filter_ctx ctx);
	} filters[FILTER_PROGRAMS] = {
		{ SCMP_ACT_ERRNO(ENOSYS), SCMP_ACT_ERRNO(ENOSYS), build_allow },
		{ SCMP_ACT_ALLOW, SCMP_ACT_ALLOW, build_exceptions },
	};
	struct filter p = { 0 };

	for (size_t i = 0; i < FILTER_PROGRAMS; i++) {
		auto_ctx scmp_filter_ctx ctx = seccomp_init(filters[i].otherwise);
		int r = ctx ? 0 : -ENOMEM;

		r = r < 0 ? r : seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, filters[i].foreign_abi);
		r = r < 0 ? r : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
		r = r < 0 ? r : filters[i].build(ctx);
		r = r < 0 ? r : export(ctx, &p.code[i], &p.n[i]);
		if (r < 0) {
			filter_done(&p);
			return err_sys(err, r, "compile the system call filter");
		}
	}
	*ret = p;
	return 0;
}

void filter_done(struct filter *p)
{
	for (size_t i = 0; i < FILTER_PROGRAMS; i++)
		free(take_ptr(p->code[i]));
}

int filter_install(const struct filter *p)
{
	for (size_t i = 0; i < FILTER_PROGRAMS; i++) {
		struct sock_fprog prog = { .len = p->n[i], .filter = p->code[i] };

		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
			return -errno;
	}
	return 0;
}

/*
 * Attempts to get out, one per name: `probe NAME [ARG]`. Each prints what became of it, "ok",
 * "ok <detail>" or the name of the errno, and exits with 0 only if the attempt succeeded.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

int probe(int argc, char **argv);

static const char *arg = "";

static long unshare_flags(int flags)
{
	return unshare(flags);
}
static long p_unshare_user(void) { return unshare_flags(CLONE_NEWUSER); }
static long p_unshare_net(void) { return unshare_flags(CLONE_NEWNET); }
static long p_unshare_mnt(void) { return unshare_flags(CLONE_NEWNS); }
static long p_unshare_time(void) { return unshare_flags(0x80); }

static long p_clone_user(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid;
}
static long p_clone3_user(void)
{
	struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		_exit(0);
	return pid;
}
static long p_setns(void)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY);

	return setns(fd, 0);
}
static long p_mount(void) { return mount("x", "/tmp", "tmpfs", 0, NULL); }
static long p_mount_cgroup(void)
{
	long r = mount("x", "/tmp", "cgroup2", 0, NULL);

	return r < 0 && errno == EBUSY ? 0 : r;
}
static long p_fsopen(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static long p_umount(void) { return umount2("/proc/sys", MNT_DETACH); }
static long p_remount(void) { return mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long p_pivot_root(void) { return syscall(SYS_pivot_root, "/", "/tmp"); }
static long p_keyctl(void) { return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -3 /* session */, 1); }
static long p_add_key(void) { return syscall(SYS_add_key, "user", "a", "b", 1, -2 /* process */); }
static long p_request_key(void)
{
	long r = syscall(SYS_request_key, "user", "no-such", NULL, 0);

	return r < 0 && errno == ENOKEY ? 0 : r; /* it looked */
}
static long p_bpf(void)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
		.max_entries = 1 };

	return syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
}
static long p_userfaultfd(void) { return syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* user mode only */); }
static long p_perf(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr),
		.config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1, .exclude_hv = 1 };

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}
static long p_io_uring(void)
{
	char params[120] = { 0 };

	return syscall(SYS_io_uring_setup, 4, params);
}
static long p_kexec(void)
{
	long r = syscall(SYS_kexec_load, 0, 0, NULL, ~0ul);

	return r < 0 && errno == EINVAL ? 0 : r;
}
static long p_open_by_handle(void)
{
	struct {
		struct file_handle h;
		char space[128];
	} f = { .h.handle_bytes = 128 };
	int id, at = open("/run", O_RDONLY | O_DIRECTORY); /* tmpfs has handles, overlayfs may not */

	if (name_to_handle_at(AT_FDCWD, "/run/lock", &f.h, &id, 0) < 0)
		return -1;
	return syscall(SYS_open_by_handle_at, at, &f.h, O_RDONLY);
}

/* A pseudo terminal of our own as controlling terminal, then a byte typed into it. */
static long type_byte(unsigned long request)
{
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), zero = 0, n, slave;
	char name[32];

	if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCGPTN, &n) < 0)
		return -2;
	snprintf(name, sizeof(name), "/dev/pts/%d", n);
	setsid();
	slave = open(name, O_RDWR);
	if (slave < 0)
		return -2;
	ioctl(slave, TIOCSCTTY, 0);
	return syscall(SYS_ioctl, slave, request, "x");
}
static long p_tiocsti(void) { return type_byte(TIOCSTI); }
static long p_tiocsti_high(void) { return type_byte(TIOCSTI | 1ul << 32); } /* CVE-2019-7303 */
static long p_tioclinux(void)
{
	char sub[2] = { 6, 0 };
	long r = syscall(SYS_ioctl, open("/dev/ptmx", O_RDWR | O_NOCTTY), TIOCLINUX, sub);

	return r < 0 && errno == ENOTTY ? 0 : r; /* the driver was asked */
}

/* The discipline it has already: whoever may ask for that may ask for any. */
static long set_discipline(unsigned long request)
{
	int number = 0;

	return syscall(SYS_ioctl, open("/dev/ptmx", O_RDWR | O_NOCTTY), request, &number);
}
static long p_tiocsetd(void) { return set_discipline(TIOCSETD); }
static long p_tiocsetd_high(void) { return set_discipline(TIOCSETD | 1ul << 32); }
static long p_tiocgetd(void) { return set_discipline(TIOCGETD); }

static long pair(unsigned long family)
{
	int p[2];

	return syscall(SYS_socketpair, family, SOCK_STREAM, 0, p);
}
static long p_pair_unix(void) { return pair(AF_UNIX); }
static long p_pair_inet(void) { return pair(AF_INET); }
static long p_pair_high(void) { return pair(AF_INET | 1ul << 32); }
static long p_packet(void) { return socket(AF_PACKET, SOCK_RAW, htons(3)); }
static long p_vsock(void)
{
	long r = socket(40, SOCK_STREAM, 0);

	return r < 0 && errno == EAFNOSUPPORT ? -3 : r;
}
static long p_alg(void) { return socket(38, SOCK_SEQPACKET, 0); }
static long p_raw(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static long p_sctp(void) { return socket(AF_INET, SOCK_STREAM, 132); }
static long p_netlink_nft(void) { return socket(AF_NETLINK, SOCK_RAW, 12); }
/* CVE-2022-1015: nf_tables, with all rights in a user namespace of one's own. */
static long p_nft_nested(void)
{
	return unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 ? -1 : p_netlink_nft();
}
static long p_netlink_route(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static long p_family_high(void) { return syscall(SYS_socket, AF_PACKET | 1ul << 32, SOCK_RAW, 0); }
static long p_ping(void) { return socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP); }

static long from_kernel(long r)
{
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return -1;
	}
	return r;
}
static long p_i386(void) /* getpid by the 32-bit gate */
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
	return from_kernel((int)r);
}
static long p_x32(void) { return syscall(0x40000000L + 39); }
static long p_personality(void) { return personality(0x0400000 /* READ_IMPLIES_EXEC */); }
static long p_sethostname(void) { return sethostname("x", 1); }
static long p_mknod(void)
{
	unlink("/tmp/node");
	if (mknod("/tmp/node", S_IFCHR | 0666, makedev(1, 8)) < 0)
		return -1;
	return open("/tmp/node", O_RDONLY);
}
static long p_open(void) { return open(arg, O_RDONLY); }
static long p_open_write(void) { return open(arg, O_WRONLY); }
/* What it holds, written back: harmless where it works. */
static long p_rewrite(void)
{
	char text[4096];
	int fd = open(arg, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text));

	fd = open(arg, O_WRONLY);
	return fd < 0 || n < 0 ? -1 : write(fd, text, (size_t)n);
}
static long p_seals(void)
{
	struct stat st;
	int fd = open("/proc/1/exe", O_RDONLY), seals = fcntl(fd, F_GET_SEALS);

	fstat(fd, &st);
	printf("links=%lu sealed=%d ", (unsigned long)st.st_nlink, seals >= 0 && seals & F_SEAL_WRITE);
	return open("/proc/1/exe", O_WRONLY);
}
static long p_core_limit(void)
{
	struct rlimit none = { 0, 0 }, now;

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -1;
	getrlimit(RLIMIT_CORE, &now);
	printf("core=%lu ", (unsigned long)now.rlim_cur);
	return 0;
}
static long p_inotify(void)
{
	int n = 0;

	while (inotify_init1(0) >= 0)
		n++;
	printf("inotify=%d ", n);
	return 0;
}
static long p_oom_score(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	return fd < 0 ? -1 : write(fd, "-1000", 5);
}

/* --- bombs: how far they get --- */

static long p_forks(void)
{
	long n = 0, limit = atol(arg);
	pid_t pid = 0;

	while (n < limit && (pid = fork()) > 0)
		n++;
	if (pid == 0 && n < limit)
		for (;;)
			pause();
	printf("forks=%ld ", n);
	fflush(stdout);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	return pid < 0 ? -1 : 0;
}
static long p_memory(void)
{
	size_t n = (size_t)atol(arg) << 20;
	volatile char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < n; i += 4096)
		p[i] = 1;
	return 0;
}
static long p_disk(void)
{
	static char block[1 << 20];
	long n = 0, limit = atol(arg) << 20;
	int fd = open("/bomb", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t k = 0;

	memset(block, 7, sizeof(block));
	while (n < limit && (k = write(fd, block, sizeof(block))) > 0)
		n += k;
	if (k >= 0 && fsync(fd) < 0)
		k = -1;
	printf("mib=%ld ", n >> 20);
	return k < 0 ? -1 : 0;
}
static long p_inodes(void)
{
	long n = 0, limit = atol(arg);
	char name[32];
	int fd = 0;

	mkdir("/many", 0700);
	while (n < limit && fd >= 0) {
		snprintf(name, sizeof(name), "/many/%ld", n);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
		if (fd >= 0) {
			close(fd);
			n++;
		}
	}
	printf("files=%ld ", n);
	return fd < 0 ? -1 : 0;
}

static const struct {
	const char *name;
	long (*fn)(void);
} probes[] = {
	{ "unshare-user", p_unshare_user }, { "unshare-net", p_unshare_net },
	{ "unshare-mnt", p_unshare_mnt }, { "unshare-time", p_unshare_time },
	{ "clone-user", p_clone_user }, { "clone3-user", p_clone3_user }, { "setns", p_setns },
	{ "mount", p_mount }, { "mount-cgroup", p_mount_cgroup }, { "fsopen", p_fsopen },
	{ "umount", p_umount }, { "remount", p_remount }, { "pivot-root", p_pivot_root },
	{ "keyctl", p_keyctl }, { "add-key", p_add_key }, { "request-key", p_request_key },
	{ "bpf", p_bpf }, { "userfaultfd", p_userfaultfd }, { "perf", p_perf },
	{ "io-uring", p_io_uring }, { "kexec", p_kexec }, { "open-by-handle", p_open_by_handle },
	{ "tiocsti", p_tiocsti }, { "tiocsti-high", p_tiocsti_high }, { "tioclinux", p_tioclinux },
	{ "tiocsetd", p_tiocsetd }, { "tiocsetd-high", p_tiocsetd_high }, { "tiocgetd", p_tiocgetd },
	{ "pair-unix", p_pair_unix }, { "pair-inet", p_pair_inet }, { "pair-high", p_pair_high },
	{ "packet", p_packet }, { "vsock", p_vsock }, { "alg", p_alg }, { "raw", p_raw },
	{ "sctp", p_sctp }, { "netlink-nft", p_netlink_nft }, { "netlink-route", p_netlink_route },
	{ "nft-nested", p_nft_nested },
	{ "family-high", p_family_high }, { "ping", p_ping }, { "i386", p_i386 }, { "x32", p_x32 },
	{ "personality", p_personality }, { "sethostname", p_sethostname }, { "mknod", p_mknod },
	{ "open", p_open }, { "open-write", p_open_write }, { "rewrite", p_rewrite },
	{ "seals", p_seals }, { "core-limit", p_core_limit }, { "inotify", p_inotify }, { "oom-score", p_oom_score },
	{ "forks", p_forks }, { "memory", p_memory }, { "disk", p_disk }, { "inodes", p_inodes },
};

int probe(int argc, char **argv)
{
	arg = argc > 1 ? argv[1] : "";
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		long r;

		if (strcmp(probes[i].name, argv[0]) != 0)
			continue;
		r = probes[i].fn();
		printf("%s\n", r >= 0 ? "ok" : strerrorname_np(errno));
		return r < 0;
	}
	printf("no such probe\n");
	return 2;
}

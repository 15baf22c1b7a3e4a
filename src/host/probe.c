/* Checks of the machine: see the header. */
#include <fcntl.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/fd.h"
#include "host/netns.h"
#include "host/nft.h"
#include "host/probe.h"
#include "host/steer.h"
#include "host/sysctl.h"

#define FILES_BASE 512 /* a role's own, beside four per ready slot, or three for two clients */

static int check_root(const struct probe_env *env, struct err *err)
{
	if (geteuid() != 0)
		return err_set(
			err, -EPERM, ERR_INVALID, "weird runs as root; you are user %u", geteuid());
	return 0;
}

static int check_user(const struct probe_env *env, struct err *err)
{
	const struct passwd *pw = getpwnam(env->user);

	if (!pw)
		return err_set(err, -ENOENT, ERR_INVALID,
			"there is no user \"%s\" (daemon.user); create it: useradd --system "
			"--no-create-home "
			"--shell /usr/sbin/nologin %s",
			env->user, env->user);
	if (pw->pw_uid == 0)
		return err_set(err, -EINVAL, ERR_INVALID,
			"daemon.user is \"%s\", which is root: the api and edge roles need a user "
			"without "
			"rights",
			env->user);
	return 0;
}

static int check_files(const struct probe_env *env, struct err *err)
{
	struct rlimit rl;
	/* Of clients, half are talking to an agent. */
	rlim_t want = FILES_BASE + MAX(4 * (rlim_t)env->sandboxes, (rlim_t)env->connections * 3 / 2);
	rlim_t had;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return err_sys(err, -errno, "limit of open files");
	/* Root may raise its own hard limit, unless it was kept from that too. */
	had = rl.rlim_max;
	rl.rlim_cur = rl.rlim_max = MAX(had, want);
	if (setrlimit(RLIMIT_NOFILE, &rl) == 0)
		return 0;
	if (had >= want)
		return err_sys(err, -errno, "limit of open files");
	return err_set(err, -EMFILE, ERR_INVALID,
		"the limit of open files is %llu, and %llu are needed: set LimitNOFILE= in "
		"weird.service, or ulimit -Hn, or lower api.connections_max",
		(unsigned long long)had, (unsigned long long)want);
}

/* What a kernel of the right age may still be kept from doing, by a filter around us: the reply to
 * arguments that mean nothing tells whether anybody listens. */
static int check_calls(const struct probe_env *env, struct err *err)
{
	static const struct {
		const char *name;
		long number;
		long arg[6];
	} calls[] = {
		{ "clone3", SYS_clone3, { 0 } },
		{ "close_range", SYS_close_range, { 1, 0 } },
		{ "move_mount", SYS_move_mount, { -1, 0, -1, 0, -1 } },
		{ "open_tree", SYS_open_tree, { -1, 0, -1 } },
		{ "pidfd_open", SYS_pidfd_open, { -1 } },
		{ "pidfd_send_signal", SYS_pidfd_send_signal, { -1 } },
		{ "pivot_root", SYS_pivot_root, { 0 } },
		{ "setns", SYS_setns, { -1 } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		const long *a = calls[i].arg;

		if (syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]) >= 0 ||
			(errno != ENOSYS && errno != EPERM))
			continue;
		return err_set(err, -errno, ERR_INVALID,
			"the system call %s is not to be had (%s): the kernel is older than Linux "
			"5.12, or a filter or a missing CAP_SYS_ADMIN stands before it",
			calls[i].name, strerror(errno));
	}
	return 0;
}

static int check_links(const struct probe_env *env, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME, v2 = NETNS_HOME;
	auto_fd int a = -EBADF, b = -EBADF;
	auto_rtnl struct rtnl n = RTNL_NONE;
	int r = netns_visit_new(&v, &a);

	if (r == 0)
		r = netns_visit_new(&v2, &b);
	if (r < 0)
		return err_sys(err, r,
			"cannot make a network namespace (CAP_SYS_ADMIN, and a kernel with "
			"CONFIG_NET_NS)");
	r = rtnl_open(&n);
	if (r == 0)
		r = link_veth(&n, (struct link_end){ "a", NULL }, (struct link_end){ "b", NULL }, a,
			0, err);
	return r < 0 ? err_wrap(err, r,
			       "cannot make a veth pair (CAP_NET_ADMIN, CONFIG_VETH; modprobe "
			       "veth)")
		     : 0;
}

static int check_sysctls(const struct probe_env *env, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_fd int ns = -EBADF;
	int r = netns_visit_new(&v, &ns);

	if (r < 0)
		return err_sys(err, r, "network namespace");
	r = sysctl_router(env->ipv6 && sysctl_exists("net/ipv6/conf/all/forwarding"), err);
	if (r == 0)
		r = sysctl_slot(false, err);
	return r < 0 ? err_wrap(err, r, "/proc/sys must be writable") : 0;
}

static int check_steering(const struct probe_env *env, struct err *err)
{
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_fd int ns = -EBADF;
	auto_rtnl struct rtnl n = RTNL_NONE;
	struct steer_sockets s = STEER_NONE;
	bool ipv6;
	int r = netns_visit_new(&v, &ns);

	if (r == 0)
		r = rtnl_open(&n);
	if (r < 0)
		return err_sys(err, r, "network namespace");
	ipv6 = env->ipv6 && sysctl_exists("net/ipv6/conf/all/forwarding");
	r = steer_routes(&n, ipv6, err);
	if (r < 0)
		return err_wrap(err, r,
			"the kernel lacks policy routing (CONFIG_IP_MULTIPLE_TABLES, and the IPv6 "
			"one)");
	r = steer_open(ipv6, &s, err);
	steer_close(&s);
	return r < 0 ? err_wrap(err, r, "cannot make transparent sockets (CAP_NET_ADMIN)") : 0;
}

static int check_nft(const struct probe_env *env, struct err *err)
{
	static const struct prefix range = { .ip = { .family = 4, .a = { 10, 60 } }, .len = 16 };
	auto_netns struct netns_visit v = NETNS_HOME;
	auto_fd int ns = -EBADF;
	auto_buf struct buf script = BUF_MAX(8192);
	int r = netns_visit_new(&v, &ns);

	if (r < 0)
		return err_sys(err, r, "network namespace");
	r = nft_script("probe", "uplink", range, (struct prefix){ .len = 0 }, NULL, 0, &script);
	if (r == 0)
		r = nft_load(buf_str(&script), err);
	return r < 0 ? err_wrap(err, r,
			       "masquerading needs the package nftables and a kernel with "
			       "nf_tables, "
			       "nft_masq and nft_ct")
		     : 0;
}

/* The first line of a small file of /sys is not "0". */
static bool sysfs_on(const char *path)
{
	auto_buf struct buf b = BUF_MAX(64);

	return file_read(AT_FDCWD, path, &b) == 0 && b.n && b.p[0] != '0';
}

static int note_ksm(const struct probe_env *env, struct err *err)
{
	if (!sysfs_on("/sys/kernel/mm/ksm/run"))
		return 0;
	return err_set(err, -EPERM, ERR_INVALID,
		"kernel samepage merging is on: sandboxes can learn from its timing what others "
		"hold in "
		"memory; echo 2 > /sys/kernel/mm/ksm/run");
}

static int note_smt(const struct probe_env *env, struct err *err)
{
	if (!sysfs_on("/sys/devices/system/cpu/smt/active"))
		return 0;
	return err_set(err, -EPERM, ERR_INVALID,
		"SMT is on: sandboxes of different users may share a core's caches; where that "
		"matters, "
		"boot with nosmt");
}

const struct probe_check probe_checks[] = {
	{ "root", check_root, false },
	{ "user", check_user, false },
	{ "open files", check_files, false },
	{ "system calls", check_calls, false },
	{ "network namespaces and veth", check_links, false },
	{ "network parameters", check_sysctls, false },
	{ "steering of port 53", check_steering, false },
	{ "nft and masquerading", check_nft, false },
	{ "samepage merging", note_ksm, true },
	{ "SMT", note_smt, true },
};
const size_t probe_n_checks = ARRAY_SIZE(probe_checks);

int probe_run(const struct probe_check *checks, size_t n, const struct probe_env *env,
	struct buf *out, struct err *err)
{
	int failed = 0;

	for (size_t i = 0; i < n; i++) {
		struct err e = { .code = 0 };
		int r = checks[i].fn(env, &e);

		if (out)
			buf_fmt(out, "%-4s  %s%s%s\n",
				r == 0		 ? "ok"
				: checks[i].note ? "note"
						 : "FAIL",
				checks[i].name, e.text[0] ? ": " : "", e.text);
		if (r == 0 || checks[i].note || failed)
			continue;
		failed = r;
		if (err)
			*err = e;
		if (!out) /* the first is reason enough, and later ones may rely on it */
			break;
	}
	return failed;
}

/* QEMU's jail: see the header. */
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/fd.h"
#include "runtime/vm/jail.h"
#include "runtime/sys.h"

#define USR	 "/usr"
#define PROC	 "/proc"
#define DEV	 "/dev"
#define FDS_AWAY 32 /* where descriptors wait while they are put in order */

/* Of a usr-merged system: the loader's names. */
static const char *const links[] = { "lib", "lib64", "lib32", "bin", "sbin" };

static int attach(int mnt, const char *dir, struct err *err)
{
	auto_fd int at = -EBADF;
	int r;

	if (mkdir(dir, 0755) < 0)
		return err_sys(err, -errno, "make %s in the jail", dir);
	at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = at < 0 ? -errno : mount_on(mnt, at);
	return r < 0 ? err_sys(err, r, "attach %s in the jail", dir) : 0;
}

/* A directory of the host as a detached read-only mount. */
static int take(const char *path, struct err *err)
{
	auto_fd int mnt = mount_copy(AT_FDCWD, path);
	int r = mnt < 0 ? mnt
			: mount_attr(mnt, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);

	return r < 0 ? err_sys(err, r, "take %s", path) : take_fd(mnt);
}

/* One device, of one user's. */
static int attach_kvm(dev_t kvm, uint32_t uid, struct err *err)
{
	const struct mount_opt opts[] = { { "mode", "755" }, { "size", "64k" } };
	auto_fd int dev = mount_new("tmpfs", opts, ARRAY_SIZE(opts), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);

	if (dev < 0)
		return err_sys(err, dev, "make /dev of the jail");
	if (mknodat(dev, "kvm", S_IFCHR | 0600, kvm) < 0 || fchownat(dev, "kvm", uid, uid, 0) < 0)
		return err_sys(err, -errno, "make /dev/kvm in the jail");
	return attach(dev, DEV, err);
}

int jail_make(const char *run_dir, const char *guest_dir, uint32_t kvm_uid, struct err *err)
{
	const struct mount_opt opts[] = { { "mode", "755" }, { "size", "64k" } };
	auto_fd int usr = -EBADF, guest = -EBADF, tmp = -EBADF, at = -EBADF;
	struct stat kvm;
	int r;

	if (kvm_uid && stat("/dev/kvm", &kvm) < 0)
		return err_sys(err, -errno, "look at /dev/kvm");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(err, -errno, "make a mount namespace");
	if ((r = usr = take(USR, err)) < 0 || (r = guest = take(guest_dir, err)) < 0)
		return r;
	tmp = mount_new("tmpfs", opts, ARRAY_SIZE(opts),
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (tmp < 0)
		return err_sys(err, tmp, "make the jail");
	at = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = at < 0 ? -errno : mount_on(tmp, at);
	if (r < 0)
		return err_sys(err, r, "attach the jail on %s", run_dir);
	if (fchdir(tmp) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(err, -errno, "enter the jail");
	if ((r = attach(usr, USR, err)) < 0 || (r = attach(guest, MACHINE_GUEST_DIR, err)) < 0 ||
		(kvm_uid && (r = attach_kvm(kvm.st_rdev, kvm_uid, err)) < 0))
		return r;
	if (mkdir(PROC, 0755) < 0)
		return err_sys(err, -errno, "make " PROC " in the jail");
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		char to[32];

		snprintf(to, sizeof(to), "usr/%s", links[i]);
		if (symlink(to, links[i]) < 0)
			return err_sys(err, -errno, "link %s in the jail", links[i]);
	}
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		    NULL) < 0)
		return err_sys(err, -errno, "close the jail");
	return 0;
}

int jail_drop(uint32_t uid)
{
	const struct rlimit none = { 1, 1 }; /* why 1: filter.c */

	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	return 0;
}

#define NONE_OF(call)                                                                                 \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1),                                        \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

int jail_mute(void)
{
	static const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* x32 */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		NONE_OF(socket), NONE_OF(socketpair), NONE_OF(execve), NONE_OF(execveat),
		NONE_OF(fork), NONE_OF(vfork), NONE_OF(clone), NONE_OF(clone3), NONE_OF(ptrace),
		NONE_OF(process_vm_readv), NONE_OF(process_vm_writev), NONE_OF(pidfd_getfd),
		NONE_OF(unshare), NONE_OF(setns), NONE_OF(mount), NONE_OF(fsopen),
		NONE_OF(open_tree), NONE_OF(bpf), NONE_OF(perf_event_open), NONE_OF(userfaultfd),
		NONE_OF(io_uring_setup), NONE_OF(add_key), NONE_OF(request_key), NONE_OF(keyctl),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { .len = ARRAY_SIZE(code),
		.filter = (struct sock_filter *)(uintptr_t)code };

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0 ? -errno : 0;
}

/* Put them at their numbers: away first, so that none is overwritten before its turn. */
static int arrange(const int fds[MACHINE_FDS_END])
{
	int away[MACHINE_FDS_END];

	for (int i = 0; i < MACHINE_FDS_END; i++) {
		away[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FDS_AWAY);
		if (away[i] < 0)
			return -errno;
	}
	for (int i = 0; i < MACHINE_FDS_END; i++)
		if (dup2(away[i], i) < 0)
			return -errno;
	return close_range(MACHINE_FDS_END, ~0u, 0) < 0 ? -errno : 0;
}

/* Itself alone: by /proc/self/fd it opens its memory. */
static int proc_mount(void)
{
	const struct mount_opt opts[] = { { "subset", "pid" } };
	auto_fd int at = open(PROC, O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_fd int mnt = mount_new("proc", opts, ARRAY_SIZE(opts),
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);

	return at < 0 ? -errno : mnt < 0 ? mnt : mount_on(mnt, at);
}

_noreturn_ static void become(const struct machine_line *line, const struct jail_who *who,
	const int fds[MACHINE_FDS_END])
{
	static char *const env[] = { (char *)"PATH=/usr/bin", (char *)"LANG=C", NULL };
	int r = proc_mount();

	r = r < 0 ? r : arrange(fds);
	if (r == 0 && setsid() < 0)
		r = -errno;
	r = r < 0 ? r : jail_drop(who->uid);
	r = r < 0 ? r : filter_install(who->filter);
	if (r == 0) {
		execve(MACHINE_QEMU, (char *const *)(uintptr_t)line->argv, env);
		r = -errno;
	}
	dprintf(STDERR_FILENO, "cannot start " MACHINE_QEMU ": %s\n", strerror(-r));
	_exit(126);
}

int jail_qemu(const struct machine_line *line, const struct jail_who *who, const int fds[MACHINE_FDS_END],
	int *ret_pidfd, struct err *err)
{
	pid_t pid = sys_clone3(CLONE_PARENT | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		0, -1, ret_pidfd);

	if (pid == 0)
		become(line, who, fds);
	return pid < 0 ? err_sys(err, pid, "make QEMU's process") : pid;
}

int jail_empty(struct err *err)
{
	if (umount2(MACHINE_GUEST_DIR, MNT_DETACH) < 0 || umount2(USR, MNT_DETACH) < 0 ||
		umount2(PROC, MNT_DETACH) < 0 ||
		(umount2(DEV, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)) /* no KVM */
		return err_sys(err, -errno, "empty QEMU's root");
	return 0;
}

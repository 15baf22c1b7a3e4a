/* Knowing a process again: see the header. */
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "runtime/known.h"
#include "runtime/sys.h"

int known_boot(char ret[static 40])
{
	auto_buf struct buf boot = BUF_MAX(128);
	struct str line;
	int r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &boot);

	line = buf_str(&boot);
	return r < 0 ? r : str_copy(ret, 40, str_cut(&line, '\n'));
}

static int start_time(pid_t pid, uint64_t *ret)
{
	auto_buf struct buf text = BUF_MAX(4096);
	struct str rest;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = file_read(AT_FDCWD, path, &text);
	if (r < 0)
		return r;
	rest = buf_str(&text);
	for (ssize_t i = (ssize_t)rest.n - 1; i >= 0; i--) /* the name may hold anything, also ')' */
		if (rest.p[i] == ')') {
			rest = str_skip(rest, (size_t)i + 2);
			break;
		}
	for (int field = 3; field < 22; field++)
		str_cut(&rest, ' ');
	return str_u64(str_cut(&rest, ' '), UINT64_MAX, ret);
}

int known_start(struct known *k)
{
	return start_time(k->pid, &k->started);
}

int known_write(const struct known *k, struct buf *out)
{
	buf_fmt(out,
		"boot=%s\npid=%d\nstarted=%" PRIu64 "\ncgroup=%s\nslot=%u\nmem_mib=%u\n",
		k->boot, k->pid, k->started, k->cgroup, k->slot, k->mem_mib);
	return buf_failed(out);
}

int known_read(struct str text, const char *prefix, struct known *ret)
{
	uint64_t pid = 0, slot = 0, mem = 0;
	struct known k = { .pidfd = -EBADF, .status = -1 };
	int bad = 0;

	while (text.n) {
		struct str value = str_cut(&text, '\n'), key = str_cut(&value, '=');

		if (str_eq_c(key, "boot"))
			bad |= str_copy(k.boot, sizeof(k.boot), value);
		else if (str_eq_c(key, "cgroup"))
			bad |= str_copy(k.cgroup, sizeof(k.cgroup), value);
		else if (str_eq_c(key, "pid"))
			bad |= str_u64(value, INT32_MAX, &pid);
		else if (str_eq_c(key, "started"))
			bad |= str_u64(value, UINT64_MAX, &k.started);
		else if (str_eq_c(key, "slot"))
			bad |= str_u64(value, UINT32_MAX, &slot);
		else if (str_eq_c(key, "mem_mib"))
			bad |= str_u64(value, UINT32_MAX, &mem);
	}
	if (bad || !str_starts(str_c(k.cgroup), str_c(prefix)) || strchr(k.cgroup, '/'))
		return -EINVAL;
	k.pid = (pid_t)pid;
	k.slot = (uint32_t)slot;
	k.mem_mib = (uint32_t)mem;
	*ret = k;
	return 0;
}

int known_find(const struct known *k, const char *boot, struct cgroups *cg)
{
	auto_fd int pidfd = -EBADF;
	struct pollfd ended = { .events = POLLIN };
	uint64_t started;

	if (strcmp(k->boot, boot) != 0 || k->pid <= 1)
		return -ESRCH;
	pidfd = pidfd_open(k->pid, 0);
	if (pidfd < 0)
		return -ESRCH;
	/* With the descriptor held the id cannot be given to another, so these speak of it alone. */
	if (start_time(k->pid, &started) < 0 || started != k->started ||
		!cgroup_has(cg, k->cgroup, k->pid))
		return -ESRCH;
	ended.fd = pidfd; /* a zombie that nobody has waited for yet */
	return poll(&ended, 1, 0) > 0 ? -ESRCH : take_fd(pidfd);
}

int32_t known_reap(int pidfd)
{
	siginfo_t si = { 0 };

	if (pidfd < 0 || waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | __WALL | WNOHANG) < 0 ||
		si.si_pid == 0)
		return -1;
	return si.si_code == CLD_EXITED ? (si.si_status & 0xff) << 8 : si.si_status & 0x7f;
}

int known_kill(const struct known *k, struct cgroups *cg)
{
	int r = k->cgroup[0] ? cgroup_kill(cg, k->cgroup) : -ENOENT;

	/* A container's first process takes its namespace along, also what left the group's sight. */
	if (k->pidfd >= 0 && pidfd_send_signal(k->pidfd, SIGKILL, NULL, 0) == 0)
		r = 0;
	return r == -ENOENT ? 0 : r;
}

/* How it ended: while its group is there to tell. */
static void autopsy(struct known *k, struct cgroups *cg)
{
	k->status = known_reap(k->pidfd);
	k->oom = k->cgroup[0] && cgroup_oom(cg, k->cgroup) &&
		 (k->status == -1 || (k->status & 0x7f) == SIGKILL);
}

int known_settle(struct known *k, struct cgroups *cg, struct err *err)
{
	if (!k->settling)
		autopsy(k, cg);
	return k->cgroup[0] ? cgroup_settle(cg, k->cgroup, &k->settling, err) : 0;
}

int known_end(struct known *k, struct cgroups *cg, int32_t *ret_status, bool *ret_oom,
	struct err *err)
{
	int r = 0;

	if (!k->settling) {
		autopsy(k, cg);
		r = k->cgroup[0] ? cgroup_remove(cg, k->cgroup, err) : 0;
	}
	if (k->status == -1)
		k->status = known_reap(k->pidfd);
	*ret_status = k->status;
	*ret_oom = k->oom;
	return r;
}

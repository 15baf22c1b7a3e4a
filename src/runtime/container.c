/*
 * Containers: the runtime that shares the host's kernel.
 *
 * A box is a first process known by a pidfd, a control group and a writable layer; everything
 * else a sandbox has (namespaces, mounts, loop device, overlay) ends with its last process. That
 * is what makes ending one simple and a crash harmless: after kill -9 of the host role the kernel
 * still has complete sandboxes, parked starters die with us, and sweep() finds the rest by the
 * names of control groups.
 *
 * A process id is never believed: a box is adopted only if the machine has not rebooted, the
 * process has the start time on record and is in the box's control group.
 *
 * The pool holds parked starters (starter.h) made for the disk size that was asked for last: sizes
 * come from few shapes. A start that finds none of its size forks one and waits for it.
 */
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "base/fd.h"
#include "base/ulid.h"
#include "runtime/cgroup.h"
#include "runtime/image.h"
#include "runtime/layer.h"
#include "runtime/lift.h"
#include "runtime/runtime.h"
#include "runtime/starter.h"
#include "runtime/sys.h"

#define POOL_MAX     64
#define RECORD_MAX   1024
#define AGENT_MAX    (32 << 20)
#define DISK_DEFAULT 1024 /* MiB; what the pool is made for until the first spawn */

struct runtime {
	struct starter_kit kit;
	char image_dir[256];
	uint32_t uid_base;
	uint32_t disk_mib; /* the pool's */
	struct starter pool[POOL_MAX];
	size_t pooled;
	struct runtime_box *boxes;
	char boot_id[40];
};

struct runtime_box {
	struct runtime *rt;
	struct runtime_box *next;
	char id[IPC_ID_LEN];
	char cgroup[40];
	uint32_t slot, disk_mib;
	pid_t pid;
	uint64_t started; /* field 22 of /proc/<pid>/stat */
	int pidfd;
	bool reaped;
	int32_t status;
};

#ifdef WEIR_LIFT
unsigned int lifted;
#endif

/* --- opening --- */

static int need_kernel(struct err *err)
{
	const uint32_t answer_errno = SECCOMP_RET_ERRNO;
	auto_fd int self = -EBADF, userns = -EBADF, overlay = -EBADF;

	self = sys_openat2(AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY, 0, RESOLVE_NO_MAGICLINKS);
	if (self < 0)
		return err_set(err, self, ERR_UNSUPPORTED,
			"the kernel lacks openat2, or /proc is not mounted (Linux 5.12 or later)");
	userns = openat(self, "ns/user", O_RDONLY | O_CLOEXEC);
	if (userns < 0)
		return err_set(err, -errno, ERR_UNSUPPORTED, "the kernel lacks user namespaces");
	overlay = fsopen("overlay", FSOPEN_CLOEXEC);
	if (overlay < 0)
		return err_set(err, -errno, ERR_UNSUPPORTED,
			"the kernel lacks overlayfs or the mount API of Linux 5.2: modprobe overlay");
	if (mount_setattr(-1, "", 0, NULL, 0) < 0 && errno == ENOSYS)
		return err_set(err, -ENOSYS, ERR_UNSUPPORTED,
			"the kernel lacks id-mapped mounts (Linux 5.12 or later)");
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &answer_errno) < 0)
		return err_set(err, -errno, ERR_UNSUPPORTED,
			"the kernel lacks seccomp filters (CONFIG_SECCOMP_FILTER)");
	return 0;
}

static int read_agent(const char *path, int *ret, struct err *err)
{
	static const unsigned int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	auto_fd int file = open(path, O_RDONLY | O_CLOEXEC);
	auto_fd int mem = -EBADF;
	struct stat st;

	if (file < 0 || fstat(file, &st) < 0)
		return err_sys(err, -errno, "open the agent %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > AGENT_MAX)
		return err_set(err, -EINVAL, ERR_INVALID, "%s is not an agent", path);
	if (LIFTED(LIFT_SEALS)) {
		*ret = take_fd(file);
		return 0;
	}
	mem = memfd_create("weir-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x10 /* MFD_EXEC */);
	if (mem < 0 && errno == EINVAL) /* before Linux 6.3 every memory file can be executed */
		mem = memfd_create("weir-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (mem < 0)
		return err_sys(err, -errno, "make a memory file");
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = copy_file_range(file, NULL, mem, NULL, (size_t)left, 0);
		char chunk[65536];

		if (n < 0) { /* across file systems some kernels refuse */
			n = read(file, chunk, sizeof(chunk));
			if (n > 0 && fd_write_all(mem, chunk, (size_t)n) < 0)
				n = -1;
		}
		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EIO, "read the agent %s", path);
		left -= n;
	}
	if (fcntl(mem, F_ADD_SEALS, seals) < 0)
		return err_sys(err, -errno, "seal the agent");
	*ret = take_fd(mem);
	return 0;
}

static void container_close(struct runtime *rt);

static int container_open(const struct runtime_env *env, struct runtime **ret, struct err *err)
{
	struct runtime *rt;
	auto_buf struct buf boot = BUF_MAX(128);
	struct str line;
	int r = need_kernel(err);

	if (r < 0)
		return r;
	rt = calloc(1, sizeof(*rt));
	if (!rt)
		return err_sys(err, -ENOMEM, "container runtime");
	rt->kit.agent = -EBADF;
	rt->uid_base = env->uid_base;
	rt->disk_mib = DISK_DEFAULT;
	r = str_copy(rt->image_dir, sizeof(rt->image_dir), str_c(env->image_dir));
	r = r < 0 ? r : str_copy(rt->kit.run_dir, sizeof(rt->kit.run_dir), str_c(env->run_dir));
	r = r < 0 ? r : path_mkdirs(env->run_dir, 0755);
	r = r < 0 ? r : file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &boot);
	if (r == 0) {
		line = buf_str(&boot);
		r = str_copy(rt->boot_id, sizeof(rt->boot_id), str_cut(&line, '\n'));
	}
	if (r < 0) {
		container_close(rt);
		return err_sys(err, r, "open the container runtime");
	}
	r = read_agent(env->agent_path, &rt->kit.agent, err);
	r = r < 0 ? r : filter_compile(&rt->kit.filter, err);
	r = r < 0 ? r : cgroups_open(env->cgroup_root, &rt->kit.cgroups, err);
	r = r < 0 ? r : layers_open(env->state_dir, env->disk_backend, &rt->kit.layers, err);
	if (r < 0) {
		container_close(rt);
		return r;
	}
	*ret = rt;
	return 0;
}

/* A starter that is not to be used, and what was made for it. */
static void discard_starter(struct runtime *rt, struct starter *s, bool keep_layer)
{
	starter_done(s);
	cgroup_remove(rt->kit.cgroups, s->cgroup, NULL);
	if (!keep_layer)
		layer_discard(rt->kit.layers, s->layer, NULL);
}

static void container_close(struct runtime *rt)
{
	if (!rt)
		return;
	while (rt->pooled)
		discard_starter(rt, &rt->pool[--rt->pooled], false);
	if (rt->kit.cgroups && !rt->boxes)
		cgroups_remove_root(rt->kit.cgroups);
	while (rt->boxes) {
		struct runtime_box *box = rt->boxes;

		rt->boxes = box->next;
		fd_close(box->pidfd);
		free(box);
	}
	layers_close(rt->kit.layers);
	cgroups_close(rt->kit.cgroups);
	filter_done(&rt->kit.filter);
	fd_close(rt->kit.agent);
	free(rt);
}

/* --- starting --- */

static bool id_ok(const char *id)
{
	size_t n = strlen(id);

	for (size_t i = 0; i < n; i++)
		if (!((id[i] >= 'a' && id[i] <= 'z') || (id[i] >= '0' && id[i] <= '9') ||
			    (id[i] == '-' && i > 0)))
			return false;
	return n > 0 && n < IPC_ID_LEN;
}

static int make_starter(struct runtime *rt, const char *layer, uint32_t disk_mib,
	struct starter *ret, struct err *err)
{
	char cgroup[40];
	uint64_t random;
	int r;

	if (!layer) {
		r = layers_ready(rt->kit.layers, disk_mib, err);
		if (r < 0)
			return r;
	}
	random_bytes(&random, sizeof(random));
	snprintf(cgroup, sizeof(cgroup), "box-%016" PRIx64, random);
	r = cgroup_make(rt->kit.cgroups, cgroup, err);
	r = r < 0 ? r : starter_fork(&rt->kit, cgroup, layer, disk_mib, ret, err);
	if (r < 0)
		cgroup_remove(rt->kit.cgroups, cgroup, NULL);
	return r;
}

static void container_prepare(struct runtime *rt, unsigned int n)
{
	n = MIN(n, (unsigned int)POOL_MAX);
	for (size_t i = 0; i < rt->pooled;) { /* of an older size, or dead */
		struct starter *s = &rt->pool[i];
		struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

		if (s->disk_mib == rt->disk_mib && poll(&p, 1, 0) == 0) {
			i++;
			continue;
		}
		discard_starter(rt, s, false);
		*s = rt->pool[--rt->pooled];
	}
	while (rt->pooled > n)
		discard_starter(rt, &rt->pool[--rt->pooled], false);
	while (rt->pooled < n &&
		make_starter(rt, NULL, rt->disk_mib, &rt->pool[rt->pooled], NULL) == 0)
		rt->pooled++;
}

/* The longest parked of this size. */
static bool take_parked(struct runtime *rt, uint32_t disk_mib, struct starter *ret)
{
	for (size_t i = 0; i < rt->pooled; i++) {
		if (rt->pool[i].disk_mib != disk_mib)
			continue;
		*ret = rt->pool[i];
		rt->pooled--;
		memmove(&rt->pool[i], &rt->pool[i + 1], (rt->pooled - i) * sizeof(rt->pool[0]));
		return true;
	}
	return false;
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

/* Everything a running sandbox is known by; from here on the box owns the pidfd. */
static int box_new(struct runtime *rt, const struct runtime_spec *spec, const struct starter *s,
	pid_t pid, int pidfd, struct runtime_box **ret)
{
	struct runtime_box *box = calloc(1, sizeof(*box));
	int r;

	if (!box)
		return -ENOMEM;
	r = start_time(pid, &box->started);
	if (r < 0) {
		free(box);
		return r;
	}
	box->rt = rt;
	snprintf(box->id, sizeof(box->id), "%s", spec->id);
	snprintf(box->cgroup, sizeof(box->cgroup), "%s", s->cgroup);
	box->slot = spec->slot;
	box->disk_mib = spec->disk_mib;
	box->pid = pid;
	box->pidfd = pidfd;
	box->status = -1;
	box->next = rt->boxes;
	rt->boxes = box;
	*ret = box;
	return 0;
}

static int check_spec(const struct runtime *rt, const struct runtime_spec *spec, struct err *err)
{
	if (!id_ok(spec->id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	if (strlen(spec->hostname) >= IPC_NAME_LEN || !spec->hostname[0])
		return err_field(err, -EINVAL, ERR_INVALID, "hostname", "1 to %d characters",
			IPC_NAME_LEN - 1);
	if (spec->slot == 0 || rt->uid_base + (uint64_t)spec->slot * IDS_PER_SANDBOX >
				       UINT32_MAX - IDS_PER_SANDBOX)
		return err_set(err, -EINVAL, ERR_INVALID, "slot %u has no user ids", spec->slot);
	return 0;
}

static int open_image(const struct runtime *rt, const char *name, uint32_t *ret_uid, struct err *err)
{
	auto_image struct image im = { .rootfs = -EBADF };
	int r = image_resolve(rt->image_dir, name, &im, err);

	if (r < 0)
		return r;
	*ret_uid = im.uid_base;
	r = mount_copy(im.rootfs, "");
	return r < 0 ? err_sys(err, r, "take image %s", name) : r;
}

static int container_spawn(struct runtime *rt, const struct runtime_spec *spec,
	struct runtime_box **ret, struct err *err)
{
	const struct cgroup_limits limits = { spec->mem_mib, spec->pids, spec->vcpu_milli };
	struct starter_request req = { .mem_mib = spec->mem_mib, .revive = spec->revive,
		.ip4 = spec->ip4, .ip6 = spec->ip6,
		.uid = rt->uid_base + spec->slot * IDS_PER_SANDBOX };
	auto_fd int rootfs = -EBADF;
	struct starter s;
	int pidfd = -EBADF, r;
	pid_t pid = 0;

	r = check_spec(rt, spec, err);
	r = r < 0 ? r : (rootfs = open_image(rt, spec->image, &req.image_uid, err));
	if (r >= 0 && layer_exists(rt->kit.layers, spec->id) != spec->revive)
		r = err_set(err, spec->revive ? -ENOENT : -EEXIST, ERR_CONFLICT,
			spec->revive ? "%s has no writable layer" : "%s has a writable layer already",
			spec->id);
	if (r < 0)
		return r;
	if (spec->revive && spec->disk_mib) {
		r = layer_grow(rt->kit.layers, spec->id, spec->disk_mib, false, err);
		if (r < 0)
			return r;
	}
	snprintf(req.id, sizeof(req.id), "%s", spec->id);
	snprintf(req.hostname, sizeof(req.hostname), "%s", spec->hostname);
	if (!spec->revive)
		rt->disk_mib = spec->disk_mib;
	if (spec->revive || !take_parked(rt, spec->disk_mib, &s)) {
		r = make_starter(rt, spec->revive ? spec->id : NULL, spec->disk_mib, &s, err);
		if (r < 0)
			return r;
	}
	r = cgroup_limit(rt->kit.cgroups, s.cgroup, &limits, err);
	r = r < 0 ? r
		  : starter_go(&s, &req, spec->netns, spec->agent_fd, rootfs, &pid, &pidfd, err);
	if (r == 0) {
		r = box_new(rt, spec, &s, pid, pidfd, ret);
		if (r == 0)
			return 0;
		err_sys(err, r, "remember the sandbox");
	}
	fd_close(pidfd);
	discard_starter(rt, &s, spec->revive);
	if (!spec->revive) /* the starter may have named it already */
		layer_discard(rt->kit.layers, spec->id, NULL);
	return err_wrap(err, r, "start %s", spec->id);
}

/* --- records --- */

static int container_record(const struct runtime_box *box, struct buf *out)
{
	buf_fmt(out, "boot=%s\npid=%d\nstarted=%" PRIu64 "\ncgroup=%s\nslot=%u\ndisk_mib=%u\n",
		box->rt->boot_id, box->pid, box->started, box->cgroup, box->slot, box->disk_mib);
	return buf_failed(out);
}

struct record {
	char boot[40], cgroup[40];
	uint64_t pid, started, slot, disk_mib;
};

static int record_read(struct str text, struct record *ret)
{
	struct record r = { 0 };
	int bad = 0;

	while (text.n) {
		struct str value = str_cut(&text, '\n'), key = str_cut(&value, '=');

		if (str_eq_c(key, "boot"))
			bad |= str_copy(r.boot, sizeof(r.boot), value);
		else if (str_eq_c(key, "cgroup"))
			bad |= str_copy(r.cgroup, sizeof(r.cgroup), value);
		else if (str_eq_c(key, "pid"))
			bad |= str_u64(value, INT32_MAX, &r.pid);
		else if (str_eq_c(key, "started"))
			bad |= str_u64(value, UINT64_MAX, &r.started);
		else if (str_eq_c(key, "slot"))
			bad |= str_u64(value, UINT32_MAX, &r.slot);
		else if (str_eq_c(key, "disk_mib"))
			bad |= str_u64(value, UINT32_MAX, &r.disk_mib);
	}
	if (bad || !str_starts(str_c(r.cgroup), STR("box-")) || strchr(r.cgroup, '/'))
		return -EINVAL;
	*ret = r;
	return 0;
}

/* The pidfd of the recorded process, if it is that process. */
static int find_process(struct runtime *rt, const struct record *rec)
{
	auto_fd int pidfd = -EBADF;
	struct pollfd ended = { .events = POLLIN };
	uint64_t started;

	if (strcmp(rec->boot, rt->boot_id) != 0 || rec->pid <= 1)
		return -ESRCH;
	pidfd = pidfd_open((pid_t)rec->pid, 0);
	if (pidfd < 0)
		return -ESRCH;
	/* With the descriptor held the id cannot be given to another, so these speak of it alone. */
	if (start_time((pid_t)rec->pid, &started) < 0 || started != rec->started ||
		!cgroup_has(rt->kit.cgroups, rec->cgroup, (pid_t)rec->pid))
		return -ESRCH;
	ended.fd = pidfd; /* a zombie that nobody has waited for yet */
	return poll(&ended, 1, 0) > 0 ? -ESRCH : take_fd(pidfd);
}

static int container_adopt(struct runtime *rt, const char *id, struct str record,
	struct runtime_box **ret, struct err *err)
{
	struct runtime_box *box;
	struct record rec = { 0 };
	int r;

	if (!id_ok(id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	box = calloc(1, sizeof(*box));
	if (!box)
		return err_sys(err, -ENOMEM, "adopt %s", id);
	r = record_read(record, &rec); /* torn by a crash: nothing is known of its processes */
	box->pidfd = r < 0 ? -ESRCH : find_process(rt, &rec);
	box->rt = rt;
	snprintf(box->id, sizeof(box->id), "%s", id);
	memcpy(box->cgroup, rec.cgroup, sizeof(box->cgroup));
	box->slot = (uint32_t)rec.slot;
	box->disk_mib = (uint32_t)rec.disk_mib;
	box->pid = (pid_t)rec.pid;
	box->started = rec.started;
	box->status = -1;
	box->reaped = true; /* somebody else's child */
	box->next = rt->boxes;
	rt->boxes = box;
	*ret = box;
	return box->pidfd < 0 ? err_set(err, -ESRCH, ERR_NOT_FOUND, "%s has no process any more", id)
			      : 0;
}

/* --- running --- */

static int container_freeze(struct runtime_box *box, struct err *err)
{
	return cgroup_freeze(box->rt->kit.cgroups, box->cgroup, true, err);
}

static int container_thaw(struct runtime_box *box, struct err *err)
{
	return cgroup_freeze(box->rt->kit.cgroups, box->cgroup, false, err);
}

static bool container_frozen(const struct runtime_box *box)
{
	return box->cgroup[0] && cgroup_frozen(box->rt->kit.cgroups, box->cgroup);
}

static int container_pidfd(const struct runtime_box *box)
{
	return box->pidfd;
}

static int container_kill(struct runtime_box *box)
{
	int r = box->cgroup[0] ? cgroup_kill(box->rt->kit.cgroups, box->cgroup) : -ENOENT;

	/* The first process takes its namespace along, also what left the group's sight. */
	if (box->pidfd >= 0 && pidfd_send_signal(box->pidfd, SIGKILL, NULL, 0) == 0)
		r = 0;
	return r == -ENOENT ? 0 : r;
}

static void forget(struct runtime_box *box)
{
	struct runtime_box **at = &box->rt->boxes;

	while (*at && *at != box)
		at = &(*at)->next;
	if (*at)
		*at = box->next;
	fd_close(box->pidfd);
	free(box);
}

/* As waitpid() would have told. */
static void reap(struct runtime_box *box)
{
	siginfo_t si = { 0 };

	if (box->reaped || waitid(P_PIDFD, (id_t)box->pidfd, &si, WEXITED | __WALL | WNOHANG) < 0 ||
		si.si_pid == 0)
		return;
	box->reaped = true;
	box->status = si.si_code == CLD_EXITED ? (si.si_status & 0xff) << 8 : si.si_status & 0x7f;
}

static int container_cleanup(struct runtime_box *box, bool keep_disk, int32_t *ret_status,
	bool *ret_oom, struct err *err)
{
	struct starter_kit *kit = &box->rt->kit;
	int r = 0, r2 = 0;

	reap(box);
	*ret_oom = box->cgroup[0] && cgroup_oom(kit->cgroups, box->cgroup) &&
		   (box->status == -1 || (box->status & 0x7f) == SIGKILL);
	if (box->cgroup[0])
		r = cgroup_remove(kit->cgroups, box->cgroup, err);
	reap(box);
	*ret_status = box->status;
	if (!keep_disk)
		r2 = layer_discard(kit->layers, box->id, err);
	forget(box);
	return r < 0 ? r : r2;
}

static int container_stats(const struct runtime_box *box, struct ipc_stats *ret)
{
	struct ipc_stats s = { 0 };
	int r = cgroup_stats(box->rt->kit.cgroups, box->cgroup, &s);

	if (r < 0)
		return r;
	s.disk_bytes = layer_used(box->rt->kit.layers, box->id);
	*ret = s;
	return 0;
}

static int container_grow(struct runtime_box *box, uint32_t disk_mib, struct err *err)
{
	int r = layer_grow(box->rt->kit.layers, box->id, disk_mib, true, err);

	if (r == 0)
		box->disk_mib = disk_mib;
	return r;
}

static int container_drop_layer(struct runtime *rt, const char *id, struct err *err)
{
	if (!id_ok(id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	return layer_discard(rt->kit.layers, id, err);
}

static void sweep_group(const char *name, void *arg)
{
	struct runtime *rt = arg;

	for (const struct runtime_box *box = rt->boxes; box; box = box->next)
		if (!strcmp(box->cgroup, name))
			return;
	for (size_t i = 0; i < rt->pooled; i++)
		if (!strcmp(rt->pool[i].cgroup, name))
			return;
	cgroup_remove(rt->kit.cgroups, name, NULL); /* ends what is in it */
}

/* Mounts and loop devices end with the processes; control groups and spare layers are named. */
static void container_sweep(struct runtime *rt)
{
	cgroups_each(rt->kit.cgroups, sweep_group, rt);
	if (rt->pooled == 0)
		layers_sweep(rt->kit.layers);
}

const struct runtime_ops runtime_container = {
	.name = "container",
	.open = container_open,
	.close = container_close,
	.prepare = container_prepare,
	.spawn = container_spawn,
	.record = container_record,
	.adopt = container_adopt,
	.freeze = container_freeze,
	.thaw = container_thaw,
	.frozen = container_frozen,
	.pidfd = container_pidfd,
	.kill = container_kill,
	.cleanup = container_cleanup,
	.stats = container_stats,
	.grow = container_grow,
	.drop_layer = container_drop_layer,
	.sweep = container_sweep,
};

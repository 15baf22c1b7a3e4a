/*
 * Containers: the runtime that shares the host's kernel.
 *
 * A box is a first process known by a pidfd, a control group and a writable layer; everything
 * else a sandbox has (namespaces, mounts, loop device, overlay) ends with its last process. That
 * is what makes ending one simple and a crash harmless: after kill -9 of the host role the kernel
 * still has complete sandboxes, parked starters die with us, and sweep() finds the rest by the
 * names of control groups.
 *
 * A parked sandbox (starter.h) is a box without an id: it has a group, a spare layer and a first
 * process that waits for its name. Whoever parks it keeps it; the list here is only what the sweep
 * must not take for somebody's remains.
 */
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/ulid.h"
#include "runtime/cgroup.h"
#include "runtime/image.h"
#include "runtime/known.h"
#include "runtime/layer.h"
#include "runtime/lift.h"
#include "runtime/runtime.h"
#include "runtime/starter.h"
#include "runtime/sys.h"

#define CGROUP_PREFIX "box-" /* runtimes share the root group: each sweeps its own */
#define AGENT_MAX     (32 << 20)

struct runtime {
	struct starter_kit kit;
	char image_dir[256];
	uint32_t uid_base;
	struct runtime_parked *parked;
	struct runtime_box *boxes;
	char boot_id[40];
};

struct runtime_parked {
	struct runtime *rt;
	struct runtime_parked *next;
	struct starter starter;
	char image[IPC_NAME_LEN], digest[72];
	uint32_t disk_mib;
	bool revive;
	uint64_t settling; /* as a box's */
};

struct runtime_box {
	struct runtime *rt;
	struct runtime_box *next;
	char id[IPC_ID_LEN];
	struct known known;
	uint64_t freezing; /* since when; 0: it is not */
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
	int r = need_kernel(err);

	if (r < 0)
		return r;
	rt = calloc(1, sizeof(*rt));
	if (!rt)
		return err_sys(err, -ENOMEM, "container runtime");
	rt->kit.agent = -EBADF;
	rt->uid_base = env->uid_base;
	r = str_copy(rt->image_dir, sizeof(rt->image_dir), str_c(env->image_dir));
	r = r < 0 ? r : str_copy(rt->kit.run_dir, sizeof(rt->kit.run_dir), str_c(env->run_dir));
	r = r < 0 ? r : path_mkdirs(env->run_dir, 0755);
	r = r < 0 ? r : known_boot(rt->boot_id);
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

static void parked_free(struct runtime_parked *p)
{
	struct runtime_parked **at = &p->rt->parked;

	while (*at && *at != p)
		at = &(*at)->next;
	if (*at)
		*at = p->next;
	free(p);
}

/* Its processes have ended; starter_done() has nothing to do the next time. */
static int container_parked_settle(struct runtime_parked *p, struct err *err)
{
	starter_done(&p->starter);
	return cgroup_settle(p->rt->kit.cgroups, p->starter.cgroup, &p->settling, err);
}

/* It is not to be used: with what was made for it. */
static void container_discard(struct runtime_parked *p)
{
	struct starter_kit *kit = &p->rt->kit;

	starter_done(&p->starter);
	if (!p->settling)
		cgroup_remove(kit->cgroups, p->starter.cgroup, NULL);
	if (!p->revive)
		layer_discard(kit->layers, p->starter.layer, NULL);
	parked_free(p);
}

static void container_close(struct runtime *rt)
{
	if (!rt)
		return;
	while (rt->parked)
		container_discard(rt->parked);
	if (rt->kit.cgroups && !rt->boxes)
		cgroups_remove_root(rt->kit.cgroups);
	while (rt->boxes) {
		struct runtime_box *box = rt->boxes;

		rt->boxes = box->next;
		fd_close(box->known.pidfd);
		free(box);
	}
	layers_close(rt->kit.layers);
	cgroups_close(rt->kit.cgroups);
	filter_done(&rt->kit.filter);
	fd_close(rt->kit.agent);
	free(rt);
}

/* --- starting --- */

/* The image as a detached mount of its own. */
static int open_image(const struct runtime *rt, const char *name, struct runtime_parked *p,
	uint32_t *ret_uid, struct err *err)
{
	auto_image struct image im = { .rootfs = -EBADF };
	int r = image_resolve(rt->image_dir, name, &im, err);

	if (r < 0)
		return r;
	*ret_uid = im.uid_base;
	memcpy(p->image, im.name, sizeof(p->image));
	memcpy(p->digest, im.digest, sizeof(p->digest));
	r = mount_copy(im.rootfs, "");
	return r < 0 ? err_sys(err, r, "take image %s", name) : r;
}

static int check_seat(const struct runtime *rt, const struct runtime_seat *seat, struct err *err)
{
	if (seat->slot == 0 || rt->uid_base + (uint64_t)seat->slot * IDS_PER_SANDBOX >
				       UINT32_MAX - IDS_PER_SANDBOX)
		return err_set(err, -EINVAL, ERR_INVALID, "slot %u has no user ids", seat->slot);
	return layers_may_begin(rt->kit.layers, seat->revive, seat->disk_mib, err);
}

/* Whose files it begins with: what nobody writes to meanwhile. */
static int check_source(const struct runtime *rt, const struct runtime_seat *seat, struct starter_seat *s,
	struct err *err)
{
	const struct runtime_box *box = rt->boxes;

	if (!seat->from)
		return 0;
	while (box && strcmp(box->id, seat->from) != 0)
		box = box->next;
	if (!box || !cgroup_frozen(rt->kit.cgroups, box->known.cgroup))
		return err_set(err, -EBUSY, ERR_CONFLICT,
			"%s cannot be copied: it is not frozen (after a restart of the host: resume it, and "
			"pause it again)", seat->from);
	s->from = seat->from;
	s->from_uid = rt->uid_base + box->known.slot * IDS_PER_SANDBOX;
	return 0;
}

static int container_park(struct runtime *rt, const struct runtime_seat *seat,
	struct runtime_parked **ret, struct err *err)
{
	auto_free struct runtime_parked *p = calloc(1, sizeof(*p));
	struct starter_seat s = { .layer = seat->revive,
		.disk_mib = seat->disk_mib,
		.uid = rt->uid_base + seat->slot * IDS_PER_SANDBOX,
		.netns = seat->net->ns,
		.agent_sock = seat->net->agent_fd };
	auto_fd int rootfs = -EBADF;
	char cgroup[40];
	uint64_t random;
	int r;

	if (!p)
		return err_sys(err, -ENOMEM, "sandbox");
	r = rootfs = open_image(rt, seat->image, p, &s.image_uid, err);
	r = r < 0 ? r : check_seat(rt, seat, err);
	r = r < 0 ? r : check_source(rt, seat, &s, err);
	if (r < 0)
		return r;
	random_bytes(&random, sizeof(random));
	snprintf(cgroup, sizeof(cgroup), CGROUP_PREFIX "%016" PRIx64, random);
	s.cgroup = cgroup;
	s.rootfs = rootfs;
	r = cgroup_make(rt->kit.cgroups, cgroup, err);
	r = r < 0 ? r : starter_fork(&rt->kit, &s, &p->starter, err);
	if (r < 0) {
		cgroup_remove(rt->kit.cgroups, cgroup, NULL);
		return r;
	}
	p->rt = rt;
	p->disk_mib = seat->disk_mib;
	p->revive = seat->revive;
	p->next = rt->parked;
	rt->parked = p;
	*ret = take_ptr(p);
	return 0;
}

static int container_parked_fd(const struct runtime_parked *p)
{
	return p->starter.chan;
}

static int container_parked_look(struct runtime_parked *p, struct err *err)
{
	return starter_look(&p->starter, err);
}

/* An image's name may mean another image by now. */
static bool container_fits(const struct runtime_parked *p, const struct runtime_seat *seat)
{
	auto_image struct image im = { .rootfs = -EBADF };

	return !p->revive && p->disk_mib == seat->disk_mib && !strcmp(p->image, seat->image) &&
	       image_resolve(p->rt->image_dir, seat->image, &im, NULL) == 0 &&
	       !strcmp(p->digest, im.digest);
}

static int container_leave(struct runtime_parked *p)
{
	starter_kill(&p->starter);
	cgroup_kill(p->rt->kit.cgroups, p->starter.cgroup);
	return p->starter.first >= 0 ? p->starter.first : p->starter.pidfd;
}

/* Everything a running sandbox is known by; from here on the box owns the pidfd. */
static int box_new(struct runtime *rt, const struct runtime_spec *spec, struct starter *s,
	struct runtime_box **ret)
{
	struct runtime_box *box = calloc(1, sizeof(*box));
	int r;

	if (!box)
		return -ENOMEM;
	box->known = (struct known){ .pid = s->first_pid,
		.slot = spec->slot,
		.mem_mib = spec->mem_mib };
	memcpy(box->known.boot, rt->boot_id, sizeof(box->known.boot));
	memcpy(box->known.cgroup, s->cgroup, sizeof(box->known.cgroup));
	r = known_start(&box->known);
	if (r < 0) {
		free(box);
		return r;
	}
	box->rt = rt;
	snprintf(box->id, sizeof(box->id), "%s", spec->id);
	box->known.pidfd = take_fd(s->first);
	box->known.status = -1;
	box->next = rt->boxes;
	rt->boxes = box;
	*ret = box;
	return 0;
}

static int check_spec(const struct runtime *rt, const struct runtime_spec *spec,
	const struct runtime_parked *p, struct err *err)
{
	if (!layer_id_ok(spec->id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	if (strlen(spec->hostname) >= IPC_NAME_LEN || !spec->hostname[0])
		return err_field(err, -EINVAL, ERR_INVALID, "hostname", "1 to %d characters",
			IPC_NAME_LEN - 1);
	if (!p->revive && layer_exists(rt->kit.layers, spec->id))
		return err_set(err, -EEXIST, ERR_CONFLICT, "%s has a writable layer already",
			spec->id);
	return 0;
}

static int container_spawn(struct runtime *rt, const struct runtime_spec *spec,
	struct runtime_parked *p, struct runtime_box **ret, struct err *err)
{
	const struct cgroup_limits limits = { spec->mem_mib, spec->pids, spec->vcpu_milli };
	struct starter_order order = { .mem_mib = spec->mem_mib,
		.revive = p->revive,
		.ip4 = spec->ip4,
		.ip6 = spec->ip6 };
	bool claimed = false;
	int r = check_spec(rt, spec, p, err);

	if (r < 0) {
		container_discard(p);
		return r;
	}
	snprintf(order.hostname, sizeof(order.hostname), "%s", spec->hostname);
	r = cgroup_limit(rt->kit.cgroups, p->starter.cgroup, &limits, err);
	if (r == 0 && !p->revive) {
		r = layer_claim(rt->kit.layers, p->starter.layer, spec->id, err);
		claimed = r == 0;
	}
	FAULT("host.spawn.claimed");
	r = r < 0 ? r : starter_go(&p->starter, &order, err);
	if (r == 0) {
		r = box_new(rt, spec, &p->starter, ret);
		if (r < 0)
			err_sys(err, r, "remember the sandbox");
	}
	if (r < 0) {
		container_discard(p);
		if (claimed)
			layer_discard(rt->kit.layers, spec->id, NULL);
		return err_wrap(err, r, "start %s", spec->id);
	}
	parked_free(p);
	return 0;
}

/* --- records --- */

static int container_record(const struct runtime_box *box, struct buf *out)
{
	return known_write(&box->known, out);
}

static int container_adopt(struct runtime *rt, const char *id, struct str record,
	struct runtime_box **ret, struct err *err)
{
	struct runtime_box *box;
	int r;

	if (!layer_id_ok(id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	box = calloc(1, sizeof(*box));
	if (!box)
		return err_sys(err, -ENOMEM, "adopt %s", id);
	/* Torn by a crash: nothing is known of its processes. */
	r = known_read(record, CGROUP_PREFIX, &box->known);
	box->known.pidfd = r < 0 ? -ESRCH : known_find(&box->known, rt->boot_id, rt->kit.cgroups);
	box->rt = rt;
	snprintf(box->id, sizeof(box->id), "%s", id);
	box->known.status = -1;
	box->next = rt->boxes;
	rt->boxes = box;
	*ret = box;
	return box->known.pidfd < 0 ? err_set(err, -ESRCH, ERR_NOT_FOUND, "%s has no process any more", id)
			      : 0;
}

/* --- running --- */

static int container_freeze(struct runtime_box *box, struct err *err)
{
	return cgroup_freeze(box->rt->kit.cgroups, box->known.cgroup, &box->freezing, err);
}

static int container_thaw(struct runtime_box *box, const struct slotnet_plan *plan, int tap,
	struct err *err)
{
	return cgroup_thaw(box->rt->kit.cgroups, box->known.cgroup, err);
}

static bool container_frozen(const struct runtime_box *box)
{
	return box->known.cgroup[0] && cgroup_frozen(box->rt->kit.cgroups, box->known.cgroup);
}

static int container_pidfd(const struct runtime_box *box)
{
	return box->known.pidfd;
}

static int container_kill(struct runtime_box *box)
{
	return known_kill(&box->known, box->rt->kit.cgroups);
}

static void forget(struct runtime_box *box)
{
	struct runtime_box **at = &box->rt->boxes;

	while (*at && *at != box)
		at = &(*at)->next;
	if (*at)
		*at = box->next;
	fd_close(box->known.pidfd);
	free(box);
}

static int container_settle(struct runtime_box *box, struct err *err)
{
	return known_settle(&box->known, box->rt->kit.cgroups, err);
}

static int container_cleanup(struct runtime_box *box, bool keep_disk, int32_t *ret_status,
	bool *ret_oom, struct err *err)
{
	struct starter_kit *kit = &box->rt->kit;
	int r, r2 = 0;

	r = known_end(&box->known, kit->cgroups, ret_status, ret_oom, err);
	if (!keep_disk)
		r2 = layer_discard(kit->layers, box->id, err);
	forget(box);
	return r < 0 ? r : r2;
}

static int container_stats(const struct runtime_box *box, struct ipc_stats *ret)
{
	struct ipc_stats s = { 0 };
	int r = cgroup_stats(box->rt->kit.cgroups, box->known.cgroup, &s);

	if (r < 0)
		return r;
	s.disk_bytes = layer_used(box->rt->kit.layers, box->id);
	*ret = s;
	return 0;
}

/* What is on record is the limit it began with: nobody reads that of a container. */
static int container_limit(const struct runtime_box *box, uint32_t mem_mib, struct err *err)
{
	return cgroup_memory(box->rt->kit.cgroups, box->known.cgroup, mem_mib, err);
}

static int container_grow(const struct runtime_box *box, uint32_t disk_mib, struct err *err)
{
	return layer_grow(box->rt->kit.layers, box->id, disk_mib, true, err);
}

static int container_drop_layer(struct runtime *rt, const char *id, struct err *err)
{
	if (!layer_id_ok(id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	return layer_discard(rt->kit.layers, id, err);
}

struct owned { /* names of control groups, sorted */
	struct cgroups *cgroups;
	const char **name;
	size_t n;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sweep_group(const char *name, void *arg)
{
	const struct owned *o = arg;

	if (!strncmp(name, CGROUP_PREFIX, strlen(CGROUP_PREFIX)) &&
		!bsearch(&name, o->name, o->n, sizeof(*o->name), by_name))
		cgroup_remove(o->cgroups, name, NULL); /* ends what is in it */
}

static void sweep_groups(struct runtime *rt)
{
	struct owned o = { .cgroups = rt->kit.cgroups };
	auto_free const char **names = NULL;
	size_t n = 0;

	for (const struct runtime_box *box = rt->boxes; box; box = box->next)
		n++;
	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		n++;
	names = o.name = calloc(n + 1, sizeof(*names));
	if (!names)
		return; /* what nobody owns waits for the next start */
	for (const struct runtime_box *box = rt->boxes; box; box = box->next)
		names[o.n++] = box->known.cgroup;
	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		names[o.n++] = p->starter.cgroup;
	qsort(names, o.n, sizeof(*names), by_name);
	cgroups_each(rt->kit.cgroups, sweep_group, &o);
}

/* Mounts and loop devices end with the processes; control groups and spare layers are named. */
static void container_sweep(struct runtime *rt)
{
	sweep_groups(rt);
	if (!rt->parked)
		layers_sweep(rt->kit.layers);
}

const struct runtime_ops runtime_container = {
	.name = "container",
	.link = SLOTNET_VETH,
	.pooled = true,
	.open = container_open,
	.close = container_close,
	.park = container_park,
	.parked_fd = container_parked_fd,
	.parked_look = container_parked_look,
	.fits = container_fits,
	.leave = container_leave,
	.parked_settle = container_parked_settle,
	.discard = container_discard,
	.spawn = container_spawn,
	.record = container_record,
	.adopt = container_adopt,
	.freeze = container_freeze,
	.thaw = container_thaw,
	.frozen = container_frozen,
	.pidfd = container_pidfd,
	.kill = container_kill,
	.settle = container_settle,
	.cleanup = container_cleanup,
	.stats = container_stats,
	.grow = container_grow,
	.limit = container_limit,
	.drop_layer = container_drop_layer,
	.sweep = container_sweep,
};

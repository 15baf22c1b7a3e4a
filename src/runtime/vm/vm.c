/*
 * Machines: the runtime in which each sandbox has a kernel of its own.
 *
 * A box is a QEMU process known by a pidfd, a control group, and a disk. QEMU is jailed (jail.h), its
 * command line is machine.h, and one starter per machine brings it up (starter.h). Nothing of what a
 * guest or QEMU says is read in this process. The layers are images of their own, in
 * <state_dir>/vm: what is on them is the guest's, and is never mounted or checked by the host.
 *
 * A pause writes the machine into a file (snapshot.h) and ends QEMU, so its memory is free; a resume
 * has another QEMU load it (pause.c). The link, the control group's name and the disk stay. Others may
 * begin as what the file holds (fork.c).
 */
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <x86intrin.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/ulid.h"
#include "runtime/image.h"
#include "runtime/sys.h"
#include "runtime/vm/hand.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/qmp.h"
#include "runtime/vm/vm.h"

#define MEM_MIN_MIB   128 /* the distribution's kernel, our agent, and something to run */
#define GUEST_DIR_ENV "WEIR_GUEST_DIR" /* instead of <state_dir>/guest: many daemons share one */

/* --- opening --- */

static int kit_paths(struct vm_kit *kit, const struct runtime_env *env)
{
	const char *shared = getenv(GUEST_DIR_ENV);
	char dir[300];
	int r = str_copy(kit->run_dir, sizeof(kit->run_dir), str_c(env->run_dir));

	r = r < 0 ? r : str_copy(kit->image_dir, sizeof(kit->image_dir), str_c(env->image_dir));
	r = r < 0 ? r : str_copy(kit->agent, sizeof(kit->agent), str_c(env->agent_path));
	r = r < 0 ? r : str_copy(kit->guest, sizeof(kit->guest), str_c(env->guest_path));
	r = r < 0 ? r : str_copy(kit->rootfs, sizeof(kit->rootfs), str_c(env->rootfs_path));
	snprintf(dir, sizeof(dir), "%s/guest", env->state_dir);
	return r < 0 ? r : str_copy(kit->guest_dir, sizeof(kit->guest_dir), str_c(shared ? shared : dir));
}

static void vm_close(struct runtime *rt);

static int vm_open(const struct runtime_env *env, struct runtime **ret, struct err *err)
{
	struct runtime *rt = calloc(1, sizeof(*rt));
	char dir[300];
	int r;

	if (!rt)
		return err_sys(err, -ENOMEM, "vm runtime");
	rt->uid_base = env->uid_base;
	snprintf(rt->accel, sizeof(rt->accel), "%s", env->accel);
	rt->snapshots = -EBADF;
	templates_open(&rt->templates, env->fork_mib);
	warms_open(&rt->warms, env->warm_mib);
	rt->kit.tsc = __rdtsc();
	rt->kit.mono_ns = clock_mono_ns();
	r = kit_paths(&rt->kit, env);
	r = r < 0 ? r : known_boot(rt->boot_id);
	snprintf(dir, sizeof(dir), "%s/vm", env->state_dir);
	r = r < 0 ? err_sys(err, r, "open the vm runtime") : 0;
	r = r < 0 ? r : cgroups_open(env->cgroup_root, &rt->kit.cgroups, err);
	r = r < 0 ? r : layers_open(dir, "loop", &rt->kit.layers, err);
	r = r < 0 ? r : filter_compile(&rt->kit.filter, err);
	r = r < 0 ? r : (rt->snapshots = snapshots_open(dir, err));
	if (r < 0) {
		vm_close(rt);
		return r;
	}
	*ret = rt;
	return 0;
}

static int vm_able(struct runtime *rt, struct err *err)
{
	if (access(MACHINE_QEMU, X_OK) < 0)
		return err_set(err, -ENOENT, ERR_UNSUPPORTED,
			MACHINE_QEMU " is missing: install the package " MACHINE_PACKAGE);
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		return err_set(err, -errno, ERR_UNSUPPORTED, "there is no /dev/net/tun: modprobe tun");
	if (access(rt->kit.guest, X_OK) < 0)
		return err_set(err, -ENOENT, ERR_UNSUPPORTED, "%s is not installed", rt->kit.guest);
	accel_choose(&rt->kit, rt->accel, rt->uid_base, &rt->kit.accel);
	return 0;
}

static bool vm_about(const struct runtime *rt, char *ret, size_t size)
{
	snprintf(ret, size, "%s (%s)", rt->kit.accel.name, rt->kit.accel.why);
	return accel_is_kvm(rt->kit.accel.name);
}

int vm_check_accel(const struct runtime *rt, const struct vm_made *made, struct err *err)
{
	if (accel_fits(made->accel, rt->kit.accel.name))
		return 0;
	return err_set(err, -EBADMSG, ERR_CONFLICT,
		"the snapshot is refused: it was made with %s, and this host has %s", made->accel,
		rt->kit.accel.name);
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

static void vm_discard(struct runtime_parked *p)
{
	struct vm_kit *kit = &p->rt->kit;

	vm_starter_done(&p->starter);
	qmp_unlink(kit->run_dir, p->seat.cgroup);
	if (p->seat.asleep)
		snapshot_remove(p->rt->snapshots, p->rt->kit.layers, p->seat.cgroup);
	if (!p->settling)
		cgroup_remove(kit->cgroups, p->seat.cgroup, NULL);
	if (!p->seat.stored)
		layer_discard(kit->layers, p->seat.layer, NULL);
	parked_free(p);
}

static void vm_close(struct runtime *rt)
{
	if (!rt)
		return;
	while (rt->parked)
		vm_discard(rt->parked);
	templates_drop(&rt->templates);
	warms_close(rt);
	if (rt->kit.cgroups)
		cgroup_remove(rt->kit.cgroups, TEMPLATES_GROUP, NULL);
	if (rt->kit.cgroups && !rt->boxes)
		cgroups_remove_root(rt->kit.cgroups); /* works for whoever is last */
	while (rt->boxes) {
		struct runtime_box *box = rt->boxes;

		rt->boxes = box->next;
		vm_copy_drop(box);
		fd_close(box->known.pidfd);
		fd_close(box->word);
		free(box);
	}
	fd_close(rt->snapshots);
	layers_close(rt->kit.layers);
	cgroups_close(rt->kit.cgroups);
	filter_done(&rt->kit.filter);
	free(rt);
}

/* --- starting --- */

/* A machine's memory is its own from the moment it is touched: what is promised must be there. */
static uint64_t promised_mib(const struct runtime *rt)
{
	uint64_t sum = templates_mib(&rt->templates) + warms_mib(&rt->warms);

	for (const struct runtime_box *box = rt->boxes; box; box = box->next)
		sum += (uint64_t)(!box->asleep + box->promised + (box->copy != NULL)) *
		       (box->known.mem_mib + OVERHEAD_MIB);
	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		sum += p->unwanted ? 0 : p->seat.mem_mib + OVERHEAD_MIB;
	return sum;
}

static uint64_t total_mib(void)
{
	struct sysinfo s;

	return sysinfo(&s) < 0 ? UINT64_MAX : ((uint64_t)s.totalram * s.mem_unit) >> 20;
}

bool vm_has_room(const struct runtime *rt, uint32_t mem_mib)
{
	return promised_mib(rt) + mem_mib + OVERHEAD_MIB <= total_mib();
}

int vm_check_memory(struct runtime *rt, uint32_t mem_mib, struct err *err)
{
	const uint64_t total = total_mib();
	uint64_t sum = promised_mib(rt) + mem_mib + OVERHEAD_MIB;

	while (sum > total && sum - ready_mib(rt) - warms_mib(&rt->warms) <= total &&
		(ready_shrink(rt) || warms_shrink(rt)))
		sum = promised_mib(rt) + mem_mib + OVERHEAD_MIB;
	if (sum <= total)
		return 0;
	return err_field(err, -ENOMEM, ERR_CAPACITY, "capacity",
		"no capacity for %u MiB: machines would have %" PRIu64 " MiB of this host's %" PRIu64, mem_mib,
		sum, total);
}

static int check_seat(const struct runtime *rt, const struct runtime_seat *seat, struct err *err)
{
	if (seat->slot == 0 || rt->uid_base + (uint64_t)seat->slot * IDS_PER_SANDBOX >
				       UINT32_MAX - IDS_PER_SANDBOX)
		return err_set(err, -EINVAL, ERR_INVALID, "slot %u has no user ids", seat->slot);
	if (seat->mem_mib < MEM_MIN_MIB)
		return err_field(err, -EINVAL, ERR_INVALID, "mem_mib",
			"runtime vm needs at least %d MiB of memory", MEM_MIN_MIB);
	if (seat->vcpu_milli > VM_VCPUS_MAX * 1000)
		return err_field(err, -EINVAL, ERR_INVALID, "vcpu", "runtime vm has at most %d processors",
			VM_VCPUS_MAX);
	return layers_may_begin(rt->kit.layers, seat->from ? seat->from : seat->revive, seat->disk_mib, err);
}

int vm_fill_image(const struct runtime *rt, const char *name, struct vm_seat *s, struct err *err)
{
	auto_image struct image im = { .rootfs = -EBADF };
	int r = image_resolve(rt->kit.image_dir, name, &im, err);

	if (r < 0)
		return r;
	memcpy(s->image, im.name, sizeof(s->image));
	memcpy(s->digest, im.digest, sizeof(s->digest));
	return 0;
}

/* Both are swept after a crash, by their names. */
void vm_new_names(struct vm_seat *s)
{
	uint64_t random;

	random_bytes(&random, sizeof(random));
	snprintf(s->cgroup, sizeof(s->cgroup), VM_CGROUP "%016" PRIx64, random);
	snprintf(s->layer, sizeof(s->layer), LAYER_SPARE "box-%016" PRIx64, random);
}

void vm_fill_size(const struct runtime *rt, const struct runtime_seat *from, struct vm_seat *s)
{
	s->vcpus = from->vcpu_milli ? (from->vcpu_milli + 999) / 1000 : 1;
	s->mem_mib = from->mem_mib;
	s->disk_mib = from->disk_mib;
	memcpy(s->accel, rt->kit.accel.name, sizeof(s->accel));
}

static void fill_seat(const struct runtime *rt, const struct runtime_seat *from, struct vm_seat *s)
{
	vm_new_names(s);
	vm_fill_size(rt, from, s);
	if (from->revive)
		snprintf(s->layer, sizeof(s->layer), "%s", from->revive);
	s->stored = from->revive;
	s->uid = rt->uid_base + from->slot * IDS_PER_SANDBOX;
	s->tap = from->net->tap;
	s->plan = from->plan;
	s->router_ns = from->router_ns;
}

/* What came with a copy, and nothing has begun from. */
static void drop_copied(const struct runtime *rt, const struct vm_seat *s)
{
	if (!s->copied)
		return;
	cgroup_remove(rt->kit.cgroups, s->cgroup, NULL);
	layer_discard(rt->kit.layers, s->layer, NULL);
}

static int stand_ready(struct runtime_parked *p, struct err *err)
{
	if (!p->warm)
		return err_set(err, -ENOENT, ERR_INTERNAL, "there is no template");
	p->seat.rehearsal = rehearsal_new(p->seat.plan);
	return p->seat.rehearsal ? 0 : err_sys(err, -ENOMEM, "a rehearsal");
}

static int vm_park(struct runtime *rt, const struct runtime_seat *seat, struct runtime_parked **ret,
	struct err *err)
{
	auto_free struct runtime_parked *p = calloc(1, sizeof(*p));
	_cleanup_(vm_fork_fds_done) struct vm_fork_fds fds = { -EBADF, -EBADF, -EBADF };
	int r;

	if (!p)
		return err_sys(err, -ENOMEM, "sandbox");
	r = check_seat(rt, seat, err);
	r = r < 0 || seat->paused || vm_is_copied(rt, seat->from) ? r : vm_check_memory(rt, seat->mem_mib, err);
	if (r < 0)
		return r;
	fill_seat(rt, seat, &p->seat);
	if (seat->from) {
		r = vm_fork_seat(rt, seat, p, &fds, err);
	} else {
		r = vm_fill_image(rt, seat->image, &p->seat, err);
		if (r == 0 && !seat->revive)
			warms_take(rt, p, &fds);
		if (r == 0 && seat->ahead)
			r = stand_ready(p, err);
		if (r == 0 && !p->warm)
			r = p->seat.memory = fds.memory = memory_new(seat->mem_mib, err);
	}
	r = r < 0 || p->seat.copied ? r : cgroup_make(rt->kit.cgroups, p->seat.cgroup, err);
	if (r < 0) {
		drop_copied(rt, &p->seat);
		rehearsal_free(take_ptr(p->seat.rehearsal));
		return r;
	}
	if (seat->revive)
		snapshot_remove(rt->snapshots, rt->kit.layers, seat->revive); /* the disk goes on without it */
	p->seat.hand = p->seat.head ? hand_new() : NULL;
	r = p->seat.head && !p->seat.hand ? err_sys(err, -ENOMEM, "a hand")
					: vm_starter_fork(&rt->kit, &p->seat, &p->starter, err);
	hand_free(take_ptr(p->seat.hand));
	rehearsal_free(take_ptr(p->seat.rehearsal));
	if (r < 0) {
		cgroup_remove(rt->kit.cgroups, p->seat.cgroup, NULL);
		drop_copied(rt, &p->seat);
		return r;
	}
	p->seat.tap = p->seat.memory = p->seat.file = p->seat.state = -EBADF; /* the caller's; QEMU's alone */
	p->seat.plan = NULL;
	p->seat.from = NULL;
	p->plan = (struct slotnet_plan){ .kind = seat->plan->kind,
		.overlays = seat->plan->overlays,
		.mtu = seat->plan->mtu };
	p->rt = rt;
	p->next = rt->parked;
	rt->parked = p;
	*ret = take_ptr(p);
	return 0;
}

static int vm_parked_fd(const struct runtime_parked *p)
{
	return p->starter.chan;
}

static int vm_parked_look(struct runtime_parked *p, struct err *err)
{
	bool stood = p->starter.stands && p->starter.ready;
	int r = vm_starter_look(&p->starter, err);

	if (r < 0 && p->unwanted)
		return err_set(err, r, ERR_CAPACITY, "its memory was needed");
	if (r >= 0 || !p->warm || stood)
		return r;
	log_event(LOG_WARN, "vm.template", "what=dropped error=\"%s\"", err->text);
	warms_drop(p->rt, p->warm);
	return -EAGAIN;
}

static int vm_leave(struct runtime_parked *p)
{
	vm_starter_kill(&p->starter);
	cgroup_kill(p->rt->kit.cgroups, p->seat.cgroup);
	return p->starter.qemu >= 0 ? p->starter.qemu : p->starter.pidfd;
}

static int vm_parked_settle(struct runtime_parked *p, struct err *err)
{
	vm_starter_done(&p->starter);
	return cgroup_settle(p->rt->kit.cgroups, p->seat.cgroup, &p->settling, err);
}

static int box_new(struct runtime *rt, const struct runtime_spec *spec, struct runtime_parked *p,
	struct runtime_box **ret)
{
	struct runtime_box *box = calloc(1, sizeof(*box));
	int r;

	if (!box)
		return -ENOMEM;
	box->known = (struct known){ .pid = p->starter.qemu_pid,
		.slot = spec->slot,
		.mem_mib = spec->mem_mib };
	memcpy(box->known.boot, rt->boot_id, sizeof(box->known.boot));
	memcpy(box->known.cgroup, p->seat.cgroup, sizeof(box->known.cgroup));
	r = p->seat.asleep ? 0 : known_start(&box->known);
	if (r < 0) {
		free(box);
		return r;
	}
	box->asleep = p->seat.asleep;
	box->clone = p->seat.clone;
	box->made = (struct vm_made){ .mem_mib = spec->mem_mib, .vcpu_milli = spec->vcpu_milli };
	memcpy(box->made.image, p->seat.image, sizeof(box->made.image));
	memcpy(box->made.digest, p->seat.digest, sizeof(box->made.digest));
	memcpy(box->made.accel, p->seat.accel, sizeof(box->made.accel));
	memcpy(box->made.bundle, p->seat.head ? p->seat.bundle : p->starter.bundle, sizeof(box->made.bundle));
	box->rt = rt;
	box->word = -EBADF;
	snprintf(box->id, sizeof(box->id), "%s", spec->id);
	box->known.pidfd = take_fd(p->starter.qemu);
	box->next = rt->boxes;
	rt->boxes = box;
	*ret = box;
	return 0;
}

static int vm_spawn(struct runtime *rt, const struct runtime_spec *spec, struct runtime_parked *p,
	struct runtime_box **ret, struct err *err)
{
	const struct cgroup_limits limits = { spec->mem_mib + OVERHEAD_MIB, QEMU_TASKS, spec->vcpu_milli };
	bool claimed = false, slept = false;
	int r = layer_id_ok(spec->id) ? 0 : err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");

	r = r < 0 ? r : cgroup_limit(rt->kit.cgroups, p->seat.cgroup, &limits, err);
	if (r == 0 && !p->seat.stored) {
		r = layer_claim(rt->kit.layers, p->seat.layer, spec->id, err);
		claimed = r == 0;
	}
	if (r == 0 && p->seat.asleep) {
		r = snapshot_claim(rt->snapshots, p->seat.cgroup, spec->id, err);
		slept = r == 0;
	}
	r = r < 0 ? r : ready_go(p, err);
	if (r == 0) {
		r = box_new(rt, spec, p, ret);
		if (r < 0)
			err_sys(err, r, "remember the sandbox");
	}
	if (r < 0) {
		vm_discard(p);
		if (claimed)
			layer_discard(rt->kit.layers, spec->id, NULL);
		if (slept)
			snapshot_remove(rt->snapshots, rt->kit.layers, spec->id);
		return err_wrap(err, r, "start %s", spec->id);
	}
	vm_began(rt, vm_start_of(p));
	ready_taken(*ret, p);
	vm_starter_done(&p->starter); /* the starter has ended; QEMU is the box's */
	if (p->key[0] && !p->warm)
		warms_want(rt, p);
	parked_free(p);
	return 0;
}

/* --- records --- */

static int vm_record(const struct runtime_box *box, struct buf *out)
{
	const struct vm_made *m = &box->made;
	int r = known_write(&box->known, out);

	buf_fmt(out, "image=%s\ndigest=%s\nbundle=%s\naccel=%s\nvcpu_milli=%u\nheld=%d\nclone=%d\ncopied=%d\n",
		m->image, m->digest, m->bundle, m->accel, m->vcpu_milli, box->held, box->clone, box->copied);
	return r < 0 ? r : buf_failed(out);
}

static int box_read(struct str text, struct runtime_box *box)
{
	uint64_t vcpu = 0, held = 0, clone = 0, copied = 0;
	struct vm_made *made = &box->made;
	int bad = 0;

	while (text.n) {
		struct str value = str_cut(&text, '\n'), key = str_cut(&value, '=');

		if (str_eq_c(key, "image"))
			bad |= str_copy(made->image, sizeof(made->image), value);
		else if (str_eq_c(key, "digest"))
			bad |= str_copy(made->digest, sizeof(made->digest), value);
		else if (str_eq_c(key, "bundle"))
			bad |= str_copy(made->bundle, sizeof(made->bundle), value);
		else if (str_eq_c(key, "accel"))
			bad |= str_copy(made->accel, sizeof(made->accel), value);
		else if (str_eq_c(key, "vcpu_milli"))
			bad |= str_u64(value, UINT32_MAX, &vcpu);
		else if (str_eq_c(key, "held"))
			bad |= str_u64(value, 1, &held);
		else if (str_eq_c(key, "clone"))
			bad |= str_u64(value, 1, &clone);
		else if (str_eq_c(key, "copied"))
			bad |= str_u64(value, 1, &copied);
	}
	made->vcpu_milli = (uint32_t)vcpu;
	box->held = held;
	box->clone = clone;
	box->copied = copied;
	return bad ? -EINVAL : 0;
}

static int vm_adopt(struct runtime *rt, const char *id, struct str record, struct runtime_box **ret,
	struct err *err)
{
	struct runtime_box *box;
	int r;

	if (!layer_id_ok(id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	box = calloc(1, sizeof(*box));
	if (!box)
		return err_sys(err, -ENOMEM, "adopt %s", id);
	r = known_read(record, VM_CGROUP, &box->known); /* torn by a crash: swept */
	r = r < 0 ? r : box_read(record, box);
	box->made.mem_mib = box->known.mem_mib;
	box->known.status = -1;
	box->known.pidfd = r < 0 ? -ESRCH : known_find(&box->known, rt->boot_id, rt->kit.cgroups);
	box->rt = rt;
	box->word = -EBADF;
	snprintf(box->id, sizeof(box->id), "%s", id);
	box->next = rt->boxes;
	rt->boxes = box;
	*ret = box;
	if (r == 0 && snapshot_exists(rt->snapshots, id)) {
		cgroup_kill(rt->kit.cgroups, box->known.cgroup); /* a step was interrupted */
		box->known.pidfd = fd_close(box->known.pidfd);
		box->asleep = true;
		return 0;
	}
	vm_copy_interrupted(box);
	return box->known.pidfd < 0 ? err_set(err, -ESRCH, ERR_NOT_FOUND, "%s has no process any more", id)
			      : 0;
}

/* --- while it lives, and its end --- */

static bool vm_frozen(const struct runtime_box *box)
{
	return box->asleep || box->held;
}

static int vm_pidfd(const struct runtime_box *box)
{
	return box->asleep ? -EBADF : box->known.pidfd;
}

static int vm_kill(struct runtime_box *box)
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
	fd_close(box->word);
	free(box);
}

static int vm_settle(struct runtime_box *box, struct err *err)
{
	return known_settle(&box->known, box->rt->kit.cgroups, err);
}

static int vm_cleanup(struct runtime_box *box, bool keep_disk, int32_t *ret_status, bool *ret_oom,
	struct err *err)
{
	struct vm_kit *kit = &box->rt->kit;
	int r, r2 = 0;

	r = known_end(&box->known, kit->cgroups, ret_status, ret_oom, err);
	if (box->known.cgroup[0])
		qmp_unlink(kit->run_dir, box->known.cgroup);
	snapshot_remove(box->rt->snapshots, kit->layers, box->id);
	vm_copy_drop(box);
	if (!keep_disk)
		r2 = layer_discard(kit->layers, box->id, err);
	forget(box);
	return r < 0 ? r : r2;
}

static int vm_stats(const struct runtime_box *box, struct ipc_stats *ret)
{
	struct ipc_stats s = { 0 };
	int r = box->asleep ? 0 : cgroup_stats(box->rt->kit.cgroups, box->known.cgroup, &s);

	if (r < 0)
		return r;
	s.disk_bytes = layer_used(box->rt->kit.layers, box->id);
	*ret = s;
	return 0;
}

/* QEMU and the guest's driver know of it then; the file system grows with the next wake. */
static int vm_grow(const struct runtime_box *box, uint32_t disk_mib, struct err *err)
{
	struct hand_work w = vm_hand_for(box, HAND_RESIZE, -EBADF, -EBADF, NULL);
	auto_fd int disk = layer_image(box->rt->kit.layers, box->id, err);
	struct stat st;
	int r;

	w.limit = (uint64_t)disk_mib << 20;
	if (disk < 0)
		return disk;
	if (fstat(disk, &st) < 0)
		return err_sys(err, -errno, "look at the disk");
	if ((uint64_t)st.st_size > w.limit)
		return err_field(err, -EINVAL, ERR_INVALID, "disk_mib",
			"a disk cannot shrink: it has %" PRIu64 " MiB", (uint64_t)st.st_size >> 20);
	r = layer_image_room(disk, w.limit - (uint64_t)st.st_size, box->id, err);
	r = r < 0 ? r : hand_run(&w, err); /* as large already: it is told again */
	return r < 0 ? err_wrap(err, r, "grow the disk") : 0;
}

static int vm_drop_layer(struct runtime *rt, const char *id, struct err *err)
{
	if (!layer_id_ok(id))
		return err_set(err, -EINVAL, ERR_INVALID, "not a sandbox id");
	snapshot_remove(rt->snapshots, rt->kit.layers, id);
	return layer_discard(rt->kit.layers, id, err);
}

static void sweep_group(const char *name, void *arg)
{
	const struct runtime *rt = arg;

	if (strncmp(name, VM_CGROUP, strlen(VM_CGROUP)) != 0)
		return;
	for (const struct runtime_box *box = rt->boxes; box; box = box->next)
		if (!strcmp(box->known.cgroup, name))
			return;
	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		if (!strcmp(p->seat.cgroup, name))
			return;
	qmp_unlink(rt->kit.run_dir, name);
	cgroup_remove(rt->kit.cgroups, name, NULL); /* ends what is in it */
}

static bool snapshot_owned(const char *id, void *arg)
{
	const struct runtime *rt = arg;

	for (const struct runtime_box *box = rt->boxes; box; box = box->next)
		if (box->asleep && !strcmp(box->id, id))
			return true;
	for (const struct runtime_parked *p = rt->parked; p; p = p->next)
		if (!strcmp(p->seat.cgroup, id))
			return true;
	return false;
}

/* Taps and mounts end with QEMU; control groups and spare disks are named. */
static void vm_sweep(struct runtime *rt)
{
	cgroups_each(rt->kit.cgroups, sweep_group, rt);
	snapshots_sweep(rt->snapshots, snapshot_owned, rt);
	if (!rt->parked)
		layers_sweep(rt->kit.layers);
}

const struct runtime_ops runtime_vm = {
	.name = "vm",
	.link = SLOTNET_TAP,
	.slow = true,
	.open = vm_open,
	.close = vm_close,
	.able = vm_able,
	.about = vm_about,
	.park = vm_park,
	.parked_fd = vm_parked_fd,
	.parked_look = vm_parked_look,
	.fits = vm_fits,
	.may_stand = vm_may_stand,
	.news_fd = warms_fd,
	.news = warms_look,
	.leave = vm_leave,
	.parked_settle = vm_parked_settle,
	.discard = vm_discard,
	.spawn = vm_spawn,
	.record = vm_record,
	.adopt = vm_adopt,
	.freeze = vm_freeze,
	.may_thaw = vm_may_thaw,
	.thaw = vm_thaw,
	.go_on = vm_go_on,
	.may_copy = vm_may_copy,
	.copy = vm_copy,
	.copy_rest = vm_copy_rest,
	.copy_drop = vm_copy_drop,
	.frozen = vm_frozen,
	.pidfd = vm_pidfd,
	.kill = vm_kill,
	.settle = vm_settle,
	.cleanup = vm_cleanup,
	.stats = vm_stats,
	.grow = vm_grow,
	.drop_layer = vm_drop_layer,
	.tally = vm_tally,
	.sweep = vm_sweep,
};

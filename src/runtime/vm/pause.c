/*
 * Machines that are paused, and go on: a file in place of a process (snapshot.h).
 *
 * What waits for QEMU is done by hands (hand.h), in another thread than the loop's; what QEMU says is
 * read by them alone. A pause that fails leaves the machine running; a resume that fails leaves the file.
 */
#include <fcntl.h>
#include <poll.h>
#include "base/fault.h"
#include "base/fd.h"
#include "runtime/sys.h"
#include "runtime/vm/hand.h"
#include "runtime/vm/memory.h"
#include "runtime/vm/qmp.h"
#include "runtime/vm/vm.h"

#define STREAM_MIB 64 /* of a snapshot, beyond the machine's memory */

struct hand_work vm_hand_for(const struct runtime_box *box, enum hand_step step, int file,
	int memory, struct snapshot_head *head)
{
	const struct runtime *rt = box->rt;

	return (struct hand_work){ .step = step,
		.qmp_dir = rt->kit.run_dir,
		.qmp_name = box->known.cgroup,
		.qmp = -EBADF,
		.dir = rt->snapshots,
		.file = file,
		.memory = memory,
		.state = -EBADF,
		.cgroups = rt->kit.cgroups,
		.group = step == HAND_CHECK && memory >= 0 ? box->known.cgroup : NULL,
		.uid = rt->uid_base + box->known.slot * IDS_PER_SANDBOX + 1,
		.limit = step == HAND_SAVE && memory >= 0
				 ? SNAPSHOT_MEMORY - SNAPSHOT_BODY
				 : (uint64_t)(box->known.mem_mib + STREAM_MIB) << 20,
		.head = head };
}

static int use_hand(const struct runtime_box *box, enum hand_step step, int file, int memory,
	struct snapshot_head *head, struct err *err)
{
	const struct hand_work w = vm_hand_for(box, step, file, memory, head);

	return hand_run(&w, err);
}

static int write_snapshot(struct runtime_box *box, struct err *err)
{
	struct snapshot_head head = { .memory = box->clone ? 0 : (uint64_t)box->known.mem_mib << 20 };
	auto_fd int memory = -EBADF, fd = snapshot_begin(box->rt->snapshots, box->id, err);
	int r = fd;

	if (r >= 0 && !box->clone)
		r = memory = memory_of(box->known.pid, box->known.mem_mib, err);
	r = r < 0 ? r : use_hand(box, HAND_SAVE, fd, memory, &head, err);
	memcpy(&head.made, &box->made, sizeof(head.made));
	r = r < 0 ? r : snapshot_commit(box->rt->snapshots, box->id, fd, &head, err);
	if (r < 0)
		snapshot_abandon(box->rt->snapshots, box->id);
	return r;
}

/* The file is the machine now. */
static void end_process(struct runtime_box *box)
{
	struct pollfd ended = { .fd = box->known.pidfd, .events = POLLIN };

	box->asleep = true;
	cgroup_kill(box->rt->kit.cgroups, box->known.cgroup);
	pidfd_send_signal(box->known.pidfd, SIGKILL, NULL, 0);
	while (poll(&ended, 1, -1) < 0 && errno == EINTR)
		;
	known_reap(box->known.pidfd);
	qmp_unlink(box->rt->kit.run_dir, box->known.cgroup);
}

int vm_freeze(struct runtime_box *box, struct err *err)
{
	int r;

	box->held = false; /* its file is gone: as one that runs */
	r = write_snapshot(box, err);
	if (r < 0) {
		use_hand(box, HAND_GO, -EBADF, -EBADF, NULL, NULL); /* it runs on, or has ended */
		return err_wrap(err, r, "pause");
	}
	FAULT("host.asleep.written");
	end_process(box);
	FAULT("host.asleep.ended");
	return 0;
}

int vm_may_thaw(struct runtime_box *box, struct err *err)
{
	int r = box->asleep ? vm_check_memory(box->rt, box->known.mem_mib, err) : 0;

	if (r == 0 && box->asleep && vm_is_forked(box->rt, box->id))
		r = err_set(err, -EBUSY, ERR_CONFLICT, "%s is being forked", box->id);
	box->promised = r == 0 && box->asleep;
	return r;
}

/* The same machine again, as a process that waits for its content. */
static int start_again(struct runtime_box *box, const struct vm_made *made,
	const struct slotnet_plan *plan, int tap, int memory, struct vm_starter *ret, struct err *err)
{
	struct vm_seat seat = { .stored = true,
		.vcpus = made->vcpu_milli ? (made->vcpu_milli + 999) / 1000 : 1,
		.mem_mib = made->mem_mib,
		.uid = box->rt->uid_base + box->known.slot * IDS_PER_SANDBOX,
		.tap = tap,
		.memory = memory,
		.file = -EBADF,
		.state = -EBADF,
		.plan = plan };

	memcpy(seat.cgroup, box->known.cgroup, sizeof(seat.cgroup));
	memcpy(seat.image, made->image, sizeof(seat.image));
	memcpy(seat.digest, made->digest, sizeof(seat.digest));
	memcpy(seat.bundle, made->bundle, sizeof(seat.bundle));
	memcpy(seat.accel, made->accel, sizeof(seat.accel));
	snprintf(seat.layer, sizeof(seat.layer), "%s", box->id);
	return vm_starter_fork(&box->rt->kit, &seat, ret, err);
}

/* A new control group in place of what an interrupted step may have left in the old one. */
static int group_again(struct runtime_box *box, const struct vm_made *made, struct err *err)
{
	struct cgroups *cg = box->rt->kit.cgroups;
	const struct cgroup_limits limits = { made->mem_mib + OVERHEAD_MIB, QEMU_TASKS, made->vcpu_milli };
	int r = cgroup_remove(cg, box->known.cgroup, err);

	r = r < 0 ? r : cgroup_make(cg, box->known.cgroup, err);
	return r < 0 ? r : cgroup_limit(cg, box->known.cgroup, &limits, err);
}

/* kill() may be asked for meanwhile: the descriptor it uses changes in one step. */
static int has_process(struct runtime_box *box, struct vm_starter *s, struct err *err)
{
	int r;

	box->known.pid = s->qemu_pid;
	r = known_start(&box->known);
	if (r == 0 && box->known.pidfd < 0)
		box->known.pidfd = take_fd(s->qemu);
	else if (r == 0 && dup3(s->qemu, box->known.pidfd, O_CLOEXEC) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(err, r, "remember the machine");
	s->qemu = fd_close(s->qemu);
	vm_starter_done(s);
	box->held = true;
	box->clone = false;
	box->asleep = false;
	return 0;
}

int vm_thaw(struct runtime_box *box, const struct slotnet_plan *plan, int tap, struct err *err)
{
	struct vm_starter s = { .pidfd = -EBADF, .qemu = -EBADF, .chan = -EBADF, .word = -EBADF };
	struct snapshot_head head;
	auto_fd int fd = -EBADF, memory = -EBADF;
	int r;

	if (!box->asleep)
		return 0; /* go_on() is all it needs */
	r = fd = snapshot_open(box->rt->snapshots, box->id, &head, err);
	if (r >= 0 && head.made.mem_mib != box->known.mem_mib)
		r = err_set(err, -EBADMSG, ERR_CONFLICT, "the snapshot is refused: it is another machine's");
	r = r < 0 ? r : vm_check_accel(box->rt, &head.made, err);
	r = r < 0 ? r : group_again(box, &head.made, err);
	r = r < 0 ? r : (memory = memory_new(head.made.mem_mib, err));
	/* QEMU gets ready while its memory is filled: it has nothing to do with that before it loads. */
	r = r < 0 ? r : start_again(box, &head.made, plan, tap, memory, &s, err);
	r = r < 0 ? r : use_hand(box, HAND_CHECK, fd, memory, &head, err);
	if (r >= 0 && lseek(fd, SNAPSHOT_BODY, SEEK_SET) < 0)
		r = err_sys(err, -errno, "read the snapshot");
	r = r < 0 ? r : vm_starter_qemu(&s, err);
	r = r < 0 ? r : use_hand(box, HAND_LOAD, fd, -EBADF, &head, err);
	r = r < 0 ? r : vm_starter_loaded(&s, err);
	r = r < 0 ? r : has_process(box, &s, err);
	box->promised = false;
	if (r < 0) { /* the file is there as before */
		vm_starter_done(&s);
		cgroup_kill(box->rt->kit.cgroups, box->known.cgroup);
		return err_wrap(err, r, "resume");
	}
	return 0;
}

/* From here on what it does counts: the file must not be gone back to. So QEMU is heard once more:
 * one that was killed may not have ended yet. */
int vm_go_on(struct runtime_box *box, struct err *err)
{
	int r;

	if (snapshot_exists(box->rt->snapshots, box->id) &&
		use_hand(box, HAND_ASK, -EBADF, -EBADF, NULL, err) < 0) {
		box->held = false;
		end_process(box);
		return err_set(err, -EIO, ERR_INTERNAL, "resume: QEMU ended; another resume may work");
	}
	snapshot_remove(box->rt->snapshots, box->rt->kit.layers, box->id);
	FAULT("host.asleep.removed");
	r = use_hand(box, HAND_GO, -EBADF, -EBADF, NULL, err);
	if (r == 0) {
		box->held = false;
		vm_began(box->rt, IPC_START_RESUME);
	}
	return r;
}


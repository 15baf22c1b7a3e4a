/*
 * What a runtime is: a struct of functions that starts, freezes and ends a sandbox. The lifecycle
 * above it is shared by `container` (container.c) and `vm` (vm/vm.c).
 *
 * Runs in the host role; what may wait says so and is called in a thread (sandbox/aside.h), all else
 * takes milliseconds at most.
 *
 * Beginning is in two steps. park() makes all of a sandbox that does not depend on whose it will be,
 * in the background: the caller watches parked_fd() and asks parked_look(). spawn() gives a parked
 * one its name and limits. What is parked ahead of requests makes the second step all that a create
 * waits for.
 *
 * A container's size is a matter of its control group and can be told last; a machine is built with
 * its memory and processors, so the seat names them, and what is parked for one size may not fit
 * another. A container is handed a namespace and its agent's socket; a machine is handed its end of
 * the link, and makes the rest inside. Parking a container costs milliseconds, so a pool of them is
 * kept; a machine boots for a second and occupies its memory, so few are made before they are asked for,
 * and only from a template (vm/warm.h).
 *
 * Ending is in three steps, so that nothing waits: kill() asks, the caller watches pidfd(), settle()
 * does in a thread what takes its time, then cleanup() takes the rest away. cleanup() must work alone
 * too, from any half-built state and after a crash; it may wait then.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "host/slotnet.h"
#include "wire/ipc.h"

struct runtime; /* a runtime's own state for one daemon: directories, cgroup layout, backends */
struct runtime_box; /* one sandbox in it */

struct runtime_env {
	const char *name;	/* daemon.name: unique on the machine */
	const char *state_dir;	/* writable layers: <state_dir>/layers/<id> */
	const char *run_dir;
	const char *image_dir;	/* runtime/image.h */
	const char *agent_path; /* weir-agent, static */
	const char *guest_path, *rootfs_path; /* weir-guest, weir-rootfs: what machines are made from */
	const char *cgroup_root;
	const char *disk_backend; /* "auto", "quota", "loop" */
	const char *accel;	  /* "auto", "tcg" */
	uint32_t warm_mib;	  /* of memory for what new machines may begin from */
	uint32_t fork_mib;	  /* … for what forks of paused ones do */
	uint32_t uid_base;	/* slot s owns [uid_base + s*65536, +65535] */
};

struct runtime_parked; /* a sandbox that lacks only its name and its limits */

struct runtime_seat {
	uint32_t slot;
	const struct slotnet_plan *plan;
	const struct slotnet *net; /* ready and quarantined, of the kind in ops; stays the caller's */
	const char *image;
	uint32_t vcpu_milli, mem_mib, disk_mib;
	const char *revive; /* the id whose writable layer is used; NULL: a new layer */
	/* It begins with a copy of this paused one's layer, a machine as it was paused; NULL: anew. */
	const char *from;
	bool paused;	    /* such a one: with no process, until it is thawed */
	bool ahead;	    /* of who asks may_stand(): for nobody yet */
	int router_ns;	    /* ahead: where the other end of its link is */
};

struct runtime_spec {
	const char *id, *hostname;
	uint32_t slot, vcpu_milli, mem_mib, disk_mib; /* as in the seat */
	uint32_t pids;
	struct ip ip4, ip6;
};

struct runtime_ops {
	const char *name;
	enum slotnet_kind link;
	bool pooled; /* park() ahead of requests */
	bool slow;   /* freeze() and thaw() take seconds, thaw() then in a thread, too */
	/* Check the kernel features; start-up refuses with the sentence in err. */
	int (*open)(const struct runtime_env *env, struct runtime **ret, struct err *err);
	void (*close)(struct runtime *rt);
	/* May sandboxes begin in it? err names what is missing. NULL: always. Those that run are
	 * looked after either way. */
	int (*able)(struct runtime *rt, struct err *err);
	/* NULL, or, where it is able: a line for the operator. Should `auto` take it? */
	bool (*about)(const struct runtime *rt, char *ret, size_t size);
	/* Begin one; the seat is not needed afterwards. The runtime lists it until it is spawned or
	 * discarded, and discards what is left in close(). */
	int (*park)(struct runtime *rt, const struct runtime_seat *seat, struct runtime_parked **ret,
		struct err *err);
	int (*parked_fd)(const struct runtime_parked *p); /* readable: ask parked_look(); borrowed */
	/* 1: ready; 0: not yet; negative: it failed, or has ended. The caller discards it then. -EAGAIN:
	 * the short way failed, and another park() takes the long one. */
	int (*parked_look)(struct runtime_parked *p, struct err *err);
	/* NULL, or: readable when news() is due. Borrowed, and always the same; negative: never. */
	int (*news_fd)(const struct runtime *rt);
	void (*news)(struct runtime *rt);
	/* Is it what this seat would have parked: the image as it is now, the size? Asked of what was parked
	 * ahead. */
	bool (*fits)(const struct runtime_parked *p, const struct runtime_seat *seat);
	/* NULL: it is pooled, or nothing is parked ahead. May one like this be, as things are now? Such a one
	 * stands ready, and ends by itself when its memory is needed: parked_look() says so. */
	bool (*may_stand)(const struct runtime *rt, const struct runtime_seat *seat);
	/* Kill it without waiting: the descriptor is readable when its processes have ended. Borrowed,
	 * and gone with parked_settle(), which then makes that discard() need not wait: as settle(). */
	int (*leave)(struct runtime_parked *p);
	int (*parked_settle)(struct runtime_parked *p, struct err *err);
	void (*discard)(struct runtime_parked *p);
	/* p must be ready, and is taken over also on failure, when nothing is left. The agent is
	 * listening when this returns 0. */
	int (*spawn)(struct runtime *rt, const struct runtime_spec *spec, struct runtime_parked *p,
		struct runtime_box **ret, struct err *err);
	/* Lines "key=value" that adopt() understands after a restart of the host role. */
	int (*record)(const struct runtime_box *box, struct buf *out);
	/* -ESRCH: its processes are gone (the box is still returned, for cleanup). */
	int (*adopt)(struct runtime *rt, const char *id, struct str record,
		struct runtime_box **ret, struct err *err);
	/* In another thread, while of the rest only kill() is asked. -EAGAIN: not yet. Afterwards it may
	 * have no process, pidfd() is negative, and its link nobody at its other end. */
	int (*freeze)(struct runtime_box *box, struct err *err);
	/* NULL: always. On the loop, before thaw(): is there room? thaw() is called then. */
	int (*may_thaw)(struct runtime_box *box, struct err *err);
	/* tap: of one without a process, its end of the link; stays the caller's. */
	int (*thaw)(struct runtime_box *box, const struct slotnet_plan *plan, int tap, struct err *err);
	/* NULL, or: what thaw() made is on record now, and runs from here on. */
	int (*go_on)(struct runtime_box *box, struct err *err);
	/* NULL: only what is frozen is forked. Else, of one that runs and goes on: may_copy() on the loop, then
	 * copy() in another thread; copy_rest() in one, too, for which it stands still a moment. The next park()
	 * from it has the copy, or copy_drop(), on the loop. Meanwhile only kill() is asked. */
	int (*may_copy)(struct runtime_box *box, struct err *err);
	int (*copy)(struct runtime_box *box, struct err *err);
	int (*copy_rest)(struct runtime_box *box, struct err *err);
	void (*copy_drop)(struct runtime_box *box);
	bool (*frozen)(const struct runtime_box *box);
	int (*pidfd)(const struct runtime_box *box); /* readable when pid 1 has ended; borrowed */
	int (*kill)(struct runtime_box *box);	     /* everything in it, frozen or not */
	/* After pidfd fired: what of cleanup() waits for the kernel. In another thread, while nothing
	 * else is asked of the box. -EAGAIN: not all has ended yet; else cleanup() is due. */
	int (*settle)(struct runtime_box *box, struct err *err);
	/* After pidfd fired. Takes mounts, cgroups and (unless keep_disk) the layer away; frees box. */
	int (*cleanup)(struct runtime_box *box, bool keep_disk, int32_t *ret_status, bool *ret_oom,
		struct err *err);
	int (*stats)(const struct runtime_box *box, struct ipc_stats *ret);
	/* In another thread; what else is asked meanwhile, cleanup() is not. A machine has the room when
	 * its agent is woken next. */
	int (*grow)(const struct runtime_box *box, uint32_t disk_mib, struct err *err);
	/* NULL: its memory is what it began with. In another thread, as grow(). -EBUSY: it uses more. */
	int (*limit)(const struct runtime_box *box, uint32_t mem_mib, struct err *err);
	/* A sandbox that has no process (after a reboot): drop its layer. */
	int (*drop_layer)(struct runtime *rt, const char *id, struct err *err);
	/* NULL: nothing is counted. */
	void (*tally)(const struct runtime *rt, struct ipc_machines *ret);
	/* After all adoptions: remove what no adopted box owns (mounts, cgroups, loop devices). */
	void (*sweep)(struct runtime *rt);
};

extern const struct runtime_ops runtime_container, runtime_vm;

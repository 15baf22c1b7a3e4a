/*
 * What a runtime is: a struct of functions that starts, freezes and ends a sandbox. The lifecycle
 * above it is shared; `container` is the first, a microVM comes through the same struct.
 *
 * Runs in the host role, synchronously: each call takes milliseconds and never waits for a tenant.
 * Ending is in two steps, so that nothing waits: kill() asks, the caller watches pidfd(), then
 * cleanup() takes everything away. cleanup() must work from any half-built state and after a crash.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "wire/ipc.h"

struct runtime; /* a runtime's own state for one daemon: directories, cgroup layout, backends */
struct runtime_box; /* one sandbox in it */

struct runtime_env {
	const char *name;	/* daemon.name: unique on the machine */
	const char *state_dir;	/* writable layers: <state_dir>/layers/<id> */
	const char *run_dir;
	const char *image_dir;	/* runtime/image.h */
	const char *agent_path; /* weir-agent, static */
	const char *cgroup_root;
	const char *disk_backend; /* "auto", "quota", "loop" */
	uint32_t uid_base;	/* slot s owns [uid_base + s*65536, +65535] */
};

struct runtime_spec {
	const char *id, *hostname, *image;
	uint32_t slot;
	int netns;	/* the slot's network namespace: ready, addresses set, quarantined */
	int agent_fd;	/* listening TCP socket on 169.254.77.2 made in that namespace; becomes the
			 * agent's descriptor 3 */
	uint32_t vcpu_milli, mem_mib, disk_mib, pids;
	bool revive;	/* use the writable layer that is there */
	struct ip ip4, ip6;
};

struct runtime_ops {
	const char *name;
	/* Check the kernel features; start-up refuses with the sentence in err. */
	int (*open)(const struct runtime_env *env, struct runtime **ret, struct err *err);
	void (*close)(struct runtime *rt);
	/* Prepare n sandboxes' worth of slow parts (cgroups, writable layers, parked processes). */
	void (*prepare)(struct runtime *rt, unsigned int n);
	/* The agent is listening when this returns 0. On failure nothing is left. */
	int (*spawn)(struct runtime *rt, const struct runtime_spec *spec, struct runtime_box **ret,
		struct err *err);
	/* Lines "key=value" that adopt() understands after a restart of the host role. */
	int (*record)(const struct runtime_box *box, struct buf *out);
	/* -ESRCH: its processes are gone (the box is still returned, for cleanup). */
	int (*adopt)(struct runtime *rt, const char *id, struct str record,
		struct runtime_box **ret, struct err *err);
	int (*freeze)(struct runtime_box *box, struct err *err);
	int (*thaw)(struct runtime_box *box, struct err *err);
	bool (*frozen)(const struct runtime_box *box);
	int (*pidfd)(const struct runtime_box *box); /* readable when pid 1 has ended; borrowed */
	int (*kill)(struct runtime_box *box);	     /* everything in it, frozen or not */
	/* After pidfd fired. Takes mounts, cgroups and (unless keep_disk) the layer away; frees box. */
	int (*cleanup)(struct runtime_box *box, bool keep_disk, int32_t *ret_status, bool *ret_oom,
		struct err *err);
	int (*stats)(const struct runtime_box *box, struct ipc_stats *ret);
	int (*grow)(struct runtime_box *box, uint32_t disk_mib, struct err *err);
	/* A sandbox that has no process (after a reboot): drop its layer. */
	int (*drop_layer)(struct runtime *rt, const char *id, struct err *err);
	/* After all adoptions: remove what no adopted box owns (mounts, cgroups, loop devices). */
	void (*sweep)(struct runtime *rt);
};

extern const struct runtime_ops runtime_container;

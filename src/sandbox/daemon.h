/*
 * The host role as a whole: one struct that its files share, and the order in which it comes up.
 *
 *	1 configuration, lock, directories		daemon_open()
 *	2 probes: refuse with a sentence what cannot work
 *	3 router namespace (pinned), uplink, forwarding, nft, steering
 *	4 kernel program and maps (pinned), floor, the DNS proxy's sockets
 *	5 runtimes; adopt the sandboxes that run, sweep what nobody owns
 *	6 public listeners, api and edge roles, the pool	daemon_run()
 *
 * Going down has two depths. SIGTERM ends the roles and leaves sandboxes, links, programs and the
 * router namespace as they are: the next start adopts them (that is an upgrade). SIGINT, or `weird
 * --down`, ends every sandbox and takes everything away that carries the daemon's name.
 */
#pragma once
#include <uv.h>
#include "host/addrs.h"
#include "host/probe.h"
#include "host/resolv.h"
#include "host/steer.h"
#include "host/uplink.h"
#include "sandbox/aside.h"
#include "sandbox/runners.h"
#include "wire/config.h"

#define DAEMON_WORKERS_MAX 16

enum daemon_phase { DAEMON_BOOT, DAEMON_SERVING, DAEMON_STOPPING };

struct daemon_paths {
	char run[200], state[200], images[200];
	char router_ns[232], sysctl_memo[232], links[232], sandboxes[232], lock[232], api_addr[232];
	char state_api[232], ingress_addr[232];
};

struct daemon {
	struct config cfg;
	struct daemon_paths path;
	uv_loop_t loop;
	bool loop_open;
	enum daemon_phase phase;
	bool take_all; /* STOPPING: sandboxes go too */
	uint64_t boot;
	uid_t uid; /* of daemon.user */
	gid_t gid;
	int lock_fd, records_dir;

	int host_ns, router_ns;
	struct rtnl host, router;
	struct uplink uplink;
	struct resolv resolv;
	struct steer_sockets steer[DAEMON_WORKERS_MAX];
	struct floorkeeper *floor;
	struct datapath *dp;
	uv_timer_t collect;
	uv_work_t collecting; /* data NULL: nobody is */
	int collected;

	struct runner runners[RUNNERS];
	struct reaper *reaper;
	struct aside ends, growth; /* what a sandbox's end waits for; disks that grow */
	struct aside copies, rests; /* machines that are copied: while they run, and while they stand still */
	struct aside naps; /* machines that are paused or resumed, one after the other */
	struct aside freezes; /* containers that are paused, in turns */
	struct slots *slots;
	struct boxes *boxes;
	struct burst *burst;
	struct listeners *listeners;
	struct publish *publish;
	struct roles *roles;
	struct builds *builds;
	uv_signal_t sigterm, sigint;
};

/* Steps 1 to 5. c: the configuration in force. */
int daemon_open(struct daemon *d, const struct config *c, struct err *err);
/* Step 6, until a signal. */
int daemon_run(struct daemon *d, struct err *err);
void daemon_close(struct daemon *d);
/* Begin to stop. all: sandboxes go too. */
void daemon_stop(struct daemon *d, bool all);
/* Called by roles and boxes when they have ended; ends the loop when both have. */
void daemon_check_stopped(struct daemon *d);

/* Paths and the lock alone: for --down and --leaks. */
int daemon_paths(struct daemon *d, const struct config *c, struct err *err);
/* Where one of our programs is; -ENOENT. The last place looked at is in ret then. */
int daemon_program(const char *name, char *ret, size_t size);
/* Take the lock of this run directory; -EBUSY: another weird holds it, *ret_pid is its pid. */
int daemon_lock(struct daemon *d, pid_t *ret_pid, struct err *err);
/* Directories of the paths, owners, the records' descriptor. */
int daemon_directories(struct daemon *d, struct err *err);
/* The host's namespace, and the router's if one is pinned. */
int daemon_look(struct daemon *d, struct err *err);

/* Everything of this daemon goes, from whatever state it was left in; a running weird is told to
 * stop first. Paths are set, nothing else. What resists is said in err, after all else is gone. */
int daemon_down(struct daemon *d, struct err *err);
/* The part after the sandboxes: links, rules, programs, pins, files. */
int daemon_take_away(struct daemon *d, struct err *err);
/* Print each kernel object that carries this daemon's name, a line each; returns how many. */
int daemon_leaks(struct daemon *d, struct buf *out);
/* The checks of `weird --probe`. */
int daemon_probe(const struct config *c, struct buf *out, struct err *err);
struct probe_env daemon_probe_env(const struct config *c); /* what the checks ask for */

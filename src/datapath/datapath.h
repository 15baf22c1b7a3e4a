/*
 * The host role's hand on the kernel program: loading and pinning, links, slots, policies, the
 * floor, counters.
 *
 * Everything lives pinned below <bpffs>/<daemon name>/, one file per map and program, so that
 * links keep working while no role runs and a restarted host role finds all of it again. Of pins
 * made under another WEIR_MAPS_VERSION only what has our WEIR_LIVES_VERSION is taken over (load.c),
 * of others nothing: then every slot begins in quarantine, and links with another build's program
 * are to be attached anew at once, since until then it goes by its own maps, which nobody can change
 * any more. The programs are always this build's own, around the maps that were found: attach again
 * to hand a running link over to them.
 *
 * One thread. Calls about links work in the network namespace of the calling thread, which must
 * be the router's. datapath_commit() writes a policy's keys, then flips the slot in one store,
 * then deletes the keys of the version before; they are remembered here, and read back from the
 * maps after a restart.
 */
#pragma once
#include "policy/calls.h"
#include "policy/floor.h"
#include "policy/policy.h"

struct datapath;

/* `bpffs`: a mounted BPF file system, "/sys/fs/bpf". */
int datapath_open(const char *bpffs, const char *name, struct datapath **ret, struct err *err);
struct datapath *datapath_free(struct datapath *dp); /* the pins stay */
static inline void auto_datapath_done(struct datapath **dp)
{
	datapath_free(*dp);
}
#define auto_datapath _cleanup_(auto_datapath_done)
/* Remove the pins of that name, whoever made them. 0 also if there were none. */
int datapath_unpin(const char *bpffs, const char *name, struct err *err);
/* Were policies found and taken over (1), or are they to be committed anew (0)? */
bool datapath_adopted(const struct datapath *dp);

/* A map's or program's descriptor by its name ("weir_pins", "weir_events", "weir_verdict_test"),
 * borrowed; -ENOENT. What a role may be given: */
int datapath_fd(const struct datapath *dp, const char *name);

/* Both classifiers on a link, replacing what an earlier build attached. */
int datapath_attach(struct datapath *dp, uint32_t ifindex, struct err *err);
int datapath_detach(struct datapath *dp, uint32_t ifindex, struct err *err);

struct datapath_slot {
	uint32_t slot, ifindex;
	struct ip ip4, ip6; /* ip6.family 0: none on this link */
	bool tap;	    /* the link is one; else half of a pair */
};
/* A new life of the slot: quarantined, counters at zero, no flow of the former one. */
int datapath_slot_set(struct datapath *dp, const struct datapath_slot *s, struct err *err);
/* The slot's sandbox is gone: no link, no policy, its keys deleted. */
void datapath_slot_clear(struct datapath *dp, uint32_t slot);
/* The host's connection tracking holds nothing more of the slot's sandbox, which is gone, nor of those
 * before: the next collection removes what entries they left, and nobody is charged for them. */
void datapath_slot_forgotten(struct datapath *dp, uint32_t slot);
/* The slot as the kernel has it; -ENOENT if it has no link. For adoption. */
int datapath_slot_get(const struct datapath *dp, uint32_t slot, struct weir_slot *ret);

/* How much of the maps one sandbox, and one user's sandboxes together, may take. */
struct datapath_limits {
	uint32_t flows_per_slot, flows_per_share, flows_all;
	uint32_t keys_per_share; /* prefixes and ports of the policies in force; 0: no bound */
};
int datapath_limits_set(struct datapath *dp, const struct datapath_limits *l, struct err *err);
/* Whose the slot is: its flows and its next policies' keys are counted there. Not 0. */
int datapath_slot_share(struct datapath *dp, uint32_t slot, uint32_t share, struct err *err);

/* May the edge connect to the sandbox? Never in the slot's next life, until it is said again. */
int datapath_ingress_set(struct datapath *dp, uint32_t slot, bool on, struct err *err);

/* Private networks. The range of overlay addresses: slot n has the n-th. family 0: none. */
int datapath_overlay_set(struct datapath *dp, struct prefix range, struct err *err);
/* The slot is in these networks (ascending, none twice, at most WEIR_NETS_MAX) and in no others. */
int datapath_members_set(struct datapath *dp, uint32_t slot, const uint32_t *nets, uint32_t n,
	struct err *err);
void datapath_members_get(const struct datapath *dp, uint32_t slot, struct weir_member *ret);

/* Who may call whom in a network, from now on, in one step; `version` 0 for a network that is open to
 * its members, else a policy id never used before. A network that was never set lets nobody through.
 * On failure nothing has changed. */
int datapath_net_set(struct datapath *dp, uint32_t number, uint32_t version,
	const struct calls *c, struct err *err);
void datapath_net_drop(struct datapath *dp, uint32_t number);
/* The version in force; -ENOENT. */
int datapath_net_get(const struct datapath *dp, uint32_t number, uint32_t *ret_version);

/* Put version `policy` (an id never used before, below 2^31) of the slot's policy in force. Done
 * already: 0. On failure nothing has changed. */
int datapath_commit(struct datapath *dp, uint32_t slot, uint32_t policy, const struct policy *p,
	const struct policy_knobs *knobs, struct err *err);
/* Policy 0: nothing passes but the gateway's conversation with the agent. The keys go too. */
void datapath_quarantine(struct datapath *dp, uint32_t slot);
/* Delete every key, the edge role's too, of policies that no slot has in force, and networks without
 * members. Once after
 * adoption, before requests are served. Returns how many, or negative errno. */
int datapath_sweep(struct datapath *dp);

/* Replace the floor: what is new is written before what is gone is deleted, and established flows
 * are judged again. */
int datapath_floor_set(struct datapath *dp, const struct policy_floor *floor, struct err *err);

int datapath_counters(const struct datapath *dp, uint32_t slot, struct weir_counters *ret);
/* Every few seconds: delete what policies of the past have left, ... */
void datapath_purge(struct datapath *dp);
/* ... and remove flows that are idle at `now` (clock_mono_ns()), or forgotten by the host; ret may be
 * NULL. 1: the kernel walked a million buckets for it, 20 ms and more; 0: none can have run out, and
 * nothing was done. It may run in a thread beside anything but itself and the end of dp. */
int datapath_collect(struct datapath *dp, uint64_t now, struct weir_collect *ret);

/* The DNS proxy's sockets of one worker (proto IPPROTO_TCP: listening; IPPROTO_UDP: bound). The
 * caller keeps them open: a closed socket leaves the map. */
int datapath_dns_socket(struct datapath *dp, uint32_t worker, uint8_t proto, uint8_t family, int fd,
	struct err *err);
/* How many workers take queries; set after their sockets. */
int datapath_dns_workers(struct datapath *dp, uint32_t n, struct err *err);

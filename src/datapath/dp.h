/* Inside the datapath room: the struct behind datapath.h, and the keys of each policy. */
#pragma once
#include "base/table.h"
#include "datapath/datapath.h"

/* The keys that one policy version has in the maps. */
struct dp_policy {
	UT_hash_handle hh;
	uint32_t id;
	uint32_t share;	  /* whose keys they are; 0: nobody's */
	uint64_t retired; /* clock_mono_ns() when it went out of force; 0: in force */
	struct dp_policy *next; /* among the retired */
	struct weir_prefix_key *prefixes;
	size_t n_prefixes, prefixes_cap;
	struct weir_port_key *ports;
	size_t n_ports, ports_cap;
};

/* One user's sandboxes: weir_shares has their flows, this their keys. */
struct dp_share {
	UT_hash_handle hh;
	uint32_t id;
	uint64_t keys; /* of the policies in force */
};

/* The last walk over all flows; the collector's alone. */
struct dp_collected {
	uint64_t at, due; /* at 0: none yet, or it failed */
	uint32_t live;
};

struct datapath {
	struct weir_bpf *skel;
	char dir[128];
	bool adopted;
	int config, slots_fd, links, members, policies, prefixes, pins, ports, floor, flows, counters;
	int shares_fd, nets_fd, calls;
	struct weir_slot *slots; /* the map itself */
	size_t slots_len;
	struct dp_policy *known; /* by id */
	struct dp_policy *retired, *retired_last; /* oldest first; last is stale without a first */
	struct dp_share *shares;
	struct dp_net *nets; /* nets.c: by number */
	struct dp_net_old *old_nets;
	struct datapath_limits limits;
	struct dp_collected collected;
	uint32_t *begun; /* weir_begun of our program, mapped */
	bool forgotten; /* the host forgot a sandbox's connections since; atomic */
};

static inline bool dp_slot_ok(uint32_t slot)
{
	return slot >= 1 && slot <= WEIR_SLOTS_MAX;
}

static inline size_t dp_keys(const struct dp_policy *k)
{
	return k->n_prefixes + k->n_ports;
}

/* share.c */
/* After adoption: whose are the keys that were found? */
int dp_shares_recover(struct datapath *dp);
/* The policy's keys count (in force), or count no more. They fit: dp_share_fits(). */
int dp_share_take(struct datapath *dp, uint32_t share, size_t keys);
void dp_share_give(struct datapath *dp, uint32_t share, size_t keys);
/* May the share have `more` keys in place of `less`? -EDQUOT with the user's sentence. */
int dp_share_fits(const struct datapath *dp, uint32_t share, size_t more, size_t less,
	struct err *err);
void dp_shares_forget(struct datapath *dp); /* memory only */

/* nets.c */
/* After adoption: which keys are whose? Those of nobody are deleted. */
int dp_nets_recover(struct datapath *dp);
void dp_nets_purge(struct datapath *dp, bool all);
/* Drop networks without members: whoever joins one makes it known again. Returns how many. */
int dp_nets_sweep(struct datapath *dp);
void dp_nets_forget(struct datapath *dp); /* memory only */

/* commit.c */
int dp_policies_recover(struct datapath *dp);
/* Delete the keys of versions that went out of force long enough ago for no packet to be still
 * looking; with `all`, of every retired one. */
void dp_policies_purge(struct datapath *dp, bool all);
void dp_policies_forget(struct datapath *dp); /* memory only */

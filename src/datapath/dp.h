/* Inside the datapath room: the struct behind datapath.h, and the keys of each policy. */
#pragma once
#include <uthash.h>
#include "datapath/datapath.h"

/* The keys that one policy version has in the maps. */
struct dp_policy {
	UT_hash_handle hh;
	uint32_t id;
	uint64_t retired; /* clock_mono_ns() when it went out of force; 0: in force */
	struct dp_policy *next; /* among the retired */
	struct weir_prefix_key *prefixes;
	size_t n_prefixes, prefixes_cap;
	struct weir_port_key *ports;
	size_t n_ports, ports_cap;
};

struct datapath {
	struct weir_bpf *skel;
	char dir[128];
	bool adopted;
	int config, slots_fd, links, policies, prefixes, pins, ports, floor, flows, counters;
	struct weir_slot *slots; /* the map itself */
	size_t slots_len;
	struct dp_policy *known; /* by id */
	struct dp_policy *retired, *retired_last; /* oldest first; last is stale without a first */
};

static inline bool dp_slot_ok(uint32_t slot)
{
	return slot >= 1 && slot <= WEIR_SLOTS_MAX;
}

/* commit.c */
int dp_policies_recover(struct datapath *dp);
/* Delete the keys of versions that went out of force long enough ago for no packet to be still
 * looking; with `all`, of every retired one. */
void dp_policies_purge(struct datapath *dp, bool all);
void dp_policies_forget(struct datapath *dp); /* memory only */

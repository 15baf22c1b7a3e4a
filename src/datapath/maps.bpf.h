/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The maps themselves. What is in them is in bpf/maps.h; names here are the names of the pins
 * and of the descriptors handed to the other roles.
 *
 * Hash maps and tries allocate per entry: an idle daemon pays for buckets, not for a million
 * flows it does not have.
 */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "bpf/maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_version);
} weir_version SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_config);
} weir_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WEIR_SLOTS_MAX + 1);
	__type(key, __u32);
	__type(value, struct weir_slot);
} weir_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_SLOTS_MAX + 1);
	__type(key, __u32);
	__type(value, __u32);
} weir_links SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_SLOTS_MAX + 1);
	__type(key, __u32);
	__type(value, struct weir_member);
} weir_members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_NETWORKS_MAX);
	__type(key, __u32);
	__type(value, struct weir_net);
} weir_nets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_CALLS_MAX);
	__type(key, struct weir_call_key);
	__type(value, struct weir_call);
} weir_calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * WEIR_SLOTS_MAX);
	__type(key, __u32);
	__type(value, struct weir_policy);
} weir_policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_PREFIXES_MAX);
	__type(key, struct weir_prefix_key);
	__type(value, struct weir_decision);
} weir_prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_PINS_MAX);
	__type(key, struct weir_pin_key);
	__type(value, struct weir_pin);
} weir_pins SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_NAMES_MAX);
	__type(key, struct weir_name_key);
	__type(value, struct weir_name);
} weir_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_PORTS_MAX);
	__type(key, struct weir_port_key);
	__type(value, struct weir_port);
} weir_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct weir_floor_key);
	__type(value, __u32);
} weir_floor SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_FLOWS_MAX);
	__type(key, struct weir_flow_key);
	__type(value, struct weir_flow);
} weir_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_SLOTS_MAX + 1);
	__type(key, __u32);
	__type(value, struct weir_share);
} weir_shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_SLOTS_MAX + 1);
	__type(key, __u32);
	__type(value, struct weir_counters);
} weir_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WEIR_SLOTS_MAX + 1);
	__type(key, __u32);
	__type(value, struct weir_dns_counters);
} weir_dns_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, WEIR_EVENT_RING);
} weir_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2 * WEIR_DNS_WORKERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} weir_dns_tcp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2 * WEIR_DNS_WORKERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} weir_dns_udp SEC(".maps");

static __always_inline struct weir_config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weir_config, &zero);
}

static __always_inline struct weir_share *share_get(__u32 share)
{
	return bpf_map_lookup_elem(&weir_shares, &share);
}

static __always_inline struct weir_counters *counters_get(__u32 slot)
{
	return bpf_map_lookup_elem(&weir_counters, &slot);
}

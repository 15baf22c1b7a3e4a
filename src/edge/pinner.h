/*
 * The seam between what the proxy has learned and the kernel's maps: pins and their port tables.
 * pinner_kernel() writes the maps through inherited descriptors; tests bring a table of their own.
 */
#pragma once
#include "base/ip.h"
#include "policy/policy.h"

struct pinner_ops {
	/* Create or replace. 0 or negative errno. */
	int (*pin)(void *arg, uint32_t policy, struct ip ip, const struct weir_decision *d);
	void (*unpin)(void *arg, uint32_t policy, struct ip ip);
	/* When a packet last matched the pin (CLOCK_MONOTONIC ns); 0 if unknown. */
	uint64_t (*last_used)(void *arg, uint32_t policy, struct ip ip);
	int (*ports_add)(void *arg, uint32_t policy, const struct policy_port_entry *p, size_t n);
	void (*ports_del)(void *arg, uint32_t policy, const struct policy_port_entry *p, size_t n);
};
struct pinner {
	const struct pinner_ops *ops;
	void *arg;
};

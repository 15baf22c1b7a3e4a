/*
 * Pins and their port tables, written through plain map descriptors by a role that has no loader
 * and no privileges: the edge. Counterpart of policy_pin().
 *
 * Write the ports of a table before the pin that names it, delete them after.
 */
#pragma once
#include "policy/policy.h"

struct pins {
	int pins_fd, ports_fd; /* weir_pins, weir_ports; borrowed */
};

/* Create the pin or replace its decision; last_used of an existing one is kept, a new one has
 * `now` (CLOCK_MONOTONIC). */
int pin_set(const struct pins *m, uint32_t policy, struct ip ip, const struct weir_decision *d,
	uint64_t now);
void pin_delete(const struct pins *m, uint32_t policy, struct ip ip);
/* When a packet last matched it; 0: there is no such pin. */
uint64_t pin_last_used(const struct pins *m, uint32_t policy, struct ip ip);

/* All or none. */
int pin_ports_add(const struct pins *m, uint32_t policy, const struct policy_port_entry *p,
	size_t n);
void pin_ports_delete(const struct pins *m, uint32_t policy, const struct policy_port_entry *p,
	size_t n);

/* Both in their order: ports, then pin. */
int pin_set_image(const struct pins *m, uint32_t policy, struct ip ip,
	const struct policy_pin_image *img, uint64_t now);

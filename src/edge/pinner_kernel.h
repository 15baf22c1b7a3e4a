/*
 * Pins in the kernel's maps, through descriptors handed in at boot.
 *
 * The collector walks weir_pins a little at a time and removes what no edge process remembers: pins
 * of policies nobody has (once the api role has told us of all), and pins of known policies at
 * addresses this process never learned, which a former one made, after they have been idle for
 * PINNER_ORPHAN_IDLE. Their port tables go with them. A look at a pin is two calls into the kernel, so
 * between two walks it rests: without that a thousand pins cost as much as answering two hundred
 * queries a second.
 */
#pragma once
#include "edge/pinner.h"
#include "edge/resolver.h"

#define PINNER_ORPHAN_IDLE  (600 * NS_PER_SEC)
#define PINNER_COLLECT_KEYS 512u /* looked at per step */
#define PINNER_REST	    (5 * NS_PER_SEC)

struct pinner_kernel;
/* Takes the descriptors over. */
int pinner_kernel_new(int pins_fd, int ports_fd, uint64_t now, struct pinner_kernel **ret);
struct pinner pinner_kernel(struct pinner_kernel *k);
/* One step. synced: every sandbox is known, so an unknown policy is nobody's. */
void pinner_kernel_collect(struct pinner_kernel *k, struct resolver *r, bool synced, uint64_t now);

/* weir_floor: the kind of floor an address lies in. A lookup that fails counts as floor. */
enum weir_floor floor_kernel(int floor_fd, struct ip ip);
/* weir_config: counts up after every change of the floor. */
uint32_t floor_generation_kernel(int config_fd);

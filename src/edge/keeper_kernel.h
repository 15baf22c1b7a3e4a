/*
 * Learned names in the kernel's map weir_names, through a descriptor handed in at boot.
 *
 * The map is read once, whole, at start: what stands in it is a former process's word (of this
 * worker or another) about sandboxes that may still be there. Each sandbox that the api role tells
 * us of recalls its own; what nobody has recalled when all are told belongs to sandboxes that are
 * gone, and is deleted.
 */
#pragma once
#include "edge/keeper.h"

struct keeper_kernel;
/* Takes the descriptor over. */
int keeper_kernel_new(int names_fd, struct keeper_kernel **ret);
struct keeper_kernel *keeper_kernel_free(struct keeper_kernel *k); /* the map stays */
struct keeper keeper_kernel(struct keeper_kernel *k);
/* Every sandbox has been told: the rest is nobody's. */
void keeper_kernel_synced(struct keeper_kernel *k);

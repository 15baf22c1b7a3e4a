/*
 * Removing what is left of layers, out of the host role's way: how long that takes is up to the
 * tenant (a million files, a fragmented image), and the host role waits for no tenant.
 *
 * layer_discard() and layers_sweep() of layer.h live in janitor.c.
 */
#pragma once
#include "runtime/layer_ops.h"

/* Lets it finish, for a moment; what is left then has names that layers_sweep() finds. */
void janitor_end(struct layers *ls);

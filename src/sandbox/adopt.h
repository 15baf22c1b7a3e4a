/*
 * After a restart: which sandboxes still run, and what is nobody's.
 *
 *	record + link in the router namespace + processes	adopted, policy as the kernel has it
 *	record + link, no processes				DEAD: waits for DESTROY
 *	record without its link, of another boot, unreadable	dropped; the rest is swept
 *
 * Then everything that carries the daemon's name and belongs to no adopted sandbox goes: links of
 * the router namespace, slots and policies of the kernel's maps, and through the runtime cgroups,
 * mounts, processes and loop devices. What one step of a killed host role had begun, this ends.
 */
#pragma once
#include "base/err.h"

struct daemon;
int adopt_all(struct daemon *d, struct err *err);

/*
 * What machines run by: KVM where a guest was seen to boot with it, else QEMU's own emulation (TCG).
 *
 * That /dev/kvm can be opened proves nothing: nested ones exist that stop a stock kernel in its first
 * instructions, at full load and without a word. So a machine without disks or link is booted, in the
 * jail that all machines have, until its first process says what it lacks; with each processor model in
 * turn, and ACCEL_TRY_S for each. The finding, good or bad, is kept beside the guest bundles, for this
 * kernel, QEMU and bundle: daemons that share these share it too, and one at a time looks.
 */
#pragma once
#include "base/err.h"

#define ACCEL_NAME_MAX 40
#define ACCEL_TRY_S    10
#define ACCEL_TCG      "tcg"
#define ACCEL_KVM      "kvm:" /* and the processor model */
#define ACCEL_FILE     "accel"

struct vm_kit;

struct accel {
	char name[ACCEL_NAME_MAX]; /* as in records and snapshots */
	char why[400];
};

/* want: "auto" or "tcg". uid: whose QEMU is while it is tried. Waits: once for seconds, then hardly. */
void accel_choose(const struct vm_kit *kit, const char *want, uint32_t uid, struct accel *ret);
bool accel_is_kvm(const char *name);
/* May a machine that was begun with `made` go on where `have` was chosen? Emulation is always there. */
bool accel_fits(const char *made, const char *have);

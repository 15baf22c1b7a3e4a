/*
 * Limits of the machine that a full daemon would meet: advice, since an emptier one never does.
 *
 * Each is a pure judgement of the number found, and a check that finds the number and passes it on.
 */
#pragma once
#include "host/probe.h"

/* Processes of a sandbox that runs a command or two: its first, the agent, and theirs. */
#define HEADROOM_PIDS_EACH 8
#define HEADROOM_PIDS_BASE 1024 /* the machine's own, and ours */

/* 0, or -ERANGE and a sentence. */
int headroom_pids(uint64_t pid_max, uint32_t sandboxes, struct err *err);
/* max_part: partitions each loop device may have, which come out of the same 2^20 numbers.
 * taken: devices there are already, of whomever. */
int headroom_loops(uint64_t max_part, uint32_t taken, uint32_t sandboxes, struct err *err);

extern const struct probe_check headroom_checks[];
extern const size_t headroom_n_checks;

/* Clocks in nanoseconds, and RFC 3339 text (UTC, milliseconds, "Z"). */
#pragma once
#include "base/base.h"

#define NS_PER_MS  UINT64_C(1000000)
#define NS_PER_SEC UINT64_C(1000000000)

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns() */
uint64_t clock_wall_ns(void); /* since 1970 */

struct rfc3339 {
	char s[32];
};
struct rfc3339 rfc3339_from(uint64_t wall_ns);

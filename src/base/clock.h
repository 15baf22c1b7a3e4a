/* Clocks in nanoseconds, and RFC 3339 text (UTC, milliseconds, "Z"). */
#pragma once
#include "base/str.h"

#define NS_PER_MS  UINT64_C(1000000)
#define NS_PER_SEC UINT64_C(1000000000)

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns() */
uint64_t clock_wall_ns(void); /* since 1970 */

struct rfc3339 {
	char s[32];
};
struct rfc3339 rfc3339_from(uint64_t wall_ns);
/* RFC 3339 with any zone and any fraction, to milliseconds since 1970. -EINVAL for another form, a
 * day that is none, or a time before 1970 or after 9999. */
int rfc3339_ms(struct str text, uint64_t *ret);

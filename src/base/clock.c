/* Clocks: see the header. */
#include <time.h>
#include "base/clock.h"

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

struct rfc3339 rfc3339_from(uint64_t wall_ns)
{
	time_t sec = (time_t)(wall_ns / NS_PER_SEC);
	unsigned int ms = (unsigned int)(wall_ns % NS_PER_SEC / NS_PER_MS);
	struct rfc3339 out;
	struct tm tm;

	gmtime_r(&sec, &tm);
	snprintf(out.s, sizeof(out.s), "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
		((unsigned int)tm.tm_year + 1900) % 10000, ((unsigned int)tm.tm_mon + 1) % 100,
		(unsigned int)tm.tm_mday % 100, (unsigned int)tm.tm_hour % 100,
		(unsigned int)tm.tm_min % 100, (unsigned int)tm.tm_sec % 100, ms % 1000);
	return out;
}

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

/* Exactly n digits off the front. */
static int digits(struct str *s, size_t n, uint64_t min, uint64_t max, uint64_t *ret)
{
	if (s->n < n || str_u64(str_n(s->p, n), max, ret) < 0 || *ret < min)
		return -EINVAL;
	*s = str_skip(*s, n);
	return 0;
}

static bool one_of(struct str *s, const char *letters)
{
	if (!s->n || !s->p[0] || !strchr(letters, s->p[0]))
		return false;
	*s = str_skip(*s, 1);
	return true;
}

static bool leap(uint64_t y)
{
	return (y % 4 == 0 && y % 100) || y % 400 == 0;
}

/* Minutes that the text is ahead of UTC. */
static int zone(struct str *s, int64_t *ret)
{
	int64_t sign = s->n && s->p[0] == '-' ? -1 : 1;
	uint64_t h, m;

	*ret = 0;
	if (one_of(s, "Zz"))
		return 0;
	if (!one_of(s, "+-") || digits(s, 2, 0, 23, &h) < 0 || !one_of(s, ":") ||
		digits(s, 2, 0, 59, &m) < 0)
		return -EINVAL;
	*ret = sign * (int64_t)(h * 60 + m);
	return 0;
}

int rfc3339_ms(struct str text, uint64_t *ret)
{
	static const unsigned int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	static const unsigned int length[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	uint64_t y, mon, d, h, min, sec, days, ms = 0;
	int64_t ahead, at;

	if (digits(&text, 4, 1970, 9999, &y) < 0 || !one_of(&text, "-") ||
		digits(&text, 2, 1, 12, &mon) < 0 || !one_of(&text, "-") ||
		digits(&text, 2, 1, length[mon - 1], &d) < 0 || !one_of(&text, "Tt ") ||
		digits(&text, 2, 0, 23, &h) < 0 || !one_of(&text, ":") ||
		digits(&text, 2, 0, 59, &min) < 0 || !one_of(&text, ":") ||
		digits(&text, 2, 0, 60, &sec) < 0)
		return -EINVAL;
	if (mon == 2 && d == 29 && !leap(y))
		return -EINVAL;
	if (one_of(&text, ".")) {
		uint64_t unit = 100, digit;

		if (digits(&text, 1, 0, 9, &digit) < 0)
			return -EINVAL;
		do {
			ms += digit * unit;
			unit /= 10; /* finer than a millisecond: cut off */
		} while (digits(&text, 1, 0, 9, &digit) == 0);
	}
	if (zone(&text, &ahead) < 0 || text.n)
		return -EINVAL;
	days = (y - 1970) * 365 + (y - 1969) / 4 - (y - 1901) / 100 + (y - 1601) / 400 +
		before[mon - 1] + (mon > 2 && leap(y)) + d - 1;
	at = (int64_t)(days * 86400 + h * 3600 + min * 60 + sec) - ahead * 60;
	if (at < 0)
		return -EINVAL;
	*ret = (uint64_t)at * 1000 + ms;
	return 0;
}

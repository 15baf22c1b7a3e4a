/*
 * A cursor over foreign bytes that remembers its first error.
 *
 * Every read is checked against what is left; after the first failure all reads
 * give zeros, so a parser is a straight line with one rd_failed() at its end.
 */
#pragma once
#include "base/str.h"

struct rd {
	const uint8_t *p, *end, *start;
	bool bad;
};

static inline struct rd rd_from(struct str s)
{
	const uint8_t *p = (const uint8_t *)s.p;

	return (struct rd){ .p = p, .end = s.n ? p + s.n : p, .start = p };
}
static inline bool rd_failed(const struct rd *r)
{
	return r->bad;
}
static inline size_t rd_left(const struct rd *r)
{
	return r->bad ? 0 : (size_t)(r->end - r->p);
}
static inline size_t rd_pos(const struct rd *r)
{
	return (size_t)(r->p - r->start);
}
/* n bytes in place, or NULL. A NULL here always means failure when n > 0. */
static inline const uint8_t *rd_take(struct rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (rd_left(r) < n) {
		r->bad = true;
		return NULL;
	}
	if (n)
		r->p += n;
	return p;
}
static inline struct str rd_str(struct rd *r, size_t n)
{
	const uint8_t *p = rd_take(r, n);

	return r->bad ? STR_NONE : str_n(p, n);
}
static inline void rd_skip(struct rd *r, size_t n)
{
	rd_take(r, n);
}
static inline uint8_t rd_u8(struct rd *r)
{
	const uint8_t *p = rd_take(r, 1);

	return p ? p[0] : 0;
}
static inline uint16_t rd_be16(struct rd *r)
{
	const uint8_t *p = rd_take(r, 2);

	return p ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}
static inline uint32_t rd_be32(struct rd *r)
{
	uint32_t hi = rd_be16(r), lo = rd_be16(r);

	return r->bad ? 0 : hi << 16 | lo;
}
static inline uint64_t rd_be64(struct rd *r)
{
	uint64_t hi = rd_be32(r), lo = rd_be32(r);

	return r->bad ? 0 : hi << 32 | lo;
}

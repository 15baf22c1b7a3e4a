/*
 * Growing bytes that state their maximum at birth.
 *
 * The first failure (out of memory, maximum exceeded) sticks: later appends do
 * nothing, and buf_failed() or the return value of the last call tells. So a
 * writer is a straight line with one check at its end.
 */
#pragma once
#include "base/str.h"

struct buf {
	char *p;
	size_t n, cap, max;
	int failed; /* 0, or the first -ENOMEM / -EFBIG */
};

#define BUF_MAX(m) ((struct buf){ .max = (m) })

void buf_done(struct buf *b);
#define auto_buf _cleanup_(buf_done)
static inline int buf_failed(const struct buf *b)
{
	return b->failed;
}
static inline struct str buf_str(const struct buf *b)
{
	return str_n(b->p, b->n);
}
int buf_add(struct buf *b, const void *p, size_t n);
int buf_add_str(struct buf *b, struct str s);
int buf_add_c(struct buf *b, const char *s);
int buf_fmt(struct buf *b, const char *fmt, ...) _printf_(2, 3);
int buf_decimal(struct buf *b, uint64_t n); /* as text; printf costs ten times as much */
int buf_u8(struct buf *b, uint8_t v);
int buf_be16(struct buf *b, uint16_t v);
int buf_be32(struct buf *b, uint32_t v);
int buf_be64(struct buf *b, uint64_t v);
/* Room for n more bytes at b->p + b->n; the caller writes them and raises b->n. */
int buf_room(struct buf *b, size_t n);
/* Drop the first n bytes. */
void buf_consume(struct buf *b, size_t n);
void buf_reset(struct buf *b); /* empty, failure forgotten, memory kept */
/* The content as a C string (NUL appended, not counted), or NULL on failure. */
const char *buf_cstr(struct buf *b);

/* Growing bytes: see the header. */
#include "base/buf.h"

void buf_done(struct buf *b)
{
	free(b->p);
	*b = BUF_MAX(b->max);
}

void buf_reset(struct buf *b)
{
	b->n = 0;
	b->failed = 0;
}

int buf_room(struct buf *b, size_t n)
{
	size_t need, cap;
	char *p;

	if (b->failed)
		return b->failed;
	if (__builtin_add_overflow(b->n, n, &need) || need > b->max)
		return b->failed = -EFBIG;
	if (need <= b->cap)
		return 0;
	cap = MAX(need, b->cap * 2);
	cap = MIN(MAX(cap, (size_t)64), b->max);
	p = realloc(b->p, cap);
	if (!p)
		return b->failed = -ENOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
	int r = buf_room(b, n);

	if (r < 0)
		return r;
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

int buf_add_str(struct buf *b, struct str s)
{
	return buf_add(b, s.p, s.n);
}

int buf_add_c(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_fmt(struct buf *b, const char *fmt, ...)
{
	size_t room = b->cap - b->n;
	va_list ap;
	int need, r;

	if (b->failed)
		return b->failed;
	va_start(ap, fmt);
	need = vsnprintf(room ? b->p + b->n : NULL, room, fmt, ap); /* mostly, there is room */
	va_end(ap);
	if (need < 0)
		return b->failed = -EINVAL;
	r = buf_room(b, (size_t)need + 1); /* vsnprintf writes a NUL that we do not count */
	if (r < 0)
		return r;
	if ((size_t)need < room) {
		b->n += (size_t)need;
		return 0;
	}
	va_start(ap, fmt);
	vsnprintf(b->p + b->n, (size_t)need + 1, fmt, ap);
	va_end(ap);
	b->n += (size_t)need;
	return 0;
}

int buf_decimal(struct buf *b, uint64_t n)
{
	char digits[20], *p = digits + sizeof(digits);

	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	return buf_add(b, p, (size_t)(digits + sizeof(digits) - p));
}

int buf_u8(struct buf *b, uint8_t v)
{
	return buf_add(b, &v, 1);
}

int buf_be16(struct buf *b, uint16_t v)
{
	uint8_t raw[] = { (uint8_t)(v >> 8), (uint8_t)v };

	return buf_add(b, raw, sizeof(raw));
}

int buf_be32(struct buf *b, uint32_t v)
{
	buf_be16(b, (uint16_t)(v >> 16));
	return buf_be16(b, (uint16_t)v);
}

int buf_be64(struct buf *b, uint64_t v)
{
	buf_be32(b, (uint32_t)(v >> 32));
	return buf_be32(b, (uint32_t)v);
}

void buf_consume(struct buf *b, size_t n)
{
	n = MIN(n, b->n);
	if (n == 0)
		return;
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

const char *buf_cstr(struct buf *b)
{
	if (buf_room(b, 1) < 0)
		return NULL;
	b->p[b->n] = '\0';
	return b->p;
}

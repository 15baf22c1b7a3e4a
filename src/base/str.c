/* Borrowed text: see the header. */
#include "base/str.h"

bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_eq_c(struct str a, const char *b)
{
	return str_eq(a, str_c(b));
}

bool str_caseeq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && str_eq(str_n(s.p, prefix.n), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n && str_eq(str_skip(s, s.n - suffix.n), suffix);
}

struct str str_trim(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = str_skip(s, 1);
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

struct str str_skip(struct str s, size_t n)
{
	n = MIN(n, s.n);
	return str_n(n ? s.p + n : s.p, s.n - n);
}

ssize_t str_find(struct str s, char c)
{
	const char *hit = s.n ? memchr(s.p, c, s.n) : NULL;

	return hit ? hit - s.p : -1;
}

struct str str_cut(struct str *s, char sep)
{
	struct str all = *s;
	ssize_t at = str_find(all, sep);

	if (at < 0) {
		*s = STR_NONE;
		return all;
	}
	*s = str_skip(all, (size_t)at + 1);
	return str_n(all.p, (size_t)at);
}

int str_u64(struct str s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.n == 0 || s.n > 20)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		unsigned int digit = (unsigned char)s.p[i] - '0';

		if (digit > 9)
			return -EINVAL;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
			__builtin_add_overflow(v, (uint64_t)digit, &v))
			return -ERANGE;
	}
	if (v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int str_copy(char *dst, size_t size, struct str s)
{
	if (s.n >= size)
		return -ENAMETOOLONG;
	if (str_find(s, '\0') >= 0)
		return -EINVAL;
	if (s.n)
		memcpy(dst, s.p, s.n);
	dst[s.n] = '\0';
	return 0;
}

char *str_dup(struct str s)
{
	char *copy = malloc(s.n + 1);

	if (!copy)
		return NULL;
	if (s.n)
		memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	return copy;
}

bool str_eq_const_time(struct str a, struct str b)
{
	volatile unsigned char diff = a.n != b.n;

	for (size_t i = 0; i < MIN(a.n, b.n); i++)
		diff = diff | (unsigned char)(a.p[i] ^ b.p[i]);
	return diff == 0;
}

size_t str_utf8_len(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3
		: p[0] < 0xf5					      ? 4
								      : 0;

	if (!len || len > s.n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and what lies past U+10FFFF show in the second byte. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
		(p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

bool str_utf8(struct str s)
{
	for (size_t i = 0, len; i < s.n; i += len) {
		len = str_utf8_len(str_n(s.p + i, s.n - i));
		if (!len)
			return false;
	}
	return true;
}

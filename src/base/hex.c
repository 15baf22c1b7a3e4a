/* Hexadecimal digits: see the header. */
#include "base/hex.h"

void hex_spell(char *dst, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n; i++) {
		dst[2 * i] = digits[p[i] >> 4];
		dst[2 * i + 1] = digits[p[i] & 15];
	}
	dst[2 * n] = '\0';
}

static int value_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int hex_read(struct str digits, void *ret, size_t n)
{
	uint8_t *p = ret;

	if (digits.n != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < digits.n; i++)
		if (value_of(digits.p[i]) < 0)
			return -EINVAL;
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(value_of(digits.p[2 * i]) << 4 | value_of(digits.p[2 * i + 1]));
	return 0;
}

/* Base64: see the header. */
#include "base/base64.h"

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct str in, struct buf *out)
{
	uint32_t acc = 0;
	unsigned int bits = 0;

	if (in.n % 4)
		return -EINVAL;
	for (int pad = 0; pad < 2 && in.n && in.p[in.n - 1] == '='; pad++)
		in.n--;
	for (size_t i = 0; i < in.n; i++) {
		int v = value_of(in.p[i]);

		if (v < 0)
			return -EINVAL;
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buf_u8(out, (uint8_t)(acc >> bits));
		}
	}
	return buf_failed(out);
}

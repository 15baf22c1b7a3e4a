/* Signed routes: see the header. */
#include <openssl/evp.h>
#include "wire/signed.h"

static bool is_base36(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'z')))
			return false;
	return s.n > 0;
}

bool signed_is_time(struct str s)
{
	return is_base36(s) && s.n <= SIGNED_TIME_MAX && (s.p[0] != '0' || s.n == 1);
}

bool signed_is_sig(struct str s)
{
	if (s.n != SIGNED_LEN || !is_base36(s))
		return false;
	for (size_t i = 0; i < SIGNED_LEN - 1; i++)
		if (s.p[i] > 'f')
			return false;
	return true;
}

void signed_time(uint64_t at, char ret[static SIGNED_TIME_MAX + 1])
{
	char digits[SIGNED_TIME_MAX];
	size_t n = 0;

	do {
		digits[n++] = "0123456789abcdefghijklmnopqrstuvwxyz"[at % 36];
		at /= 36;
	} while (at);
	for (size_t i = 0; i < n; i++)
		ret[i] = digits[n - 1 - i];
	ret[n] = '\0';
}

bool signed_time_from(struct str s, uint64_t *ret)
{
	uint64_t n = 0;

	if (!signed_is_time(s))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		uint64_t digit = (uint64_t)(s.p[i] <= '9' ? s.p[i] - '0' : s.p[i] - 'a' + 10);

		if (__builtin_mul_overflow(n, 36, &n) || __builtin_add_overflow(n, digit, &n))
			return false;
	}
	*ret = n;
	return true;
}

static int update(EVP_MD_CTX *md, const void *p, size_t n)
{
	uint8_t length[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

	return EVP_DigestUpdate(md, length, sizeof(length)) == 1 && EVP_DigestUpdate(md, p, n) == 1;
}

int signed_make(const struct ipc_ingress_key *key, struct str id, uint16_t port, struct str expires,
	char ret[static SIGNED_LEN + 1])
{
	uint8_t digest[32];
	char text[128];
	int n = snprintf(text, sizeof(text), "v1\nshort\n" STR_FMT "\n%u\n" STR_FMT "\n", STR_ARG(id),
		port, STR_ARG(expires));
	EVP_MD_CTX *md;
	bool made;

	if (n < 0 || (size_t)n >= sizeof(text) || key->len > sizeof(key->secret))
		return -EINVAL;
	md = EVP_MD_CTX_new();
	if (!md)
		return -ENOMEM;
	made = EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && update(md, key->secret, key->len) &&
		update(md, text, (size_t)n) && EVP_DigestFinal_ex(md, digest, NULL) == 1;
	EVP_MD_CTX_free(md);
	if (!made)
		return -EIO;
	snprintf(ret, SIGNED_LEN + 1, "%02x%02x%02x%02x%c", digest[0], digest[1], digest[2], digest[3],
		key->id);
	return 0;
}

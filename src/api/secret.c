/* Tokens made of a key: see the header. */
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>
#include "api/secret.h"
#include "base/buf.h"
#include "base/fd.h"

#define KEY_FILE  "token.key"
#define KEY_BYTES 32

struct secret {
	uint8_t key[KEY_BYTES];
};

static int key_make(int dir, struct secret *s)
{
	if (getrandom(s->key, sizeof(s->key), 0) != (ssize_t)sizeof(s->key))
		return -EIO;
	return file_replace(dir, KEY_FILE, str_n(s->key, sizeof(s->key)), 0600, true);
}

static int key_read(int dir, struct secret *s)
{
	auto_buf struct buf text = BUF_MAX(KEY_BYTES + 1);
	int r = file_read(dir, KEY_FILE, &text);

	if (r < 0)
		return r;
	if (text.n != KEY_BYTES)
		return -EBADMSG;
	memcpy(s->key, text.p, KEY_BYTES);
	explicit_bzero(text.p, text.n);
	return 0;
}

int secret_open(int dir, struct secret **ret, struct err *err)
{
	struct secret *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = key_read(dir, s);
	if (r == -ENOENT)
		r = key_make(dir, s);
	if (r < 0) {
		explicit_bzero(s, sizeof(*s));
		free(s);
		return err_sys(err, r, "%s in the state directory", KEY_FILE);
	}
	*ret = s;
	return 0;
}

int secret_token(const struct secret *s, const char *purpose, const char *id,
	char ret[static SECRET_TOKEN_LEN + 1])
{
	char text[SECRET_ID_MAX + 64], base64[64];
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	int len = snprintf(text, sizeof(text), "%s\n%s", purpose, id);
	bool made = len >= 0 && (size_t)len < sizeof(text) &&
		HMAC(EVP_sha256(), s->key, sizeof(s->key), (const uint8_t *)text, (size_t)len, sum, &n);

	explicit_bzero(text, sizeof(text));
	if (!made || n != 32)
		return -EINVAL;
	EVP_EncodeBlock((uint8_t *)base64, sum, 32); /* 44 letters, the last is '=' */
	explicit_bzero(sum, sizeof(sum));
	for (size_t i = 0; i < SECRET_TOKEN_LEN; i++)
		ret[i] = base64[i] == '+' ? '-' : base64[i] == '/' ? '_' : base64[i];
	ret[SECRET_TOKEN_LEN] = '\0';
	return 0;
}

bool secret_fits(const struct secret *s, const char *purpose, const char *id, struct str token)
{
	char want[SECRET_TOKEN_LEN + 1];
	bool fits = secret_token(s, purpose, id, want) == 0 &&
		str_eq_const_time(str_n(want, SECRET_TOKEN_LEN), token);

	explicit_bzero(want, sizeof(want));
	return fits;
}

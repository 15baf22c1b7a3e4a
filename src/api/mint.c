/* Tokens made of a key: see the header. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include "api/mint.h"
#include "base/fd.h"
#include "base/ulid.h"

#define KEY_FILE  "token.key"
#define KEY_BYTES 32u
#define MAC_BYTES 32u

struct mint {
	struct secret key;
};

static int key_make(int dir, struct secret *key)
{
	struct buf *w = secret_writer(key);

	buf_reset(w);
	random_bytes(w->p, KEY_BYTES);
	w->n = KEY_BYTES;
	return file_replace(dir, KEY_FILE, secret_reveal(key), 0600, true);
}

static int key_read(int dir, struct secret *key)
{
	int r = secret_room(key, KEY_BYTES);

	if (r == 0)
		r = file_read(dir, KEY_FILE, secret_writer(key));
	if (r == -ENOENT)
		return key_make(dir, key);
	return r == -EFBIG || (r == 0 && secret_reveal(key).n != KEY_BYTES) ? -EBADMSG : r;
}

int mint_open(int dir, struct mint **ret, struct err *err)
{
	struct mint *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = key_read(dir, &m->key);
	if (r < 0) {
		mint_free(m);
		return err_sys(err, r, "%s in the state directory", KEY_FILE);
	}
	*ret = m;
	return 0;
}

void mint_free(struct mint *m)
{
	if (!m)
		return;
	secret_done(&m->key);
	free(m);
}

/* "<purpose>\n<id>" under the key. */
static int mac_of(const struct mint *m, const char *purpose, struct str id, struct secret *ret)
{
	struct str key = secret_reveal(&m->key), said;
	auto_secret struct secret text = SECRET_NONE;
	unsigned int n = 0;
	int r = id.n > MINT_ID_MAX ? -EINVAL : secret_room(&text, strlen(purpose) + 1 + id.n);

	if (r == 0)
		r = secret_room(ret, MAC_BYTES);
	if (r < 0)
		return r;
	buf_fmt(secret_writer(&text), "%s\n", purpose);
	buf_add_str(secret_writer(&text), id);
	said = secret_reveal(&text);
	if (!HMAC(EVP_sha256(), key.p, (int)key.n, (const uint8_t *)said.p, said.n,
		    (uint8_t *)secret_writer(ret)->p, &n) || n != MAC_BYTES)
		return -EIO;
	secret_writer(ret)->n = n;
	return 0;
}

int mint_token(const struct mint *m, const char *purpose, struct str id, struct secret *ret)
{
	auto_secret struct secret mac = SECRET_NONE;
	struct buf *w = secret_writer(ret);
	int r = mac_of(m, purpose, id, &mac);

	if (r == 0)
		r = secret_room(ret, MINT_TOKEN_LEN + 1); /* the last letter is '=' */
	if (r < 0)
		return r;
	EVP_EncodeBlock((uint8_t *)w->p, (const uint8_t *)secret_reveal(&mac).p, MAC_BYTES);
	w->n = MINT_TOKEN_LEN;
	for (size_t i = 0; i < w->n; i++)
		w->p[i] = w->p[i] == '+' ? '-' : w->p[i] == '/' ? '_' : w->p[i];
	return 0;
}

bool mint_fits(const struct mint *m, const char *purpose, struct str id, struct str token)
{
	auto_secret struct secret want = SECRET_NONE;

	return mint_token(m, purpose, id, &want) == 0 && secret_is(&want, token);
}

/* Signing keys: see the header. */
#include "base/base64.h"
#include "base/secret.h"
#include "wire/keys.h"

static bool is_id(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
}

static const struct ipc_ingress_key *find(const struct ipc_ingress_keys *keys, uint32_t n, char id)
{
	for (uint32_t i = 0; i < n; i++)
		if (keys->key[i].id == id)
			return &keys->key[i];
	return NULL;
}

static int read_secret(struct str text, struct ipc_ingress_key *key)
{
	auto_secret struct secret raw = SECRET_NONE;
	int r = secret_room(&raw, sizeof(key->secret));
	struct str bytes;

	if (r == 0)
		r = base64_decode(text, secret_writer(&raw));
	if (r < 0)
		return r;
	bytes = secret_reveal(&raw);
	if (bytes.n < KEYS_SECRET_MIN || bytes.n > sizeof(key->secret))
		return -ERANGE;
	memcpy(key->secret, bytes.p, bytes.n);
	key->len = (uint32_t)bytes.n;
	return 0;
}

/* What is wrong with the line, or NULL. */
static const char *add(struct ipc_ingress_keys *keys, struct str line)
{
	struct str value = line, id = str_trim(str_cut(&value, '='));
	struct ipc_ingress_key *key = &keys->key[keys->n];

	if (!value.p || id.n != 1 || !is_id(id.p[0]))
		return "expected one of 0-9 and a-z, \"=\", and a key in base64";
	if (find(keys, keys->n, id.p[0]))
		return "this id has a key already";
	if (keys->n == IPC_INGRESS_KEYS_MAX)
		return "more than 8 keys";
	key->id = id.p[0];
	switch (read_secret(str_trim(value), key)) {
	case 0:
		keys->n++;
		return NULL;
	case -EINVAL:
		return "the key is not base64";
	case -ENOMEM:
		return "out of memory";
	default:
		return "a key has 16 to 64 bytes";
	}
}
_Static_assert(IPC_INGRESS_KEYS_MAX == 8 && KEYS_SECRET_MIN == 16, "as the sentences say");

int keys_read(const char *name, struct str text, struct ipc_ingress_keys *ret, struct err *err)
{
	auto_keys struct ipc_ingress_keys keys = { 0 };
	const char *why = NULL;
	unsigned int number = 0;

	while (text.p && !why) {
		struct str line = str_cut(&text, '\n');

		number++;
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		line = str_trim(line);
		if (line.n && line.p[0] != '#')
			why = add(&keys, line);
	}
	if (!why)
		*ret = keys;
	return why ? err_set(err, -EINVAL, ERR_INVALID, "%s:%u: %s", name, number, why) : 0;
}

void keys_erase(struct ipc_ingress_keys *keys)
{
	explicit_bzero(keys, sizeof(*keys));
}

bool keys_ok(const struct ipc_ingress_keys *keys)
{
	if (keys->n > IPC_INGRESS_KEYS_MAX)
		return false;
	for (uint32_t i = 0; i < keys->n; i++) {
		const struct ipc_ingress_key *k = &keys->key[i];

		if (!is_id(k->id) || find(keys, i, k->id) || k->len < KEYS_SECRET_MIN ||
			k->len > sizeof(k->secret))
			return false;
	}
	return true;
}

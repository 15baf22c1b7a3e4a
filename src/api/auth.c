/* API keys: see the header. */
#include <fcntl.h>
#include <openssl/evp.h>
#include "api/auth.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/table.h"

struct key {
	struct key_row row;
	uint32_t requests; /* under way */
	UT_hash_handle hh; /* by hash */
};
struct keyring {
	struct store *store;
	struct key *keys;
	unsigned int admins;
};

static int sha256(struct str s, uint8_t out[32])
{
	unsigned int n = 0;

	return EVP_Digest(s.p, s.n, out, &n, EVP_sha256(), NULL) == 1 && n == 32 ? 0 : -EIO;
}

static struct key *hold(struct keyring *k, const struct key_row *row)
{
	struct key *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->row = *row;
	HASH_ADD(hh, k->keys, row.hash, sizeof(e->row.hash), e);
	if (!table_has(e)) {
		free(e);
		return NULL;
	}
	k->admins += row->admin;
	return e;
}

static void let_go(struct keyring *k, struct key *e)
{
	k->admins -= e->row.admin;
	HASH_DEL(k->keys, e);
	free(e);
}

static int load_one(const struct key_row *row, void *arg)
{
	return hold(arg, row) ? 0 : -ENOMEM;
}

static int first_key(struct keyring *k, int dir, struct err *err)
{
	auto_secret struct secret text = SECRET_NONE, line = SECRET_NONE;
	struct key_row row;
	int r = keyring_add(k, STR("admin"), "", true, &row, &text, err);

	if (r < 0)
		return r;
	r = secret_room(&line, secret_reveal(&text).n + 1);
	if (r == 0)
		r = buf_fmt(secret_writer(&line), STR_FMT "\n", STR_ARG(secret_reveal(&text)));
	if (r == 0)
		r = file_replace(dir, "admin.key", secret_reveal(&line), 0600, true);
	if (r < 0) {
		keyring_revoke(k, row.id, NULL); /* nobody knows it: the next start makes another */
		return err_sys(err, r, "write admin.key");
	}
	return 0;
}

int keyring_open(struct store *store, int dir, struct keyring **ret, bool *ret_created,
	struct err *err)
{
	struct keyring *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	k->store = store;
	err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory"); /* all that load_one() can mean */
	r = store_keys(store, UINT32_MAX, 0, load_one, k, NULL, err);
	*ret_created = r == 0 && k->admins == 0;
	if (*ret_created)
		r = first_key(k, dir, err);
	if (r < 0) {
		keyring_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

void keyring_free(struct keyring *k)
{
	struct key *e, *tmp;

	if (!k)
		return;
	HASH_ITER (hh, k->keys, e, tmp) {
		HASH_DEL(k->keys, e);
		free(e);
	}
	free(k);
}

int keyring_check(const struct keyring *k, struct str key, struct principal *ret)
{
	uint8_t hash[32];
	struct key *e;

	if (key.n == 0 || key.n > 256 || sha256(key, hash) < 0)
		return -ENOENT;
	HASH_FIND(hh, k->keys, hash, sizeof(hash), e);
	if (!e || !str_eq_const_time(str_n(e->row.hash, 32), str_n(hash, 32)))
		return -ENOENT;
	snprintf(ret->key, sizeof(ret->key), "%s", e->row.id);
	snprintf(ret->user, sizeof(ret->user), "%s", e->row.user);
	ret->admin = e->row.admin;
	memcpy(ret->hash, hash, sizeof(ret->hash));
	return 0;
}

static struct key *key_of(const struct keyring *k, const struct principal *p)
{
	struct key *e;

	HASH_FIND(hh, k->keys, p->hash, sizeof(p->hash), e);
	return e;
}

int keyring_enter(struct keyring *k, struct principal *p, uint32_t max)
{
	struct key *e = key_of(k, p);

	if (!e || e->requests >= max)
		return -EBUSY;
	e->requests++;
	p->counted = true;
	return 0;
}

void keyring_leave(struct keyring *k, struct principal *p)
{
	struct key *e = p->counted ? key_of(k, p) : NULL;

	p->counted = false;
	if (e) /* not revoked meanwhile */
		e->requests--;
}

static int add_rows(struct keyring *k, const struct key_row *row, bool new_user, struct err *err)
{
	int r = store_begin(k->store, err);

	if (r == 0 && new_user)
		r = store_user_add(k->store, row->user, row->name, err);
	if (r == 0)
		r = store_key_add(k->store, row, err);
	if (r == 0)
		r = store_commit(k->store, err);
	store_rollback(k->store);
	return r;
}

int keyring_add(struct keyring *k, struct str name, const char *user, bool admin,
	struct key_row *ret, struct secret *ret_text, struct err *err)
{
	struct key_row row = { .admin = admin };
	struct key *e;
	int r;

	if (!name.n || str_copy(row.name, sizeof(row.name), name) < 0 || !str_utf8(name))
		return err_field(err, -EINVAL, ERR_INVALID, "name", "1 to %zu bytes of text",
			sizeof(row.name) - 1);
	r = secret_random(ret_text, STR("weir_"));
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "out of memory");
	r = sha256(secret_reveal(ret_text), row.hash);
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "SHA-256 failed");
	row.created_ms = clock_wall_ns() / NS_PER_MS;
	snprintf(row.id, sizeof(row.id), "key-%s", ulid_new(clock_wall_ns()).s);
	snprintf(row.hint, sizeof(row.hint), "%.9s…", secret_reveal(ret_text).p);
	if (*user)
		snprintf(row.user, sizeof(row.user), "%s", user);
	else
		snprintf(row.user, sizeof(row.user), "usr-%s", ulid_new(clock_wall_ns()).s);
	e = hold(k, &row); /* before it is stored: a key that was refused must not be there tomorrow */
	if (!e)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = add_rows(k, &row, !*user, err);
	if (r < 0)
		let_go(k, e);
	else
		*ret = row;
	return r;
}

int keyring_revoke(struct keyring *k, const char *id, struct err *err)
{
	struct key *e, *tmp, *found = NULL;
	int r;

	HASH_ITER (hh, k->keys, e, tmp)
		if (str_eq_c(str_c(e->row.id), id))
			found = e;
	if (!found)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "key not found");
	r = store_key_delete(k->store, id, err);
	if (r < 0)
		return r;
	let_go(k, found);
	return 0;
}

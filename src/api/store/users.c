/* Users and their keys. */
#include "api/store/db.h"
#include "base/hex.h"

int store_user_add(struct store *s, const char *id, const char *name, struct err *err)
{
	static const char sql[] = "INSERT INTO users (id, name, created_ms) VALUES ($1, $2, $3)";

	return db_run(s, sql, "user", err, DB_C(id), DB_C(name), DB_INT(db_now_ms()));
}

int store_user_exists(struct store *s, const char *id, struct err *err)
{
	static const char sql[] = "SELECT 1 FROM users WHERE id = $1";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err, DB_C(id));

	return r < 0 ? r : db_row(s, st, "user", err);
}

int store_key_add(struct store *s, const struct key_row *k, struct err *err)
{
	static const char sql[] =
		"INSERT INTO api_keys (id, user_id, name, hint, hash, admin, created_ms) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7)";
	char hex[65];

	hex_spell(hex, k->hash, sizeof(k->hash));
	return db_run(s, sql, "key", err, DB_C(k->id), DB_C(k->user), DB_C(k->name), DB_C(k->hint),
		DB_C(hex), DB_INT(k->admin), DB_INT(k->created_ms));
}

int store_key_delete(struct store *s, const char *id, struct err *err)
{
	int r = db_run(s, "DELETE FROM api_keys WHERE id = $1", "key", err, DB_C(id));

	if (r == 0 && db_changes(s) == 0)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "key not found");
	return r;
}

static int count(struct store *s, uint64_t *ret, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, "SELECT COUNT(*) FROM api_keys", &st, err);

	return r < 0 ? r : db_number(s, st, "keys", ret, err);
}

static int read_key(sqlite3_stmt *st, struct key_row *k, struct err *err)
{
	*k = (struct key_row){ .admin = db_u32(st, 5) != 0, .created_ms = db_u64(st, 6) };
	if (db_copy(st, 0, k->id, sizeof(k->id)) < 0 ||
		db_copy(st, 1, k->user, sizeof(k->user)) < 0 ||
		db_copy(st, 2, k->name, sizeof(k->name)) < 0 ||
		db_copy(st, 3, k->hint, sizeof(k->hint)) < 0 || db_digest(st, 4, k->hash) < 0)
		return db_unreadable(err, "a key");
	return 0;
}

int store_keys(struct store *s, uint32_t limit, uint32_t offset, store_key_fn fn, void *arg,
	uint64_t *ret_total, struct err *err)
{
	static const char sql[] =
		"SELECT id, user_id, name, hint, hash, admin, created_ms FROM api_keys "
		"ORDER BY created_ms DESC, id DESC LIMIT $1 OFFSET $2";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err, DB_INT(limit), DB_INT(offset));

	while (r >= 0 && (r = db_row(s, st, "keys", err)) > 0) {
		struct key_row k;

		r = read_key(st, &k, err);
		if (r == 0)
			r = fn(&k, arg);
	}
	return r == 0 && ret_total ? count(s, ret_total, err) : r;
}

/* Tokens of ingress: each opens one port of one sandbox. */
#include "api/store/db.h"
#include "base/hex.h"

int store_token_add(struct store *s, const struct token_row *t, struct err *err)
{
	static const char sql[] =
		"INSERT INTO ingress_tokens (id, sandbox_id, name, hint, port, hash, created_ms, expires_ms) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
	char hex[65];

	hex_spell(hex, t->digest, sizeof(t->digest));
	return db_run(s, sql, "token", err, DB_C(t->id), DB_C(t->sandbox), DB_C(t->name),
		DB_C(t->hint), DB_INT(t->port), DB_C(hex), DB_INT(t->created_ms),
		DB_INT(t->expires_ms));
}

int store_token_drop(struct store *s, const char *id, struct err *err)
{
	return db_run(s, "DELETE FROM ingress_tokens WHERE id = $1", "token", err, DB_C(id));
}

int store_token_clear(struct store *s, const char *sandbox, struct err *err)
{
	return db_run(s, "DELETE FROM ingress_tokens WHERE sandbox_id = $1", "tokens", err,
		DB_C(sandbox));
}

static int read_token(sqlite3_stmt *st, struct token_row *t, struct err *err)
{
	*t = (struct token_row){ .port = db_u32(st, 4), .created_ms = db_u64(st, 6),
		.expires_ms = db_u64(st, 7) };
	if (db_copy(st, 0, t->id, sizeof(t->id)) < 0 ||
		db_copy(st, 1, t->sandbox, sizeof(t->sandbox)) < 0 ||
		db_copy(st, 2, t->name, sizeof(t->name)) < 0 ||
		db_copy(st, 3, t->hint, sizeof(t->hint)) < 0 || db_digest(st, 5, t->digest) < 0)
		return db_unreadable(err, "a token");
	return 0;
}

int store_tokens(struct store *s, store_token_fn fn, void *arg, struct err *err)
{
	static const char sql[] =
		"SELECT id, sandbox_id, name, hint, port, hash, created_ms, expires_ms "
		"FROM ingress_tokens ORDER BY created_ms, id";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err);

	while (r >= 0 && (r = db_row(s, st, "tokens", err)) > 0) {
		struct token_row t;

		r = read_token(st, &t, err);
		if (r == 0)
			r = fn(&t, arg);
	}
	return r;
}

/* Policies: the ids the kernel knows them by, the versions a sandbox had; and a sandbox's history. */
#include "api/store/db.h"

int store_policy_ids(struct store *s, uint32_t n, uint32_t *ret_first, struct err *err)
{
	uint64_t first;
	int r = db_take(s, "policy", n, &first, err);

	if (r < 0)
		return r;
	if (first + n > INT32_MAX) /* 2^31 policies: a scope has no more bits (bpf/maps.h) */
		return err_set(err, -EOVERFLOW, ERR_INTERNAL, "policy ids are used up");
	*ret_first = (uint32_t)first;
	return 0;
}

int store_policy_seen(struct store *s, uint32_t seen, struct err *err)
{
	static const char sql[] =
		"UPDATE sequences SET next = $1 WHERE name = 'policy' AND next < $1";

	return db_run(s, sql, "policy ids", err, DB_INT((uint64_t)seen + 1));
}

/* --- versions --- */

int store_version_trim(struct store *s, const char *sandbox, uint32_t upto, struct err *err)
{
	return db_run(s, "DELETE FROM policies WHERE sandbox_id = $1 AND version <= $2",
		"policy versions", err, DB_C(sandbox), DB_INT(upto));
}

int store_version_add(struct store *s, const struct version_row *v, struct err *err)
{
	static const char sql[] =
		"INSERT INTO policies (sandbox_id, version, policy_id, dialect, source, created_ms) "
		"VALUES ($1, $2, $3, $4, $5, $6)";
	int r = db_run(s, sql, "policy version", err, DB_C(v->sandbox), DB_INT(v->version),
		DB_INT(v->policy), DB_INT(v->dialect), DB_STR(v->json), DB_INT(v->at_ms));

	if (r < 0 || v->version <= STORE_VERSIONS_KEPT)
		return r;
	return store_version_trim(s, v->sandbox, v->version - STORE_VERSIONS_KEPT, err);
}

int store_version_drop(struct store *s, const char *sandbox, uint32_t version, struct err *err)
{
	return db_run(s, "DELETE FROM policies WHERE sandbox_id = $1 AND version = $2",
		"policy version", err, DB_C(sandbox), DB_INT(version));
}

static int count(struct store *s, const char *sandbox, uint64_t *ret, struct err *err)
{
	static const char sql[] = "SELECT COUNT(*) FROM policies WHERE sandbox_id = $1";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err, DB_C(sandbox));

	return r < 0 ? r : db_number(s, st, "policy versions", ret, err);
}

int store_versions(struct store *s, const char *sandbox, uint32_t limit, uint32_t offset,
	store_version_fn fn, void *arg, uint64_t *ret_total, struct err *err)
{
	static const char sql[] =
		"SELECT version, policy_id, dialect, source, created_ms FROM policies "
		"WHERE sandbox_id = $1 ORDER BY version DESC LIMIT $2 OFFSET $3";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err, DB_C(sandbox), DB_INT(limit), DB_INT(offset));

	while (r >= 0 && (r = db_row(s, st, "policy versions", err)) > 0) {
		struct version_row v = { .version = db_u32(st, 0), .policy = db_u32(st, 1),
			.dialect = db_u32(st, 2), .json = db_str(st, 3), .at_ms = db_u64(st, 4) };

		snprintf(v.sandbox, sizeof(v.sandbox), "%s", sandbox);
		r = fn(&v, arg);
	}
	return r == 0 && ret_total ? count(s, sandbox, ret_total, err) : r;
}

/* --- history --- */

int store_note(struct store *s, const char *sandbox, const char *event, const char *detail,
	struct err *err)
{
	static const char sql[] =
		"INSERT INTO history (sandbox_id, at_ms, event, detail) VALUES ($1, $2, $3, $4)";

	return db_run(s, sql, "history", err, DB_C(sandbox), DB_INT(db_now_ms()), DB_C(event),
		DB_C(detail));
}

/* Sandboxes: their rows, added, saved, found, listed, counted and, long after their end, swept. */
#include "api/store/db.h"
#include "base/buf.h"

int store_sandbox_add(struct store *s, const struct sandbox_row *row, struct err *err)
{
	return row_write(s, s->row_add, row, err);
}

int store_sandbox_save(struct store *s, const struct sandbox_row *row, struct err *err)
{
	int r = row_write(s, s->row_save, row, err);

	if (r == 0 && db_changes(s) == 0)
		return err_set(err, -ENOENT, ERR_INTERNAL, "store: no row for %s", row->id);
	return r;
}

int store_sandbox_drop(struct store *s, const char *id, struct err *err)
{
	int r = store_member_clear(s, id, err);

	if (r == 0)
		r = store_version_trim(s, id, UINT32_MAX, err);
	if (r == 0)
		r = db_run(s, "DELETE FROM sandboxes WHERE id = $1", "sandbox", err, DB_C(id));
	return r;
}

int store_sandbox_get(struct store *s, const char *id, struct sandbox_row *ret, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	struct sandbox_row row = { 0 };
	int r = db_query(s, s->row_get, &st, err, DB_C(id));

	if (r == 0)
		r = db_row(s, st, "sandbox", err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "sandbox not found");
	r = row_read(st, &row);
	if (r < 0) {
		sandbox_row_done(&row);
		return err_set(err, r, ERR_INTERNAL, "store: the row of %s does not read", id);
	}
	*ret = row;
	return 0;
}

/* --- lists --- */

/* " WHERE user_id = $1 AND status IN ('running', …)": the states are our own words. */
static void spell_filter(struct buf *b, bool user, uint32_t states)
{
	bool first = true;

	buf_add_c(b, " WHERE ");
	if (user)
		buf_add_c(b, "user_id = $1 AND ");
	buf_add_c(b, "status IN (");
	for (int st = LIFE_NONE + 1; st < LIFE_STATES; st++) {
		if (!(states & 1u << st))
			continue;
		buf_fmt(b, "%s'%s'", first ? "" : ", ", life_state_name((enum life_state)st));
		first = false;
	}
	buf_add_c(b, first ? "'')" : ")");
}

static int count(struct store *s, const char *user, uint32_t states, uint64_t *ret, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	auto_buf struct buf sql = BUF_MAX(4096);
	struct db_value of = DB_C(user);
	int r;

	buf_add_c(&sql, "SELECT COUNT(*) FROM sandboxes");
	spell_filter(&sql, user != NULL, states);
	if (!buf_cstr(&sql))
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = db_made(s, sql.p, &of, user ? 1 : 0, &st, err);
	return r < 0 ? r : db_number(s, st, "sandboxes", ret, err);
}

int store_sandboxes(struct store *s, const char *user, uint32_t states, uint32_t limit,
	uint32_t offset, store_row_fn fn, void *arg, uint64_t *ret_total, struct err *err)
{
	struct db_value values[] = { DB_C(user), DB_INT(limit), DB_INT(offset) };
	const size_t skip = user ? 0 : 1; /* without a user there is no $1 for one */
	auto_rest sqlite3_stmt *st = NULL;
	auto_buf struct buf sql = BUF_MAX(4096);
	int r;

	buf_fmt(&sql, "SELECT %s FROM sandboxes", s->row_list);
	spell_filter(&sql, user != NULL, states);
	buf_fmt(&sql, " ORDER BY created_ms DESC, id DESC LIMIT $%zu OFFSET $%zu", 2 - skip, 3 - skip);
	if (!buf_cstr(&sql))
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = db_made(s, sql.p, values + skip, ARRAY_SIZE(values) - skip, &st, err);
	while (r >= 0 && (r = db_row(s, st, "sandboxes", err)) > 0) {
		struct sandbox_row row = { 0 };

		r = row_read(st, &row);
		if (r < 0)
			err_set(err, r, ERR_INTERNAL, "store: a sandbox's row does not read");
		else
			r = fn(&row, arg);
		sandbox_row_done(&row);
	}
	return r == 0 && ret_total ? count(s, user, states, ret_total, err) : r;
}

int store_sandbox_counts(struct store *s, const char *user, uint64_t counts[static LIFE_STATES],
	struct err *err)
{
	static const char sql[] =
		"SELECT status, COUNT(*) FROM sandboxes WHERE user_id = $1 GROUP BY status";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err, DB_C(user));

	memset(counts, 0, LIFE_STATES * sizeof(counts[0]));
	while (r >= 0 && (r = db_row(s, st, "counts", err)) > 0) {
		enum life_state state;

		if (life_state_from(db_str(st, 0), &state) == 0)
			counts[state] = db_u64(st, 1);
	}
	return r;
}

/* --- sweeping --- */

#define ENDED "FROM sandboxes WHERE status IN ('destroyed', 'failed') AND destroyed_ms < $1"

int store_sweep(struct store *s, uint64_t before_ms, struct err *err)
{
	static const char *const steps[] = {
		"DELETE FROM policies WHERE sandbox_id IN (SELECT id " ENDED ")",
		"DELETE FROM history WHERE sandbox_id IN (SELECT id " ENDED ")",
		("DELETE " ENDED),
	};
	int r = store_begin(s, err), gone = 0;

	if (r < 0) /* a transaction that is open is not ours to roll back */
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++) {
		r = db_run(s, steps[i], "sweep", err, DB_INT(before_ms));
		gone = db_changes(s);
	}
	if (r == 0)
		r = store_commit(s, err);
	store_rollback(s);
	return r < 0 ? r : gone;
}

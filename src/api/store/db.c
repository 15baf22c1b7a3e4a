/*
 * The database, opened, and statements run on it: see db.h.
 *
 * The database lives in a directory that arrived as a descriptor. SQLite wants a path and would
 * resolve /proc/self/fd/N to where it leads, which this process may not be allowed to walk; so
 * its lstat is replaced by stat, which sees no symbolic link to follow.
 */
#include <sys/stat.h>
#include "api/store/db.h"
#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"

struct db_kept {
	const char *sql;
	sqlite3_stmt *st;
};

/* --- running --- */

static int fail(struct store *s, const char *what, struct err *err)
{
	int rc = sqlite3_extended_errcode(s->db);
	int code = rc == SQLITE_FULL ? -ENOSPC : rc == SQLITE_NOMEM ? -ENOMEM : -EIO;

	if ((rc & 0xff) == SQLITE_CONSTRAINT)
		return err_set(err, -EEXIST, ERR_CONFLICT, "%s: already there", what);
	return err_set(err, code, ERR_INTERNAL, "store: %s: %s", what, sqlite3_errmsg(s->db));
}

static void bind(sqlite3_stmt *st, const struct db_value *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int at = (int)i + 1;

		if (v[i].is_text)
			sqlite3_bind_text64(st, at, v[i].text.n ? v[i].text.p : "", v[i].text.n,
				SQLITE_STATIC, SQLITE_UTF8);
		else
			sqlite3_bind_int64(st, at, v[i].n);
	}
}

static int prepare(struct store *s, const char *sql, unsigned int flags, sqlite3_stmt **ret,
	struct err *err)
{
	int rc = sqlite3_prepare_v3(s->db, sql, -1, flags, ret, NULL);

	return rc == SQLITE_OK ? 0 : fail(s, "prepare", err);
}

/* Statements are some dozens: the search is nothing beside running one. */
static int kept(struct store *s, const char *sql, sqlite3_stmt **ret, struct err *err)
{
	struct db_kept *more;
	int r;

	for (size_t i = 0; i < s->n_kept; i++)
		if (s->kept[i].sql == sql) {
			*ret = s->kept[i].st;
			return 0;
		}
	more = realloc(s->kept, (s->n_kept + 1) * sizeof(*more));
	if (!more)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "store: out of memory");
	s->kept = more;
	more += s->n_kept;
	r = prepare(s, sql, SQLITE_PREPARE_PERSISTENT, &more->st, err);
	if (r < 0)
		return r;
	more->sql = sql;
	s->n_kept++;
	*ret = more->st;
	return 0;
}

int db_query_values(struct store *s, const char *sql, const struct db_value *v, size_t n,
	sqlite3_stmt **ret, struct err *err)
{
	int r = kept(s, sql, ret, err);

	if (r == 0)
		bind(*ret, v, n);
	return r;
}

/* Where in s->made this text is, or should be: what stood there goes, unless it runs. */
static int place_of(struct store *s, const char *sql)
{
	int at = -EBUSY;

	for (int i = 0; i < (int)DB_MADE_MAX; i++) {
		if (s->made[i] && strcmp(sqlite3_sql(s->made[i]), sql) == 0)
			return i;
		if (!s->made[i] || !sqlite3_stmt_busy(s->made[i]))
			at = i;
		if (!s->made[i])
			break;
	}
	return at;
}

int db_made(struct store *s, const char *sql, const struct db_value *v, size_t n,
	sqlite3_stmt **ret, struct err *err)
{
	int at = place_of(s, sql), r;
	sqlite3_stmt *st;

	if (at < 0)
		return err_set(err, at, ERR_INTERNAL, "store: too many statements run at once");
	st = s->made[at];
	if (!st || strcmp(sqlite3_sql(st), sql) != 0) {
		r = prepare(s, sql, SQLITE_PREPARE_PERSISTENT, &st, err);
		if (r < 0)
			return r;
		sqlite3_finalize(s->made[at]);
	}
	memmove(s->made + 1, s->made, (size_t)at * sizeof(st));
	s->made[0] = *ret = st;
	bind(st, v, n);
	return 0;
}

int db_once(struct store *s, const char *sql, const struct db_value *v, size_t n,
	sqlite3_stmt **ret, struct err *err)
{
	int r = prepare(s, sql, 0, ret, err);

	if (r == 0)
		bind(*ret, v, n);
	return r;
}

int db_row(struct store *s, sqlite3_stmt *st, const char *what, struct err *err)
{
	int rc = sqlite3_step(st);

	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : fail(s, what, err);
}

int db_run_values(struct store *s, const char *sql, const struct db_value *v, size_t n,
	const char *what, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query_values(s, sql, v, n, &st, err);

	if (r == 0)
		r = db_row(s, st, what, err);
	return MIN(r, 0);
}

int db_number(struct store *s, sqlite3_stmt *st, const char *what, uint64_t *ret, struct err *err)
{
	int r = db_row(s, st, what, err);

	*ret = r > 0 ? db_u64(st, 0) : 0;
	return MIN(r, 0);
}

int db_script(struct store *s, const char *sql, const char *what, struct err *err)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(s, what, err);
}

int db_changes(struct store *s)
{
	return sqlite3_changes(s->db);
}

int db_take(struct store *s, const char *sequence, uint32_t n, uint64_t *ret, struct err *err)
{
	static const char sql[] =
		"UPDATE sequences SET next = next + $1 WHERE name = $2 RETURNING next";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err, DB_INT(n), DB_C(sequence));
	uint64_t next;

	if (r == 0)
		r = db_row(s, st, sequence, err);
	if (r <= 0)
		return r < 0 ? r : db_unreadable(err, sequence);
	next = db_u64(st, 0);
	r = db_row(s, st, sequence, err); /* RETURNING hands rows out first: run it to its end */
	if (r == 0)
		*ret = next - n;
	return r;
}

void db_rest(sqlite3_stmt **st)
{
	if (*st) {
		sqlite3_reset(*st);
		sqlite3_clear_bindings(*st);
	}
}

void db_end(sqlite3_stmt **st)
{
	sqlite3_finalize(*st);
}

/* --- columns --- */

struct str db_str(sqlite3_stmt *st, int at)
{
	const void *p = sqlite3_column_text(st, at);

	return str_n(p, (size_t)sqlite3_column_bytes(st, at));
}

int db_copy(sqlite3_stmt *st, int at, char *dst, size_t size)
{
	return str_copy(dst, size, db_str(st, at)) < 0 ? -EBADMSG : 0;
}

int db_digest(sqlite3_stmt *st, int at, uint8_t ret[static 32])
{
	return hex_read(db_str(st, at), ret, 32) < 0 ? -EBADMSG : 0;
}

int db_unreadable(struct err *err, const char *what)
{
	return err_set(err, -EBADMSG, ERR_INTERNAL, "store: %s does not read", what);
}

uint64_t db_now_ms(void)
{
	return clock_wall_ns() / NS_PER_MS;
}

/* --- opening --- */

static int stat_for_lstat(const char *path, struct stat *st)
{
	return stat(path, st);
}

static int open_file(struct store *s, const struct store_spec *spec, struct err *err)
{
	sqlite3_vfs *vfs;
	char path[512];

	sqlite3_initialize();
	vfs = sqlite3_vfs_find(NULL);
	vfs->xSetSystemCall(vfs, "lstat", (sqlite3_syscall_ptr)stat_for_lstat);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", spec->dir, spec->name);
	if (sqlite3_open_v2(path, &s->db,
		    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
		    NULL) != SQLITE_OK)
		return err_set(err, -EIO, ERR_INTERNAL, "store: open %s: %s", spec->name,
			s->db ? sqlite3_errmsg(s->db) : "out of memory");
	sqlite3_extended_result_codes(s->db, 1);
	return 0;
}

static int set_up(struct store *s, bool sync_full, struct err *err)
{
	/* Exclusive: one process owns the store, and no shared memory file is needed. */
	int r = db_script(s, "PRAGMA locking_mode = EXCLUSIVE", "locking mode", err);

	if (r == 0)
		r = db_script(s, "PRAGMA journal_mode = WAL", "journal mode", err);
	if (r == 0)
		r = db_script(s, sync_full ? "PRAGMA synchronous = FULL" :
					     "PRAGMA synchronous = NORMAL", "synchronous", err);
	if (r == 0)
		r = db_script(s, "PRAGMA foreign_keys = ON", "foreign keys", err);
	return r;
}

int store_open(const struct store_spec *spec, struct store **ret, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = open_file(s, spec, err);
	if (r == 0)
		r = set_up(s, spec->sync_full, err);
	if (r == 0)
		r = schema_bring(s, err);
	if (r == 0 && row_spell(s) < 0)
		r = err_set(err, -ENOMEM, ERR_INTERNAL, "store: out of memory");
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_kept; i++)
		sqlite3_finalize(s->kept[i].st);
	for (size_t i = 0; i < DB_MADE_MAX; i++)
		sqlite3_finalize(s->made[i]);
	free(s->kept);
	free(s->row_list);
	free(s->row_add);
	free(s->row_save);
	free(s->row_get);
	sqlite3_close(s->db);
	free(s);
}

/* --- several changes as one --- */

int store_begin(struct store *s, struct err *err)
{
	return db_run(s, "BEGIN", "begin", err);
}

int store_commit(struct store *s, struct err *err)
{
	return db_run(s, "COMMIT", "commit", err);
}

void store_rollback(struct store *s)
{
	struct err err;

	if (!sqlite3_get_autocommit(s->db) && db_run(s, "ROLLBACK", "rollback", &err) < 0)
		log_event(LOG_ERROR, "store.rollback", "%s", err.text);
}

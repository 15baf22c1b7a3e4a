/*
 * The database: what the store's files run their statements with. Only they include this.
 *
 * A statement is named by its text: a static one, or one of the texts in struct store, never one
 * that is made for a call (those go to db_made()). It is prepared when it is first asked for and
 * kept until the store closes. Its parameters are given as a list of values,
 *
 *	return db_run(s, "DELETE FROM members WHERE sandbox_id = $1", "members", err, DB_C(id));
 *
 * and borrowed until the statement has run: db_rest() ends a run and lets them go, by auto_rest at
 * the end of the scope. A kept statement runs once at a time, so a callback that is shown rows must
 * not ask for the same rows.
 *
 * `what` names the subject in the sentence of a failure. Failures are -EEXIST (ERR_CONFLICT) where
 * a constraint refuses, else -ENOSPC, -ENOMEM or -EIO (ERR_INTERNAL); -EBADMSG where a row does not
 * read as we wrote it.
 */
#pragma once
#include <sqlite3.h>
#include "api/store.h"

#define DB_MADE_MAX 16u /* what lists filter by, mostly the same; preparing one is dearer than a short list */

struct store {
	sqlite3 *db;
	sqlite3_stmt *made[DB_MADE_MAX]; /* the longest unused last */
	struct db_kept *kept; /* in the order of their first use */
	size_t n_kept;
	char *row_list, *row_add, *row_save, *row_get; /* spelled from the columns: row.c */
};

struct db_value {
	bool is_text;
	struct str text;
	sqlite3_int64 n;
};
#define DB_STR(v) ((struct db_value){ .is_text = true, .text = (v) })
#define DB_C(v)	  DB_STR(str_c(v)) /* NULL is "" */
#define DB_INT(v) ((struct db_value){ .n = (sqlite3_int64)(v) })

/* --- running; the values are those of $1, $2, … --- */
#define db_query(s, sql, ret, err, ...)                                                            \
	db_query_values(s, sql, (struct db_value[]){ __VA_ARGS__ },                                \
		sizeof((struct db_value[]){ __VA_ARGS__ }) / sizeof(struct db_value), ret, err)
#define db_run(s, sql, what, err, ...)                                                             \
	db_run_values(s, sql, (struct db_value[]){ __VA_ARGS__ },                                  \
		sizeof((struct db_value[]){ __VA_ARGS__ }) / sizeof(struct db_value), what, err)

/* A kept statement, ready to be stepped through with db_row(). */
int db_query_values(struct store *s, const char *sql, const struct db_value *v, size_t n,
	sqlite3_stmt **ret, struct err *err);
/* … and run, where no rows are expected. */
int db_run_values(struct store *s, const char *sql, const struct db_value *v, size_t n,
	const char *what, struct err *err);
/* A statement whose text is made for the call: of these the DB_MADE_MAX last used are kept. */
int db_made(struct store *s, const char *sql, const struct db_value *v, size_t n,
	sqlite3_stmt **ret, struct err *err);
/* A statement that is not kept: end it with auto_end. */
int db_once(struct store *s, const char *sql, const struct db_value *v, size_t n,
	sqlite3_stmt **ret, struct err *err);
/* 1: a row is there; 0: there is none any more. */
int db_row(struct store *s, sqlite3_stmt *st, const char *what, struct err *err);
/* The first number of the first row; 0 where there is no row. */
int db_number(struct store *s, sqlite3_stmt *st, const char *what, uint64_t *ret, struct err *err);
/* Several statements without parameters, separated by semicolons. */
int db_script(struct store *s, const char *sql, const char *what, struct err *err);
int db_changes(struct store *s); /* rows that the last statement changed */
/* Take n numbers from a sequence, "policy" or "network", which never gives them again: the first. */
int db_take(struct store *s, const char *sequence, uint32_t n, uint64_t *ret, struct err *err);

void db_rest(sqlite3_stmt **st);
void db_end(sqlite3_stmt **st);
#define auto_rest _cleanup_(db_rest)
#define auto_end  _cleanup_(db_end)

/* --- reading columns, counted from 0 --- */
struct str db_str(sqlite3_stmt *st, int at); /* until the next step */
/* Text of ours back into its array; what does not fit was not written by us: -EBADMSG. */
int db_copy(sqlite3_stmt *st, int at, char *dst, size_t size);
/* A digest, kept as text in hexadecimal: the same in both databases. */
int db_digest(sqlite3_stmt *st, int at, uint8_t ret[static 32]);
static inline uint64_t db_u64(sqlite3_stmt *st, int at)
{
	return (uint64_t)sqlite3_column_int64(st, at);
}
static inline uint32_t db_u32(sqlite3_stmt *st, int at)
{
	return (uint32_t)sqlite3_column_int64(st, at);
}
int db_unreadable(struct err *err, const char *what); /* -EBADMSG */

uint64_t db_now_ms(void);

/* --- what opening asks of the other files --- */
int schema_bring(struct store *s, struct err *err); /* schema.c: up to this version */
int row_spell(struct store *s);			    /* row.c: the row_… texts; -ENOMEM */

/* --- row.c: a sandbox's row, described once --- */
/* sql: row_add or row_save. */
int row_write(struct store *s, const char *sql, const struct sandbox_row *row, struct err *err);
/* Into a cleared row; sandbox_row_done() ends it, also after a failure. */
int row_read(sqlite3_stmt *st, struct sandbox_row *row);

/* --- policies.c --- */
/* Forget a sandbox's versions up to this one. */
int store_version_trim(struct store *s, const char *sandbox, uint32_t upto, struct err *err);

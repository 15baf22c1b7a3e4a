/*
 * The store: see the header.
 *
 * A sandbox's row is described once, by the table of columns below; INSERT, UPDATE and SELECT are
 * spelled from it when the store opens, and the same table binds and reads. Statements are
 * prepared at first use and kept.
 *
 * The database lives in a directory that arrived as a descriptor. SQLite wants a path and would
 * resolve /proc/self/fd/N to where it leads, which this process may not be allowed to walk; so
 * its lstat is replaced by stat, which sees no symbolic link to follow.
 */
#include <sqlite3.h>
#include <sys/stat.h>
#include "api/store.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	Q_BEGIN,
	Q_COMMIT,
	Q_ROLLBACK,
	Q_USER_ADD,
	Q_USER_EXISTS,
	Q_KEY_ADD,
	Q_KEY_DELETE,
	Q_KEYS,
	Q_KEYS_COUNT,
	Q_SB_ADD,
	Q_SB_SAVE,
	Q_SB_DROP,
	Q_SB_GET,
	Q_SB_COUNTS,
	Q_SWEEP_VERSIONS,
	Q_SWEEP_HISTORY,
	Q_SWEEP_SANDBOXES,
	Q_POLICY_IDS,
	Q_POLICY_SEEN,
	Q_VERSION_ADD,
	Q_VERSION_DROP,
	Q_VERSION_TRIM,
	Q_VERSIONS,
	Q_VERSIONS_COUNT,
	Q_NOTE,
	Q_NET_NUMBER,
	Q_NET_ADD,
	Q_NET_POLICY,
	Q_NET_DROP,
	Q_NET_ALL,
	Q_NETS,
	Q_NETS_COUNT,
	Q_MEMBER_ADD,
	Q_MEMBER_DROP,
	Q_MEMBER_CLEAR,
	Q_MEMBERS,
	Q_TOKEN_ADD,
	Q_TOKEN_DROP,
	Q_TOKEN_CLEAR,
	Q_TOKENS,
	Q_SB_LIST, /* text depends on the filter: not kept */
	QUERIES
};

#define VERSIONS_KEPT 100 /* per sandbox: enough to look back, bounded for a client that PUTs in a loop */

static const char *const query_text[QUERIES] = {
	[Q_BEGIN] = "BEGIN",
	[Q_COMMIT] = "COMMIT",
	[Q_ROLLBACK] = "ROLLBACK",
	[Q_USER_ADD] = "INSERT INTO users (id, name, created_ms) VALUES ($1, $2, $3)",
	[Q_USER_EXISTS] = "SELECT 1 FROM users WHERE id = $1",
	[Q_KEY_ADD] = "INSERT INTO api_keys (id, user_id, name, hint, hash, admin, created_ms) "
		      "VALUES ($1, $2, $3, $4, $5, $6, $7)",
	[Q_KEY_DELETE] = "DELETE FROM api_keys WHERE id = $1",
	[Q_KEYS] = "SELECT id, user_id, name, hint, hash, admin, created_ms FROM api_keys "
		   "ORDER BY created_ms DESC, id DESC LIMIT $1 OFFSET $2",
	[Q_KEYS_COUNT] = "SELECT COUNT(*) FROM api_keys",
	[Q_SB_DROP] = "DELETE FROM sandboxes WHERE id = $1",
	[Q_SB_COUNTS] = "SELECT status, COUNT(*) FROM sandboxes WHERE user_id = $1 GROUP BY status",
	[Q_SWEEP_VERSIONS] = "DELETE FROM policies WHERE sandbox_id IN (SELECT id FROM sandboxes "
			     "WHERE status IN ('destroyed', 'failed') AND destroyed_ms < $1)",
	[Q_SWEEP_HISTORY] = "DELETE FROM history WHERE sandbox_id IN (SELECT id FROM sandboxes "
			    "WHERE status IN ('destroyed', 'failed') AND destroyed_ms < $1)",
	[Q_SWEEP_SANDBOXES] = "DELETE FROM sandboxes WHERE status IN ('destroyed', 'failed') "
			      "AND destroyed_ms < $1",
	[Q_POLICY_IDS] = "UPDATE sequences SET next = next + $1 WHERE name = 'policy' RETURNING next",
	[Q_POLICY_SEEN] = "UPDATE sequences SET next = $1 WHERE name = 'policy' AND next < $1",
	[Q_VERSION_ADD] = "INSERT INTO policies (sandbox_id, version, policy_id, dialect, source, "
			  "created_ms) VALUES ($1, $2, $3, $4, $5, $6)",
	[Q_VERSION_DROP] = "DELETE FROM policies WHERE sandbox_id = $1 AND version = $2",
	[Q_VERSION_TRIM] = "DELETE FROM policies WHERE sandbox_id = $1 AND version <= $2",
	[Q_VERSIONS] = "SELECT version, policy_id, dialect, source, created_ms FROM policies "
		       "WHERE sandbox_id = $1 ORDER BY version DESC LIMIT $2 OFFSET $3",
	[Q_VERSIONS_COUNT] = "SELECT COUNT(*) FROM policies WHERE sandbox_id = $1",
	[Q_NOTE] = "INSERT INTO history (sandbox_id, at_ms, event, detail) VALUES ($1, $2, $3, $4)",
	[Q_NET_NUMBER] = "UPDATE sequences SET next = next + 1 WHERE name = 'network' RETURNING next",
	[Q_NET_ADD] = "INSERT INTO networks (id, user_id, name, number, created_ms) "
		      "VALUES ($1, $2, $3, $4, $5)",
	[Q_NET_POLICY] = "UPDATE networks SET policy = $1 WHERE id = $2",
	[Q_NET_DROP] = "DELETE FROM networks WHERE id = $1",
	[Q_NET_ALL] = "SELECT id, user_id, name, number, created_ms, policy FROM networks",
	[Q_NETS] = "SELECT id, user_id, name, number, created_ms, policy FROM networks WHERE user_id = $1 "
		   "ORDER BY created_ms DESC, id DESC LIMIT $2 OFFSET $3",
	[Q_NETS_COUNT] = "SELECT COUNT(*) FROM networks WHERE user_id = $1",
	[Q_MEMBER_ADD] = "INSERT INTO members (network_id, sandbox_id, joined_ms) VALUES ($1, $2, $3)",
	[Q_MEMBER_DROP] = "DELETE FROM members WHERE network_id = $1 AND sandbox_id = $2",
	[Q_MEMBER_CLEAR] = "DELETE FROM members WHERE sandbox_id = $1",
	[Q_MEMBERS] = "SELECT network_id, sandbox_id FROM members",
	[Q_TOKEN_ADD] = "INSERT INTO ingress_tokens (id, sandbox_id, name, hint, port, hash, "
			"created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	[Q_TOKEN_DROP] = "DELETE FROM ingress_tokens WHERE id = $1",
	[Q_TOKEN_CLEAR] = "DELETE FROM ingress_tokens WHERE sandbox_id = $1",
	[Q_TOKENS] = "SELECT id, sandbox_id, name, hint, port, hash, created_ms, expires_ms "
		     "FROM ingress_tokens ORDER BY created_ms, id",
};

/* Applied in order; a database remembers how many it has had. Only ever append. */
static const char *const migrations[] = {
	"CREATE TABLE users ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms BIGINT NOT NULL);"
	"CREATE TABLE api_keys ("
	" id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users (id),"
	" name TEXT NOT NULL, hint TEXT NOT NULL, hash TEXT NOT NULL UNIQUE,"
	" admin BIGINT NOT NULL, created_ms BIGINT NOT NULL);"
	"CREATE TABLE sandboxes ("
	" id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users (id),"
	" created_by TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL,"
	" shape TEXT NOT NULL, rootfs TEXT NOT NULL, runtime TEXT NOT NULL,"
	" slot BIGINT NOT NULL, vcpu BIGINT NOT NULL, cpu_milli BIGINT NOT NULL,"
	" quota_pct BIGINT NOT NULL, mem_mib BIGINT NOT NULL, disk_mib BIGINT NOT NULL,"
	" ip4 TEXT NOT NULL, ip6 TEXT NOT NULL,"
	" policy BIGINT NOT NULL, policy_version BIGINT NOT NULL, dialect BIGINT NOT NULL,"
	" policy_json TEXT NOT NULL, envs TEXT NOT NULL, ssh_keys TEXT NOT NULL,"
	" reason TEXT NOT NULL, auto_pause_s BIGINT NOT NULL, created_ms BIGINT NOT NULL,"
	" running_ms BIGINT NOT NULL, paused_ms BIGINT NOT NULL, resumed_ms BIGINT NOT NULL,"
	" destroyed_ms BIGINT NOT NULL, spawn_us BIGINT NOT NULL, out_used BIGINT NOT NULL,"
	" in_used BIGINT NOT NULL, out_base BIGINT NOT NULL, in_base BIGINT NOT NULL);"
	"CREATE UNIQUE INDEX sandboxes_live_name ON sandboxes (user_id, name)"
	" WHERE status NOT IN ('destroying', 'destroyed', 'failed');"
	"CREATE INDEX sandboxes_of_user ON sandboxes (user_id, created_ms);"
	"CREATE TABLE policies ("
	" sandbox_id TEXT NOT NULL REFERENCES sandboxes (id), version BIGINT NOT NULL,"
	" policy_id BIGINT NOT NULL UNIQUE, dialect BIGINT NOT NULL, source TEXT NOT NULL,"
	" created_ms BIGINT NOT NULL, PRIMARY KEY (sandbox_id, version));"
	"CREATE TABLE history ("
	" sandbox_id TEXT NOT NULL, at_ms BIGINT NOT NULL, event TEXT NOT NULL,"
	" detail TEXT NOT NULL);"
	"CREATE INDEX history_of_sandbox ON history (sandbox_id, at_ms);"
	"CREATE TABLE sequences (name TEXT PRIMARY KEY, next BIGINT NOT NULL);"
	"INSERT INTO sequences (name, next) VALUES ('policy', 1)",
	/* A list and its total cost what is asked for, not what was ever destroyed. */
	"CREATE INDEX sandboxes_by_status ON sandboxes (user_id, status, created_ms, id)",

	"CREATE TABLE networks ("
	" id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users (id), name TEXT NOT NULL,"
	" number BIGINT NOT NULL UNIQUE, created_ms BIGINT NOT NULL);"
	"CREATE UNIQUE INDEX networks_name ON networks (user_id, name);"
	"CREATE TABLE members ("
	" network_id TEXT NOT NULL REFERENCES networks (id),"
	" sandbox_id TEXT NOT NULL REFERENCES sandboxes (id), joined_ms BIGINT NOT NULL,"
	" PRIMARY KEY (network_id, sandbox_id));"
	"CREATE INDEX members_of_sandbox ON members (sandbox_id);"
	"INSERT INTO sequences (name, next) VALUES ('network', 1)",

	"ALTER TABLE sandboxes ADD COLUMN image TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE sandboxes ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';"
	"ALTER TABLE sandboxes ADD COLUMN entrypoint TEXT NOT NULL DEFAULT '[]';"
	"ALTER TABLE sandboxes ADD COLUMN expires_ms BIGINT NOT NULL DEFAULT 0",

	"ALTER TABLE sandboxes ADD COLUMN sleeps_ms BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN ttl_s BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN sleep_s BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN auto_resume BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN generation BIGINT NOT NULL DEFAULT 1",

	"ALTER TABLE sandboxes ADD COLUMN ingress BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN ingress_access BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN ingress_hold BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN ingress_ports BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN port_proxy BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE sandboxes ADD COLUMN port_direct BIGINT NOT NULL DEFAULT 0;"
	"CREATE TABLE ingress_tokens ("
	" id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL REFERENCES sandboxes (id),"
	" name TEXT NOT NULL, hint TEXT NOT NULL, port BIGINT NOT NULL, hash TEXT NOT NULL UNIQUE,"
	" created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL);"
	"CREATE INDEX ingress_tokens_of_sandbox ON ingress_tokens (sandbox_id)",

	"ALTER TABLE networks ADD COLUMN policy TEXT NOT NULL DEFAULT ''",

	"ALTER TABLE sandboxes ADD COLUMN services TEXT NOT NULL DEFAULT '[]'",

	"ALTER TABLE sandboxes ADD COLUMN execd_token TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE sandboxes ADD COLUMN id_told BIGINT NOT NULL DEFAULT 0;"
	"UPDATE sandboxes SET id_told = 1 WHERE ingress <> 0 OR services <> '[]'",
};

/* --- one row, described once --- */

enum col_kind { C_TEXT, C_OWNED, C_U32, C_U64, C_STATE };
struct col {
	const char *name;
	enum col_kind kind;
	size_t offset, size;
};
#define COL(k, f, n) { n, k, offsetof(struct sandbox_row, f), sizeof(((struct sandbox_row *)0)->f) }
static const struct col cols[] = {
	COL(C_TEXT, id, "id"), /* first: UPDATE's condition */
	COL(C_TEXT, user, "user_id"),
	COL(C_TEXT, created_by, "created_by"),
	COL(C_TEXT, name, "name"),
	COL(C_STATE, state, "status"),
	COL(C_TEXT, shape, "shape"),
	COL(C_TEXT, rootfs, "rootfs"),
	COL(C_TEXT, runtime, "runtime"),
	COL(C_U32, slot, "slot"),
	COL(C_U32, vcpu, "vcpu"),
	COL(C_U32, cpu_milli, "cpu_milli"),
	COL(C_U32, quota_pct, "quota_pct"),
	COL(C_U32, mem_mib, "mem_mib"),
	COL(C_U32, disk_mib, "disk_mib"),
	COL(C_TEXT, ip4, "ip4"),
	COL(C_TEXT, ip6, "ip6"),
	COL(C_U32, policy, "policy"),
	COL(C_U32, policy_version, "policy_version"),
	COL(C_U32, dialect, "dialect"),
	COL(C_OWNED, policy_json, "policy_json"),
	COL(C_OWNED, envs, "envs"),
	COL(C_OWNED, ssh_keys, "ssh_keys"),
	COL(C_OWNED, reason, "reason"),
	COL(C_OWNED, image, "image"),
	COL(C_OWNED, metadata, "metadata"),
	COL(C_OWNED, entrypoint, "entrypoint"),
	COL(C_OWNED, services, "services"),
	COL(C_U32, auto_pause_s, "auto_pause_s"),
	COL(C_U32, ingress, "ingress"),
	COL(C_U32, ingress_access, "ingress_access"),
	COL(C_U32, ingress_hold, "ingress_hold"),
	COL(C_U32, ingress_ports, "ingress_ports"),
	COL(C_U32, port_proxy, "port_proxy"),
	COL(C_U32, port_direct, "port_direct"),
	COL(C_U32, id_told, "id_told"),
	COL(C_TEXT, execd_token, "execd_token"),
	COL(C_U64, created_ms, "created_ms"),
	COL(C_U64, running_ms, "running_ms"),
	COL(C_U64, paused_ms, "paused_ms"),
	COL(C_U64, resumed_ms, "resumed_ms"),
	COL(C_U64, destroyed_ms, "destroyed_ms"),
	COL(C_U64, expires_ms, "expires_ms"),
	COL(C_U64, sleeps_ms, "sleeps_ms"),
	COL(C_U32, ttl_s, "ttl_s"),
	COL(C_U32, sleep_s, "sleep_s"),
	COL(C_U32, auto_resume, "auto_resume"),
	COL(C_U32, generation, "generation"),
	COL(C_U64, spawn_us, "spawn_us"),
	COL(C_U64, out_used, "out_used"),
	COL(C_U64, in_used, "in_used"),
	COL(C_U64, out_base, "out_base"),
	COL(C_U64, in_base, "in_base"),
};
#define N_COLS ARRAY_SIZE(cols)

struct store {
	sqlite3 *db;
	sqlite3_stmt *stmt[QUERIES];
	char *spelled[QUERIES]; /* texts made from the table of columns */
	char *row_list;		/* "id, user_id, …" */
};

void sandbox_row_done(struct sandbox_row *row)
{
	for (size_t i = 0; i < N_COLS; i++)
		if (cols[i].kind == C_OWNED)
			free(*(char **)((char *)row + cols[i].offset));
	*row = (struct sandbox_row){ 0 };
}

int sandbox_row_text(char **field, struct str value)
{
	char *copy = str_dup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

/* --- running statements --- */

static int fail(struct store *s, int rc, struct err *err, const char *what)
{
	int code = rc == SQLITE_FULL ? -ENOSPC : rc == SQLITE_NOMEM ? -ENOMEM : -EIO;

	if ((rc & 0xff) == SQLITE_CONSTRAINT)
		return err_set(err, -EEXIST, ERR_CONFLICT, "%s: already there", what);
	return err_set(err, code, ERR_INTERNAL, "store: %s: %s", what, sqlite3_errmsg(s->db));
}

static int prepare(struct store *s, const char *text, unsigned int flags, sqlite3_stmt **ret,
	struct err *err)
{
	int rc = sqlite3_prepare_v3(s->db, text, -1, flags, ret, NULL);

	return rc == SQLITE_OK ? 0 : fail(s, rc, err, "prepare");
}

/* The kept statement, ready for new parameters. */
static int query(struct store *s, unsigned int q, sqlite3_stmt **ret, struct err *err)
{
	int r;

	if (!s->stmt[q]) {
		const char *text = s->spelled[q] ? s->spelled[q] : query_text[q];

		r = prepare(s, text, SQLITE_PREPARE_PERSISTENT, &s->stmt[q], err);
		if (r < 0)
			return r;
	}
	*ret = s->stmt[q];
	return 0;
}

/* End a statement's run: its locks and borrowed parameters are let go. */
static void rest(sqlite3_stmt **st)
{
	if (*st) {
		sqlite3_reset(*st);
		sqlite3_clear_bindings(*st);
	}
}
#define auto_rest _cleanup_(rest)

static void bind_str(sqlite3_stmt *st, int at, struct str v)
{
	sqlite3_bind_text64(st, at, v.n ? v.p : "", v.n, SQLITE_STATIC, SQLITE_UTF8);
}

static void bind_c(sqlite3_stmt *st, int at, const char *v)
{
	bind_str(st, at, str_c(v ? v : ""));
}

static struct str col_str(sqlite3_stmt *st, int at)
{
	const void *p = sqlite3_column_text(st, at);

	return str_n(p, (size_t)sqlite3_column_bytes(st, at));
}

/* Text of ours back into its array; what does not fit was not written by us. */
static int col_copy(sqlite3_stmt *st, int at, char *dst, size_t size)
{
	return str_copy(dst, size, col_str(st, at)) < 0 ? -EBADMSG : 0;
}

static int step_done(struct store *s, sqlite3_stmt *st, struct err *err, const char *what)
{
	int rc = sqlite3_step(st);

	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		return fail(s, sqlite3_extended_errcode(s->db), err, what);
	return 0;
}

static int run(struct store *s, unsigned int q, struct err *err, const char *what)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, q, &st, err);

	return r < 0 ? r : step_done(s, st, err, what);
}

static int bind_row(sqlite3_stmt *st, const struct sandbox_row *row)
{
	for (size_t i = 0; i < N_COLS; i++) {
		const char *p = (const char *)row + cols[i].offset;
		int at = (int)i + 1;

		switch (cols[i].kind) {
		case C_TEXT:
			bind_c(st, at, p);
			break;
		case C_OWNED:
			bind_c(st, at, *(char *const *)p);
			break;
		case C_U32:
			sqlite3_bind_int64(st, at, *(const uint32_t *)p);
			break;
		case C_U64:
			sqlite3_bind_int64(st, at, (sqlite3_int64) * (const uint64_t *)p);
			break;
		case C_STATE:
			bind_c(st, at, life_state_name(*(const enum life_state *)p));
			break;
		}
	}
	return 0;
}

static int read_row(sqlite3_stmt *st, struct sandbox_row *row)
{
	int r = 0;

	for (size_t i = 0; i < N_COLS && r == 0; i++) {
		char *p = (char *)row + cols[i].offset;
		int at = (int)i;

		switch (cols[i].kind) {
		case C_TEXT:
			r = col_copy(st, at, p, cols[i].size);
			break;
		case C_OWNED:
			*(char **)p = str_dup(col_str(st, at));
			r = *(char **)p ? 0 : -ENOMEM;
			break;
		case C_U32:
			*(uint32_t *)p = (uint32_t)sqlite3_column_int64(st, at);
			break;
		case C_U64:
			*(uint64_t *)p = (uint64_t)sqlite3_column_int64(st, at);
			break;
		case C_STATE:
			r = life_state_from(col_str(st, at), (enum life_state *)p);
			break;
		}
	}
	return r;
}

/* --- opening --- */

static int spell(struct store *s)
{
	struct buf list = BUF_MAX(4096), insert = BUF_MAX(8192), update = BUF_MAX(8192),
		   get = BUF_MAX(8192);
	int r;

	for (size_t i = 0; i < N_COLS; i++)
		buf_fmt(&list, "%s%s", i ? ", " : "", cols[i].name);
	s->row_list = str_dup(buf_str(&list));
	buf_fmt(&insert, "INSERT INTO sandboxes (%s) VALUES (", s->row_list ? s->row_list : "");
	for (size_t i = 0; i < N_COLS; i++)
		buf_fmt(&insert, "%s$%zu", i ? ", " : "", i + 1);
	buf_add_c(&insert, ")");
	/* SQLite numbers $n by first appearance: the id is named first, as its own condition. */
	buf_add_c(&update, "UPDATE sandboxes SET id = $1");
	for (size_t i = 1; i < N_COLS; i++)
		buf_fmt(&update, ", %s = $%zu", cols[i].name, i + 1);
	buf_add_c(&update, " WHERE id = $1");
	buf_fmt(&get, "SELECT %s FROM sandboxes WHERE id = $1", s->row_list ? s->row_list : "");
	s->spelled[Q_SB_ADD] = str_dup(buf_str(&insert));
	s->spelled[Q_SB_SAVE] = str_dup(buf_str(&update));
	s->spelled[Q_SB_GET] = str_dup(buf_str(&get));
	r = buf_failed(&list) || buf_failed(&insert) || buf_failed(&update) || buf_failed(&get) ||
			!s->row_list || !s->spelled[Q_SB_ADD] || !s->spelled[Q_SB_SAVE] ||
			!s->spelled[Q_SB_GET] ?
		-ENOMEM :
		0;
	buf_done(&list);
	buf_done(&insert);
	buf_done(&update);
	buf_done(&get);
	return r;
}

static int exec(struct store *s, const char *text, struct err *err, const char *what)
{
	int rc = sqlite3_exec(s->db, text, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : fail(s, rc, err, what);
}

static int version_of(struct store *s, unsigned int *ret, struct err *err)
{
	sqlite3_stmt *st = NULL;
	int r = prepare(s, "SELECT MAX(version) FROM migrations", 0, &st, err), rc;

	if (r < 0)
		return r;
	rc = sqlite3_step(st); /* always a row, unless it cannot be read */
	if (rc == SQLITE_ROW)
		*ret = (unsigned int)sqlite3_column_int(st, 0);
	else
		r = fail(s, rc, err, "read the version");
	sqlite3_finalize(st);
	return r;
}

static int migrate(struct store *s, struct err *err)
{
	unsigned int have = 0;
	int r = exec(s, "CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY)", err,
		"create migrations");

	if (r == 0)
		r = version_of(s, &have, err);
	if (r < 0)
		return r;
	if (have > ARRAY_SIZE(migrations))
		return err_set(err, -EPROTO, ERR_INTERNAL,
			"store: the database has %u migrations, this version knows %zu; it was written by a newer weird",
			have, ARRAY_SIZE(migrations));
	for (unsigned int v = have; v < ARRAY_SIZE(migrations); v++) {
		char mark[64];

		snprintf(mark, sizeof(mark), "INSERT INTO migrations (version) VALUES (%u)", v + 1);
		r = exec(s, "BEGIN", err, "begin");
		if (r == 0)
			r = exec(s, migrations[v], err, "migrate");
		if (r == 0)
			r = exec(s, mark, err, "migrate");
		if (r == 0)
			r = exec(s, "COMMIT", err, "commit");
		if (r < 0) {
			sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
			return r;
		}
	}
	return 0;
}

static int stat_for_lstat(const char *path, struct stat *st)
{
	return stat(path, st);
}

int store_open(const struct store_spec *spec, struct store **ret, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	char path[512];
	sqlite3_vfs *vfs;
	int rc, r;

	if (!s)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	sqlite3_initialize();
	vfs = sqlite3_vfs_find(NULL);
	vfs->xSetSystemCall(vfs, "lstat", (sqlite3_syscall_ptr)stat_for_lstat);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", spec->dir, spec->name);
	rc = sqlite3_open_v2(path, &s->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK) {
		r = err_set(err, -EIO, ERR_INTERNAL, "store: open %s: %s", spec->name,
			s->db ? sqlite3_errmsg(s->db) : "out of memory");
		store_close(s);
		return r;
	}
	sqlite3_extended_result_codes(s->db, 1);
	/* Exclusive: one process owns the store, and no shared memory file is needed. */
	r = exec(s, "PRAGMA locking_mode = EXCLUSIVE", err, "locking mode");
	if (r == 0)
		r = exec(s, "PRAGMA journal_mode = WAL", err, "journal mode");
	if (r == 0)
		r = exec(s, spec->sync_full ? "PRAGMA synchronous = FULL" :
					      "PRAGMA synchronous = NORMAL",
			err, "synchronous");
	if (r == 0)
		r = exec(s, "PRAGMA foreign_keys = ON", err, "foreign keys");
	if (r == 0)
		r = migrate(s, err);
	if (r == 0 && spell(s) < 0)
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
	for (unsigned int q = 0; q < QUERIES; q++) {
		sqlite3_finalize(s->stmt[q]);
		free(s->spelled[q]);
	}
	free(s->row_list);
	sqlite3_close(s->db);
	free(s);
}

int store_begin(struct store *s, struct err *err)
{
	return run(s, Q_BEGIN, err, "begin");
}

int store_commit(struct store *s, struct err *err)
{
	return run(s, Q_COMMIT, err, "commit");
}

void store_rollback(struct store *s)
{
	struct err err;

	if (!sqlite3_get_autocommit(s->db) && run(s, Q_ROLLBACK, &err, "rollback") < 0)
		log_event(LOG_ERROR, "store.rollback", "%s", err.text);
}

/* --- users and keys --- */

static uint64_t now_ms(void)
{
	return clock_wall_ns() / NS_PER_MS;
}

int store_user_add(struct store *s, const char *id, const char *name, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_USER_ADD, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, id);
	bind_c(st, 2, name);
	sqlite3_bind_int64(st, 3, (sqlite3_int64)now_ms());
	return step_done(s, st, err, "user");
}

int store_user_exists(struct store *s, const char *id, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_USER_EXISTS, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, id);
	return sqlite3_step(st) == SQLITE_ROW;
}

/* Hashes are kept as text in hexadecimal: the same in both databases. */
static void hex_from(const uint8_t raw[32], char hex[static 65])
{
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
}

static int hex_to(struct str hex, uint8_t raw[32])
{
	if (hex.n != 64)
		return -EBADMSG;
	for (int i = 0; i < 32; i++) {
		unsigned int v;

		if (sscanf(hex.p + 2 * i, "%2x", &v) != 1)
			return -EBADMSG;
		raw[i] = (uint8_t)v;
	}
	return 0;
}

int store_key_add(struct store *s, const struct key_row *k, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	char hex[65];
	int r = query(s, Q_KEY_ADD, &st, err);

	if (r < 0)
		return r;
	hex_from(k->hash, hex);
	bind_c(st, 1, k->id);
	bind_c(st, 2, k->user);
	bind_c(st, 3, k->name);
	bind_c(st, 4, k->hint);
	bind_c(st, 5, hex);
	sqlite3_bind_int64(st, 6, k->admin);
	sqlite3_bind_int64(st, 7, (sqlite3_int64)k->created_ms);
	return step_done(s, st, err, "key");
}

int store_key_delete(struct store *s, const char *id, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_KEY_DELETE, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, id);
	r = step_done(s, st, err, "key");
	if (r == 0 && sqlite3_changes(s->db) == 0)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "key not found");
	return r;
}

static int count_of(struct store *s, unsigned int q, const char *arg, uint64_t *ret,
	struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r;

	if (!ret)
		return 0;
	r = query(s, q, &st, err);
	if (r < 0)
		return r;
	if (arg)
		bind_c(st, 1, arg);
	r = step_done(s, st, err, "count");
	*ret = r == 0 ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	return r;
}

int store_keys(struct store *s, uint32_t limit, uint32_t offset, store_key_fn fn, void *arg,
	uint64_t *ret_total, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_KEYS, &st, err), rc;

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, limit);
	sqlite3_bind_int64(st, 2, offset);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct key_row k = { .admin = sqlite3_column_int(st, 5) != 0,
			.created_ms = (uint64_t)sqlite3_column_int64(st, 6) };

		if (col_copy(st, 0, k.id, sizeof(k.id)) < 0 ||
			col_copy(st, 1, k.user, sizeof(k.user)) < 0 ||
			col_copy(st, 2, k.name, sizeof(k.name)) < 0 ||
			col_copy(st, 3, k.hint, sizeof(k.hint)) < 0 ||
			hex_to(col_str(st, 4), k.hash) < 0)
			return err_set(err, -EBADMSG, ERR_INTERNAL, "store: a key does not read");
		r = fn(&k, arg);
		if (r < 0)
			return r;
	}
	if (rc != SQLITE_DONE)
		return fail(s, rc, err, "keys");
	return count_of(s, Q_KEYS_COUNT, NULL, ret_total, err);
}

/* --- sandboxes --- */

static int write_row(struct store *s, unsigned int q, const struct sandbox_row *row,
	struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, q, &st, err);

	if (r < 0)
		return r;
	bind_row(st, row);
	r = step_done(s, st, err, "sandbox");
	if (r == 0 && q == Q_SB_SAVE && sqlite3_changes(s->db) == 0)
		return err_set(err, -ENOENT, ERR_INTERNAL, "store: no row for %s", row->id);
	return r;
}

int store_sandbox_add(struct store *s, const struct sandbox_row *row, struct err *err)
{
	return write_row(s, Q_SB_ADD, row, err);
}

int store_sandbox_save(struct store *s, const struct sandbox_row *row, struct err *err)
{
	return write_row(s, Q_SB_SAVE, row, err);
}

int store_sandbox_drop(struct store *s, const char *id, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL, *versions = NULL;
	int r = store_member_clear(s, id, err);

	if (r == 0)
		r = query(s, Q_VERSION_TRIM, &versions, err);
	if (r == 0)
		r = query(s, Q_SB_DROP, &st, err);
	if (r < 0)
		return r;
	bind_c(versions, 1, id);
	sqlite3_bind_int64(versions, 2, UINT32_MAX);
	r = step_done(s, versions, err, "versions");
	if (r < 0)
		return r;
	bind_c(st, 1, id);
	return step_done(s, st, err, "sandbox");
}

int store_sandbox_get(struct store *s, const char *id, struct sandbox_row *ret, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	struct sandbox_row row = { 0 };
	int r = query(s, Q_SB_GET, &st, err), rc;

	if (r < 0)
		return r;
	bind_c(st, 1, id);
	rc = sqlite3_step(st);
	if (rc == SQLITE_DONE)
		return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "sandbox not found");
	if (rc != SQLITE_ROW)
		return fail(s, rc, err, "sandbox");
	r = read_row(st, &row);
	if (r < 0) {
		sandbox_row_done(&row);
		return err_set(err, r, ERR_INTERNAL, "store: the row of %s does not read", id);
	}
	*ret = row;
	return 0;
}

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

static void auto_stmt_done(sqlite3_stmt **st)
{
	sqlite3_finalize(*st);
}

static int count_filtered(struct store *s, const char *user, uint32_t states, uint64_t *ret,
	struct err *err)
{
	_cleanup_(auto_stmt_done) sqlite3_stmt *st = NULL;
	auto_buf struct buf text = BUF_MAX(4096);
	int r;

	if (!ret)
		return 0;
	buf_add_c(&text, "SELECT COUNT(*) FROM sandboxes");
	spell_filter(&text, user != NULL, states);
	if (!buf_cstr(&text))
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = prepare(s, text.p, 0, &st, err);
	if (r < 0)
		return r;
	if (user)
		bind_c(st, 1, user);
	r = step_done(s, st, err, "count");
	*ret = r == 0 ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	return r;
}

int store_sandboxes(struct store *s, const char *user, uint32_t states, uint32_t limit,
	uint32_t offset, store_row_fn fn, void *arg, uint64_t *ret_total, struct err *err)
{
	_cleanup_(auto_stmt_done) sqlite3_stmt *st = NULL;
	auto_buf struct buf text = BUF_MAX(4096);
	int r, rc, at = 1;

	buf_fmt(&text, "SELECT %s FROM sandboxes", s->row_list);
	spell_filter(&text, user != NULL, states);
	buf_fmt(&text, " ORDER BY created_ms DESC, id DESC LIMIT $%d OFFSET $%d", user ? 2 : 1,
		user ? 3 : 2);
	if (!buf_cstr(&text))
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = prepare(s, text.p, 0, &st, err);
	if (r < 0)
		return r;
	if (user)
		bind_c(st, at++, user);
	sqlite3_bind_int64(st, at++, limit);
	sqlite3_bind_int64(st, at, offset);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct sandbox_row row = { 0 };

		r = read_row(st, &row);
		if (r < 0)
			err_set(err, r, ERR_INTERNAL, "store: a sandbox's row does not read");
		else
			r = fn(&row, arg);
		sandbox_row_done(&row);
		if (r < 0)
			return r;
	}
	if (rc != SQLITE_DONE)
		return fail(s, rc, err, "sandboxes");
	return count_filtered(s, user, states, ret_total, err);
}

int store_sandbox_counts(struct store *s, const char *user, uint64_t counts[static LIFE_STATES],
	struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_SB_COUNTS, &st, err), rc;

	if (r < 0)
		return r;
	bind_c(st, 1, user);
	memset(counts, 0, LIFE_STATES * sizeof(counts[0]));
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		enum life_state state;

		if (life_state_from(col_str(st, 0), &state) == 0)
			counts[state] = (uint64_t)sqlite3_column_int64(st, 1);
	}
	return rc == SQLITE_DONE ? 0 : fail(s, rc, err, "counts");
}

int store_sweep(struct store *s, uint64_t before_ms, struct err *err)
{
	static const unsigned int steps[] = { Q_SWEEP_VERSIONS, Q_SWEEP_HISTORY, Q_SWEEP_SANDBOXES };
	int r = store_begin(s, err), gone = 0;

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++) {
		auto_rest sqlite3_stmt *st = NULL;

		r = query(s, steps[i], &st, err);
		if (r < 0)
			break;
		sqlite3_bind_int64(st, 1, (sqlite3_int64)before_ms);
		r = step_done(s, st, err, "sweep");
		gone = sqlite3_changes(s->db);
	}
	if (r == 0)
		r = store_commit(s, err);
	store_rollback(s);
	return r < 0 ? r : gone;
}

/* --- policies --- */

int store_policy_ids(struct store *s, uint32_t n, uint32_t *ret_first, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_POLICY_IDS, &st, err);
	sqlite3_int64 next;

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, n);
	if (sqlite3_step(st) != SQLITE_ROW)
		return fail(s, sqlite3_extended_errcode(s->db), err, "policy ids");
	next = sqlite3_column_int64(st, 0);
	if (next > INT32_MAX) /* 2^31 policies: a scope has no more bits (bpf/maps.h) */
		return err_set(err, -EOVERFLOW, ERR_INTERNAL, "policy ids are used up");
	*ret_first = (uint32_t)next - n;
	/* RETURNING hands rows out before the statement ends: run it to its end. */
	return sqlite3_step(st) == SQLITE_DONE ? 0 : fail(s, SQLITE_ERROR, err, "policy ids");
}

int store_policy_seen(struct store *s, uint32_t seen, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_POLICY_SEEN, &st, err);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)seen + 1);
	return step_done(s, st, err, "policy ids");
}

int store_version_add(struct store *s, const struct version_row *v, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL, *trim = NULL;
	int r = query(s, Q_VERSION_ADD, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, v->sandbox);
	sqlite3_bind_int64(st, 2, v->version);
	sqlite3_bind_int64(st, 3, v->policy);
	sqlite3_bind_int64(st, 4, v->dialect);
	bind_str(st, 5, v->json);
	sqlite3_bind_int64(st, 6, (sqlite3_int64)v->at_ms);
	r = step_done(s, st, err, "policy version");
	if (r < 0 || v->version <= VERSIONS_KEPT)
		return r;
	r = query(s, Q_VERSION_TRIM, &trim, err);
	if (r < 0)
		return r;
	bind_c(trim, 1, v->sandbox);
	sqlite3_bind_int64(trim, 2, v->version - VERSIONS_KEPT);
	return step_done(s, trim, err, "policy versions");
}

int store_version_drop(struct store *s, const char *sandbox, uint32_t version, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_VERSION_DROP, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, sandbox);
	sqlite3_bind_int64(st, 2, version);
	return step_done(s, st, err, "policy version");
}

int store_versions(struct store *s, const char *sandbox, uint32_t limit, uint32_t offset,
	store_version_fn fn, void *arg, uint64_t *ret_total, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_VERSIONS, &st, err), rc;

	if (r < 0)
		return r;
	bind_c(st, 1, sandbox);
	sqlite3_bind_int64(st, 2, limit);
	sqlite3_bind_int64(st, 3, offset);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct version_row v = { .version = (uint32_t)sqlite3_column_int64(st, 0),
			.policy = (uint32_t)sqlite3_column_int64(st, 1),
			.dialect = (uint32_t)sqlite3_column_int64(st, 2),
			.json = col_str(st, 3),
			.at_ms = (uint64_t)sqlite3_column_int64(st, 4) };

		snprintf(v.sandbox, sizeof(v.sandbox), "%s", sandbox);
		r = fn(&v, arg);
		if (r < 0)
			return r;
	}
	if (rc != SQLITE_DONE)
		return fail(s, rc, err, "policy versions");
	return count_of(s, Q_VERSIONS_COUNT, sandbox, ret_total, err);
}

int store_note(struct store *s, const char *sandbox, const char *event, const char *detail,
	struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_NOTE, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, sandbox);
	sqlite3_bind_int64(st, 2, (sqlite3_int64)now_ms());
	bind_c(st, 3, event);
	bind_c(st, 4, detail);
	return step_done(s, st, err, "history");
}

/* --- private networks --- */

int store_network_number(struct store *s, uint32_t *ret, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_NET_NUMBER, &st, err);
	sqlite3_int64 next;

	if (r < 0)
		return r;
	if (sqlite3_step(st) != SQLITE_ROW)
		return fail(s, sqlite3_extended_errcode(s->db), err, "network numbers");
	next = sqlite3_column_int64(st, 0);
	if (next > UINT32_MAX)
		return err_set(err, -EOVERFLOW, ERR_INTERNAL, "network numbers are used up");
	*ret = (uint32_t)next - 1;
	return sqlite3_step(st) == SQLITE_DONE ? 0 :
						 fail(s, SQLITE_ERROR, err, "network numbers");
}

int store_network_add(struct store *s, const struct network_row *n, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_NET_ADD, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, n->id);
	bind_c(st, 2, n->user);
	bind_c(st, 3, n->name);
	sqlite3_bind_int64(st, 4, n->number);
	sqlite3_bind_int64(st, 5, (sqlite3_int64)n->created_ms);
	return step_done(s, st, err, "network");
}

/* Run a statement whose parameters are one or two texts. */
static int run_texts(struct store *s, unsigned int q, const char *a, const char *b,
	struct err *err, const char *what)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, q, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, a);
	if (b)
		bind_c(st, 2, b);
	return step_done(s, st, err, what);
}

int store_network_policy(struct store *s, const char *id, const char *json, struct err *err)
{
	return run_texts(s, Q_NET_POLICY, json, id, err, "network");
}

int store_network_drop(struct store *s, const char *id, struct err *err)
{
	return run_texts(s, Q_NET_DROP, id, NULL, err, "network");
}

int store_networks(struct store *s, const char *user, uint32_t limit, uint32_t offset,
	store_network_fn fn, void *arg, uint64_t *ret_total, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, user ? Q_NETS : Q_NET_ALL, &st, err), rc;

	if (r < 0)
		return r;
	if (user) {
		bind_c(st, 1, user);
		sqlite3_bind_int64(st, 2, limit);
		sqlite3_bind_int64(st, 3, offset);
	}
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct network_row n = { .number = (uint32_t)sqlite3_column_int64(st, 3),
			.created_ms = (uint64_t)sqlite3_column_int64(st, 4),
			.policy = (const char *)sqlite3_column_text(st, 5) };

		if (!n.policy || col_copy(st, 0, n.id, sizeof(n.id)) < 0 ||
			col_copy(st, 1, n.user, sizeof(n.user)) < 0 ||
			col_copy(st, 2, n.name, sizeof(n.name)) < 0)
			return err_set(err, -EBADMSG, ERR_INTERNAL,
				"store: a network does not read");
		r = fn(&n, arg);
		if (r < 0)
			return r;
	}
	if (rc != SQLITE_DONE)
		return fail(s, rc, err, "networks");
	return user ? count_of(s, Q_NETS_COUNT, user, ret_total, err) : 0;
}

int store_member_add(struct store *s, const char *network, const char *sandbox, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_MEMBER_ADD, &st, err);

	if (r < 0)
		return r;
	bind_c(st, 1, network);
	bind_c(st, 2, sandbox);
	sqlite3_bind_int64(st, 3, (sqlite3_int64)now_ms());
	return step_done(s, st, err, "member");
}

int store_member_drop(struct store *s, const char *network, const char *sandbox, struct err *err)
{
	return run_texts(s, Q_MEMBER_DROP, network, sandbox, err, "member");
}

int store_member_clear(struct store *s, const char *sandbox, struct err *err)
{
	return run_texts(s, Q_MEMBER_CLEAR, sandbox, NULL, err, "members");
}

int store_members(struct store *s, store_member_fn fn, void *arg, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_MEMBERS, &st, err), rc;

	while (r == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		char network[IPC_ID_LEN], sandbox[IPC_ID_LEN];

		if (col_copy(st, 0, network, sizeof(network)) < 0 ||
			col_copy(st, 1, sandbox, sizeof(sandbox)) < 0)
			return err_set(err, -EBADMSG, ERR_INTERNAL,
				"store: a member does not read");
		r = fn(network, sandbox, arg);
		if (r < 0)
			return r;
	}
	return r < 0 || rc == SQLITE_DONE ? r : fail(s, rc, err, "members");
}

/* --- tokens of ingress --- */

int store_token_add(struct store *s, const struct token_row *t, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	char hex[65];
	int r = query(s, Q_TOKEN_ADD, &st, err);

	if (r < 0)
		return r;
	hex_from(t->digest, hex);
	bind_c(st, 1, t->id);
	bind_c(st, 2, t->sandbox);
	bind_c(st, 3, t->name);
	bind_c(st, 4, t->hint);
	sqlite3_bind_int64(st, 5, t->port);
	bind_c(st, 6, hex);
	sqlite3_bind_int64(st, 7, (sqlite3_int64)t->created_ms);
	sqlite3_bind_int64(st, 8, (sqlite3_int64)t->expires_ms);
	return step_done(s, st, err, "token");
}

int store_token_drop(struct store *s, const char *id, struct err *err)
{
	return run_texts(s, Q_TOKEN_DROP, id, NULL, err, "token");
}

int store_token_clear(struct store *s, const char *sandbox, struct err *err)
{
	return run_texts(s, Q_TOKEN_CLEAR, sandbox, NULL, err, "tokens");
}

int store_tokens(struct store *s, store_token_fn fn, void *arg, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = query(s, Q_TOKENS, &st, err), rc;

	while (r == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct token_row t = { .port = (uint32_t)sqlite3_column_int64(st, 4),
			.created_ms = (uint64_t)sqlite3_column_int64(st, 6),
			.expires_ms = (uint64_t)sqlite3_column_int64(st, 7) };

		if (col_copy(st, 0, t.id, sizeof(t.id)) < 0 ||
			col_copy(st, 1, t.sandbox, sizeof(t.sandbox)) < 0 ||
			col_copy(st, 2, t.name, sizeof(t.name)) < 0 ||
			col_copy(st, 3, t.hint, sizeof(t.hint)) < 0 ||
			hex_to(col_str(st, 5), t.digest) < 0)
			return err_set(err, -EBADMSG, ERR_INTERNAL, "store: a token does not read");
		r = fn(&t, arg);
		if (r < 0)
			return r;
	}
	return r < 0 || rc == SQLITE_DONE ? r : fail(s, rc, err, "tokens");
}

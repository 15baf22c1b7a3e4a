/*
 * The schema, as the steps that led to it. They are applied in order, each in a transaction of its
 * own with the mark that it was; a database remembers how many it has had. Only ever append: a step
 * that was released is what somebody's database is made of.
 */
#include "api/store/db.h"

static const char *const steps[] = {
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

	/* It was both or none. */
	"UPDATE sandboxes SET ingress_ports = 3 WHERE ingress_ports <> 0",

	"ALTER TABLE sandboxes ADD COLUMN forked_from TEXT NOT NULL DEFAULT ''",

	"ALTER TABLE sandboxes ADD COLUMN updated_ms BIGINT NOT NULL DEFAULT 0",

	"ALTER TABLE sandboxes ADD COLUMN secured BIGINT NOT NULL DEFAULT 0",
};

static int steps_had(struct store *s, uint64_t *ret, struct err *err)
{
	auto_end sqlite3_stmt *st = NULL;
	int r = db_once(s, "SELECT MAX(version) FROM migrations", NULL, 0, &st, err);

	return r < 0 ? r : db_number(s, st, "read the version", ret, err);
}

static int step(struct store *s, size_t i, struct err *err)
{
	char mark[64];
	int r = store_begin(s, err);

	snprintf(mark, sizeof(mark), "INSERT INTO migrations (version) VALUES (%zu)", i + 1);
	if (r == 0)
		r = db_script(s, steps[i], "migrate", err);
	if (r == 0)
		r = db_script(s, mark, "migrate", err);
	if (r == 0)
		r = store_commit(s, err);
	store_rollback(s);
	return r;
}

int schema_bring(struct store *s, struct err *err)
{
	uint64_t had = 0;
	int r = db_script(s, "CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY)",
		"create migrations", err);

	if (r == 0)
		r = steps_had(s, &had, err);
	if (r == 0 && had > ARRAY_SIZE(steps))
		r = err_set(err, -EPROTO, ERR_INTERNAL,
			"store: the database has %" PRIu64 " migrations, this version knows %zu; it was written by a newer weird",
			had, ARRAY_SIZE(steps));
	for (size_t i = had; r == 0 && i < ARRAY_SIZE(steps); i++)
		r = step(s, i, err);
	return r;
}

/* Private networks and who is in them. */
#include "api/store/db.h"

int store_network_number(struct store *s, uint32_t *ret, struct err *err)
{
	uint64_t number;
	int r = db_take(s, "network", 1, &number, err);

	if (r < 0)
		return r;
	if (number >= UINT32_MAX)
		return err_set(err, -EOVERFLOW, ERR_INTERNAL, "network numbers are used up");
	*ret = (uint32_t)number;
	return 0;
}

int store_network_add(struct store *s, const struct network_row *n, struct err *err)
{
	static const char sql[] = "INSERT INTO networks (id, user_id, name, number, created_ms) "
				  "VALUES ($1, $2, $3, $4, $5)";

	return db_run(s, sql, "network", err, DB_C(n->id), DB_C(n->user), DB_C(n->name),
		DB_INT(n->number), DB_INT(n->created_ms));
}

int store_network_policy(struct store *s, const char *id, const char *json, struct err *err)
{
	return db_run(s, "UPDATE networks SET policy = $1 WHERE id = $2", "network", err, DB_C(json),
		DB_C(id));
}

int store_network_drop(struct store *s, const char *id, struct err *err)
{
	return db_run(s, "DELETE FROM networks WHERE id = $1", "network", err, DB_C(id));
}

static int count(struct store *s, const char *user, uint64_t *ret, struct err *err)
{
	static const char sql[] = "SELECT COUNT(*) FROM networks WHERE user_id = $1";
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, sql, &st, err, DB_C(user));

	return r < 0 ? r : db_number(s, st, "networks", ret, err);
}

static int read_network(sqlite3_stmt *st, struct network_row *n, struct err *err)
{
	*n = (struct network_row){ .number = db_u32(st, 3), .created_ms = db_u64(st, 4),
		.policy = (const char *)sqlite3_column_text(st, 5) };
	if (!n->policy || db_copy(st, 0, n->id, sizeof(n->id)) < 0 ||
		db_copy(st, 1, n->user, sizeof(n->user)) < 0 ||
		db_copy(st, 2, n->name, sizeof(n->name)) < 0)
		return db_unreadable(err, "a network");
	return 0;
}

#define COLUMNS "SELECT id, user_id, name, number, created_ms, policy FROM networks"

int store_networks(struct store *s, const char *user, uint32_t limit, uint32_t offset,
	store_network_fn fn, void *arg, uint64_t *ret_total, struct err *err)
{
	static const char all[] = COLUMNS;
	static const char users[] = COLUMNS " WHERE user_id = $1 "
					    "ORDER BY created_ms DESC, id DESC LIMIT $2 OFFSET $3";
	auto_rest sqlite3_stmt *st = NULL;
	int r = user ? db_query(s, users, &st, err, DB_C(user), DB_INT(limit), DB_INT(offset)) :
		       db_query(s, all, &st, err);

	while (r >= 0 && (r = db_row(s, st, "networks", err)) > 0) {
		struct network_row n;

		r = read_network(st, &n, err);
		if (r == 0)
			r = fn(&n, arg);
	}
	return r == 0 && user && ret_total ? count(s, user, ret_total, err) : r;
}

/* --- members --- */

int store_member_add(struct store *s, const char *network, const char *sandbox, struct err *err)
{
	static const char sql[] =
		"INSERT INTO members (network_id, sandbox_id, joined_ms) VALUES ($1, $2, $3)";

	return db_run(s, sql, "member", err, DB_C(network), DB_C(sandbox), DB_INT(db_now_ms()));
}

int store_member_drop(struct store *s, const char *network, const char *sandbox, struct err *err)
{
	return db_run(s, "DELETE FROM members WHERE network_id = $1 AND sandbox_id = $2", "member",
		err, DB_C(network), DB_C(sandbox));
}

int store_member_clear(struct store *s, const char *sandbox, struct err *err)
{
	return db_run(s, "DELETE FROM members WHERE sandbox_id = $1", "members", err, DB_C(sandbox));
}

int store_members(struct store *s, store_member_fn fn, void *arg, struct err *err)
{
	auto_rest sqlite3_stmt *st = NULL;
	int r = db_query(s, "SELECT network_id, sandbox_id FROM members", &st, err);

	while (r >= 0 && (r = db_row(s, st, "members", err)) > 0) {
		char network[IPC_ID_LEN], sandbox[IPC_ID_LEN];

		if (db_copy(st, 0, network, sizeof(network)) < 0 ||
			db_copy(st, 1, sandbox, sizeof(sandbox)) < 0)
			return db_unreadable(err, "a member");
		r = fn(network, sandbox, arg);
	}
	return r;
}

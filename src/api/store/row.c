/*
 * A sandbox's row, described once: by the table of columns below, from which INSERT, UPDATE and
 * SELECT are spelled when the store opens, and by which values are bound and read. Adding a field
 * is a line here, a field in store.h and a step in schema.c.
 */
#include "api/store/db.h"
#include "base/buf.h"

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
	COL(C_TEXT, forked_from, "forked_from"),
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
	COL(C_U32, secured, "secured"),
	COL(C_TEXT, execd_token, "execd_token"),
	COL(C_U64, created_ms, "created_ms"),
	COL(C_U64, running_ms, "running_ms"),
	COL(C_U64, paused_ms, "paused_ms"),
	COL(C_U64, resumed_ms, "resumed_ms"),
	COL(C_U64, destroyed_ms, "destroyed_ms"),
	COL(C_U64, updated_ms, "updated_ms"),
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
void sandbox_row_done(struct sandbox_row *row)
{
	for (size_t i = 0; i < N_COLS; i++)
		if (cols[i].kind == C_OWNED)
			free(*(char **)((char *)row + cols[i].offset));
	*row = (struct sandbox_row){ 0 };
}

int row_write(struct store *s, const char *sql, const struct sandbox_row *row, struct err *err)
{
	struct db_value v[N_COLS];

	for (size_t i = 0; i < N_COLS; i++) {
		const char *p = (const char *)row + cols[i].offset;

		switch (cols[i].kind) {
		case C_TEXT:
			v[i] = DB_C(p);
			break;
		case C_OWNED:
			v[i] = DB_C(*(char *const *)p);
			break;
		case C_U32:
			v[i] = DB_INT(*(const uint32_t *)p);
			break;
		case C_U64:
			v[i] = DB_INT(*(const uint64_t *)p);
			break;
		case C_STATE:
			v[i] = DB_C(life_state_name(*(const enum life_state *)p));
			break;
		}
	}
	return db_run_values(s, sql, v, N_COLS, "sandbox", err);
}

int row_read(sqlite3_stmt *st, struct sandbox_row *row)
{
	int r = 0;

	for (size_t i = 0; i < N_COLS && r == 0; i++) {
		char *p = (char *)row + cols[i].offset;
		int at = (int)i;

		switch (cols[i].kind) {
		case C_TEXT:
			r = db_copy(st, at, p, cols[i].size);
			break;
		case C_OWNED:
			*(char **)p = str_dup(db_str(st, at));
			r = *(char **)p ? 0 : -ENOMEM;
			break;
		case C_U32:
			*(uint32_t *)p = db_u32(st, at);
			break;
		case C_U64:
			*(uint64_t *)p = db_u64(st, at);
			break;
		case C_STATE:
			r = life_state_from(db_str(st, at), (enum life_state *)p);
			break;
		}
	}
	return r;
}

/* What b has become, which ends with it; NULL: no memory. */
static char *spelled(struct buf *b)
{
	char *text = buf_failed(b) ? NULL : str_dup(buf_str(b));

	buf_done(b);
	return text;
}

int row_spell(struct store *s)
{
	struct buf list = BUF_MAX(4096), add = BUF_MAX(8192), save = BUF_MAX(8192),
		   get = BUF_MAX(8192);

	for (size_t i = 0; i < N_COLS; i++)
		buf_fmt(&list, "%s%s", i ? ", " : "", cols[i].name);
	s->row_list = spelled(&list);
	if (!s->row_list)
		return -ENOMEM;
	buf_fmt(&add, "INSERT INTO sandboxes (%s) VALUES (", s->row_list);
	for (size_t i = 0; i < N_COLS; i++)
		buf_fmt(&add, "%s$%zu", i ? ", " : "", i + 1);
	buf_add_c(&add, ")");
	/* SQLite numbers $n by first appearance: the id is named first, as its own condition. */
	buf_add_c(&save, "UPDATE sandboxes SET id = $1");
	for (size_t i = 1; i < N_COLS; i++)
		buf_fmt(&save, ", %s = $%zu", cols[i].name, i + 1);
	buf_add_c(&save, " WHERE id = $1");
	buf_fmt(&get, "SELECT %s FROM sandboxes WHERE id = $1", s->row_list);
	s->row_add = spelled(&add);
	s->row_save = spelled(&save);
	s->row_get = spelled(&get);
	return s->row_add && s->row_save && s->row_get ? 0 : -ENOMEM;
}

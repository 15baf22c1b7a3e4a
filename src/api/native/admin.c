/* Keys, version, the API's own description, and what is not built. */
#include "api/birth.h"
#include "api/box.h"
#include "api/native/native.h"
#include "base/clock.h"

/* --- keys: admins only --- */

static void write_key(struct jw *w, const struct key_row *k, const struct secret *text)
{
	jw_c(w, "id", k->id);
	jw_c(w, "name", k->name);
	jw_c(w, "user_id", k->user);
	jw_bool(w, "admin", k->admin);
	jw_c(w, "hint", k->hint);
	jw_c(w, "created_at", rfc3339_from(k->created_ms * NS_PER_MS).s);
	if (text)
		jw_str(w, "key", secret_reveal(text));
}

void native_key_add(struct req *q)
{
	struct {
		struct str name, user;
		bool admin;
	} in = { 0 };
	static const struct json_field fields[] = {
		{ .name = "name", .kind = JK_STR, .required = true, .offset = 0, .seen_offset = -1 },
		{ .name = "user_id", .kind = JK_STR, .offset = sizeof(struct str),
			.seen_offset = -1 },
		{ .name = "admin", .kind = JK_BOOL, .offset = 2 * sizeof(struct str),
			.seen_offset = -1 },
	};
	auto_secret struct secret text = SECRET_NONE;
	char user[IPC_ID_LEN] = "";
	struct key_row k;
	struct answer a;
	struct err err;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), &in, &err);

	if (r == 0 && in.user.n) {
		r = str_copy(user, sizeof(user), in.user);
		if (r == 0)
			r = store_user_exists(q->api->store, user, &err) == 1 ? 0 : -ENOENT;
		if (r < 0)
			err_field(&err, r, ERR_INVALID, "user_id", "unknown user");
	}
	if (r == 0)
		r = keyring_add(q->api->keys, in.name, user, in.admin, &k, &text, &err);
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	answer_begin(&a, 4096);
	jw_obj(&a.w, "data");
	write_key(&a.w, &k, &text);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

struct keys {
	struct answer a;
	uint64_t count;
};

static int list_key(const struct key_row *k, void *arg)
{
	struct keys *all = arg;

	jw_obj(&all->a.w, NULL);
	write_key(&all->a.w, k, NULL);
	jw_end(&all->a.w);
	all->count++;
	return 0;
}

void native_key_list(struct req *q)
{
	uint32_t limit, offset;
	struct keys all = { 0 };
	uint64_t total;
	struct err err;
	int r = req_page(q, &limit, &offset, &err);

	answer_begin(&all.a, 1u << 20);
	answer_page_begin(&all.a);
	if (r == 0)
		r = store_keys(q->api->store, limit, offset, list_key, &all, &total, &err);
	if (r < 0) {
		buf_done(&all.a.buf);
		reply_err(q, &err);
		return;
	}
	answer_page_end(&all.a, total, limit, offset, all.count);
	reply_send(q, 200, &all.a);
}

void native_key_revoke(struct req *q)
{
	char id[IPC_ID_LEN];
	struct err err;
	int r = str_copy(id, sizeof(id), req_param(q, "key"));

	if (r < 0)
		err_field(&err, -ENOENT, ERR_NOT_FOUND, "id", "key not found");
	else if (str_eq_c(str_c(q->who.key), id))
		r = err_field(&err, -EBUSY, ERR_CONFLICT, "id",
			"this key made the request; revoke it with another");
	else
		r = keyring_revoke(q->api->keys, id, &err);
	if (r < 0)
		reply_err(q, &err);
	else
		reply_flag(q, "revoked");
}

/* --- about this daemon --- */

void native_version(struct req *q)
{
	struct str rest = str_c(q->api->info.runtimes);
	char runtime[16];
	struct answer a;
	struct err err;

	answer_begin(&a, 4096);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "version", WEIR_VERSION);
	jw_arr(&a.w, "runtimes");
	while (rest.n)
		jw_str(&a.w, NULL, str_cut(&rest, ' '));
	jw_arr_end(&a.w);
	if (birth_runtime(q->api, STR_NONE, runtime, &err) == 0)
		jw_c(&a.w, "runtime_default", runtime);
	jw_c(&a.w, "vm", q->api->info.vm);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void native_openapi(struct req *q)
{
	struct http *h = q->h;

	req_release(q);
	http_reply(h, 200, "application/json",
		str_n(openapi_json, openapi_json_n));
}

/* --- not yet --- */

void not_configured(struct req *q)
{
	struct err err;

	err_set(&err, -ENOSYS, ERR_CAPACITY, "unavailable: S3 disks are not configured here");
	reply_err(q, &err);
}

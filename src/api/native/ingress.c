/*
 * Tokens of a sandbox's ingress: made, listed, revoked. Each opens one port of one sandbox, for as
 * long as it says. The edges know of a change before it is answered.
 */
#include "api/box.h"
#include "api/native/native.h"
#include "base/clock.h"
#include "base/fault.h"

#define EXPIRES_MAX_S (10 * 366 * 86400u)

static void write_token(struct jw *w, const struct token_row *t)
{
	jw_c(w, "id", t->id);
	jw_u64(w, "port", t->port);
	jw_c(w, "name", t->name);
	jw_c(w, "hint", t->hint);
	jw_c(w, "created_at", rfc3339_from(t->created_ms * NS_PER_MS).s);
	if (t->expires_ms)
		jw_c(w, "expires_at", rfc3339_from(t->expires_ms * NS_PER_MS).s);
}

/* --- after the edges know --- */

struct telling {
	struct op *op;
	char id[IPC_ID_LEN]; /* of the token that was made; "": one was revoked */
	struct secret text;  /* the token */
};

static void asker_gone(struct req *q)
{
	struct telling *t = q->state;

	op_forget(t->op);
	secret_done(&t->text);
}

static const struct token_row *token_of(const struct box *b, const char *id)
{
	for (uint32_t i = 0; i < b->ingress.n_tokens; i++)
		if (str_eq_c(str_c(id), b->ingress.tokens[i].id))
			return &b->ingress.tokens[i];
	return NULL;
}

static void reply_token(struct req *q, const char *id, const struct secret *text)
{
	const struct token_row *row = token_of(q->box, id);
	struct answer a;
	struct err err;

	if (!row) { /* revoked by another request in between */
		err_field(&err, -ENOENT, ERR_NOT_FOUND, "id", "token not found");
		reply_err(q, &err);
		return;
	}
	answer_begin(&a, 4096);
	jw_obj(&a.w, "data");
	write_token(&a.w, row);
	jw_str(&a.w, "token", secret_reveal(text));
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

static void told(struct op *op, const struct err *err, void *arg)
{
	struct req *q = arg;
	struct telling *t = q->state;
	auto_secret struct secret text = secret_take(&t->text); /* t goes with the request */
	struct err why;

	FAULT("api.token.told");
	q->on_gone = NULL;
	if (err && t->id[0]) /* nobody has seen it: as if it had not been made */
		ingress_token_drop(op->box, str_c(t->id), &why);
	if (err)
		reply_err(q, err);
	else if (t->id[0])
		reply_token(q, t->id, &text);
	else
		reply_flag(q, "revoked");
}

static void tell(struct req *q, struct telling *t)
{
	FAULT("api.token.stored");
	q->state = t;
	q->on_gone = asker_gone;
	flow_ingress_again(q->box, told, q, &t->op);
}

/* --- requests --- */

struct token_ask {
	struct str name;
	int64_t port, expires_s;
	bool expires_seen;
};

static int token_decode(struct req *q, struct token_ask *ask, struct err *err)
{
	static const struct json_field fields[] = {
		{ .name = "port", .kind = JK_I64, .offset = offsetof(struct token_ask, port),
			.seen_offset = -1, .required = true, .min = 1, .max = UINT16_MAX },
		{ .name = "name", .kind = JK_STR, .offset = offsetof(struct token_ask, name),
			.seen_offset = -1, .max = 63 },
		{ .name = "expires_in_seconds", .kind = JK_I64,
			.offset = offsetof(struct token_ask, expires_s),
			.seen_offset = offsetof(struct token_ask, expires_seen), .min = 1,
			.max = EXPIRES_MAX_S },
	};
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), ask, err);

	if (r == 0 && ask->port == WEIR_AGENT_PORT)
		r = err_field(err, -EINVAL, ERR_INVALID, "port", "port %d belongs to the agent",
			WEIR_AGENT_PORT);
	return r;
}

void native_token_add(struct req *q)
{
	struct telling *t = http_alloc(q->h, sizeof(*t));
	struct token_ask ask = { .port = 0 };
	const struct token_row *row;
	struct err err;
	int r = t ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0)
		r = token_decode(q, &ask, &err);
	if (r == 0)
		r = ingress_token_add(q->box, ask.name, (uint32_t)ask.port,
			ask.expires_seen ? api_now_ms() + (uint64_t)ask.expires_s * 1000 : 0, &row,
			&t->text, &err);
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	snprintf(t->id, sizeof(t->id), "%s", row->id);
	tell(q, t);
}

void native_token_list(struct req *q)
{
	const struct ingress *in = q->box ? &q->box->ingress : NULL;
	uint64_t total = in ? in->n_tokens : 0, count = 0;
	uint32_t limit, offset;
	struct answer a;
	struct err err;

	if (req_page(q, &limit, &offset, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	answer_begin(&a, 1u << 20);
	answer_page_begin(&a);
	for (uint64_t i = offset; i < total && count < limit; i++, count++) {
		jw_obj(&a.w, NULL);
		write_token(&a.w, &in->tokens[i]);
		jw_end(&a.w);
	}
	answer_page_end(&a, total, limit, offset, count);
	reply_send(q, 200, &a);
}

void native_token_revoke(struct req *q)
{
	struct telling *t = http_alloc(q->h, sizeof(*t));
	struct err err;
	int r = t ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0)
		r = ingress_token_drop(q->box, req_param(q, "token"), &err);
	if (r < 0)
		reply_err(q, &err);
	else
		tell(q, t);
}

/* Private networks: see the header. */
#include "api/createos/networks.h"
#include "api/nets.h"
#include "base/clock.h"
#include "wire/json.h"

#define MEMBERS_BYTES_MAX (32u << 20)

static void put_network(struct jw *w, const struct network *n)
{
	jw_c(w, "id", n->row.id);
	jw_c(w, "name", n->row.name);
	jw_c(w, "created_at", rfc3339_from(n->row.created_ms * NS_PER_MS).s);
	jw_u64(w, "member_count", n->members);
}

static int not_found(struct err *err)
{
	return err_field(err, -ENOENT, ERR_NOT_FOUND, "id", "network not found");
}

struct network *network_of(struct req *q)
{
	struct network *n = nets_find(q->api, q->who.user, req_param(q, "network"));
	struct err err;

	if (!n) {
		not_found(&err);
		reply_err(q, &err);
	}
	return n;
}

/* --- networks --- */

struct listing {
	struct answer a;
	struct api *api;
	uint64_t count;
};

static int list_one(const struct network_row *row, void *arg)
{
	struct listing *l = arg;
	const struct network *n = nets_find(l->api, row->user, str_c(row->id));

	if (!n)
		return 0;
	jw_obj(&l->a.w, NULL);
	put_network(&l->a.w, n);
	jw_end(&l->a.w);
	l->count++;
	return 0;
}

void createos_networks(struct req *q)
{
	struct listing l = { .api = q->api };
	uint32_t limit, offset;
	uint64_t total;
	struct err err;
	int r = req_page(q, &limit, &offset, &err);

	answer_begin(&l.a, 1u << 20);
	answer_page_begin(&l.a);
	if (r == 0)
		r = store_networks(q->api->store, q->who.user, limit, offset, list_one, &l, &total,
			&err);
	if (r < 0) {
		buf_done(&l.a.buf);
		reply_err(q, &err);
		return;
	}
	answer_page_end(&l.a, total, limit, offset, l.count);
	reply_send(q, 200, &l.a);
}

static int word_of(const json_t *body, const char *field, struct str *ret, struct err *err)
{
	const struct json_field fields[] = {
		{ .name = field, .kind = JK_STR, .seen_offset = -1, .required = true, .max = 255 },
	};

	return json_decode(body, fields, ARRAY_SIZE(fields), ret, err);
}

void createos_network_add(struct req *q)
{
	struct str name = STR_NONE;
	struct network *n;
	struct answer a;
	struct err err;

	if (word_of(q->json, "name", &name, &err) < 0 ||
		nets_add(q->api, q->who.user, name, &n, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	answer_begin(&a, 4096);
	jw_obj(&a.w, "data");
	put_network(&a.w, n);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

static void put_member(struct jw *w, const struct box *b)
{
	struct ip ip = box_overlay(b);

	jw_obj(w, NULL);
	jw_c(w, "sandbox_id", b->row.id);
	jw_c(w, "name", b->row.name);
	jw_c(w, "status", life_state_name(b->row.state));
	if (ip.family)
		jw_c(w, "ip", ip_text(ip).s);
	jw_end(w);
}

void createos_network_get(struct req *q)
{
	const struct network *n = network_of(q);
	struct box *b, *tmp;
	struct answer a;

	if (!n)
		return;
	answer_begin(&a, MEMBERS_BYTES_MAX);
	jw_obj(&a.w, "data");
	put_network(&a.w, n);
	jw_arr(&a.w, "members");
	HASH_ITER (hh, q->api->boxes, b, tmp)
		if (box_in(b, n))
			put_member(&a.w, b);
	jw_arr_end(&a.w);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_network_delete(struct req *q)
{
	struct network *n = network_of(q);
	struct err err;

	if (!n)
		return;
	if (nets_drop(q->api, n, &err) < 0)
		reply_err(q, &err);
	else
		reply_flag(q, "ok");
}

/* --- members: held by the operation until kernel and edges know --- */

static void reply_ok(struct req *q)
{
	reply_flag(q, "ok");
}

void createos_attach(struct req *q)
{
	struct str word = STR_NONE;
	struct network *n = NULL;
	struct err err;
	int r = word_of(q->json, "id", &word, &err);

	if (r == 0) {
		n = nets_find(q->api, q->who.user, word);
		r = n ? 0 : not_found(&err);
	}
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	flow_join(q->box, n, req_held, q, req_hold(q, reply_ok));
}

void createos_detach(struct req *q)
{
	const struct network *n = network_of(q);

	if (!n)
		return;
	flow_leave(q->box, n, req_held, q, req_hold(q, reply_ok));
}

int networks_join(struct box *b, const json_t *networks, struct err *err)
{
	const json_t *item;
	size_t i;
	int r = 0;

	json_array_foreach (networks, i, item) {
		struct str word = STR_NONE;
		struct network *n;

		r = word_of(item, "id", &word, err);
		if (r < 0)
			return err_field(err, -EINVAL, ERR_INVALID, "networks",
				"networks[%zu]: expected {\"id\": id or name}", i);
		n = nets_find(b->api, b->row.user, word);
		r = n ? box_join(b, n, err) : not_found(err);
		if (r == -E2BIG)
			snprintf(err->field, sizeof(err->field), "networks");
		if (r < 0)
			return r;
	}
	return r;
}

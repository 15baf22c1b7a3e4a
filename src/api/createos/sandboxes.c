/* The single-sandbox routes and the list: see the header. */
#include "api/box.h"
#include "api/createos/ingress.h"
#include "api/createos/sandboxes.h"
#include "api/createos/view.h"
#include "api/flow.h"

#define LIST_BYTES_MAX (256u << 20) /* 500 views with the largest lists of rules and keys */

/* --- list --- */

struct listing {
	struct answer a;
	struct api *api;
	uint64_t count;
};

static int list_one(struct sandbox_row *row, void *arg)
{
	struct listing *l = arg;

	view_write(&l->a.w, NULL, l->api, row);
	l->count++;
	return 0;
}

static int status_filter(struct req *q, uint32_t *ret, struct err *err)
{
	struct str text;
	int r = req_query(q, "status", &text, err);

	if (r < 0)
		return r;
	*ret = text.n ? 0 : UINT32_MAX;
	while (text.n) {
		struct str one = str_trim(str_cut(&text, ','));
		enum life_state state;

		if (life_state_from(one, &state) < 0)
			return err_field(err, -EINVAL, ERR_INVALID, "status",
				"unknown status. Allowed: [creating, running, pausing, paused, resuming, "
				"forking, error, failed, destroying, destroyed]");
		*ret |= 1u << state;
	}
	return 0;
}

void createos_list(struct req *q)
{
	uint32_t limit, offset, states;
	struct listing l = { .api = q->api };
	uint64_t total;
	struct err err;
	int r = req_page(q, &limit, &offset, &err);

	if (r == 0)
		r = status_filter(q, &states, &err);
	if (r == 0) {
		answer_begin(&l.a, LIST_BYTES_MAX);
		answer_page_begin(&l.a);
		r = store_sandboxes(q->api->store, q->who.user, states, limit, offset, list_one, &l,
			&total, &err);
	}
	if (r < 0) {
		buf_done(&l.a.buf);
		reply_err(q, &err);
		return;
	}
	answer_page_end(&l.a, total, limit, offset, l.count);
	reply_send(q, 200, &l.a);
}

/* --- views --- */

void createos_get(struct req *q)
{
	if (q->box)
		box_count(q->box);
	reply_view(q, 200, q->row);
}

void createos_by_ip(struct req *q)
{
	struct box *b, *tmp;
	struct err err;
	struct ip ip;

	if (ip_from(req_param(q, "ip"), &ip) == 0)
		HASH_ITER (hh, q->api->boxes, b, tmp)
			if (ip_eq(b->ip4, ip) && b->row.state != LIFE_CREATING &&
				!life_terminal(b->row.state) &&
				str_eq_c(str_c(b->row.user), q->who.user)) {
				reply_view(q, 200, &b->row);
				return;
			}
	err_field(&err, -ENOENT, ERR_NOT_FOUND, "ip", "sandbox not found");
	reply_err(q, &err);
}

/* --- patch --- */

struct patch {
	struct ingress_ask ingress;
	struct ingress_want want; /* what ingress says */
	bool no_pause, pause_seen;
	int64_t pause;
	struct op *op; /* while host and edges are told */
};
static const struct json_field patch_fields[] = {
	INGRESS_FIELDS(struct patch, ingress),
	{ .name = "auto_pause_after_seconds", .kind = JK_I64,
		.offset = offsetof(struct patch, pause),
		.seen_offset = offsetof(struct patch, pause_seen) },
	{ .name = "disable_auto_pause", .kind = JK_BOOL, .offset = offsetof(struct patch, no_pause),
		.seen_offset = -1 },
};

static int patch_decode(const struct req *q, struct patch *p, struct err *err)
{
	int r = json_decode(q->json, patch_fields, ARRAY_SIZE(patch_fields), p, err);

	if (r == 0)
		r = ingress_ask_read(q->api, &p->ingress, &p->want, err);
	if (r < 0)
		return r;
	if (p->pause_seen && p->no_pause)
		return err_field(err, -EINVAL, ERR_INVALID, "disable_auto_pause",
			"contradicts auto_pause_after_seconds");
	if (p->pause_seen && (p->pause < 60 || p->pause > 86400))
		return err_field(err, -ERANGE, ERR_INVALID, "auto_pause_after_seconds",
			"must be between 60 and 86400");
	return 0;
}

static int set_pause(struct box *b, const struct patch *p, struct err *err)
{
	uint32_t before = b->row.auto_pause_s;
	int r;

	b->row.auto_pause_s = p->no_pause ? 0 : (uint32_t)p->pause;
	r = box_save(b, err);
	if (r < 0)
		b->row.auto_pause_s = before;
	else
		box_touch(b);
	return r;
}

static void patch_end(struct req *q, const struct err *err)
{
	const struct patch *p = q->state;
	struct err why;

	if (!err && (p->pause_seen || p->no_pause) && set_pause(q->box, p, &why) < 0)
		err = &why;
	if (err)
		reply_err(q, err);
	else
		reply_view(q, 200, q->row);
}

static void patched(struct op *op, const struct err *err, void *arg)
{
	struct req *q = arg;

	q->on_gone = NULL;
	patch_end(q, err);
}

static void patch_gone(struct req *q)
{
	op_forget(((struct patch *)q->state)->op);
}

void createos_patch(struct req *q)
{
	struct patch *p = http_alloc(q->h, sizeof(*p));
	struct err err;
	int r = p ? patch_decode(q, p, &err) :
		    err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	q->state = p;
	if (!ingress_ask_any(&p->ingress)) {
		patch_end(q, NULL);
		return;
	}
	q->on_gone = patch_gone;
	flow_ingress(q->box, &p->want, patched, q, &p->op);
}

/* --- transitions --- */

void createos_delete(struct req *q)
{
	enum life_state state = q->row->state;
	struct answer a;
	struct err err;

	if (q->may == LIFE_ALLOW) {
		int r = q->box ? flow_delete(q->box, "", 0, &err) : flow_end_failed(q->api, q->row, &err);

		if (r < 0) {
			reply_err(q, &err);
			return;
		}
		state = q->row->state;
	}
	answer_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "id", q->row->id);
	jw_c(&a.w, "status", life_state_name(state));
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_pause(struct req *q)
{
	struct err err;

	if (q->may == LIFE_NOOP) {
		reply_view(q, 200, q->row);
	} else if (flow_pause(q->box, "", 0, &err) < 0) {
		reply_err(q, &err);
	} else {
		http_add_header(q->h, "X-Poll-After", STR("1"));
		reply_view(q, 202, q->row);
	}
}

void createos_resume(struct req *q)
{
	struct err err;

	if (q->may == LIFE_NOOP) {
		reply_view(q, q->row->state == LIFE_RUNNING ? 200 : 202, q->row);
	} else if (flow_resume(q->box, &err) < 0) {
		reply_err(q, &err);
	} else {
		http_add_header(q->h, "X-Poll-After", STR("1"));
		reply_view(q, 202, q->row);
	}
}

/* --- resize --- */

static void reply_size(struct req *q)
{
	struct answer a;

	answer_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "id", q->row->id);
	jw_u64(&a.w, "disk_mib", q->row->disk_mib);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_resize(struct req *q)
{
	static const struct json_field fields[] = {
		{ .name = "disk_mib", .kind = JK_I64, .required = true, .seen_offset = -1 },
	};
	int64_t want = 0;
	struct err err;

	if (json_decode(q->json, fields, ARRAY_SIZE(fields), &want, &err) < 0) {
		reply_err(q, &err);
	} else if (want <= q->row->disk_mib || want > q->api->config.disk_max_mib) {
		err_field(&err, -ERANGE, ERR_INVALID, "disk_mib",
			"must exceed the current size of %u MiB and be at most %u MiB",
			q->row->disk_mib, q->api->config.disk_max_mib);
		reply_err(q, &err);
	} else {
		flow_grow(q->box, (uint32_t)want, req_held, q, req_hold(q, reply_size));
	}
}

/* --- keys --- */

struct keys_wait {
	struct req *q; /* NULL: the client left */
	size_t count;
};

static void keys_gone(struct req *q)
{
	((struct keys_wait *)q->state)->q = NULL;
}

static void keys_told(const struct err *err, void *arg)
{
	struct keys_wait w = *(struct keys_wait *)arg;
	struct answer a;

	free(arg);
	if (!w.q)
		return;
	w.q->on_gone = NULL;
	if (err) {
		reply_err(w.q, err);
		return;
	}
	answer_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_u64(&a.w, "count", w.count);
	jw_end(&a.w);
	reply_send(w.q, 200, &a);
}

static int add_keys(struct req *q, size_t *ret_count, struct err *err)
{
	static const struct json_field fields[] = {
		{ .name = "keys", .kind = JK_STR_LIST, .required = true, .seen_offset = -1, .min = 1,
			.max = 64 },
	};
	auto_json json_t *have = json_loads(q->row->ssh_keys, 0, NULL);
	auto_free char *text = NULL, *before = NULL;
	json_t *keys = NULL;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), &keys, err);

	if (r == 0)
		r = ssh_keys_merge(have, keys, "keys", err);
	if (r < 0)
		return r;
	text = json_dumps(have, JSON_COMPACT);
	if (!text)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	before = q->row->ssh_keys;
	q->row->ssh_keys = text;
	r = box_save(q->box, err);
	if (r < 0)
		q->row->ssh_keys = take_ptr(before);
	else
		text = NULL;
	*ret_count = json_array_size(have);
	return r;
}

void createos_ssh_keys(struct req *q)
{
	struct keys_wait *w = calloc(1, sizeof(*w));
	struct err err;

	if (!w) {
		err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
		reply_err(q, &err);
		return;
	}
	if (add_keys(q, &w->count, &err) < 0) {
		free(w);
		reply_err(q, &err);
		return;
	}
	w->q = q;
	q->state = w;
	q->on_gone = keys_gone;
	if (q->row->state == LIFE_RUNNING) {
		flow_tell(q->box, keys_told, w);
	} else {
		q->box->wake_due = true;
		keys_told(NULL, w);
	}
}

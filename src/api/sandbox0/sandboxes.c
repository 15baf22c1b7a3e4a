/*
 * The routes about sandboxes as such: see the header. Pause, resume and delete answer when it is
 * done: a client may then rely on it without asking again.
 */
#include "api/flow.h"
#include "api/sandbox0/config.h"
#include "api/sandbox0/network.h"
#include "api/sandbox0/sandboxes.h"
#include "api/sandbox0/view.h"

#define LIST_MAX       200u
#define LIST_DEFAULT   50u
#define LIST_BYTES_MAX (1u << 20)
#define DURATION_MAX   INT64_C(3153600000)

/* --- list --- */

struct listing {
	struct answer a;
	const struct api *api;
	struct str template_id; /* STR_NONE: any */
	uint32_t limit, offset;	/* of those of that template */
	uint64_t seen;		/* of that template */
};

static int list_one(struct sandbox_row *row, void *arg)
{
	struct listing *l = arg;

	if (l->template_id.p && !str_eq_c(l->template_id, view_template(l->api, row)))
		return 0;
	if (l->seen >= l->offset && l->seen - l->offset < l->limit)
		view_put(&l->a.w, NULL, l->api, row, VIEW_ITEM);
	l->seen++;
	return 0;
}

static int number(struct req *q, const char *name, uint64_t min, uint64_t max, uint32_t fallback,
	uint32_t *ret, struct err *err)
{
	uint64_t v = fallback;
	struct str text;
	int r = req_query(q, name, &text, err);

	if (r < 0)
		return r;
	if (text.p && (str_u64(text, max, &v) < 0 || v < min))
		return err_field(err, -ERANGE, ERR_INVALID, name,
			"expected a number from %llu to %llu", (unsigned long long)min,
			(unsigned long long)max);
	*ret = (uint32_t)v;
	return 0;
}

static int filters(struct req *q, uint32_t *states, struct err *err)
{
	struct str status, paused;
	uint32_t only = 1u << LIFE_PAUSED;
	int r = req_query(q, "status", &status, err);

	if (r == 0)
		r = req_query(q, "paused", &paused, err);
	if (r < 0)
		return r;
	*states = ~(1u << LIFE_DESTROYED);
	if (status.n)
		*states = view_states(status);
	if (!*states)
		return err_field(err, -EINVAL, ERR_INVALID, "status",
			"expected starting, running, paused, terminating or failed");
	if (paused.n && !str_eq_c(paused, "true") && !str_eq_c(paused, "false"))
		return err_field(err, -EINVAL, ERR_INVALID, "paused", "expected true or false");
	if (paused.n)
		*states &= str_eq_c(paused, "true") ? only : ~only;
	return 0;
}

void sandbox0_list(struct req *q)
{
	struct listing l = { .api = q->api };
	uint32_t states, limit, offset;
	uint64_t total = 0;
	struct err err;
	int r = number(q, "limit", 1, LIST_MAX, LIST_DEFAULT, &limit, &err);

	if (r == 0)
		r = number(q, "offset", 0, INT32_MAX, 0, &offset, &err);
	if (r == 0)
		r = filters(q, &states, &err);
	if (r == 0)
		r = req_query(q, "template_id", &l.template_id, &err);
	if (r == 0) {
		bool all = l.template_id.p; /* of the store: it does not know templates */

		l.limit = limit;
		l.offset = all ? offset : 0;
		sandbox0_begin(&l.a, LIST_BYTES_MAX);
		jw_obj(&l.a.w, "data");
		jw_arr(&l.a.w, "sandboxes");
		r = store_sandboxes(q->api->store, q->who.user, states, all ? UINT32_MAX : limit,
			all ? 0 : offset, list_one, &l, &total, &err);
		total = all ? l.seen : total;
	}
	if (r < 0) {
		buf_done(&l.a.buf);
		reply_err(q, &err);
		return;
	}
	jw_arr_end(&l.a.w);
	jw_u64(&l.a.w, "count", total);
	jw_bool(&l.a.w, "has_more", (uint64_t)offset + limit < total);
	jw_end(&l.a.w);
	reply_send(q, 200, &l.a);
}

/* --- views --- */

static void reply_view(struct req *q, enum view_kind kind)
{
	struct answer a;

	sandbox0_begin(&a, 8192);
	view_put(&a.w, "data", q->api, q->row, kind);
	reply_send(q, 200, &a);
}

void sandbox0_get(struct req *q)
{
	reply_view(q, VIEW_SANDBOX);
}

void sandbox0_status(struct req *q)
{
	reply_view(q, VIEW_STATUS);
}

/* --- delete, pause, resume --- */

static void refuse(struct req *q, enum life_op op)
{
	struct err err;

	err_field(&err, -EPERM, ERR_CONFLICT, "status", "sandbox is %s; cannot %s",
		view_status(q->row->state), life_op_name(op));
	reply_err(q, &err);
}

static void deleted(struct req *q)
{
	struct answer a;

	sandbox0_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "message", "sandbox terminated successfully");
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void sandbox0_delete(struct req *q)
{
	struct err err;
	int r = 0;

	if (q->may == LIFE_ALLOW)
		r = q->box ? flow_delete(q->box, "", 0, &err) : flow_end_failed(q->api, q->row, &err);
	if (r < 0)
		reply_err(q, &err);
	else
		req_when_settled(q, deleted);
}

static void reply_paused(struct req *q)
{
	bool paused = q->row->state == LIFE_PAUSED;
	struct answer a;

	if (!paused && q->row->state != LIFE_RUNNING) {
		refuse(q, LIFE_OP_PAUSE);
		return;
	}
	sandbox0_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "sandbox_id", q->row->id);
	jw_bool(&a.w, "paused", paused);
	jw_c(&a.w, "status", view_status(q->row->state));
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void sandbox0_pause(struct req *q)
{
	struct err err;

	if (life_transitional(q->row->state) && q->row->state != LIFE_PAUSING)
		req_when_settled(q, sandbox0_pause);
	else if (q->row->state == LIFE_RUNNING && flow_pause(q->box, "", 0, &err) < 0)
		reply_err(q, &err);
	else
		req_when_settled(q, reply_paused);
}

static void reply_resumed(struct req *q)
{
	struct answer a;
	struct err err;

	if (q->row->state != LIFE_RUNNING) {
		q->code = "sandbox_resume_failed";
		err_set(&err, -EIO, ERR_CAPACITY, "the sandbox could not be resumed: %.300s",
			q->row->reason && *q->row->reason ? q->row->reason :
							    view_status(q->row->state));
		reply_err(q, &err);
		return;
	}
	sandbox0_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "sandbox_id", q->row->id);
	jw_bool(&a.w, "resumed", true);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void sandbox0_resume(struct req *q)
{
	enum life_state state = q->row->state;
	struct err err;

	if (life_transitional(state) && state != LIFE_RESUMING) {
		req_when_settled(q, sandbox0_resume);
	} else if (state == LIFE_PAUSED || state == LIFE_ERROR) {
		if (flow_resume(q->box, &err) < 0)
			reply_err(q, &err);
		else
			req_when_settled(q, reply_resumed);
	} else if (state == LIFE_RUNNING || state == LIFE_RESUMING) {
		req_when_settled(q, reply_resumed);
	} else {
		refuse(q, LIFE_OP_RESUME);
	}
}

/* --- refresh --- */

static int restart_times(struct box *b, int64_t duration, struct err *err)
{
	struct sandbox_row *row = &b->row;
	uint64_t now = api_now_ms(), sleeps = row->sleeps_ms, expires = row->expires_ms;
	int r;

	if (duration)
		row->sleeps_ms = now + (uint64_t)duration * 1000;
	else
		row_sleep_again(row, now);
	row->expires_ms = row->ttl_s ? now + row->ttl_s * UINT64_C(1000) : row->expires_ms;
	r = box_save(b, err);
	if (r < 0) {
		row->sleeps_ms = sleeps;
		row->expires_ms = expires;
	} else {
		box_expiry(b);
	}
	return r;
}

void sandbox0_refresh(struct req *q)
{
	static const struct json_field fields[] = {
		{ .name = "duration", .kind = JK_I64, .seen_offset = -1, .max = DURATION_MAX },
	};
	int64_t duration = 0;
	struct answer a;
	struct err err;
	int r = json_decode(q->json, fields, ARRAY_SIZE(fields), &duration, &err);

	if (r == 0)
		r = restart_times(q->box, duration, &err);
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	sandbox0_begin(&a, 1024);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "sandbox_id", q->row->id);
	view_put_times(&a.w, q->row);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

/* --- update: memory, the policy, the row, what is published, then the agent --- */

struct update {
	struct req *q; /* NULL: the client left; what was begun goes on */
	struct box *box;
	struct sandbox0_config c;
	json_t *body; /* holds the config's texts */
	struct policy *policy; /* NULL: stays */
	char *policy_json;
	struct op *op;
};

static void update_free(struct update *u)
{
	config_done(&u->c);
	policy_free(u->policy);
	free(u->policy_json);
	json_decref(u->body);
	box_unref(u->box);
	free(u);
}

static void update_gone(struct req *q)
{
	((struct update *)q->state)->q = NULL;
}

static void update_end(struct update *u, const struct err *err)
{
	struct req *q = u->q;

	update_free(u);
	if (!q)
		return;
	q->on_gone = NULL;
	if (err)
		reply_err(q, err);
	else
		reply_view(q, VIEW_SANDBOX);
}

static void update_told(const struct err *err, void *arg)
{
	update_end(arg, err);
}

static int save(struct update *u, struct err *err)
{
	struct sandbox_row *row = &u->box->row, before = *row;
	const struct sandbox0_config *c = &u->c;
	uint64_t now = api_now_ms();
	char *envs = NULL;
	int r;

	if (c->has_env_vars) {
		envs = json_dumps(c->env_vars, JSON_COMPACT);
		if (!envs)
			return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
		row->envs = envs;
	}
	if (c->has_auto_resume)
		row->auto_resume = c->auto_resume;
	if (c->has_ttl) {
		row->sleep_s = (uint32_t)c->ttl;
		row_sleep_again(row, now);
	}
	if (c->has_hard_ttl) {
		row->ttl_s = (uint32_t)c->hard_ttl;
		row->expires_ms = c->hard_ttl ? now + (uint64_t)c->hard_ttl * 1000 : 0;
	}
	r = box_save(u->box, err);
	if (r < 0) {
		free(envs);
		*row = before;
		return r;
	}
	if (envs)
		free(before.envs);
	box_expiry(u->box);
	return 0;
}

static void update_agent(struct update *u)
{
	struct box *b = u->box;

	if (!u->c.has_env_vars || b->row.state != LIFE_RUNNING) {
		b->wake_due = b->wake_due || u->c.has_env_vars;
		update_end(u, NULL);
	} else {
		flow_tell(b, update_told, u);
	}
}

static void update_published(struct op *op, const struct err *err, void *arg)
{
	if (err)
		update_end(arg, err);
	else
		update_agent(arg);
}

/* Whether a visitor wakes it is the edges' to know, too. */
static void update_row(struct update *u)
{
	struct ingress_want want = INGRESS_AS_IT_WAS;
	struct err err;

	if (save(u, &err) < 0) {
		update_end(u, &err);
	} else if (u->c.published) {
		want.services = str_c(u->c.published);
		flow_ingress(u->box, &want, update_published, u, &u->op);
	} else if (u->c.has_auto_resume && ingress_any(&u->box->row)) {
		flow_ingress_again(u->box, update_published, u, &u->op);
	} else {
		update_agent(u);
	}
}

static void update_policy(struct op *op, const struct err *err, void *arg)
{
	if (err)
		update_end(arg, err);
	else
		update_row(arg);
}

static void update_memory(struct op *op, const struct err *err, void *arg)
{
	struct update *u = arg;

	if (err)
		update_end(u, err);
	else if (u->policy)
		flow_policy(u->box, take_ptr(u->policy), str_c(u->policy_json), POLICY_SANDBOX0,
			update_policy, u, &u->op);
	else
		update_row(u);
}

static int check(struct req *q, struct sandbox0_config *c, struct policy **policy, char **json,
	struct err *err)
{
	const json_t *config = json_object_get(q->json, "config");
	const struct sandbox_row *row = q->row;
	int r;

	if (!config || json_is_null(config))
		return err_set(err, -EINVAL, ERR_INVALID, "config is required");
	r = config_decode(config, c, err);
	if (r == 0)
		r = config_check_times(c->has_ttl ? c->ttl : row->sleep_s,
			c->has_hard_ttl ? c->hard_ttl : row->ttl_s, err);
	if (r == 0 && c->mem_mib && c->mem_mib != row->mem_mib && str_eq_c(str_c(row->runtime), "vm"))
		r = err_field(err, -EOPNOTSUPP, ERR_UNSUPPORTED, "config.resources.memory",
			"a virtual machine keeps the memory that it was claimed with");
	if (r == 0 && c->has_network)
		r = network_from_json(q->api, c->network, true, policy, json, err);
	return r;
}

void sandbox0_update(struct req *q)
{
	struct update *u = calloc(1, sizeof(*u));
	struct err err;
	int r = u ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");

	if (r == 0)
		r = check(q, &u->c, &u->policy, &u->policy_json, &err);
	if (r < 0) {
		if (u)
			update_free(u);
		reply_err(q, &err);
		return;
	}
	u->q = q;
	u->box = box_ref(q->box);
	u->body = json_incref(q->json);
	q->state = u;
	q->on_gone = update_gone;
	if (u->c.mem_mib && u->c.mem_mib != q->row->mem_mib)
		flow_memory(q->box, u->c.mem_mib, update_memory, u, &u->op);
	else
		update_memory(NULL, NULL, u);
}

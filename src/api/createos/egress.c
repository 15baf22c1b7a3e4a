/* Egress lists and bandwidth: see the header. Rules are echoed as they were given. */
#include "api/box.h"
#include "api/createos/egress.h"
#include "api/req.h"
#include "policy/createos.h"

int egress_from_json(struct api *a, const json_t *rules, struct policy **ret, char **ret_json,
	struct err *err)
{
	size_t n = json_is_array(rules) ? json_array_size(rules) : 0;
	auto_free struct str *list = NULL;
	int r;

	if (rules && !json_is_array(rules) && !json_is_null(rules))
		return err_field(err, -EINVAL, ERR_INVALID, "egress", "expected an array of rules");
	if (n > CREATEOS_RULES_MAX)
		return err_field(err, -E2BIG, ERR_INVALID, "egress", "at most %u rules",
			CREATEOS_RULES_MAX);
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(rules, i);

		if (!json_is_string(v))
			return err_field(err, -EINVAL, ERR_INVALID, "egress",
				"egress[%zu]: expected a string", i);
		list[i] = str_n(json_string_value(v), json_string_length(v));
	}
	r = createos_policy(list, n, &a->floor, ret, err);
	if (r < 0 || !ret_json)
		return r;
	*ret_json = n ? json_dumps(rules, JSON_COMPACT) : strdup("[]");
	if (*ret_json)
		return 0;
	policy_free(take_ptr(*ret));
	return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
}

int egress_policy(struct api *a, struct str json, struct policy **ret, struct err *err)
{
	auto_json json_t *rules = NULL;
	int r = json_parse(json, &rules, err);

	return r < 0 ? r : egress_from_json(a, rules, ret, NULL, err);
}

static void reply_egress(struct req *q)
{
	struct answer a;

	answer_begin(&a, 1u << 20);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "id", q->row->id);
	jw_raw(&a.w, "egress", str_c(q->row->policy_json));
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_egress_get(struct req *q)
{
	reply_egress(q);
}

/* --- PUT: held by the operation until the new policy is in force --- */

static void put_gone(struct req *q)
{
	op_forget(q->state); /* the change goes on */
}

static void put_done(struct op *op, const struct err *err, void *arg)
{
	struct req *q = arg;

	q->on_gone = NULL;
	if (err)
		reply_err(q, err);
	else
		reply_egress(q);
}

void createos_egress_put(struct req *q)
{
	auto_free char *json = NULL;
	struct policy *policy = NULL;
	struct err err;

	if (egress_from_json(q->api, json_object_get(q->json, "egress"), &policy, &json, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	q->on_gone = put_gone;
	flow_policy(q->box, policy, str_c(json), POLICY_CREATEOS, put_done, q,
		(struct op **)&q->state);
}

/* --- bandwidth: counted, not metered --- */

static void reply_bandwidth(struct req *q)
{
	struct answer a;

	if (q->box)
		box_count(q->box);
	answer_begin(&a, 4096);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "id", q->row->id);
	jw_i64(&a.w, "quota_bytes", -1);
	jw_u64(&a.w, "used_bytes", q->row->out_used);
	jw_u64(&a.w, "ingress_bytes", q->row->in_used);
	jw_i64(&a.w, "remaining_bytes", -1);
	jw_bool(&a.w, "capped", false);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_bandwidth_get(struct req *q)
{
	reply_bandwidth(q);
}

void createos_recharge(struct req *q)
{
	struct {
		int64_t add;
	} in = { 0 };
	static const struct json_field fields[] = {
		{ "add_bytes", JK_I64, 0, -1, true, 1, INT64_C(1) << 53 },
	};
	struct err err;

	if (json_decode(q->json, fields, ARRAY_SIZE(fields), &in, &err) < 0)
		reply_err(q, &err);
	else
		reply_bandwidth(q); /* adding to "unmetered" changes nothing */
}

/* Egress lists and bandwidth: see the header. Rules are echoed as they were given. */
#include "api/box.h"
#include "api/createos/egress.h"
#include "api/dialect.h"
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

/* Only allowances, each of hosts or of networks, on every port, and all else closed. */
static bool is_list(const struct policy *p)
{
	if (p->fallback == WEIR_ALLOW)
		return !p->n_rules;
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (r->action != WEIR_ALLOW || r->ports || (r->names != 0) == (r->prefixes != 0))
			return false;
	}
	return p->n_rules > 0; /* none at all would read "everything" */
}

static void put_list(struct jw *w, const struct policy *p)
{
	char text[NAME_MAX_LEN + 3];

	for (uint32_t i = 0; i < p->n_names; i++) {
		const struct name_pattern *n = &p->names[i];

		if (n->scope == NAME_BELOW_AND_APEX)
			jw_c(w, NULL, n->name.s);
		snprintf(text, sizeof(text), "%s%s", n->scope == NAME_EXACT ? "" : "*.", n->name.s);
		jw_c(w, NULL, text);
	}
	for (uint32_t i = 0; i < p->n_prefixes; i++)
		jw_c(w, NULL, prefix_text(p->prefixes[i]).s);
}

static void put_rules(struct jw *w, const struct policy *p)
{
	for (uint32_t i = 0; i < p->n_rules; i++) {
		auto_buf struct buf text = BUF_MAX(4u << 20);

		if (policy_rule_text(p, i, &text) >= 0)
			jw_str(w, NULL, buf_str(&text));
	}
	jw_c(w, NULL, p->fallback == WEIR_ALLOW ? "allow everything else" : "deny everything else");
}

void egress_put(struct jw *w, struct api *a, const struct sandbox_row *row)
{
	auto_policy struct policy *p = NULL;
	auto_json json_t *list = NULL;
	struct err err;
	json_t *v;
	size_t i;

	if (row->dialect == POLICY_CREATEOS) {
		jw_raw(w, "egress",
			str_c(row->policy_json && *row->policy_json ? row->policy_json : "[]"));
		return;
	}
	jw_arr(w, "egress");
	list = dialect_policy_list(row->dialect, str_c(row->policy_json));
	if (list)
		json_array_foreach (list, i, v)
			jw_str(w, NULL, str_n(json_string_value(v), json_string_length(v)));
	else if (dialect_policy(a, row->dialect, str_c(row->policy_json), &p, &err) < 0)
		jw_c(w, NULL, "deny everything else"); /* as adoption has it */
	else if (is_list(p))
		put_list(w, p);
	else
		put_rules(w, p);
	jw_arr_end(w);
}

static void reply_egress(struct req *q)
{
	struct answer a;

	answer_begin(&a, 8u << 20);
	jw_obj(&a.w, "data");
	jw_c(&a.w, "id", q->row->id);
	egress_put(&a.w, q->api, q->row);
	jw_end(&a.w);
	reply_send(q, 200, &a);
}

void createos_egress_get(struct req *q)
{
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
	flow_policy(q->box, policy, str_c(json), POLICY_CREATEOS, req_held, q,
		req_hold(q, reply_egress));
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

/* networkPolicy: see the header. */
#include "api/dialect.h"
#include "api/opensandbox/always.h"
#include "api/opensandbox/netpolicy.h"
#include "base/log.h"
#include "policy/opensandbox.h"

static const char *const actions[] = { "deny", "allow" };

static struct str text_of(const json_t *v)
{
	return str_n(json_string_value(v), json_string_length(v));
}

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
}

/* "allow" or "deny" in any case, blanks around it. Absent: deny. */
static int action_from(const json_t *v, const char *place, const char **ret, struct err *err)
{
	*ret = actions[0];
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
			"%s: expected \"allow\" or \"deny\"", place);
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (str_caseeq(str_trim(text_of(v)), str_c(actions[i]))) {
			*ret = actions[i];
			return 0;
		}
	return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
		"%s: expected \"allow\" or \"deny\", got \"%.40s\"", place, json_string_value(v));
}

static int rule_canonical(const json_t *rule, const char *list, size_t i, json_t *out,
	struct err *err)
{
	const json_t *target = json_object_get(rule, "target");
	const char *action;
	char place[64];
	int r;

	if (!json_is_object(rule))
		return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
			"%s[%zu]: expected an object with action and target", list, i);
	snprintf(place, sizeof(place), "%s[%zu].action", list, i);
	r = action_from(json_object_get(rule, "action"), place, &action, err);
	if (r < 0)
		return r;
	if (!json_is_string(target) || !str_trim(text_of(target)).n ||
		memchr(json_string_value(target), 0, json_string_length(target)))
		return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
			"%s[%zu].target: expected a name, *.name, address or network", list, i);
	if (json_array_append_new(out, json_pack("{s:s,s:o}", "action", action, "target",
					   json_stringn(str_trim(text_of(target)).p,
						   str_trim(text_of(target)).n))) < 0)
		return no_memory(err);
	return 0;
}

static int rules_canonical(const json_t *rules, const char *list, json_t *out, struct err *err)
{
	size_t i;
	json_t *rule;
	int r = 0;

	if (rules && !json_is_null(rules) && !json_is_array(rules))
		return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
			"%s: expected an array of rules", list);
	if (json_array_size(rules) > OPENSANDBOX_RULES_MAX)
		return err_field(err, -E2BIG, ERR_TOO_LARGE, "networkPolicy",
			"%s: expected at most %u rules, got %zu", list, OPENSANDBOX_RULES_MAX,
			json_array_size(rules));
	json_array_foreach ((json_t *)(uintptr_t)rules, i, rule)
		if (r == 0)
			r = rule_canonical(rule, list, i, out, err);
	return r;
}

int netpolicy_canonical(const json_t *ask, json_t **ret, struct err *err)
{
	auto_json json_t *egress = json_array();
	const char *action;
	int r;

	if (!ask || json_is_null(ask)) {
		*ret = json_null();
		return 0;
	}
	if (!json_is_object(ask))
		return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
			"expected an object with defaultAction and egress");
	if (!egress)
		return no_memory(err);
	r = action_from(json_object_get(ask, "defaultAction"), "defaultAction", &action, err);
	if (r == 0)
		r = rules_canonical(json_object_get(ask, "egress"), "egress", egress, err);
	if (r < 0)
		return r;
	*ret = json_pack("{s:s,s:O}", "defaultAction", action, "egress", egress);
	return *ret ? 0 : no_memory(err);
}

int netpolicy_build(struct api *a, const json_t *canonical, struct policy **ret, struct err *err)
{
	const json_t *egress = json_object_get(canonical, "egress"), *rule;
	bool allow = json_is_null(canonical) ||
		str_eq_c(text_of(json_object_get(canonical, "defaultAction")), "allow");
	size_t n = json_array_size(egress), i;
	auto_free struct opensandbox_rule *rules = calloc(n + 1, sizeof(*rules));

	if (!rules)
		return no_memory(err);
	json_array_foreach ((json_t *)(uintptr_t)egress, i, rule)
		rules[i] = (struct opensandbox_rule){
			.allow = str_eq_c(text_of(json_object_get(rule, "action")), "allow"),
			.target = text_of(json_object_get(rule, "target")),
		};
	return opensandbox_policy(allow, rules, n, always_lists(a), &a->floor, ret, err);
}

int netpolicy_read(struct api *a, struct str json, struct policy **ret, struct err *err)
{
	auto_json json_t *v = json_loadb(json.p, json.n, JSON_DECODE_ANY, NULL);

	if (!v)
		return err_set(err, -EBADMSG, ERR_INTERNAL, "a stored networkPolicy does not read");
	return netpolicy_build(a, v, ret, err);
}

/* --- changes --- */

static bool same_target(const json_t *rule, struct str target)
{
	return str_caseeq(text_of(json_object_get(rule, "target")), target);
}

static bool has_target(const json_t *rules, struct str target)
{
	json_t *rule;
	size_t i;

	json_array_foreach ((json_t *)(uintptr_t)rules, i, rule)
		if (same_target(rule, target))
			return true;
	return false;
}

static int append_new(json_t *to, const json_t *rules, struct err *err)
{
	json_t *rule;
	size_t i;

	json_array_foreach ((json_t *)(uintptr_t)rules, i, rule)
		if (!has_target(to, text_of(json_object_get(rule, "target"))) &&
			json_array_append(to, rule) < 0)
			return no_memory(err);
	return 0;
}

int netpolicy_patch(json_t *canonical, const json_t *rules, struct err *err)
{
	auto_json json_t *asked = json_array(), *merged = json_array();
	int r = asked && merged ? 0 : no_memory(err);

	if (r == 0 && !json_array_size(rules))
		return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
			"expected an array of at least one rule");
	if (r == 0)
		r = rules_canonical(rules, "rules", asked, err);
	if (r == 0)
		r = append_new(merged, asked, err);
	if (r == 0)
		r = append_new(merged, json_object_get(canonical, "egress"), err);
	if (r == 0 && json_object_set(canonical, "egress", merged) < 0)
		r = no_memory(err);
	return r;
}

int netpolicy_remove(json_t *canonical, const json_t *targets, size_t *ret_n, struct err *err)
{
	auto_json json_t *left = json_array();
	const json_t *egress = json_object_get(canonical, "egress");
	json_t *rule, *target;
	size_t i, k;

	*ret_n = 0;
	if (!json_array_size(targets))
		return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
			"expected an array of at least one target");
	json_array_foreach ((json_t *)(uintptr_t)targets, k, target)
		if (!json_is_string(target) || !str_trim(text_of(target)).n)
			return err_field(err, -EINVAL, ERR_INVALID, "networkPolicy",
				"targets[%zu]: expected a target as a string", k);
	json_array_foreach ((json_t *)(uintptr_t)egress, i, rule) {
		bool gone = false;

		json_array_foreach ((json_t *)(uintptr_t)targets, k, target)
			gone = gone || same_target(rule, str_trim(text_of(target)));
		*ret_n += gone;
		if (!gone && json_array_append(left, rule) < 0)
			return no_memory(err);
	}
	return json_object_set(canonical, "egress", left) < 0 ? no_memory(err) : 0;
}

/* --- another dialect's policy --- */

static void name_target(const struct name_pattern *n, bool apex, struct buf *out)
{
	if (n->scope == NAME_BELOW || (n->scope == NAME_BELOW_AND_APEX && !apex))
		buf_add_c(out, "*.");
	buf_add_str(out, name_str(&n->name));
}

static void prefix_target(struct prefix p, bool port, struct buf *out)
{
	bool one = p.len == ip_bits(p.ip.family), wrap = port && p.ip.family == 6;

	buf_fmt(out, wrap ? "[%s]" : "%s", one ? ip_text(p.ip).s : prefix_text(p).s);
}

struct shown {
	const struct policy *p;
	const struct policy_rule *rule;
	json_t *egress;
	bool exact;
};

/* One target, once for every port that the rule names. */
static void show_target(struct shown *s, struct buf *target)
{
	const struct policy_rule *rule = s->rule;
	size_t n = target->n;

	for (uint32_t i = 0; i < MAX(rule->ports, 1u); i++) {
		const struct policy_port *port = rule->ports ? &s->p->ports[rule->port0 + i] : NULL;

		target->n = n;
		if (port && port->lo == port->hi)
			buf_fmt(target, ":%u", port->lo);
		else if (port)
			buf_fmt(target, ":%u-%u", port->lo, port->hi);
		if (port && port->protos != POLICY_TCP_UDP)
			buf_add_c(target, port->protos == POLICY_TCP ? "/tcp" : "/udp");
		json_array_append_new(s->egress, json_pack("{s:s,s:s#}", "action",
			actions[rule->action == WEIR_ALLOW], "target", target->p, (int)target->n));
	}
}

static void show_rule(struct shown *s)
{
	const struct policy_rule *rule = s->rule;

	s->exact = s->exact && !rule->ports && !(rule->names && rule->prefixes) &&
		(rule->names || rule->prefixes);
	for (uint32_t i = 0; i < rule->names; i++) {
		const struct name_pattern *n = &s->p->names[rule->name0 + i];

		for (int apex = n->scope == NAME_BELOW_AND_APEX; apex >= 0; apex--) {
			auto_buf struct buf target = BUF_MAX(512);

			name_target(n, apex, &target);
			show_target(s, &target);
		}
	}
	for (uint32_t i = 0; i < rule->prefixes; i++) {
		auto_buf struct buf target = BUF_MAX(512);

		prefix_target(s->p->prefixes[rule->prefix0 + i], rule->ports, &target);
		show_target(s, &target);
	}
	if (!rule->names && !rule->prefixes) {
		auto_buf struct buf target = BUF_MAX(512);

		buf_add_c(&target, "*");
		show_target(s, &target);
	}
}

/* Denials of addresses are judged first here, and anywhere in the list there: a list that denies
 * says the same in both only by chance. */
static bool only_allows(const struct policy *p)
{
	for (uint32_t i = 0; i < p->n_rules; i++)
		if (p->rules[i].action != WEIR_ALLOW)
			return false;
	return true;
}

json_t *netpolicy_shown(struct api *a, const struct sandbox_row *row, bool *ret_exact)
{
	auto_policy struct policy *p = NULL;
	struct shown s = { .egress = json_array() };
	struct err err;

	*ret_exact = true;
	if (row->dialect == POLICY_OPENSANDBOX) {
		json_t *v = json_loads(row->policy_json, JSON_DECODE_ANY, NULL);

		json_decref(s.egress);
		if (!json_is_null(v))
			return v;
		return json_pack("{s:s,s:[]}", "defaultAction", "allow", "egress");
	}
	if (dialect_policy(a, row->dialect, str_c(row->policy_json), &p, &err) < 0) {
		log_event(LOG_ERROR, "sandbox.policy_unreadable", "sandbox=%s text=%s", row->id,
			log_q(str_c(err.text)));
		p = policy_new(POLICY_NATIVE, WEIR_DENY); /* what is in force: adopt.c */
	}
	if (!p || !s.egress) {
		json_decref(s.egress);
		return NULL;
	}
	s.p = p;
	s.exact = only_allows(p);
	for (uint32_t i = 0; i < p->n_rules; i++) {
		s.rule = &p->rules[i];
		show_rule(&s);
	}
	*ret_exact = s.exact;
	return json_pack("{s:s,s:o}", "defaultAction", actions[p->fallback == WEIR_ALLOW], "egress",
		s.egress);
}

/* The user's own rules; the operator's lists are nobody's to see. As targets alone where all they do
 * is allow and the rest is denied. */
json_t *netpolicy_list(struct str json)
{
	auto_json json_t *v = json_loadb(json.p, json.n, JSON_DECODE_ANY, NULL);
	json_t *egress = json_object_get(v, "egress"), *rule, *list = json_array();
	bool open = !json_is_object(v) ||
		str_eq_c(text_of(json_object_get(v, "defaultAction")), "allow");
	bool plain = !open && json_array_size(egress);
	size_t i;

	json_array_foreach (egress, i, rule)
		plain = plain && str_eq_c(text_of(json_object_get(rule, "action")), "allow");
	json_array_foreach (egress, i, rule)
		json_array_append_new(list, json_sprintf("%s%s%s",
			plain ? "" : json_string_value(json_object_get(rule, "action")),
			plain ? "" : " ", json_string_value(json_object_get(rule, "target"))));
	if (open ? json_array_size(egress) : !plain)
		json_array_append_new(list,
			json_string(open ? "allow everything else" : "deny everything else"));
	return list;
}

/*
 * A policy of another dialect as trafficRules: see the header.
 *
 * Both are ordered lists whose first match decides, so each rule becomes one rule; a port for TCP
 * and UDP becomes two entries, and "everything" both families' widest network. One thing has no
 * spelling of its own: "*.x" of the other dialects leaves x out, here it includes it. Where another
 * rule says the same about x there is no difference; where none speaks of x, a rule in front says
 * what the default would; else the document would lie, and there is none.
 */
#include "api/dialect.h"
#include "api/sandbox0/foreign.h"
#include "base/ip.h"

#define TEXT_MAX (8u << 20)

static bool same_conditions(const struct policy *p, const struct policy_rule *a,
	const struct policy_rule *b)
{
	if (a->action != b->action || a->ports != b->ports || a->prefixes != b->prefixes)
		return false;
	for (uint32_t i = 0; i < a->ports; i++) {
		const struct policy_port *x = &p->ports[a->port0 + i], *y = &p->ports[b->port0 + i];

		if (x->protos != y->protos || x->lo != y->lo || x->hi != y->hi)
			return false;
	}
	for (uint32_t i = 0; i < a->prefixes; i++) {
		const struct prefix *x = &p->prefixes[a->prefix0 + i],
				    *y = &p->prefixes[b->prefix0 + i];

		if (x->len != y->len || !ip_eq(x->ip, y->ip))
			return false;
	}
	return true;
}

static bool speaks_of(const struct policy *p, const struct policy_rule *r, const struct name *name)
{
	for (uint32_t i = 0; i < r->names; i++)
		if (name_match(&p->names[r->name0 + i], name))
			return true;
	return false;
}

enum apex { APEX_SAME, APEX_SILENT, APEX_OTHER };

/* What do the rules say about the apex of a pattern of this rule? */
static enum apex apex_of(const struct policy *p, const struct policy_rule *rule,
	const struct name *apex)
{
	enum apex found = APEX_SILENT;

	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (!speaks_of(p, r, apex))
			continue;
		if (!same_conditions(p, r, rule))
			return APEX_OTHER;
		found = APEX_SAME;
	}
	return found;
}

static void put_ports(struct jw *w, const struct policy *p, const struct policy_rule *r)
{
	static const struct {
		enum policy_proto bit;
		const char *name;
	} protos[] = { { POLICY_TCP, "tcp" }, { POLICY_UDP, "udp" } };

	if (!r->ports)
		return;
	jw_arr(w, "ports");
	for (uint32_t i = 0; i < r->ports; i++) {
		const struct policy_port *port = &p->ports[r->port0 + i];

		for (size_t k = 0; k < ARRAY_SIZE(protos); k++) {
			if (!(port->protos & protos[k].bit))
				continue;
			jw_obj(w, NULL);
			jw_u64(w, "port", port->lo);
			jw_c(w, "protocol", protos[k].name);
			if (port->hi != port->lo)
				jw_u64(w, "endPort", port->hi);
			jw_end(w);
		}
	}
	jw_arr_end(w);
}

static void put_prefixes(struct jw *w, const struct policy *p, const struct policy_rule *r)
{
	bool everything = !r->names && !r->prefixes && !r->ports;

	if (!r->prefixes && !everything)
		return;
	jw_arr(w, "cidrs");
	if (everything) {
		jw_c(w, NULL, "0.0.0.0/0");
		jw_c(w, NULL, "::/0");
	}
	for (uint32_t i = 0; i < r->prefixes; i++)
		jw_c(w, NULL, prefix_text(p->prefixes[r->prefix0 + i]).s);
	jw_arr_end(w);
}

static void put_names(struct jw *w, const struct policy *p, const struct policy_rule *r)
{
	if (!r->names)
		return;
	jw_arr(w, "domains");
	for (uint32_t i = 0; i < r->names; i++) {
		const struct name_pattern *n = &p->names[r->name0 + i];
		char text[NAME_MAX_LEN + 3];

		snprintf(text, sizeof(text), "%s%s", n->scope == NAME_EXACT ? "" : "*.", n->name.s);
		jw_c(w, NULL, text);
	}
	jw_arr_end(w);
}

static const char *action_text(unsigned int verdict)
{
	return verdict == WEIR_ALLOW ? "allow" : "deny";
}

/* Rules in front of this one, for apexes that it must not speak of. */
static int put_apexes(struct jw *w, const struct policy *p, const struct policy_rule *r,
	const char *whose, struct err *err)
{
	for (uint32_t i = 0; i < r->names; i++) {
		const struct name_pattern *n = &p->names[r->name0 + i];
		enum apex apex = n->scope == NAME_BELOW ? apex_of(p, r, &n->name) : APEX_SAME;

		if (apex == APEX_OTHER)
			return err_set(err, -EOPNOTSUPP, ERR_CONFLICT,
				"this policy was set through %s's API, and *.%.128s without %.128s "
				"itself cannot be said here: read it there, or replace it",
				whose, n->name.s, n->name.s);
		if (apex == APEX_SAME || r->action == p->fallback)
			continue;
		jw_obj(w, NULL);
		jw_c(w, "action", action_text(p->fallback));
		jw_arr(w, "domains");
		jw_c(w, NULL, n->name.s);
		jw_arr_end(w);
		jw_end(w);
	}
	return 0;
}

int foreign_from(const struct policy *p, const char *whose, char **ret, struct err *err)
{
	auto_buf struct buf text = BUF_MAX(TEXT_MAX);
	struct jw w = JW(&text);

	jw_obj(&w, NULL);
	jw_c(&w, "mode", p->fallback == WEIR_ALLOW ? "allow-all" : "block-all");
	if (p->n_rules) {
		jw_obj(&w, "egress");
		jw_arr(&w, "trafficRules");
	}
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];
		int e = put_apexes(&w, p, r, whose, err);

		if (e < 0)
			return e;
		jw_obj(&w, NULL);
		jw_c(&w, "action", action_text(r->action));
		put_prefixes(&w, p, r);
		put_names(&w, p, r);
		put_ports(&w, p, r);
		jw_end(&w);
	}
	if (p->n_rules) {
		jw_arr_end(&w);
		jw_end(&w);
	}
	jw_end(&w);
	*ret = buf_failed(&text) ? NULL : str_dup(buf_str(&text));
	return *ret ? 0 : err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
}

int foreign_json(struct api *a, const struct sandbox_row *row, char **ret, struct err *err)
{
	auto_policy struct policy *p = NULL;
	int r = dialect_policy(a, row->dialect, str_c(row->policy_json), &p, err);

	return r < 0 ? r : foreign_from(p, dialect_stored_by(row->dialect), ret, err);
}

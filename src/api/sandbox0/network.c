/*
 * sandbox0's network policy: see the header.
 *
 * Reading takes two steps. The first makes the canonical document: it knows every member there
 * is, refuses those there are not (a misspelt list would open what it was meant to close) and
 * those that are not built. The second turns lists of the document into those of policy/sandbox0.h,
 * and no longer meets anything of the wrong type.
 */
#include <idn2.h>
#include "api/dialect.h"
#include "api/sandbox0/foreign.h"
#include "api/sandbox0/network.h"
#include "policy/sandbox0.h"

#define DOCUMENT_MAX  262144u /* bytes of the canonical text */
#define RULE_NAME_MAX 253u

/* --- the canonical document --- */

/* Where we are: "egress.trafficRules[2]". */
struct place {
	char text[256]; /* three members and two numbers deep at most */
};

static struct place below(const struct place *at, const char *member)
{
	struct place p;

	snprintf(p.text, sizeof(p.text), "%.150s%s%.60s", at->text, *at->text ? "." : "", member);
	return p;
}

static struct place element(const struct place *at, size_t i)
{
	struct place p;

	snprintf(p.text, sizeof(p.text), "%.220s[%zu]", at->text, i);
	return p;
}

static int bad(const struct place *at, const char *why, struct err *err)
{
	return err_field(err, -EINVAL, ERR_INVALID, "network", "%s%s%s", at->text,
		*at->text ? ": " : "", why);
}

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
}

typedef int (*copy_fn)(const json_t *in, const struct place *at, json_t **ret, struct err *err);

/* An array, each element through `one`. */
static int copy_list(const json_t *in, const struct place *at, copy_fn one, json_t **ret,
	struct err *err)
{
	auto_json json_t *list = NULL;
	json_t *v;
	size_t i;

	if (!json_is_array(in))
		return bad(at, "expected an array", err);
	list = json_array();
	if (!list)
		return no_memory(err);
	json_array_foreach (in, i, v) {
		struct place here = element(at, i);
		json_t *copy = NULL;
		int r = one(v, &here, &copy, err);

		if (r < 0)
			return r;
		if (json_array_append_new(list, copy) < 0)
			return no_memory(err);
	}
	*ret = take_ptr(list);
	return 0;
}

static int copy_text(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	if (!json_is_string(in))
		return bad(at, "expected a string", err);
	if (memchr(json_string_value(in), 0, json_string_length(in)))
		return bad(at, "must not contain a NUL character", err);
	*ret = json_deep_copy(in);
	return *ret ? 0 : no_memory(err);
}

static int copy_texts(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	return copy_list(in, at, copy_text, ret, err);
}

static int copy_number(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	if (!json_is_integer(in))
		return bad(at, "expected a whole number", err);
	*ret = json_integer(json_integer_value(in));
	return *ret ? 0 : no_memory(err);
}

/* What may stand in an object. alias: how the seed spelled it. */
struct member {
	const char *name, *alias;
	copy_fn copy; /* NULL: not built; only what says nothing is taken */
	const char *refusal;
};

static bool says_nothing(const json_t *v)
{
	return json_is_null(v) || (json_is_array(v) && !json_array_size(v)) ||
		(json_is_object(v) && !json_object_size(v));
}

static const struct member *member_find(const struct member *m, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq_c(str_c(key), m[i].name) ||
			(m[i].alias && str_eq_c(str_c(key), m[i].alias)))
			return &m[i];
	return NULL;
}

static int copy_object(const json_t *in, const struct place *at, const struct member *members,
	size_t n, json_t **ret, struct err *err)
{
	auto_json json_t *out = NULL;
	const char *key;
	json_t *v;

	if (!json_is_object(in))
		return bad(at, "expected an object", err);
	out = json_object();
	if (!out)
		return no_memory(err);
	json_object_foreach ((json_t *)(uintptr_t)in, key, v) {
		const struct member *m = member_find(members, n, key);
		struct place here = below(at, m ? m->name : key);
		json_t *copy = NULL;
		int r;

		if (!m)
			return bad(&here, "there is no such member", err);
		if (m->alias && json_object_get(in, m->alias) && json_object_get(in, m->name))
			return bad(&here, "given twice, in both spellings", err);
		if (json_is_null(v) || (!m->copy && says_nothing(v)))
			continue;
		r = m->copy ? m->copy(v, &here, &copy, err) : bad(&here, m->refusal, err);
		if (r < 0)
			return r;
		if (says_nothing(copy))
			json_decref(copy);
		else if (json_object_set_new(out, m->name, copy) < 0)
			return no_memory(err);
	}
	*ret = take_ptr(out);
	return 0;
}

static int copy_port(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	static const struct member members[] = {
		{ .name = "port", .copy = copy_number },
		{ .name = "protocol", .copy = copy_text },
		{ .name = "endPort", .alias = "end_port", .copy = copy_number },
	};
	int r;

	if (json_is_integer(in)) { /* that TCP port */
		*ret = json_pack("{s:I}", "port", json_integer_value(in));
		return *ret ? 0 : no_memory(err);
	}
	if (!json_is_object(in))
		return bad(at, "expected a port, such as 443 or {\"port\":443,\"protocol\":\"tcp\"}", err);
	r = copy_object(in, at, members, ARRAY_SIZE(members), ret, err);
	if (r == 0 && !json_object_get(*ret, "port")) {
		json_decref(*ret);
		return bad(at, "port is required", err);
	}
	return r;
}

static int copy_ports(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	return copy_list(in, at, copy_port, ret, err);
}

static int copy_action(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	struct str v = json_is_string(in) ? str_c(json_string_value(in)) : STR_NONE;

	if (!str_eq_c(v, "allow") && !str_eq_c(v, "deny"))
		return bad(at, "expected \"allow\" or \"deny\"", err);
	return copy_text(in, at, ret, err);
}

static int copy_rule_name(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	if (json_is_string(in) && json_string_length(in) > RULE_NAME_MAX)
		return bad(at, "longer than 253 bytes", err);
	return copy_text(in, at, ret, err);
}

static int copy_rule(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	static const struct member members[] = {
		{ .name = "name", .copy = copy_rule_name },
		{ .name = "action", .copy = copy_action },
		{ .name = "cidrs", .copy = copy_texts },
		{ .name = "domains", .copy = copy_texts },
		{ .name = "ports", .copy = copy_ports },
		{ .name = "appProtocols",
			.refusal = "protocols are not recognised yet; name their ports instead" },
	};
	int r = copy_object(in, at, members, ARRAY_SIZE(members), ret, err);

	if (r == 0 && !json_object_get(*ret, "action")) {
		json_decref(*ret);
		return bad(at, "action is required: \"allow\" or \"deny\"", err);
	}
	return r;
}

static int copy_rules(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	auto_json json_t *rules = NULL, *names = json_object();
	json_t *rule;
	size_t i;
	int r = names ? copy_list(in, at, copy_rule, &rules, err) : no_memory(err);

	if (r < 0)
		return r;
	json_array_foreach (rules, i, rule) {
		const char *name = json_string_value(json_object_get(rule, "name"));
		struct place here = element(at, i);

		if (!name || !*name)
			continue;
		if (json_object_get(names, name))
			return bad(&here, "another rule has this name", err);
		if (json_object_set_new(names, name, json_true()) < 0)
			return no_memory(err);
	}
	*ret = take_ptr(rules);
	return 0;
}

static int copy_egress(const json_t *in, const struct place *at, json_t **ret, struct err *err)
{
	static const struct member members[] = {
		{ .name = "allowedDomains", .alias = "allowed_domains", .copy = copy_texts },
		{ .name = "allowedCidrs", .alias = "allowed_cidrs", .copy = copy_texts },
		{ .name = "allowedPorts", .alias = "allowed_ports", .copy = copy_ports },
		{ .name = "deniedDomains", .alias = "denied_domains", .copy = copy_texts },
		{ .name = "deniedCidrs", .alias = "denied_cidrs", .copy = copy_texts },
		{ .name = "deniedPorts", .alias = "denied_ports", .copy = copy_ports },
		{ .name = "trafficRules", .copy = copy_rules },
		{ .name = "protocolRules", .refusal = "what goes on inside a protocol is not judged yet" },
		{ .name = "credentialRules", .refusal = "credentials are not injected yet" },
		{ .name = "proxy", .refusal = "there is no upstream proxy yet" },
	};

	return copy_object(in, at, members, ARRAY_SIZE(members), ret, err);
}

/* An unknown mode is told before anything else of the document. */
static int check_mode(const json_t *in, bool required, struct err *err)
{
	const json_t *mode = json_object_get(in, "mode");
	struct str text = json_is_string(mode) ? str_c(json_string_value(mode)) : STR_NONE;

	if (!mode || json_is_null(mode) || (json_is_string(mode) && !text.n))
		return required ? err_set(err, -EINVAL, ERR_INVALID, "mode is required") : 0;
	if (!str_eq_c(text, "allow-all") && !str_eq_c(text, "block-all"))
		return err_set(err, -EINVAL, ERR_INVALID,
			"invalid mode: expected \"allow-all\" or \"block-all\"");
	return 0;
}

static int canonical(const json_t *in, bool mode_required, json_t **ret, struct err *err)
{
	static const struct member members[] = {
		{ .name = "mode", .copy = copy_text },
		{ .name = "egress", .copy = copy_egress },
		{ .name = "credentialBindings", .refusal = "credentials are not injected yet" },
	};
	struct place top = { "" };
	json_t *doc;
	int r;

	if (!json_is_object(in))
		return bad(&top, "expected an object", err);
	r = check_mode(in, mode_required, err);
	if (r == 0)
		r = copy_object(in, &top, members, ARRAY_SIZE(members), &doc, err);
	if (r < 0)
		return r;
	*ret = doc;
	if (!json_string_length(json_object_get(doc, "mode")) &&
		json_object_set_new(doc, "mode", json_string("allow-all")) < 0) {
		json_decref(doc);
		return no_memory(err);
	}
	return 0;
}

/* --- the document's meaning --- */

/* Everything below is taken from one array each: the document is counted first. */
struct lists {
	struct str *texts;
	struct sandbox0_port *ports;
	struct sandbox0_rule *rules;
	size_t n_texts, n_ports;
	char **ascii; /* of international names: as DNS has them; as many as texts at most */
	size_t n_ascii;
};

static void lists_done(struct lists *l)
{
	for (size_t i = 0; i < l->n_ascii; i++)
		idn2_free(l->ascii[i]);
	free(l->ascii);
	free(l->texts);
	free(l->ports);
	free(l->rules);
}

static void count(const json_t *doc, struct lists *l)
{
	const char *key;
	json_t *v;
	size_t i;

	json_object_foreach ((json_t *)(uintptr_t)doc, key, v) {
		json_t *one;

		if (!json_is_array(v))
			continue;
		l->n_texts += json_array_size(v);
		l->n_ports += json_array_size(v);
		if (str_eq_c(str_c(key), "trafficRules"))
			json_array_foreach (v, i, one)
				count(one, l);
	}
}

static bool is_ascii(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

/* What the user wrote is kept and told; what is judged is what a resolver will be asked. */
static int to_ascii(struct lists *l, struct str text, const struct place *at, struct str *ret,
	struct err *err)
{
	char name[1024], why[128];
	char *ascii = NULL;
	int r;

	text = str_trim(text);
	if (text.n >= sizeof(name))
		return bad(at, "the name is longer than 253 characters", err);
	snprintf(name, sizeof(name), STR_FMT, STR_ARG(text));
	r = idn2_to_ascii_8z(name, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	if (r != IDN2_OK) {
		snprintf(why, sizeof(why), "not an international name: %.80s", idn2_strerror(r));
		return r == IDN2_MALLOC ? no_memory(err) : bad(at, why, err);
	}
	l->ascii[l->n_ascii++] = ascii;
	*ret = str_c(ascii);
	return 0;
}

/* Those that the mode leaves idle, too. */
static int ascii_domains(struct lists *l, struct sandbox0_lists *of, const char *list, struct err *err)
{
	struct str *texts = (struct str *)of->domains;

	for (size_t i = 0; i < of->n_domains; i++) {
		struct place top = { "" }, named = below(&top, list), here = element(&named, i);
		int r = is_ascii(texts[i]) ? 0 : to_ascii(l, texts[i], &here, &texts[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static void take_texts(const json_t *from, struct lists *l, const struct str **ret, size_t *ret_n)
{
	json_t *v;
	size_t i;

	*ret = l->texts + l->n_texts;
	*ret_n = json_array_size(from);
	json_array_foreach (from, i, v)
		l->texts[l->n_texts++] = str_n(json_string_value(v), json_string_length(v));
}

static void take_ports(const json_t *from, struct lists *l, const struct sandbox0_port **ret,
	size_t *ret_n)
{
	json_t *v;
	size_t i;

	*ret = l->ports + l->n_ports;
	*ret_n = json_array_size(from);
	json_array_foreach (from, i, v) {
		const json_t *protocol = json_object_get(v, "protocol");
		const json_t *end = json_object_get(v, "endPort");
		json_int_t last = json_integer_value(end);

		l->ports[l->n_ports++] = (struct sandbox0_port){
			.port = json_integer_value(json_object_get(v, "port")),
			.end = end && !last ? -1 : last, /* 0 is none; given, it is wrong */
			.protocol = str_n(json_string_value(protocol), json_string_length(protocol)) };
	}
}

static void take_lists(const json_t *from, struct lists *l, const char *domains, const char *cidrs,
	const char *ports, struct sandbox0_lists *ret)
{
	take_texts(json_object_get(from, domains), l, &ret->domains, &ret->n_domains);
	take_texts(json_object_get(from, cidrs), l, &ret->cidrs, &ret->n_cidrs);
	take_ports(json_object_get(from, ports), l, &ret->ports, &ret->n_ports);
}

static int meaning(struct api *a, const json_t *doc, struct policy **ret, struct err *err)
{
	const json_t *egress = json_object_get(doc, "egress"),
		     *rules = json_object_get(egress, "trafficRules");
	_cleanup_(lists_done) struct lists l = { 0 };
	struct sandbox0_ask ask = {
		.block_all = str_eq_c(str_c(json_string_value(json_object_get(doc, "mode"))),
			"block-all") };
	json_t *rule;
	size_t i;
	int r;

	count(egress, &l);
	l.texts = calloc(l.n_texts + 1, sizeof(*l.texts));
	l.ports = calloc(l.n_ports + 1, sizeof(*l.ports));
	l.rules = calloc(json_array_size(rules) + 1, sizeof(*l.rules));
	l.ascii = calloc(l.n_texts + 1, sizeof(*l.ascii));
	if (!l.texts || !l.ports || !l.rules || !l.ascii)
		return no_memory(err);
	l.n_texts = l.n_ports = 0;
	take_lists(egress, &l, "allowedDomains", "allowedCidrs", "allowedPorts", &ask.allowed);
	take_lists(egress, &l, "deniedDomains", "deniedCidrs", "deniedPorts", &ask.denied);
	r = ascii_domains(&l, &ask.allowed, "egress.allowedDomains", err);
	if (r == 0)
		r = ascii_domains(&l, &ask.denied, "egress.deniedDomains", err);
	json_array_foreach (rules, i, rule) {
		struct sandbox0_rule *to = &l.rules[ask.n_rules++];
		char list[64];

		to->allow = str_eq_c(
			str_c(json_string_value(json_object_get(rule, "action"))), "allow");
		take_lists(rule, &l, "domains", "cidrs", "ports", &to->match);
		snprintf(list, sizeof(list), "egress.trafficRules[%zu].domains", i);
		if (r == 0)
			r = ascii_domains(&l, &to->match, list, err);
	}
	ask.rules = l.rules;
	return r < 0 ? r : sandbox0_policy(&ask, &a->floor, ret, err);
}

int network_from_json(struct api *a, const json_t *in, bool mode_required, struct policy **ret,
	char **ret_json, struct err *err)
{
	auto_json json_t *doc = NULL, *none = json_object();
	auto_free char *text = NULL;
	int r;

	if (!in || json_is_null(in))
		in = none;
	r = in ? canonical(in, mode_required, &doc, err) : no_memory(err);
	if (r < 0)
		return r;
	text = json_dumps(doc, JSON_COMPACT);
	if (!text)
		return no_memory(err);
	if (strlen(text) > DOCUMENT_MAX)
		return err_field(err, -E2BIG, ERR_INVALID, "network", "larger than %u bytes",
			DOCUMENT_MAX);
	r = meaning(a, doc, ret, err);
	if (r == 0 && ret_json)
		*ret_json = take_ptr(text);
	return r;
}

int network_policy(struct api *a, struct str json, struct policy **ret, struct err *err)
{
	auto_json json_t *doc = NULL;
	int r = json_parse(json, &doc, err);

	return r < 0 ? r : network_from_json(a, doc, false, ret, NULL, err);
}

/* --- routes --- */

static void reply_network(struct req *q)
{
	auto_free char *foreign = NULL;
	struct answer a;
	struct err err;

	if (q->row->dialect != POLICY_SANDBOX0 && foreign_json(q->api, q->row, &foreign, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	sandbox0_begin(&a, 8u << 20);
	jw_raw(&a.w, "data", str_c(foreign ? foreign : q->row->policy_json));
	reply_send(q, 200, &a);
}

void sandbox0_network_get(struct req *q)
{
	reply_network(q);
}

/* It was not put in force, and the one before it is again: the client may ask once more. */
static void put_done(struct op *op, const struct err *err, void *arg)
{
	struct err e;

	if (err && err->kind == ERR_INTERNAL) {
		e = *err;
		e.kind = ERR_UPSTREAM;
		err = &e;
	}
	req_held(op, err, arg);
}

void sandbox0_network_put(struct req *q)
{
	auto_free char *json = NULL;
	struct policy *policy = NULL;
	struct err err;

	if (network_from_json(q->api, q->json, true, &policy, &json, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	flow_policy(q->box, policy, str_c(json), POLICY_SANDBOX0, put_done, q,
		req_hold(q, reply_network));
}

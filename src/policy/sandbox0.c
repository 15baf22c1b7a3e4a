/*
 * sandbox0's network policy: see the header for what it means.
 *
 * Lists become rules one by one, and each knows where it stands in the document, so that a fault
 * is named by its path. Lists that the mode leaves idle are built into a policy that is dropped:
 * the same checks, no second reading.
 */
#include "policy/sandbox0.h"
#include "policy/target.h"

struct build {
	struct policy *p;
	struct build *idle; /* what is checked and dropped */
	const struct policy_floor *floor;
	struct err *err;
};

/* Denying what the floor closes is no mistake. */
static const struct policy_floor open_floor;

/* Where lists stand: "egress.allowed" + "Domains", or "egress.trafficRules[2]." + "domains". */
struct at {
	const char *prefix;
	const char *domains, *cidrs, *ports;
};

static int refuse(const struct build *b, int r, const char *prefix, const char *list, size_t i,
	struct str text, const char *why)
{
	char place[96];

	snprintf(place, sizeof(place), "%s%s[%zu]", prefix, list, i);
	return target_refuse(b->err, r, "network", place, text, why);
}

static int too_long(const struct build *b, const char *prefix, const char *list, size_t n)
{
	return err_field(b->err, -E2BIG, ERR_INVALID, "network",
		"%s%s: expected at most %u entries, got %zu", prefix, list, SANDBOX0_LIST_MAX, n);
}

static bool is_star(struct str text)
{
	return str_eq_c(text, "*");
}

/* Blank entries are passed over; a list of nothing else would be no condition at all, and open
 * what it was meant to close. A lone "*" is a name that nobody has: it adds nothing, and a list of
 * nothing else never matches (add_rule). */
static int add_domains(struct build *b, const struct sandbox0_lists *l, const struct at *at)
{
	size_t added = 0;

	if (l->n_domains > SANDBOX0_LIST_MAX)
		return too_long(b, at->prefix, at->domains, l->n_domains);
	for (size_t i = 0; i < l->n_domains; i++) {
		struct str text = str_trim(l->domains[i]);
		const char *why = NULL;
		int r;

		if (!text.n)
			continue;
		added++;
		if (is_star(text))
			continue;
		r = target_add_name(b->p, text, true, &why);
		if (r < 0)
			return refuse(b, r, at->prefix, at->domains, i, text, why);
	}
	return added || !l->n_domains ? 0
				      : refuse(b, -EINVAL, at->prefix, at->domains, 0,
						l->domains[0], "all entries are blank");
}

static bool never_matches(const struct sandbox0_lists *l)
{
	size_t stars = 0, others = 0;

	for (size_t i = 0; i < l->n_domains; i++) {
		struct str text = str_trim(l->domains[i]);

		stars += is_star(text);
		others += text.n && !is_star(text);
	}
	return stars && !others;
}

static int add_cidrs(struct build *b, const struct sandbox0_lists *l, const struct at *at,
	const struct policy_floor *floor)
{
	if (l->n_cidrs > SANDBOX0_LIST_MAX)
		return too_long(b, at->prefix, at->cidrs, l->n_cidrs);
	for (size_t i = 0; i < l->n_cidrs; i++) {
		struct str text = str_trim(l->cidrs[i]);
		const char *why = "expected a network with its length, such as 10.0.0.0/8";
		int r = str_find(text, '/') < 0 ? -EINVAL : 0;

		if (r == 0)
			r = target_add_prefix(b->p, text, floor, &why);
		if (r < 0)
			return refuse(b, r, at->prefix, at->cidrs, i, text, why);
	}
	return 0;
}

static int add_port(struct build *b, const struct sandbox0_port *port, const char **why)
{
	int64_t end = port->end ? port->end : port->port;
	enum policy_proto proto = POLICY_TCP;

	if (str_caseeq(port->protocol, STR("udp")))
		proto = POLICY_UDP;
	else if (port->protocol.n && !str_caseeq(port->protocol, STR("tcp")))
		*why = "protocol must be tcp or udp";
	if (port->port < 1 || port->port > 65535 || end > 65535)
		*why = "port must be 1 to 65535";
	else if (end < port->port)
		*why = "endPort must not be below port";
	return *why ? -EINVAL
		    : policy_add_port(b->p, proto, (uint16_t)port->port, (uint16_t)end);
}

static int add_ports(struct build *b, const struct sandbox0_lists *l, const struct at *at)
{
	if (l->n_ports > SANDBOX0_LIST_MAX)
		return too_long(b, at->prefix, at->ports, l->n_ports);
	for (size_t i = 0; i < l->n_ports; i++) {
		const char *why = NULL;
		char text[32];
		int r = add_port(b, &l->ports[i], &why);

		snprintf(text, sizeof(text), "%lld", (long long)l->ports[i].port);
		if (r < 0)
			return refuse(b, r, at->prefix, at->ports, i, str_c(text), why);
	}
	return 0;
}

static int out_of_memory(const struct build *b, int r)
{
	return r == -ENOMEM ? err_set(b->err, r, ERR_INTERNAL, "out of memory") : r;
}

/* One rule of all lists together: AND across them, OR inside each. */
static int add_rule(struct build *b, enum weir_verdict action, const struct sandbox0_lists *l,
	const struct at *at, const struct policy_floor *floor)
{
	int r;

	if (!l->n_domains && !l->n_cidrs && !l->n_ports)
		return 0;
	if (never_matches(l) && b != b->idle) /* its other lists are checked all the same */
		return add_rule(b->idle, action, l, at, floor);
	r = policy_add_rule(b->p, action);
	if (r < 0)
		return out_of_memory(b, r);
	r = add_domains(b, l, at);
	if (r == 0)
		r = add_cidrs(b, l, at, floor);
	return r == 0 ? add_ports(b, l, at) : r;
}

/* A rule for each list: any hit denies. */
static int add_denials(struct build *b, const struct sandbox0_lists *l, const struct at *at,
	const struct policy_floor *floor)
{
	struct sandbox0_lists cidrs = { .cidrs = l->cidrs, .n_cidrs = l->n_cidrs };
	struct sandbox0_lists ports = { .ports = l->ports, .n_ports = l->n_ports };
	struct sandbox0_lists domains = { .domains = l->domains, .n_domains = l->n_domains };
	int r = add_rule(b, WEIR_DENY, &cidrs, at, floor);

	if (r == 0)
		r = add_rule(b, WEIR_DENY, &ports, at, floor);
	return r == 0 ? add_rule(b, WEIR_DENY, &domains, at, floor) : r;
}

static int add_lists(struct build *b, const struct sandbox0_ask *ask)
{
	struct build *idle = b->idle;
	static const struct at allowed = { "egress.allowed", "Domains", "Cidrs", "Ports" };
	static const struct at denied = { "egress.denied", "Domains", "Cidrs", "Ports" };
	int r = add_rule(ask->block_all ? b : idle, WEIR_ALLOW, &ask->allowed, &allowed, b->floor);

	return r == 0 ? add_denials(ask->block_all ? idle : b, &ask->denied, &denied, &open_floor) : r;
}

static int add_traffic(struct build *b, const struct sandbox0_ask *ask)
{
	if (ask->n_rules > SANDBOX0_RULES_MAX)
		return err_field(b->err, -E2BIG, ERR_INVALID, "network",
			"egress.trafficRules: expected at most %u rules, got %zu",
			SANDBOX0_RULES_MAX, ask->n_rules);
	for (size_t i = 0; i < ask->n_rules; i++) {
		const struct sandbox0_rule *rule = &ask->rules[i];
		const struct sandbox0_lists *l = &rule->match;
		char prefix[48];
		struct at at = { prefix, "domains", "cidrs", "ports" };
		int r;

		snprintf(prefix, sizeof(prefix), "egress.trafficRules[%zu].", i);
		if (!l->n_domains && !l->n_cidrs && !l->n_ports)
			return err_field(b->err, -EINVAL, ERR_INVALID, "network",
				"invalid network policy: egress.trafficRules[%zu]: needs cidrs, "
				"domains or ports",
				i);
		r = add_rule(b, rule->allow ? WEIR_ALLOW : WEIR_DENY, l, &at,
			rule->allow ? b->floor : &open_floor);
		if (r < 0)
			return r;
	}
	return 0;
}

int sandbox0_policy(const struct sandbox0_ask *ask, const struct policy_floor *floor,
	struct policy **ret, struct err *err)
{
	auto_policy struct policy *p =
		policy_new(POLICY_SANDBOX0, ask->block_all ? WEIR_DENY : WEIR_ALLOW);
	auto_policy struct policy *unused = policy_new(POLICY_SANDBOX0, WEIR_DENY);
	struct build idle = { unused, &idle, floor, err }, b = { p, &idle, floor, err };
	bool lists = ask->allowed.n_domains || ask->allowed.n_cidrs || ask->allowed.n_ports ||
		ask->denied.n_domains || ask->denied.n_cidrs || ask->denied.n_ports;
	int r;

	if (!p || !unused)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (lists && ask->n_rules)
		return err_field(err, -EINVAL, ERR_INVALID, "network",
			"invalid network policy: egress.trafficRules cannot be combined with the "
			"allowed and denied lists");
	r = lists ? add_lists(&b, ask) : add_traffic(&b, ask);
	if (r < 0)
		return r;
	*ret = take_ptr(p);
	return 0;
}

/*
 * Rules of a private network, read slowly and turned into keys.
 *
 * Compiling: rules with the same two ends make one group, whose keys begin with those ends. The
 * program looks at the four groups that a call can belong to and takes the lowest rule, so groups
 * need not know of each other. Within a group, and for each protocol, the ranges cut 0..65535 into
 * intervals that no range divides; the first rule over an interval has it, neighbours of one rule are
 * joined and split into aligned blocks. What no rule has gets no key.
 */
#include <netinet/in.h>
#include "policy/calls.h"

#define PORTS_ALL 65536u
#define CUTS_MAX  (2 * CALLS_RULES_MAX * CALLS_PORTS_MAX + 2)

static uint8_t bit_of(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return CALLS_TCP;
	case IPPROTO_UDP:
		return CALLS_UDP;
	case IPPROTO_ICMP:
		return CALLS_ICMP;
	default:
		return CALLS_OTHER;
	}
}

bool calls_valid(const struct calls *c)
{
	if (c->fallback > WEIR_ALLOW || c->n > CALLS_RULES_MAX)
		return false;
	for (uint32_t i = 0; i < c->n; i++) {
		const struct calls_rule *r = &c->rules[i];

		if (r->action > WEIR_ALLOW || !r->protos || r->protos & ~CALLS_EVERY ||
			r->n_ports > CALLS_PORTS_MAX ||
			(r->n_ports && r->protos & ~(CALLS_TCP | CALLS_UDP)))
			return false;
		for (uint32_t k = 0; k < r->n_ports; k++)
			if (r->ports[k].lo > r->ports[k].hi)
				return false;
	}
	return true;
}

bool calls_open(const struct calls *c)
{
	return c->n == 0 && c->fallback == WEIR_ALLOW;
}

/* --- slow and obvious --- */

static bool end_is(uint32_t end, uint32_t slot)
{
	return end == CALLS_ANYONE || end == slot;
}

static bool has_port(const struct calls_rule *r, uint32_t port)
{
	for (uint32_t k = 0; k < r->n_ports; k++)
		if (r->ports[k].lo <= port && port <= r->ports[k].hi)
			return true;
	return r->n_ports == 0;
}

struct calls_verdict calls_reference(const struct calls *c, uint32_t from, uint32_t to,
	uint8_t proto, uint16_t port)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const struct calls_rule *r = &c->rules[i];

		if (end_is(r->from, from) && end_is(r->to, to) && r->protos & bit_of(proto) &&
			has_port(r, port))
			return (struct calls_verdict){ r->action, (uint16_t)i };
	}
	return (struct calls_verdict){ c->fallback, WEIR_RULE_NONE };
}

/* --- keys --- */

struct group {
	const struct calls *c;
	uint32_t version, from, to;
};

static bool is_of(const struct group *g, const struct calls_rule *r)
{
	return r->from == g->from && r->to == g->to;
}

static int add(struct calls_image *img, const struct group *g, uint8_t proto, uint32_t port,
	uint32_t bits, uint32_t rule)
{
	if (img->n == CALLS_KEYS_MAX)
		return -E2BIG;
	if (img->n == img->cap) {
		size_t cap = img->cap ? img->cap * 2 : 16;
		struct weir_call_key *keys = reallocarray(img->keys, cap, sizeof(*keys));
		struct weir_call *values;

		if (!keys)
			return -ENOMEM;
		img->keys = keys;
		values = reallocarray(img->values, cap, sizeof(*values));
		if (!values)
			return -ENOMEM;
		img->values = values;
		img->cap = cap;
	}
	img->keys[img->n] = (struct weir_call_key){ .prefixlen = 104 + bits, .version = g->version,
		.from = g->from, .to = g->to, .proto = proto,
		.port = { (uint8_t)(port >> 8), (uint8_t)port } };
	img->values[img->n++] = (struct weir_call){ .rule = (uint16_t)rule,
		.verdict = g->c->rules[rule].action };
	return 0;
}

/* lo .. end - 1 as aligned blocks, largest first that fits. */
static int add_run(struct calls_image *img, const struct group *g, uint8_t proto, uint32_t lo,
	uint32_t end, uint32_t rule)
{
	int r = 0;

	while (lo < end && r == 0) {
		uint32_t bits = 16; /* leading bits that count: the block has 2^(16 - bits) ports */

		while (bits && (lo & ((1u << (17 - bits)) - 1)) == 0 &&
			lo + (1u << (17 - bits)) <= end)
			bits--;
		r = add(img, g, proto, lo, bits, rule);
		lo += 1u << (16 - bits);
	}
	return r;
}

static int cut_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static size_t cuts_of(const struct group *g, uint8_t bit, uint32_t cuts[static CUTS_MAX])
{
	size_t n = 0;

	cuts[n++] = 0;
	cuts[n++] = PORTS_ALL;
	for (uint32_t i = 0; i < g->c->n; i++) {
		const struct calls_rule *r = &g->c->rules[i];

		for (uint32_t k = 0; is_of(g, r) && r->protos & bit && k < r->n_ports; k++) {
			cuts[n++] = r->ports[k].lo;
			cuts[n++] = r->ports[k].hi + 1u;
		}
	}
	qsort(cuts, n, sizeof(*cuts), cut_cmp);
	return n;
}

/* The group's first rule over this port, or WEIR_RULE_NONE. */
static uint32_t first_over(const struct group *g, uint8_t bit, uint32_t port)
{
	for (uint32_t i = 0; i < g->c->n; i++) {
		const struct calls_rule *r = &g->c->rules[i];

		if (is_of(g, r) && r->protos & bit && has_port(r, port))
			return i;
	}
	return WEIR_RULE_NONE;
}

static int compile_ports(struct calls_image *img, const struct group *g, uint8_t proto)
{
	uint32_t cuts[CUTS_MAX], run = 0, rule = WEIR_RULE_NONE;
	size_t n = cuts_of(g, bit_of(proto), cuts);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		uint32_t next = cuts[i] < PORTS_ALL ? first_over(g, bit_of(proto), cuts[i]) :
						      WEIR_RULE_NONE;

		if (next == rule && cuts[i] < PORTS_ALL)
			continue;
		if (rule != WEIR_RULE_NONE)
			r = add_run(img, g, proto, run, cuts[i], rule);
		run = cuts[i];
		rule = next;
	}
	return r;
}

static int compile_group(struct calls_image *img, const struct group *g)
{
	static const uint8_t without_ports[] = { IPPROTO_ICMP, 0 };
	int r = compile_ports(img, g, IPPROTO_TCP);

	if (r == 0)
		r = compile_ports(img, g, IPPROTO_UDP);
	for (size_t i = 0; i < ARRAY_SIZE(without_ports) && r == 0; i++) {
		uint32_t rule = first_over(g, bit_of(without_ports[i]), 0);

		if (rule != WEIR_RULE_NONE)
			r = add(img, g, without_ports[i], 0, 0, rule);
	}
	return r;
}

/* Has an earlier rule the same ends? Then the group is done. */
static bool is_done(const struct calls *c, uint32_t rule)
{
	for (uint32_t i = 0; i < rule; i++)
		if (c->rules[i].from == c->rules[rule].from && c->rules[i].to == c->rules[rule].to)
			return true;
	return false;
}

int calls_compile(const struct calls *c, uint32_t version, struct calls_image *ret,
	struct err *err)
{
	struct calls_image img = { 0 };
	int r = 0;

	for (uint32_t i = 0; i < c->n && r == 0; i++) {
		struct group g = { c, version, c->rules[i].from, c->rules[i].to };

		if (g.from != CALLS_NOBODY && g.to != CALLS_NOBODY && !is_done(c, i))
			r = compile_group(&img, &g);
	}
	if (r < 0) {
		calls_image_done(&img);
		if (r == -E2BIG)
			return err_field(err, r, ERR_INVALID, "rules",
				"the rules' ports are too many: they make more than %u keys",
				CALLS_KEYS_MAX);
		return err_set(err, r, ERR_INTERNAL, "out of memory");
	}
	*ret = img;
	return 0;
}

void calls_image_done(struct calls_image *img)
{
	free(img->keys);
	free(img->values);
	*img = (struct calls_image){ 0 };
}

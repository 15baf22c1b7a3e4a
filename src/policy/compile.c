/*
 * From a policy to the keys that the kernel looks up.
 *
 * Without a pin only rules without names can match, so they alone make the prefixes. The
 * prefixes they mention form a forest by containment, and the longest one around an address is
 * what the kernel's trie finds: the rules whose conditions hold there are exactly those that
 * mention it, or a prefix around it, or no prefix at all. Sorted by address, then length, a
 * prefix follows all that contain it, so one walk with a stack of the open ones visits each
 * with its rules at hand. Prefixes with the same rules share one port table.
 *
 * A pin is the same with one address and the names known of it.
 */
#include "base/table.h"
#include "policy/ports.h"

/* Rules looked at plus ranges painted, over a whole policy: some 100 ms of the host role. */
#define WORK_MAX (8u << 20)
#define DEPTH_MAX 129 /* prefixes of one family around one address, one per length */

/* Broken on purpose in test builds. 1: rules that mention a prefix come before those without,
 * whatever their order. 3: rules with names count without a pin. */
#ifndef POLICY_VARIANT
#define POLICY_VARIANT 0
#endif

struct mention {
	struct prefix prefix;
	uint32_t rule;
};

struct built { /* the decision for a set of rules */
	UT_hash_handle hh;
	struct weir_decision decision;
	size_t n;
	uint32_t rules[];
};

struct compiler {
	const struct policy *p;
	struct policy_image img;
	size_t prefixes_cap, ports_cap;
	struct mention *mentions;
	size_t n_mentions;
	uint32_t *always;	/* rules without names and prefixes */
	size_t n_always;
	uint32_t *rules;	/* scratch: those that hold at the current prefix */
	struct built *built;
	uint32_t tables;
	uint64_t work;
};

static void compiler_done(struct compiler *c)
{
	struct built *b, *tmp;

	HASH_ITER(hh, c->built, b, tmp) {
		HASH_DEL(c->built, b);
		free(b);
	}
	free(c->mentions);
	free(c->always);
	free(c->rules);
	policy_image_done(&c->img);
}
#define auto_compiler _cleanup_(compiler_done)

static int mention_cmp(const void *a, const void *b)
{
	const struct mention *x = a, *y = b;
	int c = prefix_cmp(x->prefix, y->prefix);

	return c ? c : (x->rule > y->rule) - (x->rule < y->rule);
}

static int rule_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static bool rule_counts(const struct policy_rule *r)
{
	return r->names == 0 || POLICY_VARIANT == 3;
}

static int compiler_init(struct compiler *c, const struct policy *p)
{
	c->p = p;
	c->mentions = calloc(p->n_prefixes + 1, sizeof(*c->mentions));
	c->always = calloc(p->n_rules + 1, sizeof(*c->always));
	c->rules = calloc(p->n_prefixes + p->n_rules + 1, sizeof(*c->rules));
	if (!c->mentions || !c->always || !c->rules)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (!rule_counts(r))
			continue;
		if (r->prefixes == 0)
			c->always[c->n_always++] = i;
		for (uint32_t k = 0; k < r->prefixes; k++)
			c->mentions[c->n_mentions++] =
				(struct mention){ p->prefixes[r->prefix0 + k], i };
	}
	if (c->n_mentions)
		qsort(c->mentions, c->n_mentions, sizeof(*c->mentions), mention_cmp);
	return 0;
}

static int image_add_prefix(struct compiler *c, struct prefix prefix, struct weir_decision d)
{
	struct policy_image *img = &c->img;

	if (img->n_prefixes == c->prefixes_cap) {
		size_t cap = c->prefixes_cap ? c->prefixes_cap * 2 : 16;
		struct policy_prefix_entry *bigger =
			reallocarray(img->prefixes, cap, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		img->prefixes = bigger;
		c->prefixes_cap = cap;
	}
	img->prefixes[img->n_prefixes++] = (struct policy_prefix_entry){ prefix, d };
	return 0;
}

static int image_add_table(struct compiler *c, const struct ports_table *t, uint32_t table)
{
	struct policy_image *img = &c->img;

	if (img->n_ports + t->n > c->ports_cap) {
		size_t cap = MAX(img->n_ports + t->n, c->ports_cap * 2);
		struct policy_port_entry *bigger = reallocarray(img->ports, cap, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		img->ports = bigger;
		c->ports_cap = cap;
	}
	for (size_t i = 0; i < t->n; i++) {
		img->ports[img->n_ports] = t->entries[i];
		img->ports[img->n_ports++].table = table;
	}
	return 0;
}

static int remember(struct compiler *c, size_t n, struct weir_decision d)
{
	struct built *b = malloc(sizeof(*b) + n * sizeof(b->rules[0]));

	if (!b)
		return -ENOMEM;
	memset(b, 0, sizeof(*b));
	b->decision = d;
	b->n = n;
	if (n)
		memcpy(b->rules, c->rules, n * sizeof(b->rules[0]));
	HASH_ADD_KEYPTR(hh, c->built, b->rules, (unsigned int)(n * sizeof(b->rules[0])), b);
	if (!table_has(b)) {
		free(b);
		return -ENOMEM;
	}
	return 0;
}

/* The decision where the first n of c->rules hold. */
static int decide(struct compiler *c, size_t n, struct weir_decision *ret)
{
	struct ports_table t = { 0 };
	struct built *known;
	int r;

	HASH_FIND(hh, c->built, c->rules, (unsigned int)(n * sizeof(c->rules[0])), known);
	if (known) {
		*ret = known->decision;
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		c->work += c->p->rules[c->rules[i]].ports;
	if (c->work > WORK_MAX)
		return -E2BIG;
	r = ports_build(c->p, c->rules, n, POLICY_IMAGE_PORTS_MAX - c->img.n_ports, &t);
	if (r < 0)
		return r;
	if (t.decision.ports == WEIR_PORTS_TABLE) {
		t.decision.table = ++c->tables;
		r = image_add_table(c, &t, t.decision.table);
	}
	if (r == 0)
		r = remember(c, n, t.decision);
	*ret = t.decision;
	ports_done(&t);
	return r;
}

static size_t sort_rules(uint32_t *rules, size_t n)
{
	size_t distinct = 0;

	if (POLICY_VARIANT == 1)
		return n;
	if (n)
		qsort(rules, n, sizeof(*rules), rule_cmp);
	for (size_t i = 0; i < n; i++)
		if (distinct == 0 || rules[i] != rules[distinct - 1])
			rules[distinct++] = rules[i];
	return distinct;
}

/* Mentions of one prefix: first and count. */
struct group {
	struct prefix prefix;
	size_t first, n;
};

static int compile_group(struct compiler *c, const struct group *stack, size_t depth)
{
	struct weir_decision d;
	size_t n = 0;
	int r;

	for (size_t s = depth; s-- > 0;)
		for (size_t i = 0; i < stack[s].n; i++)
			c->rules[n++] = c->mentions[stack[s].first + i].rule;
	for (size_t i = 0; i < c->n_always; i++)
		c->rules[n++] = c->always[i];
	c->work += n;
	if (c->work > WORK_MAX)
		return -E2BIG;
	r = decide(c, sort_rules(c->rules, n), &d);
	return r < 0 ? r : image_add_prefix(c, stack[depth - 1].prefix, d);
}

static int compile_prefixes(struct compiler *c)
{
	struct group stack[2 * DEPTH_MAX];
	size_t depth = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n_mentions;) {
		struct group g = { c->mentions[i].prefix, i, 0 };

		while (i < c->n_mentions && prefix_cmp(c->mentions[i].prefix, g.prefix) == 0) {
			g.n++;
			i++;
		}
		while (depth && !prefix_covers(stack[depth - 1].prefix, g.prefix))
			depth--;
		stack[depth++] = g;
		r = compile_group(c, stack, depth);
	}
	return r;
}

static int compile_fallback(struct compiler *c)
{
	for (size_t i = 0; i < c->n_always; i++)
		c->rules[i] = c->always[i];
	return decide(c, c->n_always, &c->img.header.fallback);
}

int policy_compile(const struct policy *p, const struct policy_knobs *knobs,
	struct policy_image *ret, struct err *err)
{
	auto_compiler struct compiler c = { 0 };
	int r = compiler_init(&c, p);

	if (r == 0)
		r = compile_fallback(&c);
	if (r == 0)
		r = compile_prefixes(&c);
	if (r == -E2BIG)
		return err_set(err, r, ERR_INVALID, "the policy is too intricate: its prefixes and "
			"ports combine to more than %u kernel entries", POLICY_IMAGE_PORTS_MAX);
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "out of memory");
	c.img.header.smtp = knobs->smtp;
	c.img.header.reject = knobs->reject;
	c.img.header.restrictive = p->fallback == WEIR_DENY;
	c.img.header.other_protocols = p->fallback == WEIR_ALLOW && knobs->other_protocols;
	*ret = c.img;
	c.img = (struct policy_image){ 0 };
	return 0;
}

void policy_image_done(struct policy_image *img)
{
	free(img->prefixes);
	free(img->ports);
	*img = (struct policy_image){ 0 };
}

static bool rule_holds_at(const struct policy *p, const struct policy_rule *r, struct ip addr,
	const struct name *names, size_t n_names)
{
	bool name = r->names == 0, prefix = r->prefixes == 0;

	for (uint32_t i = 0; !name && i < r->names; i++)
		for (size_t k = 0; !name && k < n_names; k++)
			name = name_match(&p->names[r->name0 + i], &names[k]);
	for (uint32_t i = 0; name && !prefix && i < r->prefixes; i++)
		prefix = prefix_has(p->prefixes[r->prefix0 + i], addr);
	return name && prefix;
}

int policy_pin(const struct policy *p, const struct policy_knobs *knobs, struct ip addr,
	const struct name *names, size_t n_names, uint32_t table, struct policy_pin_image *ret)
{
	auto_free uint32_t *rules = calloc(p->n_rules + 1, sizeof(*rules));
	struct ports_table t = { 0 };
	size_t n = 0;
	int r;

	if (!rules)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->n_rules; i++)
		if (rule_holds_at(p, &p->rules[i], addr, names, n_names))
			rules[n++] = i;
	r = ports_build(p, rules, n, POLICY_PIN_PORTS_MAX, &t);
	if (r < 0)
		return r;
	if (t.decision.ports == WEIR_PORTS_TABLE)
		t.decision.table = table;
	for (size_t i = 0; i < t.n; i++)
		t.entries[i].table = table;
	*ret = (struct policy_pin_image){ t.decision, t.entries, t.n };
	return 0;
}

void policy_pin_image_done(struct policy_pin_image *img)
{
	free(img->ports);
	*img = (struct policy_pin_image){ 0 };
}

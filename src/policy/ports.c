/*
 * Painting ports.
 *
 * The ranges of all rules cut 0..65535 into elementary intervals that no range divides. Rules
 * then paint in order, and a painted interval stays as it is: first match wins. `next` jumps
 * over painted intervals, so each is visited once and a table costs its ranges times a
 * logarithm, however they overlap. What nobody painted has the policy's default.
 *
 * Neighbours of one colour are joined into runs. The colour of the widest run becomes one
 * key of length zero; the other runs are split into aligned blocks (at most 30 each) which,
 * being longer, win over it. If one colour covers both protocols no table is needed at all.
 *
 * One rule with one range, which is what "host:port" becomes, is not painted: the decision holds
 * the range.
 */
#include <netinet/in.h>
#include "policy/ports.h"

#define PORTS_ALL 65536u
#define SMTP	  25u

/* Test builds break the compiler on purpose (POLICY_VARIANT=1..3); the property test must see
 * it. Variant 2: the last port of a range is lost. */
#ifndef POLICY_VARIANT
#define POLICY_VARIANT 0
#endif

struct paint { /* one protocol */
	uint32_t *start; /* n + 1 boundaries: interval i is start[i] .. start[i + 1] - 1 */
	uint32_t *next;	 /* first unpainted interval from i on */
	struct weir_port *colour;
	uint32_t n;
};

static void paint_done(struct paint *c)
{
	free(c->start);
	free(c->next);
	free(c->colour);
}
#define auto_paint _cleanup_(paint_done)

static bool colour_eq(struct weir_port a, struct weir_port b)
{
	return a.verdict == b.verdict && a.named == b.named && a.rule == b.rule;
}

static int boundary_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t range_end(const struct policy_port *range)
{
	return range->hi + (POLICY_VARIANT == 2 && range->hi > range->lo ? 0u : 1u);
}

static int paint_init(struct paint *c, const struct policy *p, const uint32_t *rules, size_t n,
	uint8_t bit)
{
	size_t most = 4, used = 0; /* 0, 25, 26, 65536 */
	uint32_t distinct = 0;

	for (size_t i = 0; i < n; i++)
		most += 2 * (size_t)p->rules[rules[i]].ports;
	c->start = calloc(most, sizeof(*c->start));
	c->next = calloc(most, sizeof(*c->next));
	c->colour = calloc(most, sizeof(*c->colour));
	if (!c->start || !c->next || !c->colour)
		return -ENOMEM;
	c->start[used++] = 0;
	c->start[used++] = SMTP;
	c->start[used++] = SMTP + 1;
	c->start[used++] = PORTS_ALL;
	for (size_t i = 0; i < n; i++) {
		const struct policy_rule *r = &p->rules[rules[i]];

		for (uint32_t k = 0; k < r->ports; k++) {
			const struct policy_port *range = &p->ports[r->port0 + k];

			if (!(range->protos & bit))
				continue;
			c->start[used++] = range->lo;
			c->start[used++] = range_end(range);
		}
	}
	qsort(c->start, used, sizeof(*c->start), boundary_cmp);
	for (size_t i = 0; i < used; i++)
		if (i == 0 || c->start[i] != c->start[distinct - 1])
			c->start[distinct++] = c->start[i];
	c->n = distinct - 1;
	for (uint32_t i = 0; i < c->n; i++) {
		c->next[i] = i;
		c->colour[i] = (struct weir_port){ .verdict = p->fallback, .rule = WEIR_RULE_NONE };
	}
	c->next[c->n] = c->n;
	return 0;
}

/* The interval that starts at this port; it exists. */
static uint32_t interval_at(const struct paint *c, uint32_t port)
{
	const uint32_t *hit = bsearch(&port, c->start, c->n + 1, sizeof(port), boundary_cmp);

	return (uint32_t)(hit - c->start);
}

static uint32_t unpainted_from(struct paint *c, uint32_t i)
{
	uint32_t found = i;

	while (c->next[found] != found)
		found = c->next[found];
	while (c->next[i] != found) { /* shorten the way for the next visitor */
		uint32_t after = c->next[i];

		c->next[i] = found;
		i = after;
	}
	return found;
}

static void paint_range(struct paint *c, uint32_t lo, uint32_t end, struct weir_port colour)
{
	uint32_t stop = interval_at(c, end);

	for (uint32_t i = unpainted_from(c, interval_at(c, lo)); i < stop;
		i = unpainted_from(c, i)) {
		c->colour[i] = colour;
		c->next[i] = i + 1;
	}
}

/* Does the rule name TCP 25? */
static bool rule_names_smtp(const struct policy *p, const struct policy_rule *r)
{
	for (uint32_t k = 0; k < r->ports; k++) {
		const struct policy_port *range = &p->ports[r->port0 + k];

		if (range->protos & POLICY_TCP && range->lo <= SMTP && range->hi >= SMTP)
			return true;
	}
	return false;
}

/* An allow rule that does not name TCP 25 does not open it, so a later rule that names it still
 * may, unless a denial comes first. */
static void paint_smtp(struct paint *c, const struct policy *p, const uint32_t *rules, size_t n)
{
	struct weir_port *smtp = &c->colour[interval_at(c, SMTP)];

	if (smtp->rule == WEIR_RULE_NONE || smtp->verdict == WEIR_DENY || smtp->named)
		return;
	for (size_t i = 0; i < n; i++) {
		const struct policy_rule *r = &p->rules[rules[i]];
		bool named = rule_names_smtp(p, r);

		if (rules[i] <= smtp->rule || (r->ports > 0 && !named))
			continue;
		if (r->action == WEIR_DENY)
			return;
		if (!named)
			continue;
		*smtp = (struct weir_port){ WEIR_ALLOW, true, (uint16_t)rules[i] };
		return;
	}
}

static void paint_rules(struct paint *c, const struct policy *p, const uint32_t *rules, size_t n,
	uint8_t bit)
{
	for (size_t i = 0; i < n; i++) {
		const struct policy_rule *r = &p->rules[rules[i]];
		struct weir_port colour = { r->action, r->ports > 0, (uint16_t)rules[i] };

		if (r->ports == 0)
			paint_range(c, 0, PORTS_ALL, colour);
		for (uint32_t k = 0; k < r->ports; k++) {
			const struct policy_port *range = &p->ports[r->port0 + k];

			if (range->protos & bit)
				paint_range(c, range->lo, range_end(range), colour);
		}
	}
	if (bit == POLICY_TCP)
		paint_smtp(c, p, rules, n);
}

/* Join neighbours of one colour. */
static void paint_join(struct paint *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->n; i++) {
		if (n && colour_eq(c->colour[n - 1], c->colour[i]))
			continue;
		c->colour[n] = c->colour[i];
		c->start[n++] = c->start[i];
	}
	c->start[n] = PORTS_ALL;
	c->n = n;
}

/* The colour of the widest run: it covers most ports, and then needs one key instead of many. */
static struct weir_port paint_base(const struct paint *c)
{
	uint32_t widest = 0, width = 0;

	for (uint32_t i = 0; i < c->n; i++) {
		uint32_t w = c->start[i + 1] - c->start[i];

		if (w > width) {
			width = w;
			widest = i;
		}
	}
	return c->colour[widest];
}

static int table_add(struct ports_table *t, size_t max, struct policy_port_entry entry)
{
	if (t->n == max)
		return -E2BIG;
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 4;
		struct policy_port_entry *bigger = reallocarray(t->entries, cap, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		t->entries = bigger;
		t->cap = cap;
	}
	t->entries[t->n++] = entry;
	return 0;
}

/* lo .. end - 1 as aligned blocks, largest first that fits. */
static int table_add_run(struct ports_table *t, size_t max, uint8_t proto, uint32_t lo,
	uint32_t end, struct weir_port colour)
{
	while (lo < end) {
		uint8_t bits = 16; /* leading bits that count: the block has 2^(16 - bits) ports */
		int r;

		while (bits > 0 && (lo & ((1u << (17 - bits)) - 1)) == 0 &&
			lo + (1u << (17 - bits)) <= end)
			bits--;
		r = table_add(t, max, (struct policy_port_entry){ .proto = proto,
			.port = (uint16_t)lo, .port_bits = bits, .value = colour });
		if (r < 0)
			return r;
		lo += 1u << (16 - bits);
	}
	return 0;
}

static int table_add_proto(struct ports_table *t, size_t max, uint8_t proto,
	const struct paint *c)
{
	struct weir_port base = paint_base(c);
	int r = table_add(t, max, (struct policy_port_entry){ .proto = proto, .value = base });

	for (uint32_t i = 0; r == 0 && i < c->n; i++)
		if (!colour_eq(c->colour[i], base))
			r = table_add_run(t, max, proto, c->start[i], c->start[i + 1],
				c->colour[i]);
	return r;
}

/* Of what a table as a whole says: is every port allowed, and if not, which rule comes first
 * among those that deny? That decides ICMP echo. */
static void decide_whole(struct weir_decision *d, const struct policy *p, const struct paint *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->colour[i].verdict == WEIR_DENY &&
			!policy_rule_is_dialects(p, c->colour[i].rule)) {
			d->rule = d->verdict == WEIR_DENY ? MIN(d->rule, c->colour[i].rule) :
				c->colour[i].rule;
			d->verdict = WEIR_DENY;
		}
}

/* Is one range, less than everything, all that the rule says of ports? */
static bool rule_has_range(const struct policy *p, const struct policy_rule *r)
{
	const struct policy_port *range;

	if (r->ports != 1)
		return false;
	range = &p->ports[r->port0];
	return !(range->protos == POLICY_TCP_UDP && range->lo == 0 && range->hi == 65535);
}

/* One such rule, and beyond its range the default. */
static struct weir_decision decision_of(const struct policy *p, uint32_t rule)
{
	const struct policy_rule *r = &p->rules[rule];
	const struct policy_port *range = &p->ports[r->port0];
	struct weir_decision d = { .rule = (uint16_t)rule };

	d.verdict = (r->action == WEIR_ALLOW || policy_rule_is_dialects(p, rule)) &&
		p->fallback == WEIR_ALLOW;
	d.ports = (uint8_t)(WEIR_PORTS_RANGE |
		(range->protos & POLICY_TCP ? WEIR_PORTS_TCP : 0) |
		(range->protos & POLICY_UDP ? WEIR_PORTS_UDP : 0) |
		(r->action == WEIR_ALLOW ? WEIR_PORTS_ALLOW : 0) |
		(p->fallback == WEIR_ALLOW ? WEIR_PORTS_ELSE : 0));
	d.range.lo = range->lo;
	d.range.hi = (uint16_t)(range_end(range) - 1);
	return d;
}

int ports_build(const struct policy *p, const uint32_t *rules, size_t n, size_t max,
	struct ports_table *ret)
{
	auto_paint struct paint tcp = { 0 };
	auto_paint struct paint udp = { 0 };
	struct ports_table t = { 0 };
	int r;

	if (n == 1 && rule_has_range(p, &p->rules[rules[0]])) {
		ret->decision = decision_of(p, rules[0]);
		return 0;
	}
	r = paint_init(&tcp, p, rules, n, POLICY_TCP);
	if (r == 0)
		r = paint_init(&udp, p, rules, n, POLICY_UDP);
	if (r < 0)
		return r;
	paint_rules(&tcp, p, rules, n, POLICY_TCP);
	paint_rules(&udp, p, rules, n, POLICY_UDP);
	paint_join(&tcp);
	paint_join(&udp);
	if (tcp.n == 1 && udp.n == 1 && colour_eq(tcp.colour[0], udp.colour[0]) &&
		!tcp.colour[0].named) {
		ret->decision = (struct weir_decision){ .verdict = tcp.colour[0].verdict,
			.rule = tcp.colour[0].rule };
		return 0;
	}
	t.decision = (struct weir_decision){ .verdict = WEIR_ALLOW, .ports = WEIR_PORTS_TABLE,
		.rule = WEIR_RULE_NONE };
	decide_whole(&t.decision, p, &tcp);
	decide_whole(&t.decision, p, &udp);
	r = table_add_proto(&t, max, IPPROTO_TCP, &tcp);
	if (r == 0)
		r = table_add_proto(&t, max, IPPROTO_UDP, &udp);
	if (r < 0) {
		ports_done(&t);
		return r;
	}
	*ret = t;
	return 0;
}

void ports_done(struct ports_table *t)
{
	free(t->entries);
	*t = (struct ports_table){ 0 };
}

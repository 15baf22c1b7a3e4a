/* The gate: see the header. An open table, at most half full. */
#include "edge/gate.h"
#include "edge/hash.h"

#define NO_RULE UINT32_MAX

struct said { /* of a name itself, or of those below it */
	uint32_t settles; /* the first rule that allows or denies outright, or NO_RULE */
	bool partly;	  /* a rule denies flows, not the name */
};

struct place {
	uint32_t at, hash; /* of the name's text */
	uint8_t n;	   /* 0: empty */
	struct said itself, below;
};

struct gate {
	uint8_t fallback;
	uint32_t mask;
	struct place *places;
	uint8_t *allows; /* by rule */
	char *text;
	uint64_t depths[4]; /* bit n: some pattern's name is n bytes long */
};

static struct place *place_of(const struct gate *g, const char *s, size_t n)
{
	uint32_t hash = (uint32_t)hash_bytes(s, n), i = hash & g->mask;

	while (g->places[i].n && (g->places[i].hash != hash || g->places[i].n != n ||
			memcmp(g->text + g->places[i].at, s, n) != 0))
		i = (i + 1) & g->mask;
	return &g->places[i];
}

static void add(struct said *said, const struct policy_rule *r, uint32_t rule)
{
	if (r->action == WEIR_ALLOW || (r->prefixes == 0 && r->ports == 0))
		said->settles = MIN(said->settles, rule);
	else
		said->partly = true;
}

static void add_pattern(struct gate *g, const struct name_pattern *pattern,
	const struct policy_rule *r, uint32_t rule, size_t *text_n)
{
	const struct name *name = &pattern->name;
	struct place *p = place_of(g, name->s, name->n);

	if (!p->n) {
		memcpy(g->text + *text_n, name->s, name->n);
		*p = (struct place){ .at = (uint32_t)*text_n, .n = name->n,
			.hash = (uint32_t)hash_bytes(name->s, name->n),
			.itself.settles = NO_RULE, .below.settles = NO_RULE };
		*text_n += name->n;
		g->depths[name->n / 64] |= UINT64_C(1) << name->n % 64;
	}
	if (pattern->scope != NAME_BELOW)
		add(&p->itself, r, rule);
	if (pattern->scope != NAME_EXACT)
		add(&p->below, r, rule);
}

struct gate *gate_new(const struct policy *p)
{
	struct gate *g = calloc(1, sizeof(*g));
	size_t text_n = 0, places = 4;

	if (!g)
		return NULL;
	for (uint32_t i = 0; i < p->n_names; i++)
		text_n += p->names[i].name.n;
	while (places < 2 * (size_t)p->n_names)
		places *= 2;
	g->fallback = p->fallback;
	g->mask = (uint32_t)places - 1;
	g->places = calloc(places, sizeof(*g->places));
	g->allows = malloc(MAX(p->n_rules, 1u));
	g->text = malloc(MAX(text_n, (size_t)1));
	if (!g->places || !g->allows || !g->text)
		return gate_free(g);
	text_n = 0;
	for (uint32_t i = 0; i < p->n_rules; i++) {
		const struct policy_rule *r = &p->rules[i];

		g->allows[i] = r->action == WEIR_ALLOW;
		for (uint32_t k = 0; k < r->names; k++)
			add_pattern(g, &p->names[r->name0 + k], r, i, &text_n);
	}
	return g;
}

struct gate *gate_free(struct gate *g)
{
	if (g) {
		free(g->places);
		free(g->allows);
		free(g->text);
	}
	free(g);
	return NULL;
}

enum policy_name_verdict gate_ask(const struct gate *g, const struct name *name,
	uint16_t *ret_rule)
{
	struct str rest = name_str(name);
	uint32_t settles = NO_RULE;
	bool partly = false;

	for (bool below = false; rest.n; below = true) { /* a.b.c, then b.c, then c */
		if (g->depths[rest.n / 64] >> rest.n % 64 & 1) {
			const struct place *p = place_of(g, rest.p, rest.n);
			const struct said *said = below ? &p->below : &p->itself;

			if (p->n) {
				settles = MIN(settles, said->settles);
				partly |= said->partly;
			}
		}
		str_cut(&rest, '.');
	}
	if (ret_rule)
		*ret_rule = settles == NO_RULE ? WEIR_RULE_NONE : (uint16_t)settles;
	if (settles != NO_RULE)
		return g->allows[settles] ? POLICY_NAME_ALLOWED : POLICY_NAME_DENIED;
	if (g->fallback == WEIR_DENY)
		return POLICY_NAME_DENIED;
	return partly ? POLICY_NAME_ALLOWED : POLICY_NAME_DEFAULT;
}

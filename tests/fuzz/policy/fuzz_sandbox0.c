/*
 * sandbox0's document, a list entry per line: first a letter for the list (D C P allowed, d c p
 * denied, r and R begin a rule that denies or allows, whose entries then follow), then the entry.
 * What is accepted encodes, compiles and keeps its mode; what is refused names its place.
 */
#include "policy/sandbox0.h"
#include "../fuzz.h"

#define LINES_MAX 64

struct shelf {
	struct str domains[LINES_MAX], cidrs[LINES_MAX];
	struct sandbox0_port ports[LINES_MAX];
};

static void put(struct sandbox0_lists *l, struct shelf *s, char kind, struct str text)
{
	l->domains = s->domains;
	l->cidrs = s->cidrs;
	l->ports = s->ports;
	if (kind == 'd') {
		s->domains[l->n_domains++] = text;
	} else if (kind == 'c') {
		s->cidrs[l->n_cidrs++] = text;
	} else if (kind == 'p') {
		struct sandbox0_port *port = &s->ports[l->n_ports++];

		*port = (struct sandbox0_port){ .port = text.n ? (unsigned char)text.p[0] * 300 : 0,
			.end = text.n > 1 ? (unsigned char)text.p[1] * 300 : 0,
			.protocol = str_skip(text, MIN(text.n, 2u)) };
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct shelf allowed, denied, shelves[LINES_MAX];
	struct sandbox0_rule rules[LINES_MAX] = { 0 };
	struct sandbox0_ask ask = { .block_all = size & 1, .rules = rules };
	static struct policy_floor floor;
	auto_policy struct policy *p = NULL;
	struct str rest = str_n(data, size);
	struct err err = { 0 };

	for (unsigned int i = 0; size && rest.p && i < LINES_MAX; i++) {
		struct str line = str_cut(&rest, '\n');
		char kind = line.n ? line.p[0] : '\0';

		line = str_skip(line, MIN(line.n, 1u));
		if (kind == 'r' || kind == 'R')
			rules[ask.n_rules++].allow = kind == 'R';
		else if (ask.n_rules)
			put(&rules[ask.n_rules - 1].match, &shelves[ask.n_rules - 1], kind | 0x20,
				line);
		else if (kind >= 'a')
			put(&ask.denied, &denied, kind, line);
		else
			put(&ask.allowed, &allowed, kind | 0x20, line);
	}
	if (sandbox0_policy(&ask, &floor, &p, &err) == 0) {
		struct policy_knobs knobs = { 0 };
		struct policy_image img;

		must(p->fallback == (ask.block_all ? WEIR_DENY : WEIR_ALLOW), "the mode is the default");
		must(policy_compile(p, &knobs, &img, NULL) == 0, "compiles");
		policy_image_done(&img);
	} else {
		must(!strcmp(err.field, "network") && strstr(err.text, "egress."), "a refusal names its place");
	}
	return 0;
}

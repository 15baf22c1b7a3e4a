/*
 * CreateOS's egress list, a rule per line. What is accepted survives encoding, opens no part of the
 * floor as a whole, and compiles; what is refused has a sentence that names the rule.
 */
#include "policy/createos.h"
#include "../fuzz.h"

static void check(const struct policy *p, const struct policy_floor *floor)
{
	auto_buf struct buf blob = BUF_MAX(POLICY_BLOB_MAX);
	auto_policy struct policy *again = NULL;
	struct policy_knobs knobs = { 0 };
	struct policy_image img;

	must(policy_encode(p, &blob) == 0, "encodes");
	must(policy_decode(buf_str(&blob), &again, NULL) == 0, "decodes");
	must(policy_equal(p, again), "decode(encode(p)) is p");
	must(p->n_rules <= CREATEOS_RULES_MAX, "at most 256 rules");
	for (uint32_t i = 0; i < p->n_rules; i++)
		must(p->rules[i].action == WEIR_ALLOW &&
			p->rules[i].names + p->rules[i].prefixes == 1 && p->rules[i].ports <= 1,
			"a rule allows one target and at most one port");
	for (uint32_t i = 0; i < p->n_prefixes; i++)
		must(policy_floor_covers(floor, p->prefixes[i]) == WEIR_FLOOR_NONE,
			"no rule lies wholly in the floor");
	must(policy_compile(p, &knobs, &img, NULL) == 0, "compiles");
	policy_image_done(&img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct policy_floor floor;
	struct policy_floor_spec spec = { 0 };
	auto_policy struct policy *p = NULL;
	struct str rest = str_n(data, size), rules[CREATEOS_RULES_MAX + 1];
	struct err err = { 0 };
	size_t n = 0;

	prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
	policy_floor_build(&spec, &floor, NULL);
	while (size && rest.p && n < ARRAY_SIZE(rules))
		rules[n++] = str_cut(&rest, '\n');
	if (createos_policy(rules, n, &floor, &p, &err) == 0)
		check(p, &floor);
	else
		must(strncmp(err.text, "egress", 6) == 0 && !strcmp(err.field, "egress"),
			"a refusal names the field");
	return 0;
}

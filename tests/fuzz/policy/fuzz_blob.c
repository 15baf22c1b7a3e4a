/*
 * policy_decode() on any bytes. What it accepts encodes to the very same bytes, prints, and
 * compiles to what the reference evaluator says at the edges of its own conditions.
 */
#include "../../unit/policy/model.h"
#include "../fuzz.h"

#define RULES_ENOUGH 12 /* beyond that, reading by the book takes too long to fuzz */

static void same_at(const struct policy *p, const struct policy_image *img, struct ip addr,
	uint16_t port)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP };

	for (size_t i = 0; i < ARRAY_SIZE(protos); i++) {
		struct policy_verdict v = policy_reference(p, addr, protos[i], port, NULL, 0);
		struct model_verdict m = model_lookup(img, NULL, addr, protos[i], port);

		must(!m.missing && m.verdict == v.verdict && m.rule == v.rule,
			"compiled and reference agree");
	}
}

static void compile(const struct policy *p)
{
	struct policy_knobs knobs = { 0 };
	struct policy_image img;
	int r = policy_compile(p, &knobs, &img, NULL);

	must(r == 0 || r == -E2BIG, "a valid policy compiles or is too large");
	if (r < 0)
		return;
	for (uint32_t i = 0; i < p->n_prefixes && i < RULES_ENOUGH; i++)
		for (uint32_t k = 0; k < p->n_ports && k < RULES_ENOUGH; k++) {
			same_at(p, &img, p->prefixes[i].ip, p->ports[k].lo);
			same_at(p, &img, p->prefixes[i].ip, p->ports[k].hi);
			same_at(p, &img, p->prefixes[i].ip, 25);
		}
	policy_image_done(&img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf again = BUF_MAX(POLICY_BLOB_MAX), text = BUF_MAX(POLICY_BLOB_MAX * 2);
	auto_policy struct policy *p = NULL;
	struct err err = { 0 };

	if (policy_decode(str_n(data, size), &p, &err) < 0) {
		must(err.text[0], "a refusal has a sentence");
		return 0;
	}
	must(policy_encode(p, &again) == 0, "what was decoded encodes");
	must(str_eq(buf_str(&again), str_n(data, size)), "encode(decode(x)) is x");
	for (uint32_t i = 0; i < p->n_rules; i++)
		must(policy_rule_text(p, i, &text) == 0, "a rule prints");
	if (p->n_rules <= RULES_ENOUGH)
		compile(p);
	return 0;
}

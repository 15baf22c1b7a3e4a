/*
 * OpenSandbox's list, a rule per line: "+t" and "-t" the user's, "a+t" and "a-t" the platform's, "d" and
 * "dPREFIX" what it closes to resolvers over HTTPS.
 *
 * The contract judges names and addresses by two orders of its own; both are written down here as
 * plainly as it states them, and the translated policy must say the same of every name and address
 * that the input mentions.
 */
#include <netinet/in.h>
#include "policy/opensandbox.h"
#include "../fuzz.h"

#define LINES_MAX 64

struct input {
	struct opensandbox_rule rules[LINES_MAX];
	struct str deny[LINES_MAX], allow[LINES_MAX];
	struct prefix doh[LINES_MAX];
	size_t n;
	struct opensandbox_always always;
};

static void read_line(struct input *in, struct str line)
{
	const char *why;
	struct str target;

	if (str_starts(line, STR("a")) && line.n > 1) {
		if (opensandbox_always_line(str_skip(line, 2), &target, &why) < 0 || !target.p)
			return;
		if (line.p[1] == '-')
			in->deny[in->always.n_deny++] = target;
		else
			in->allow[in->always.n_allow++] = target;
	} else if (str_starts(line, STR("d"))) {
		in->always.block_doh = true;
		if (prefix_from(str_trim(str_skip(line, 1)), false, &in->doh[in->always.n_doh]) == 0)
			in->always.n_doh++;
	} else if (line.n) {
		in->rules[in->n++] = (struct opensandbox_rule){ line.p[0] == '+', str_skip(line, 1) };
	}
}

static bool says_name(struct str target, const struct name *name)
{
	struct name_pattern pattern;
	struct prefix prefix;

	return prefix_from(str_trim(target), false, &prefix) < 0 &&
		name_pattern_from(str_trim(target), false, &pattern, NULL) == 0 &&
		name_match(&pattern, name);
}

static bool says_addr(struct str target, struct ip addr)
{
	struct prefix prefix;

	return prefix_from(str_trim(target), false, &prefix) == 0 && prefix_has(prefix, addr);
}

/* The first name rule that matches, in effective order. */
static bool name_allowed(const struct input *in, bool fallback, const struct name *name)
{
	for (size_t i = 0; i < in->always.n_deny; i++)
		if (says_name(in->deny[i], name))
			return false;
	for (size_t i = 0; i < in->always.n_allow; i++)
		if (says_name(in->allow[i], name))
			return true;
	for (size_t i = 0; i < in->n; i++)
		if (says_name(in->rules[i].target, name))
			return in->rules[i].allow;
	return fallback;
}

/* Of TCP port 443: is it closed against resolvers over HTTPS? */
static bool doh_closed(const struct input *in, struct ip addr)
{
	for (size_t i = 0; i < in->always.n_doh; i++)
		if (prefix_has(in->doh[i], addr))
			return true;
	return in->always.block_doh && !in->always.n_doh;
}

/* That, then denied networks, then what was learned, then allowed networks, then the default. */
static bool addr_allowed(const struct input *in, bool fallback, struct ip addr, bool learned)
{
	if (doh_closed(in, addr))
		return false;
	for (size_t i = 0; i < in->always.n_deny; i++)
		if (says_addr(in->deny[i], addr))
			return false;
	for (size_t i = 0; i < in->n; i++)
		if (!in->rules[i].allow && says_addr(in->rules[i].target, addr))
			return false;
	if (learned)
		return true;
	for (size_t i = 0; i < in->always.n_allow; i++)
		if (says_addr(in->allow[i], addr))
			return true;
	for (size_t i = 0; i < in->n; i++)
		if (in->rules[i].allow && says_addr(in->rules[i].target, addr))
			return true;
	return fallback;
}

static void check_name(const struct policy *p, const struct input *in, const struct name *name)
{
	bool fallback = p->fallback == WEIR_ALLOW, allowed = name_allowed(in, fallback, name);
	struct ip public = { 0 };

	must((policy_name(p, name, NULL) != POLICY_NAME_DENIED) == allowed, "names by list order");
	ip_from(STR("203.0.113.10"), &public);
	if (allowed && policy_name(p, name, NULL) == POLICY_NAME_ALLOWED)
		must((policy_reference(p, public, IPPROTO_TCP, 443, name, 1).verdict == WEIR_ALLOW) ==
				addr_allowed(in, fallback, public, true),
			"a learned address");
}

static void check_addr(const struct policy *p, const struct input *in, struct ip addr)
{
	must((policy_reference(p, addr, IPPROTO_TCP, 443, NULL, 0).verdict == WEIR_ALLOW) ==
			addr_allowed(in, p->fallback == WEIR_ALLOW, addr, false),
		"addresses by their own order");
	must(policy_reference(p, addr, IPPROTO_UDP, 853, NULL, 0).verdict == WEIR_DENY, "port 853");
}

static void check(const struct policy *p, const struct input *in)
{
	struct policy_knobs knobs = { 0 };
	struct policy_image img;

	for (uint32_t i = 0; i < p->n_names; i++)
		check_name(p, in, &p->names[i].name);
	for (uint32_t i = 0; i < p->n_prefixes; i++)
		check_addr(p, in, p->prefixes[i].ip);
	must(policy_compile(p, &knobs, &img, NULL) == 0, "compiles");
	policy_image_done(&img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { 0 };
	static struct policy_floor floor;
	auto_policy struct policy *p = NULL;
	struct str rest = str_n(data, size);
	struct err err = { 0 };

	for (unsigned int i = 0; size && rest.p && i < LINES_MAX; i++)
		read_line(&in, str_cut(&rest, '\n'));
	in.always.deny = in.deny;
	in.always.allow = in.allow;
	in.always.doh = in.doh;
	if (opensandbox_policy(size & 1, in.rules, in.n, &in.always, &floor, &p, &err) == 0)
		check(p, &in);
	else
		must(!strcmp(err.field, "networkPolicy") && err.text[0], "a refusal names the field");
	return 0;
}

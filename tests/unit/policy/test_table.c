/*
 * The decision table (decisions.table says its own grammar) against the reference evaluator, the
 * gate for names, and the compiled form as the kernel looks it up.
 */
#include <fcntl.h>
#include "base/fd.h"
#include "model.h"
#include "policy/createos.h"
#include "policy/floor.h"
#include "policy/opensandbox.h"
#include "policy/sandbox0.h"
#include "../unit.h"

#define WORDS_MAX 20
#define NAMES_MAX 4

static const char *table_path;
static struct policy *policy;
static struct policy_floor floor_list;
static char row[32];
static unsigned int line_number, probes;

static void complain(const char *what, struct str got)
{
	fail_msg("row %s, line %u: %s " STR_FMT, row, line_number, what, STR_ARG(got));
}

static struct ip ip_word(struct str s)
{
	struct ip ip;

	if (ip_from(s, &ip) < 0)
		complain("not an address:", s);
	return ip;
}

static struct name name_word(struct str s)
{
	struct name name;

	if (name_from(s, &name, NULL) < 0)
		complain("not a name:", s);
	return name;
}

static uint8_t proto_word(struct str s)
{
	return str_eq_c(s, "tcp") ? IPPROTO_TCP : IPPROTO_UDP;
}

static uint16_t port_word(struct str s)
{
	uint64_t n;

	if (str_u64(s, 65535, &n) < 0)
		complain("not a port:", s);
	return (uint16_t)n;
}

static void add_names(struct str list)
{
	while (list.p) {
		struct str text = str_cut(&list, ',');
		bool apex = str_starts(text, STR("**."));
		struct name_pattern p;

		if (name_pattern_from(apex ? str_skip(text, 1) : text, apex, &p, NULL) < 0)
			complain("not a pattern:", text);
		policy_add_name(policy, p);
	}
}

static struct prefix prefix_word(struct str s)
{
	struct prefix p = { 0 };

	if (prefix_from(s, true, &p) < 0)
		complain("not a prefix:", s);
	return p;
}

static void add_prefixes(struct str list)
{
	while (list.p) {
		policy_add_prefix(policy, prefix_word(str_cut(&list, ',')));
	}
}

static void add_ports(struct str list)
{
	while (list.p) {
		struct str text = str_cut(&list, ','), lo;
		enum policy_proto protos = POLICY_TCP_UDP;

		if (str_find(text, '/') >= 0)
			protos = proto_word(str_cut(&text, '/')) == IPPROTO_TCP ? POLICY_TCP : POLICY_UDP;
		lo = str_cut(&text, '-');
		policy_add_port(policy, protos, port_word(lo), port_word(text.p ? text : lo));
	}
}

static int from_opensandbox(struct str *w, size_t n, struct err *err)
{
	struct opensandbox_rule rules[WORDS_MAX];
	struct str deny[WORDS_MAX], allow[WORDS_MAX];
	struct prefix doh[WORDS_MAX];
	struct opensandbox_always always = { .deny = deny, .allow = allow, .doh = doh };
	size_t n_rules = 0;

	for (size_t i = 3; i < n; i++) {
		struct str t = w[i];

		if (str_starts(t, STR("always-")))
			deny[always.n_deny++] = str_skip(t, 7);
		else if (str_starts(t, STR("always+")))
			allow[always.n_allow++] = str_skip(t, 7);
		else if (str_eq_c(t, "doh"))
			always.block_doh = true;
		else if (str_starts(t, STR("doh-")) && (always.block_doh = true))
			doh[always.n_doh++] = prefix_word(str_skip(t, 4));
		else
			rules[n_rules++] = (struct opensandbox_rule){ .allow = t.p[0] == '+',
				.target = str_skip(t, 1) };
	}
	return opensandbox_policy(str_eq_c(w[2], "allow"), rules, n_rules, &always, &floor_list,
		&policy, err);
}

/* The lists of one sandbox0 document, in place. */
struct shelf {
	struct str texts[4][WORDS_MAX];
	struct sandbox0_port ports[2][WORDS_MAX];
};

static size_t cut_list(struct str list, struct str *ret)
{
	size_t n = 0;

	while (list.p && n < WORDS_MAX)
		ret[n++] = str_cut(&list, ',');
	return n;
}

static size_t cut_ports(struct str list, struct sandbox0_port *ret)
{
	size_t n = 0;

	while (list.p && n < WORDS_MAX) {
		struct str text = str_cut(&list, ','), lo;
		struct str range = str_cut(&text, '/');

		lo = str_cut(&range, '-');
		ret[n++] = (struct sandbox0_port){ .port = port_word(lo),
			.end = range.p ? port_word(range) : 0,
			.protocol = text };
	}
	return n;
}

static void read_list(struct str word, const char *prefix, struct sandbox0_lists *l,
	struct shelf *shelf, unsigned int half)
{
	struct str list = word, name = str_cut(&list, '=');

	if (!str_starts(name, str_c(prefix)))
		return;
	name = str_skip(name, strlen(prefix));
	if (str_caseeq(name, STR("domains"))) {
		l->domains = shelf->texts[half];
		l->n_domains = cut_list(list, shelf->texts[half]);
	} else if (str_caseeq(name, STR("cidrs"))) {
		l->cidrs = shelf->texts[2 + half];
		l->n_cidrs = cut_list(list, shelf->texts[2 + half]);
	} else if (str_caseeq(name, STR("ports"))) {
		l->ports = shelf->ports[half];
		l->n_ports = cut_ports(list, shelf->ports[half]);
	} else {
		complain("unknown list:", word);
	}
}

static int from_sandbox0(struct str *w, size_t n, struct err *err)
{
	struct sandbox0_ask ask = { .block_all = str_eq_c(w[2], "block-all") };
	struct sandbox0_rule rules[WORDS_MAX] = { 0 };
	static struct shelf shelves[WORDS_MAX + 1];

	for (size_t i = 3; i < n; i++) {
		struct str rest = w[i];

		if (str_find(w[i], ';') < 0) {
			read_list(w[i], "allowed", &ask.allowed, &shelves[WORDS_MAX], 0);
			read_list(w[i], "denied", &ask.denied, &shelves[WORDS_MAX], 1);
			continue;
		}
		ask.rules = rules;
		rules[ask.n_rules].allow = str_eq_c(str_cut(&rest, ';'), "allow");
		while (rest.p)
			read_list(str_cut(&rest, ';'), "", &rules[ask.n_rules].match,
				&shelves[ask.n_rules], 0);
		ask.n_rules++;
	}
	return sandbox0_policy(&ask, &floor_list, &policy, err);
}

static void do_policy(struct str *w, size_t n)
{
	struct err err;
	int r = 0;

	policy = policy_free(policy);
	if (str_eq_c(w[1], "createos"))
		r = createos_policy(w + 2, n - 2, &floor_list, &policy, &err);
	else if (str_eq_c(w[1], "opensandbox"))
		r = from_opensandbox(w, n, &err);
	else if (str_eq_c(w[1], "sandbox0"))
		r = from_sandbox0(w, n, &err);
	else
		policy = policy_new(POLICY_NATIVE, str_eq_c(w[1], "allow"));
	if (r < 0)
		fail_msg("row %s: %s", row, err.text);
}

static void do_rule(struct str *w, size_t n)
{
	policy_add_rule(policy, str_eq_c(w[1], "allow"));
	for (size_t i = 2; i + 1 < n; i += 2) {
		if (str_eq_c(w[i], "names"))
			add_names(w[i + 1]);
		else if (str_eq_c(w[i], "prefixes"))
			add_prefixes(w[i + 1]);
		else if (str_eq_c(w[i], "ports"))
			add_ports(w[i + 1]);
		else
			complain("unknown condition:", w[i]);
	}
}

struct target {
	struct ip addr;
	struct name names[NAMES_MAX];
	size_t n;
};

static struct target target_word(struct str s)
{
	struct target t = { .addr = ip_word(str_cut(&s, '=')) };

	while (s.p && t.n < NAMES_MAX)
		t.names[t.n++] = name_word(str_cut(&s, ','));
	return t;
}

struct compiled {
	struct policy_image img;
	struct model_pin pin;
	bool pinned;
};

static struct compiled compile(const struct target *t)
{
	struct compiled c = { .pinned = t->n > 0 };
	struct policy_knobs knobs = { 0 };

	assert_int_equal(policy_compile(policy, &knobs, &c.img, NULL), 0);
	assert_int_equal(policy_pin(policy, &knobs, t->addr, t->names, t->n, 7, &c.pin.img), 0);
	return c;
}

static void compiled_done(struct compiled *c)
{
	policy_image_done(&c->img);
	policy_pin_image_done(&c->pin.img);
}

static const char *verdict_word(uint8_t verdict, bool named, uint8_t proto, uint16_t port)
{
	if (verdict == WEIR_DENY)
		return "deny";
	return proto == IPPROTO_TCP && port == 25 && !named ? "smtp" : "allow";
}

static void do_flow(struct str *w)
{
	struct target t = target_word(w[1]);
	uint8_t proto = proto_word(w[2]);
	uint16_t port = port_word(w[3]);
	enum weir_floor in = policy_floor_find(&floor_list, t.addr);
	struct policy_verdict v = policy_reference(policy, t.addr, proto, port, t.names, t.n);
	struct compiled c = compile(&t);
	struct model_verdict m = model_lookup(&c.img, c.pinned ? &c.pin : NULL, t.addr, proto, port);
	const char *word = in ? policy_floor_name(in) : verdict_word(v.verdict, v.named_port, proto, port);

	if (!str_eq_c(w[4], word))
		fail_msg("row %s, line %u: reference says %s", row, line_number, word);
	word = in ? policy_floor_name(in) : verdict_word(m.verdict, m.named, proto, port);
	if (!str_eq_c(w[4], word) || m.missing || m.rule != v.rule)
		fail_msg("row %s, line %u: compiled says %s, rule %u", row, line_number, word, m.rule);
	compiled_done(&c);
}

static void do_ping(struct str *w)
{
	struct target t = target_word(w[1]);
	bool want = str_eq_c(w[2], "allow");
	struct compiled c = compile(&t);

	if (policy_reference_all_ports(policy, t.addr, t.names, t.n) != want)
		complain("reference differs:", w[1]);
	if (model_all_ports(&c.img, c.pinned ? &c.pin : NULL, t.addr) != want)
		complain("compiled differs:", w[1]);
	if (reference_all_ports(policy, t.addr, t.names, t.n) != want)
		complain("the quick reference differs:", w[1]);
	compiled_done(&c);
}

static void do_name(struct str *w)
{
	static const char *const words[] = { [POLICY_NAME_DENIED] = "denied",
		[POLICY_NAME_ALLOWED] = "allowed", [POLICY_NAME_DEFAULT] = "default" };
	struct name name = name_word(w[1]);

	if (!str_eq_c(w[2], words[policy_name(policy, &name, NULL)]))
		complain("the gate differs:", w[1]);
}

static void do_floor(struct str *w, size_t n)
{
	struct policy *p = NULL;
	struct err err;

	if (createos_policy(w + 1, n - 1, &floor_list, &p, &err) != -EACCES)
		complain("was accepted:", w[1]);
}

static void do_line(struct str *w, size_t n)
{
	probes++;
	if (str_eq_c(w[0], "row"))
		str_copy(row, sizeof(row), w[1]);
	else if (str_eq_c(w[0], "policy"))
		do_policy(w, n);
	else if (str_eq_c(w[0], "rule"))
		do_rule(w, n);
	else if (str_eq_c(w[0], "floor"))
		do_floor(w, n);
	else if (str_eq_c(w[0], "flow") && n == 5)
		do_flow(w);
	else if (str_eq_c(w[0], "ping") && n == 3)
		do_ping(w);
	else if (str_eq_c(w[0], "name") && n == 3)
		do_name(w);
	else if (str_eq_c(w[0], "resolver") && n == 4)
		assert_int_equal(policy_names_resolver(policy, ip_word(w[1]), proto_word(w[2])),
			str_eq_c(w[3], "yes"));
	else if (str_eq_c(w[0], "private") && n == 3)
		assert_int_equal(policy_allows_private(policy, ip_word(w[1])), str_eq_c(w[2], "yes"));
	else
		complain("unknown line:", w[0]);
}

static void table(void **state)
{
	auto_buf struct buf text = BUF_MAX(1 << 20);
	struct policy_floor_spec spec = { 0 };
	struct str rest, line;

	prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
	prefix_from(STR("fd77:6569:7200::/64"), true, &spec.range6);
	prefix_from(STR("10.42.0.0/16"), true, &spec.overlay4);
	assert_int_equal(policy_floor_build(&spec, &floor_list, NULL), 0);
	assert_int_equal(file_read(AT_FDCWD, table_path, &text), 0);
	for (rest = buf_str(&text); rest.p;) {
		struct str w[WORDS_MAX];
		size_t n = 0;

		line = str_trim(str_cut(&rest, '\n'));
		line_number++;
		if (line.n == 0 || line.p[0] == '#')
			continue;
		while (line.p && n < WORDS_MAX) {
			w[n] = str_cut(&line, ' ');
			n += w[n].n > 0;
		}
		do_line(w, n);
	}
	policy = policy_free(policy);
	assert_true(probes > 100);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(table) };

	if (argc != 2)
		return 2;
	table_path = argv[1];
	return cmocka_run_group_tests_name("policy/table", tests, NULL, NULL);
}

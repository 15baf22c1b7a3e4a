/*
 * Three readings of a policy, held equal on random policies and packets:
 *
 *	the reference evaluator with the clauses around it, straight from the list
 *	the compiled form, looked up in user space as the kernel looks it up
 *	the kernel program itself, asked by BPF_PROG_TEST_RUN
 *
 *	test_property model|kernel|variant [COUNT [SEED]]
 *
 * "model" leaves the kernel out and needs no rights; "kernel" needs root. "variant" is for builds
 * with a compiler broken on purpose (-DPOLICY_VARIANT): it succeeds if a difference is found.
 *
 * Pairs of policy and packet fall into classes: what decides, and for a rule which of its three
 * conditions it has. Drawing is steered (a packet is drawn again while its class has plenty), so
 * that each class has at least SHARE_MIN of the pairs; the test fails if it has not, because
 * agreement on cases that never occur means nothing.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf.h>
#include <arpa/inet.h>
#include "../policy/model.h"
#include "base/clock.h"
#include "datapath/datapath.h"
#include "datapath/pins.h"
#include "policy/floor.h"

#define SKIPPED		77
#define PACKETS		20 /* per policy */
#define PINS		3
#define DRAWS		12
#define SHARE_MIN	0.05
#define SHARE_ENOUGH	0.06
#define SLOT		7u

enum kind { NOTHING, NAMES, PREFIXES, NAMES_PREFIXES, PORTS, NAMES_PORTS, PREFIXES_PORTS, ALL, KINDS };
static const char *const kind_names[] = { "no condition", "names", "prefixes", "names+prefixes",
	"ports", "names+ports", "prefixes+ports", "all conditions" };
enum class { RULE_ALLOWS, RULE_DENIES, DEFAULT_ALLOWS, DEFAULT_DENIES, FLOOR, SMTP, PROTOCOL,
	FRAGMENT, WHOLE, CLASSES };
static const char *const class_names[] = { "rule allows", "rule denies", "default allows",
	"default denies", "floor", "smtp", "protocol", "fragment", "address as a whole" };

struct packet {
	struct ip addr;
	uint8_t proto;
	uint16_t port;
	bool later_fragment, extension;
	const struct known *known; /* NULL: not pinned */
};
struct known { /* an address with a pin */
	struct ip addr;
	struct name names[2];
	size_t n;
	struct policy_pin_image img;
};
struct expected {
	uint8_t verdict, reason, detail;
	uint16_t rule;
	bool rule_matters;
	enum class class;
	int kind; /* -1: no rule decides */
};

static uint64_t rng;
static unsigned int kinds[KINDS], classes[CLASSES], pairs;
static struct policy_floor floor_list;
static struct datapath *dp;

static uint32_t draw(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % n);
}

static bool chance(uint32_t percent)
{
	return draw(100) < percent;
}

/* --- drawing --- */

static const char *const prefix_pool[] = { "20.0.0.0/8", "20.1.0.0/16", "20.1.2.0/24", "20.1.2.3/32",
	"20.1.2.128/25", "0.0.0.0/0", "10.0.0.0/8", "30.4.0.0/14", "2a00::/16", "2a00:1::/32",
	"2a00:1:2::/48", "2a00:1:2::3/128", "::/0", "fd00::/8" };
static const char *const name_pool[] = { "a.test", "x.a.test", "b.test", "y.x.a.test", "c.example" };
static const char *const pattern_pool[] = { "a.test", "*.a.test", "b.test", "*.x.a.test", "c.example",
	"*.test" };
static const struct policy_port port_pool[] = { { POLICY_TCP, 443, 443 }, { POLICY_UDP, 443, 443 },
	{ POLICY_TCP_UDP, 80, 80 }, { POLICY_TCP, 25, 25 }, { POLICY_TCP_UDP, 1000, 2000 },
	{ POLICY_TCP, 1, 1024 }, { POLICY_UDP, 1500, 65535 }, { POLICY_TCP_UDP, 0, 65535 },
	{ POLICY_TCP, 65535, 65535 }, { POLICY_TCP_UDP, 8080, 8090 }, { POLICY_TCP, 0, 79 },
	{ POLICY_TCP, 26, 26 }, { POLICY_UDP, 25, 25 } };

static struct prefix draw_prefix(void)
{
	struct prefix p;

	prefix_from(str_c(prefix_pool[draw(ARRAY_SIZE(prefix_pool))]), true, &p);
	return p;
}

/* An address inside, often at an edge. */
static struct ip draw_inside(struct prefix p)
{
	struct ip ip = p.ip;
	uint32_t how = draw(3);

	for (unsigned int bit = p.len; bit < ip_bits(ip.family); bit++)
		if (how == 0 || (how == 1 && chance(50)))
			ip.a[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
	return ip;
}

static struct name draw_name(void)
{
	struct name name;

	name_from(str_c(name_pool[draw(ARRAY_SIZE(name_pool))]), &name, NULL);
	return name;
}

static void draw_rule(struct policy *p, enum kind kind)
{
	policy_add_rule(p, chance(60) ? WEIR_ALLOW : WEIR_DENY);
	for (uint32_t n = kind & NAMES ? 1 + draw(2) : 0; n > 0; n--) {
		struct name_pattern pattern;

		name_pattern_from(str_c(pattern_pool[draw(ARRAY_SIZE(pattern_pool))]), chance(30),
			&pattern, NULL);
		policy_add_name(p, pattern);
	}
	for (uint32_t n = kind & PREFIXES ? 1 + draw(3) : 0; n > 0; n--)
		policy_add_prefix(p, draw_prefix());
	for (uint32_t n = kind & PORTS ? 1 + draw(3) : 0; n > 0; n--) {
		struct policy_port port = port_pool[draw(ARRAY_SIZE(port_pool))];

		if (chance(20)) {
			port.lo = (uint16_t)draw(65536);
			port.hi = (uint16_t)(port.lo + draw(65536u - port.lo));
		}
		policy_add_port(p, port.protos, port.lo, port.hi);
	}
}

static enum kind rule_kind(const struct policy_rule *r)
{
	return (r->names ? NAMES : 0) | (r->prefixes ? PREFIXES : 0) | (r->ports ? PORTS : 0);
}

static struct policy *draw_policy(void)
{
	struct policy *p = policy_new(POLICY_NATIVE, chance(50) ? WEIR_ALLOW : WEIR_DENY);
	enum kind rarest = 0;

	for (enum kind k = 0; k < KINDS; k++)
		if (kinds[k] < kinds[rarest])
			rarest = k;
	for (uint32_t n = draw(6), i = 0; i < n; i++)
		draw_rule(p, i == 0 && chance(70) ? rarest :
			      chance(10)	      ? NOTHING :
							1 + draw(KINDS - 1));
	return p;
}

/* An address that a random rule is about, or any. */
static struct ip draw_addr(const struct policy *p)
{
	const struct policy_rule *r = p->n_rules ? &p->rules[draw(p->n_rules)] : NULL;

	if (r && r->prefixes && chance(80))
		return draw_inside(p->prefixes[r->prefix0 + draw(r->prefixes)]);
	return draw_inside(draw_prefix());
}

static struct ip draw_floor_addr(void)
{
	return draw_inside(floor_list.e[draw(floor_list.n)].prefix);
}

static uint16_t draw_port(const struct policy *p)
{
	uint16_t port = (uint16_t)draw(65536);

	if (chance(15))
		port = 25;
	else if (p->n_ports && chance(70)) {
		struct policy_port range = p->ports[draw(p->n_ports)];
		uint16_t edges[] = { range.lo, range.hi, (uint16_t)(range.lo - 1),
			(uint16_t)(range.hi + 1), (uint16_t)(range.lo + (range.hi - range.lo) / 2) };

		port = edges[draw(ARRAY_SIZE(edges))];
	}
	return port == 53 ? 54 : port; /* 53 is steered before any judgement */
}

static struct packet draw_packet(const struct policy *p, const struct known *known, size_t n)
{
	static const uint8_t other[] = { IPPROTO_GRE, IPPROTO_SCTP, IPPROTO_ESP, IPPROTO_IPIP };
	struct packet k = { .proto = chance(60) ? IPPROTO_TCP : IPPROTO_UDP };

	k.addr = chance(10) ? draw_floor_addr() : n && chance(60) ? known[draw((uint32_t)n)].addr :
								    draw_addr(p);
	for (size_t i = 0; i < n; i++)
		if (ip_eq(known[i].addr, k.addr))
			k.known = &known[i];
	k.port = draw_port(p);
	if (chance(8))
		k.later_fragment = true;
	else if (chance(8))
		k.proto = other[draw(ARRAY_SIZE(other))];
	else if (chance(8))
		k.proto = k.addr.family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	k.extension = k.addr.family == 6 && chance(20);
	return k;
}

/* --- the three readings --- */

static bool has_ports(const struct packet *k)
{
	return !k->later_fragment && (k->proto == IPPROTO_TCP || k->proto == IPPROTO_UDP);
}

static struct expected expect(const struct policy *p, const struct policy_knobs *knobs,
	const struct packet *k)
{
	struct expected e = { .rule = WEIR_RULE_NONE, .rule_matters = true, .kind = -1 };
	const struct name *names = k->known ? k->known->names : NULL;
	size_t n = k->known ? k->known->n : 0;
	bool icmp = k->proto == IPPROTO_ICMP || k->proto == IPPROTO_ICMPV6;
	enum weir_floor in = policy_floor_find(&floor_list, k->addr);
	struct policy_verdict v;

	if (in != WEIR_FLOOR_NONE) {
		e.reason = WEIR_R_FLOOR;
		e.detail = (uint8_t)in;
		e.class = FLOOR;
		return e;
	}
	if (k->later_fragment && p->fallback == WEIR_DENY) {
		e.reason = WEIR_R_FRAGMENT;
		e.class = FRAGMENT;
		return e;
	}
	if (!k->later_fragment && !has_ports(k) && !icmp &&
		!(p->fallback == WEIR_ALLOW && knobs->other_protocols)) {
		e.reason = WEIR_R_PROTOCOL;
		e.class = PROTOCOL;
		return e;
	}
	if (!has_ports(k)) { /* every port, or none; which rule is the compiler's to say */
		e.verdict = reference_all_ports(p, k->addr, names, n);
		e.rule_matters = false;
		e.class = WHOLE;
		return e;
	}
	v = policy_reference(p, k->addr, k->proto, k->port, names, n);
	e.verdict = v.verdict;
	e.rule = v.rule;
	e.reason = v.rule == WEIR_RULE_NONE ? WEIR_R_DEFAULT : WEIR_R_RULE;
	if (v.verdict == WEIR_ALLOW && k->proto == IPPROTO_TCP && k->port == 25 && !v.named_port &&
		!knobs->smtp) {
		e.verdict = WEIR_DENY;
		e.reason = WEIR_R_SMTP;
		e.class = SMTP;
		return e;
	}
	if (v.rule == WEIR_RULE_NONE) {
		e.class = v.verdict ? DEFAULT_ALLOWS : DEFAULT_DENIES;
	} else {
		e.class = v.verdict ? RULE_ALLOWS : RULE_DENIES;
		e.kind = rule_kind(&p->rules[v.rule]);
	}
	return e;
}

/* Is the compiled form of the same opinion? What lies outside it (floor, protocols) is not asked. */
static bool model_agrees(const struct policy_image *img, const struct packet *k,
	const struct expected *e)
{
	struct model_pin pin = { .addr = k->addr };
	struct model_verdict m;
	bool verdict;

	if (k->known)
		pin.img = k->known->img;
	if (e->class == WHOLE)
		return model_all_ports(img, k->known ? &pin : NULL, k->addr) == e->verdict;
	if (e->class == FLOOR || e->class == PROTOCOL || e->class == FRAGMENT)
		return true;
	m = model_lookup(img, k->known ? &pin : NULL, k->addr, k->proto, k->port);
	verdict = m.verdict;
	if (verdict && k->proto == IPPROTO_TCP && k->port == 25 && !m.named && !img->header.smtp)
		verdict = false;
	return !m.missing && verdict == e->verdict && m.rule == e->rule;
}

static size_t build_l4(const struct packet *k, uint8_t *out)
{
	memset(out, 0, 24);
	if (k->proto == IPPROTO_TCP) {
		out[12] = 5 << 4;
		out[13] = 0x02;
	} else if (k->proto == IPPROTO_UDP) {
		out[5] = 8;
	} else if (k->proto == IPPROTO_ICMP) {
		out[0] = 8;
	} else if (k->proto == IPPROTO_ICMPV6) {
		out[0] = 128;
	}
	if (has_ports(k)) {
		out[0] = 40;
		out[2] = (uint8_t)(k->port >> 8);
		out[3] = (uint8_t)k->port;
	}
	return k->proto == IPPROTO_TCP ? 20 : 8;
}

/* The packet as the sandbox of SLOT would send it. */
static size_t build(const struct packet *k, const struct weir_slot *own, uint8_t *out)
{
	struct ethhdr eth = { WEIR_MAC_GATEWAY, WEIR_MAC_SANDBOX, 0 };
	uint8_t body[64];
	size_t at = 0;

	if (k->addr.family == 4) {
		size_t n = build_l4(k, body);
		struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = k->proto,
			.tot_len = htons((uint16_t)(20 + n)), .saddr = own->ip4,
			.frag_off = k->later_fragment ? htons(100) : 0 };

		eth.h_proto = htons(ETH_P_IP);
		memcpy(&ip.daddr, k->addr.a, 4);
		memcpy(out, &eth, 14);
		memcpy(out + 14, &ip, 20);
		memcpy(out + 34, body, n);
		return MAX(34 + n, (size_t)60);
	}
	struct ipv6hdr ip = { .version = 6, .hop_limit = 64 };
	uint8_t *next = &ip.nexthdr;

	memset(body, 0, sizeof(body));
	if (k->extension) {
		*next = IPPROTO_DSTOPTS;
		next = &body[at];
		body[at + 2] = 1; /* padding */
		body[at + 3] = 4;
		at += 8;
	}
	if (k->later_fragment) {
		*next = IPPROTO_FRAGMENT;
		next = &body[at];
		body[at + 2] = 1;
		at += 8;
	}
	*next = k->proto;
	at += build_l4(k, body + at);
	ip.payload_len = htons((uint16_t)at);
	eth.h_proto = htons(ETH_P_IPV6);
	memcpy(&ip.saddr, own->ip6.a, 16);
	memcpy(&ip.daddr, k->addr.a, 16);
	memcpy(out, &eth, 14);
	memcpy(out + 14, &ip, 40);
	memcpy(out + 54, body, at);
	return 54 + at;
}

static bool kernel_agrees(const struct packet *k, const struct expected *e)
{
	uint8_t frame[256] = { 0 };
	struct __sk_buff ctx = { .mark = SLOT };
	struct weir_slot own;
	uint32_t want, got;

	datapath_slot_get(dp, SLOT, &own);
	DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame,
		.data_size_in = (uint32_t)build(k, &own, frame), .ctx_in = &ctx,
		.ctx_size_in = sizeof(ctx));

	if (bpf_prog_test_run_opts(datapath_fd(dp, "weir_verdict_test"), &opts) < 0) {
		fprintf(stderr, "BPF_PROG_TEST_RUN: %s\n", strerror(errno));
		return false;
	}
	got = opts.retval;
	if (!e->rule_matters)
		return got >> 28 == e->verdict && ((got >> 20 & 0xff) == WEIR_R_RULE ||
			(got >> 20 & 0xff) == WEIR_R_DEFAULT);
	want = WEIR_TEST_RESULT(e->verdict, e->reason, e->detail, e->rule);
	return got == want;
}

/* --- running --- */

static void show(const struct policy *p, const struct packet *k, const struct expected *e,
	const char *who)
{
	fprintf(stderr, "%s differs: default %s\n", who, p->fallback ? "allow" : "deny");
	for (uint32_t i = 0; i < p->n_rules; i++) {
		struct buf text = BUF_MAX(65536);

		policy_rule_text(p, i, &text);
		fprintf(stderr, "  %u: %s\n", i, buf_cstr(&text));
		buf_done(&text);
	}
	fprintf(stderr, "  %s proto %u port %u%s%s", ip_text(k->addr).s, k->proto, k->port,
		k->later_fragment ? " later fragment" : "", k->extension ? " extension" : "");
	for (size_t i = 0; k->known && i < k->known->n; i++)
		fprintf(stderr, " %s", k->known->names[i].s);
	fprintf(stderr, "\n  reference: %s, %s, rule %u\n", e->verdict ? "allow" : "deny",
		policy_reason_name(e->reason), e->rule);
}

static bool plenty(const struct expected *e)
{
	double enough = SHARE_ENOUGH * pairs;

	return classes[e->class] > enough && (e->kind < 0 || kinds[e->kind] > enough);
}

/* One policy and its packets. The number of differences. */
static unsigned int try_policy(bool kernel, bool loud)
{
	static uint32_t policy_id = 100;
	struct policy_knobs knobs = { chance(20), chance(30), chance(50) };
	struct known known[PINS] = { 0 };
	auto_policy struct policy *p = draw_policy();
	struct pins pins = { -1, -1 };
	struct policy_image img;
	unsigned int differences = 0;
	struct err err = { 0 };
	size_t n = 0;

	if (policy_compile(p, &knobs, &img, &err) < 0) {
		fprintf(stderr, "compile: %s\n", err.text);
		return 1;
	}
	policy_id++;
	if (kernel) {
		pins = (struct pins){ datapath_fd(dp, "weir_pins"), datapath_fd(dp, "weir_ports") };
		if (datapath_commit(dp, SLOT, policy_id, p, &knobs, &err) < 0) {
			fprintf(stderr, "commit: %s\n", err.text);
			exit(1);
		}
	}
	for (; n < PINS; n++) {
		struct known *k = &known[n];

		k->addr = draw_addr(p);
		for (size_t i = 0; i < n; i++)
			while (ip_eq(known[i].addr, k->addr)) {
				k->addr = draw_inside(draw_prefix());
				i = 0;
			}
		k->n = 1 + draw(2);
		k->names[0] = draw_name();
		k->names[1] = draw_name();
		policy_pin(p, &knobs, k->addr, k->names, k->n, 0x80000000u + (uint32_t)n, &k->img);
		if (kernel)
			pin_set_image(&pins, policy_id, k->addr, &k->img, clock_mono_ns());
	}
	for (unsigned int i = 0; i < PACKETS; i++) {
		struct packet k = draw_packet(p, known, n);
		struct expected e = expect(p, &knobs, &k);

		for (unsigned int again = 0; again < DRAWS && plenty(&e); again++) {
			k = draw_packet(p, known, n);
			e = expect(p, &knobs, &k);
		}
		pairs++;
		classes[e.class]++;
		if (e.kind >= 0)
			kinds[e.kind]++;
		if (!model_agrees(&img, &k, &e)) {
			differences++;
			if (loud)
				show(p, &k, &e, "the compiled form");
		}
		if (kernel && !kernel_agrees(&k, &e)) {
			differences++;
			if (loud)
				show(p, &k, &e, "the kernel program");
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (kernel) {
			pin_delete(&pins, policy_id, known[i].addr);
			pin_ports_delete(&pins, policy_id, known[i].img.ports, known[i].img.n_ports);
		}
		policy_pin_image_done(&known[i].img);
	}
	policy_image_done(&img);
	return differences;
}

static bool report(const char *what, const char *const *names, const unsigned int *counts, size_t n)
{
	bool ok = true;

	for (size_t i = 0; i < n; i++) {
		double share = (double)counts[i] / pairs;

		printf("%s %-20s %6u  %4.1f %%%s\n", what, names[i], counts[i], 100 * share,
			share < SHARE_MIN ? "  too few" : "");
		ok &= share >= SHARE_MIN;
	}
	return ok;
}

static int open_kernel(char *name, size_t size)
{
	struct datapath_slot slot = { .slot = SLOT, .ifindex = 1 };
	struct err err = { 0 };

	snprintf(name, size, "property-%d-%" PRIx64, getpid(), clock_mono_ns());
	ip_from(STR("10.60.0.7"), &slot.ip4);
	ip_from(STR("fd77:6569:7200::7"), &slot.ip6);
	if (datapath_open("/sys/fs/bpf", name, &dp, &err) < 0 ||
		datapath_slot_set(dp, &slot, &err) < 0 ||
		datapath_floor_set(dp, &floor_list, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "model";
	bool kernel = !strcmp(mode, "kernel"), variant = !strcmp(mode, "variant"), covered;
	uint64_t count = 100000, seed = 1;
	struct policy_floor_spec spec = { 0 };
	unsigned int differences = 0;
	char name[64] = "";
	int r = 0;

	if ((argc > 2 && str_u64(str_c(argv[2]), UINT32_MAX, &count) < 0) ||
		(argc > 3 && str_u64(str_c(argv[3]), UINT32_MAX, &seed) < 0))
		return 2;
	rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	if (kernel && geteuid() != 0) {
		printf("skipped: BPF_PROG_TEST_RUN needs root\n");
		return SKIPPED;
	}
	prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
	prefix_from(STR("fd77:6569:7200::/64"), true, &spec.range6);
	policy_floor_build(&spec, &floor_list, NULL);
	if (kernel && open_kernel(name, sizeof(name)) < 0)
		return 1;
	while (pairs < count && differences < 5)
		differences += try_policy(kernel, !variant && differences < 5);
	if (kernel) {
		datapath_free(dp);
		datapath_unpin("/sys/fs/bpf", name, NULL);
	}
	if (variant) {
		printf("%u differences in %u pairs\n", differences, pairs);
		return differences ? 0 : 1;
	}
	covered = report("class", class_names, classes, CLASSES);
	covered &= report("kind ", kind_names, kinds, KINDS);
	printf("%u pairs, %u differences\n", pairs, differences);
	r = differences || !covered;
	return r;
}

/*
 * weir-bench-datapath: the datapath room without a daemon, for the rows here. Answers are JSON on
 * standard output; everything is gone when it ends.
 *
 *	commit SLOTS RULES ROUNDS	nanoseconds of datapath_commit() on one slot after the other,
 *					while SLOTS slots have a policy of RULES rules in force
 *	packet RULES			nanoseconds per packet, by BPF_PROG_TEST_RUN: of a known flow,
 *					both ways, and of a judgement, for IPv4 and IPv6
 *	link LINK IP4 IP6		slot 1 is LINK, in this network namespace; then, by lines on
 *					standard input, "commit FAMILY RULES" or the end
 *
 * A policy of N rules allows N prefixes, each with one port; the address that is asked about lies
 * in the last one. `filter()` in throughput.py makes the same rules for iptables.
 */
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <net/if.h>
#include <netinet/in.h>
#include "base/clock.h"
#include "datapath/datapath.h"

#define PORT	 5201
#define SLOT	 1u
#define REPEAT	 200000
#define OWN4	 0x0a3c0001u /* 10.60.0.1 */

static struct datapath *dp;

_noreturn_ _printf_(1, 2) static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("weir-bench-datapath: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static unsigned long number(const char *s)
{
	uint64_t n;

	if (str_u64(str_c(s), UINT32_MAX, &n) < 0)
		die("not a number: %s", s);
	return (unsigned long)n;
}

/* --- policies --- */

/* 198.18.0.0/16 in /28s, 2001:db8:f::/48 in /64s: number i, and an address in it. */
static struct ip address(int family, uint32_t i)
{
	uint8_t a6[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, 0x0f, (uint8_t)(i >> 8), (uint8_t)i,
		[15] = 1 };

	return family == 4 ? ip_v4(0xc6120000u + i * 16 + 1) : ip_raw(6, a6);
}

/* `salt` makes versions differ, so that none can be taken for the one before. */
static struct policy *policy_of(int family, uint32_t rules, uint32_t salt)
{
	struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);

	for (uint32_t i = 0; p && i < rules; i++)
		if (policy_add_rule(p, WEIR_ALLOW) < 0 ||
			policy_add_prefix(p, prefix_of(address(family, 4095 - (i + salt) % 4096),
				family == 4 ? 28 : 64)) < 0 ||
			policy_add_port(p, POLICY_TCP_UDP, PORT, PORT) < 0)
			die("cannot make a policy of %" PRIu32 " rules", rules);
	if (!p)
		die("out of memory");
	return p;
}

static void commit(uint32_t slot, uint32_t id, const struct policy *p)
{
	const struct policy_knobs knobs = { .reject = true };
	struct err err;

	if (datapath_commit(dp, slot, id, p, &knobs, &err) < 0)
		die("%s", err.text);
}

static void slot_take(uint32_t slot, uint32_t ifindex, struct ip ip4, struct ip ip6)
{
	struct err err;

	if (datapath_slot_set(dp, &(struct datapath_slot){ slot, ifindex, ip4, ip6, false }, &err) < 0)
		die("%s", err.text);
}

/* --- commit --- */


static void do_commit(uint32_t slots, uint32_t rules, uint32_t rounds)
{
	uint64_t *took = calloc(rounds + 1, sizeof(*took));
	uint32_t id = 0;

	if (!took || slots == 0)
		die("nothing to measure");
	for (uint32_t slot = 1; slot <= slots; slot++) {
		auto_policy struct policy *p = policy_of(4, rules, slot);

		/* numbers that no link has: nothing is attached */
		slot_take(slot, 0x40000000u + slot, ip_v4(OWN4 + slot), (struct ip){ 0 });
		commit(slot, ++id, p);
	}
	for (uint32_t i = 0; i < rounds; i++) {
		auto_policy struct policy *p = policy_of(4, rules, i * 7 + 1);
		uint32_t slot = 1 + (uint32_t)((uint64_t)i * 2654435761u % slots);
		uint64_t start = clock_mono_ns();

		commit(slot, ++id, p);
		took[i] = clock_mono_ns() - start;
	}
	printf("[");
	for (uint32_t i = 0; i < rounds; i++)
		printf("%s%" PRIu64, i ? "," : "", took[i]);
	printf("]\n");
	free(took);
}

/* --- packet --- */

static size_t frame(uint8_t *out, int family, bool outbound, bool syn, struct ip own,
	struct ip remote)
{
	struct ethhdr eth = { WEIR_MAC_GATEWAY, WEIR_MAC_SANDBOX,
		htons(family == 4 ? ETH_P_IP : ETH_P_IPV6) };
	struct tcphdr tcp = { .source = htons(outbound ? 40000 : PORT),
		.dest = htons(outbound ? PORT : 40000), .doff = 5, .syn = syn, .ack = !syn };
	struct ip from = outbound ? own : remote, to = outbound ? remote : own;
	size_t n = sizeof(eth);

	memcpy(out, &eth, sizeof(eth));
	if (family == 4) {
		struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP,
			.tot_len = htons(sizeof(ip) + sizeof(tcp)) };

		memcpy(&ip.saddr, from.a, 4);
		memcpy(&ip.daddr, to.a, 4);
		memcpy(out + n, &ip, sizeof(ip));
		n += sizeof(ip);
	} else {
		struct ipv6hdr ip = { .version = 6, .hop_limit = 64, .nexthdr = IPPROTO_TCP,
			.payload_len = htons(sizeof(tcp)) };

		memcpy(&ip.saddr, from.a, 16);
		memcpy(&ip.daddr, to.a, 16);
		memcpy(out + n, &ip, sizeof(ip));
		n += sizeof(ip);
	}
	memcpy(out + n, &tcp, sizeof(tcp));
	return n + sizeof(tcp);
}

static uint32_t run(const char *prog, uint8_t *data, size_t n, uint32_t repeat, uint32_t *ret_ns)
{
	uint8_t out[256];
	/* the link is lo, number 1; packets towards the sandbox came in by a link, not from us */
	struct __sk_buff ctx = { .mark = strcmp(prog, "weir_verdict_test") == 0 ? SLOT : 0,
		.ifindex = 1, .ingress_ifindex = 1 };
	DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data, .data_size_in = (uint32_t)n,
		.data_out = out, .data_size_out = sizeof(out), .ctx_in = &ctx,
		.ctx_size_in = sizeof(ctx), .repeat = (int)repeat);

	if (bpf_prog_test_run_opts(datapath_fd(dp, prog), &opts) < 0)
		die("%s: BPF_PROG_TEST_RUN: %s", prog, strerror(errno));
	if (ret_ns)
		*ret_ns = opts.duration;
	return opts.retval;
}

static void expect(bool as_it_should, const char *what)
{
	if (!as_it_should)
		die("%s: not the verdict that this measures", what);
}

/* The time of each, once it is certain that the program does what is meant. */
static void measure_family(int family, uint32_t rules, struct ip own)
{
	struct ip remote = address(family, 4095 - (rules - 1)), alien = address(family, 0);
	uint8_t data[128];
	uint32_t out, in, judged, denied;
	size_t n;

	if (rules == 4096) /* all of them are allowed: ask outside */
		alien = family == 4 ? ip_v4(0x08080808) : ip_raw(6, (uint8_t[16]){ 0x26 });
	n = frame(data, family, true, true, own, remote);
	expect(run("weir_from_sandbox", data, n, 1, NULL) == 0, "first packet");
	n = frame(data, family, true, false, own, remote);
	expect(run("weir_from_sandbox", data, n, REPEAT, &out) == 0, "packet of a flow");
	n = frame(data, family, false, false, own, remote);
	expect(run("weir_to_sandbox", data, n, REPEAT, &in) == 0, "answer");
	n = frame(data, family, true, true, own, remote);
	expect(run("weir_verdict_test", data, n, REPEAT, &judged) >> 28 == WEIR_ALLOW, "judgement");
	n = frame(data, family, true, true, own, alien);
	expect(run("weir_verdict_test", data, n, REPEAT, &denied) >> 28 == WEIR_DENY, "refusal");
	printf("%s\"%d\": {\"flow_out\": %u, \"flow_in\": %u, \"allowed\": %u, \"denied\": %u}",
		family == 4 ? "{" : ", ", family, out, in, judged, denied);
}

static void do_packet(uint32_t rules)
{
	uint8_t own6[16] = { 0xfd, 0x77, [15] = 1 };
	struct ip ip4 = ip_v4(OWN4), ip6 = ip_raw(6, own6);

	slot_take(SLOT, 1, ip4, ip6);
	for (int family = 4; family <= 6; family += 2) {
		auto_policy struct policy *p = policy_of(family, rules, 0);

		commit(SLOT, (uint32_t)family, p);
		measure_family(family, rules, family == 4 ? ip4 : ip6);
	}
	printf("}\n");
}

/* --- link --- */

static void do_link(const char *link, const char *ip4, const char *ip6)
{
	uint32_t ifindex = if_nametoindex(link), id = 0;
	struct ip own4, own6;
	char line[64];
	struct err err;

	if (!ifindex || ip_from(str_c(ip4), &own4) < 0 || ip_from(str_c(ip6), &own6) < 0)
		die("no such link or address");
	slot_take(SLOT, ifindex, own4, own6);
	if (datapath_attach(dp, ifindex, &err) < 0)
		die("%s", err.text);
	while (puts("ok"), fflush(stdout), fgets(line, sizeof(line), stdin)) {
		struct str rest = str_n(line, strcspn(line, "\n"));
		struct str family = str_skip(rest, 7);
		auto_policy struct policy *p = NULL;
		uint64_t rules;

		if (!str_starts(rest, STR("commit ")) || family.n < 3 ||
			str_u64(str_skip(family, 2), POLICY_RULES_MAX, &rules) < 0)
			die("not a command: %s", line);
		p = policy_of(family.p[0] - '0', (uint32_t)rules, 0);
		commit(SLOT, ++id, p);
	}
	datapath_detach(dp, ifindex, NULL);
}

int main(int argc, char **argv)
{
	static struct policy_floor floor;
	struct policy_floor_spec spec = { 0 };
	const char *what = argc > 1 ? argv[1] : "";
	char name[64];
	struct err err;

	snprintf(name, sizeof(name), "weir-bench-%d", (int)getpid());
	if (datapath_open("/sys/fs/bpf", name, &dp, &err) < 0 ||
		datapath_unpin("/sys/fs/bpf", name, &err) < 0) /* the descriptors keep it */
		die("%s", err.text);
	prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
	prefix_from(STR("fd77:6569:7200::/64"), true, &spec.range6);
	prefix_from(STR("10.42.0.0/16"), true, &spec.overlay4);
	if (policy_floor_build(&spec, &floor, &err) < 0 || datapath_floor_set(dp, &floor, &err) < 0)
		die("%s", err.text);
	if (strcmp(what, "commit") == 0 && argc == 5)
		do_commit((uint32_t)number(argv[2]), (uint32_t)number(argv[3]),
			(uint32_t)number(argv[4]));
	else if (strcmp(what, "packet") == 0 && argc == 3)
		do_packet((uint32_t)number(argv[2]));
	else if (strcmp(what, "link") == 0 && argc == 5)
		do_link(argv[2], argv[3], argv[4]);
	else
		die("commit SLOTS RULES ROUNDS | packet RULES | link LINK IP4 IP6");
	datapath_free(dp);
	return 0;
}

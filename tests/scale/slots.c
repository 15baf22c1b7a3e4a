/*
 * slots [N]: N policied slots (4,000) without processes, for the datapath alone.
 *
 * Own pinned maps, filled by the product's own datapath_commit() with random policies of different
 * sizes, one for each slot. Then packets: for each slot the kernel program's verdict, asked by
 * BPF_PROG_TEST_RUN, is held against the reference evaluator on the slot's own policy. The same once
 * more after thousands of updates of a few slots, which must not have touched the others.
 *
 * At 10, 1,000 and N slots one update of a small policy is timed: a new version written, the slot
 * flipped, a version before deleted. Output is TAP with a table between; the last line is one of
 * figures. With N of 4,000 or more the times are judged, too.
 */
#include <fcntl.h>
#include <time.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf.h>
#include <arpa/inet.h>
#include "base/clock.h"
#include "base/fd.h"
#include "datapath/datapath.h"

#define SLOTS_DEFAULT 4000u
#define PACKETS	      8u    /* per slot and look */
#define UPDATES	      4000u /* timed, at each count */
#define CHURNED	      16u   /* slots whose policies are updated */
#define JUDGED	      4000u
#define P99_LIMIT_NS  (50 * NS_PER_US)
#define FLAT	      2.0
#define IFINDEX	      100000000u /* no link of the machine has it */
#define RANGE	      0x0a3c0000u /* 10.60.0.0 */
#define NS_PER_US     1000ull

static struct datapath *dp;
static struct policy_floor floor_list;
static const struct policy_knobs knobs = { .reject = true };
static struct policy **in_force; /* by slot */
static uint32_t next_policy = 1;
static uint64_t rng = 0x9e3779b97f4a7c15ull;
static unsigned int tests, failed;

static uint32_t draw(uint32_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % n);
}

static void _printf_(2, 3) check(bool holds, const char *fmt, ...)
{
	va_list ap;

	printf("%s %u - ", holds ? "ok" : "not ok", ++tests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	failed += !holds;
}

static _noreturn_ void give_up(const struct err *err)
{
	fprintf(stderr, "slots: %s\n", err->text);
	exit(1);
}

/* --- policies --- */

/* 20.0.0.0/8 and 30.0.0.0/8: outside of the floor, and narrow enough that rules meet. */
static struct ip draw_addr(void)
{
	return ip_v4((draw(2) ? 20u : 30u) << 24 | draw(4) << 16 | draw(8) << 8 | draw(4));
}

static void draw_rule(struct policy *p)
{
	static const uint8_t lens[] = { 32, 32, 24, 16, 30 };

	policy_add_rule(p, draw(100) < 70 ? WEIR_ALLOW : WEIR_DENY);
	for (uint32_t n = 1 + draw(2); n > 0; n--)
		policy_add_prefix(p, prefix_of(draw_addr(), lens[draw(ARRAY_SIZE(lens))]));
	for (uint32_t n = draw(3); n > 0; n--) {
		uint16_t lo = (uint16_t)(1000 + draw(64)), hi = (uint16_t)(lo + draw(16));

		policy_add_port(p, 1 + draw(3), lo, hi);
	}
}

/* Mostly small; one in a hundred has what a large client would send. */
static struct policy *draw_policy(void)
{
	struct policy *p = policy_new(POLICY_NATIVE, draw(5) == 0 ? WEIR_ALLOW : WEIR_DENY);
	uint32_t rules = draw(100) == 0 ? 256 : draw(10) == 0 ? 32 : 1 + draw(8);

	for (uint32_t i = 0; p && i < rules; i++)
		draw_rule(p);
	return p;
}

/* What most clients put: three networks with a port each, and one address. */
static struct policy *small_policy(void)
{
	struct policy *p = policy_new(POLICY_NATIVE, WEIR_DENY);

	for (int i = 0; i < 4; i++) {
		uint16_t port = (uint16_t)(1000 + draw(64));

		policy_add_rule(p, WEIR_ALLOW);
		policy_add_prefix(p, prefix_of(draw_addr(), i ? 24 : 32));
		if (i)
			policy_add_port(p, POLICY_TCP, port, port);
	}
	return p;
}

static void put_in_force(uint32_t slot, struct policy *p)
{
	struct err err = { .code = 0 };

	if (!p || datapath_commit(dp, slot, next_policy++, p, &knobs, &err) < 0)
		give_up(&err);
	policy_free(in_force[slot]);
	in_force[slot] = p;
}

static void add_slot(uint32_t slot)
{
	struct datapath_slot s = { .slot = slot, .ifindex = IFINDEX + slot,
		.ip4 = ip_v4(RANGE + slot) };
	struct err err = { .code = 0 };

	if (datapath_slot_set(dp, &s, &err) < 0)
		give_up(&err);
	put_in_force(slot, draw_policy());
}

/* --- verdicts --- */

static uint32_t ask_kernel(uint32_t slot, struct ip to, uint8_t proto, uint16_t port)
{
	uint8_t frame[64] = { 0 };
	struct ethhdr eth = { WEIR_MAC_GATEWAY, WEIR_MAC_SANDBOX, htons(ETH_P_IP) };
	struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = proto,
		.tot_len = htons(proto == IPPROTO_TCP ? 40 : 28), .saddr = htonl(RANGE + slot),
		.daddr = htonl(ip_v4_u32(to)) };
	uint16_t ports[2] = { htons(40000), htons(port) };
	struct __sk_buff ctx = { .mark = slot };
	DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = 60,
		.ctx_in = &ctx, .ctx_size_in = sizeof(ctx));

	memcpy(frame, &eth, 14);
	memcpy(frame + 14, &ip, 20);
	memcpy(frame + 34, ports, 4);
	if (proto == IPPROTO_TCP) {
		frame[34 + 12] = 5 << 4;
		frame[34 + 13] = 0x02; /* SYN */
	} else {
		frame[34 + 5] = 8;
	}
	if (bpf_prog_test_run_opts(datapath_fd(dp, "weir_verdict_test"), &opts) < 0) {
		perror("slots: BPF_PROG_TEST_RUN");
		exit(1);
	}
	return opts.retval;
}

static uint32_t ask_reference(uint32_t slot, struct ip to, uint8_t proto, uint16_t port)
{
	struct policy_verdict v = policy_reference(in_force[slot], to, proto, port, NULL, 0);
	enum weir_reason reason = v.rule == WEIR_RULE_NONE ? WEIR_R_DEFAULT : WEIR_R_RULE;

	return WEIR_TEST_RESULT(v.verdict, reason, 0, v.rule);
}

static void check_verdicts(uint32_t n, const char *when)
{
	unsigned int differ = 0, allowed = 0;

	for (uint32_t slot = 1; slot <= n; slot++)
		for (unsigned int i = 0; i < PACKETS; i++) {
			struct ip to = draw_addr();
			uint8_t proto = draw(2) ? IPPROTO_TCP : IPPROTO_UDP;
			uint16_t port = (uint16_t)(1000 + draw(80));
			uint32_t got = ask_kernel(slot, to, proto, port);

			allowed += got >> 28;
			if (got == ask_reference(slot, to, proto, port))
				continue;
			if (!differ++)
				printf("# slot %u, %s port %u: kernel %#x, reference %#x\n", slot,
					ip_text(to).s, port, got,
					ask_reference(slot, to, proto, port));
		}
	check(differ == 0, "%s: %u slots, %u packets, the kernel and the reference agree", when, n,
		n * PACKETS);
	/* Agreement on one verdict alone would mean little. */
	check(allowed > n * PACKETS / 20 && allowed < n * PACKETS * 19 / 20,
		"%s: both verdicts occur (%u allowed)", when, allowed);
}

/* --- prices --- */

struct price { /* µs */
	uint32_t slots;
	double wall50, wall99; /* as a caller waits */
	double cpu50, cpu99;   /* of this thread, in the kernel and outside: what it costs */
	double compile50;      /* of that, without the kernel */
};

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static double quantile(uint64_t *ns, size_t n, double q)
{
	qsort(ns, n, sizeof(*ns), by_size);
	return (double)ns[MIN(n - 1, (size_t)((double)n * q))] / (double)NS_PER_US;
}

/* Back to back, so that from the twentieth millisecond on each commit also deletes the version of
 * the one that went 20 ms before it: the whole of an update, in its steady state. */
static struct price take_price(uint32_t n)
{
	static uint64_t wall[UPDATES], cpu[UPDATES], compile[UPDATES];
	struct price price = { .slots = n };

	for (unsigned int warm = 0; warm < 2; warm++)
		for (unsigned int i = 0; i < UPDATES; i++) {
			uint32_t slot = 1 + i % MIN(n, CHURNED);
			struct policy *p = small_policy();
			uint64_t start = cpu_ns(), from = clock_mono_ns();
			struct policy_image img;

			put_in_force(slot, p);
			wall[i] = clock_mono_ns() - from;
			cpu[i] = cpu_ns() - start;
			start = cpu_ns();
			if (policy_compile(p, &knobs, &img, NULL) == 0)
				policy_image_done(&img);
			compile[i] = cpu_ns() - start;
		}
	price.wall50 = quantile(wall, UPDATES, 0.5);
	price.wall99 = quantile(wall, UPDATES, 0.99);
	price.cpu50 = quantile(cpu, UPDATES, 0.5);
	price.cpu99 = quantile(cpu, UPDATES, 0.99);
	price.compile50 = quantile(compile, UPDATES, 0.5);
	printf("# %u slots: an update takes p50 %.1f, p99 %.1f µs; of CPU p50 %.1f, p99 %.1f µs, "
	       "of it compiling %.1f µs\n", n, price.wall50, price.wall99, price.cpu50,
		price.cpu99, price.compile50);
	fflush(stdout);
	return price;
}

/* As the kernel accounts it; bytes. */
static uint64_t map_memory(const char *name)
{
	auto_buf struct buf text = BUF_MAX(4096);
	char path[64];
	uint64_t bytes = 0;
	struct str rest;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", datapath_fd(dp, name));
	if (file_read(AT_FDCWD, path, &text) < 0)
		return 0;
	for (rest = buf_str(&text); rest.n;) {
		struct str line = str_cut(&rest, '\n'), key = str_cut(&line, '\t');

		if (str_eq_c(key, "memlock:"))
			str_u64(line, UINT64_MAX, &bytes);
	}
	return bytes;
}

static uint64_t show_memory(uint32_t n)
{
	static const char *const maps[] = { "weir_slots", "weir_links", "weir_policies",
		"weir_prefixes", "weir_ports", "weir_pins", "weir_flows", "weir_counters" };
	uint64_t all = 0;

	printf("# map memory at %u slots, KiB:", n);
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		uint64_t bytes = map_memory(maps[i]);

		printf(" %s %" PRIu64, maps[i] + 5, bytes / 1024);
		all += bytes;
	}
	printf(", together %" PRIu64 "\n", all / 1024);
	return all;
}

/* --- the whole --- */

static bool empty(const char *map)
{
	char key[64];

	return bpf_map_get_next_key(datapath_fd(dp, map), NULL, key) < 0;
}

int main(int argc, char **argv)
{
	static const uint32_t steps[] = { 10, 1000 };
	struct policy_floor_spec spec = { 0 };
	struct price prices[ARRAY_SIZE(steps) + 1];
	uint32_t have = 0, total = SLOTS_DEFAULT;
	uint64_t start = clock_mono_ns(), memory, parsed = SLOTS_DEFAULT;
	struct err err = { .code = 0 };
	size_t n_prices = 0;
	char name[32];

	if (argc > 2 || (argc == 2 && str_u64(str_c(argv[1]), WEIR_SLOTS_MAX, &parsed) < 0) ||
		parsed < CHURNED) {
		fprintf(stderr, "usage: slots [N], N from %u to %u\n", CHURNED, WEIR_SLOTS_MAX);
		return 2;
	}
	total = (uint32_t)parsed;
	in_force = calloc(total + 1, sizeof(struct policy *));
	snprintf(name, sizeof(name), "scale-slots-%d", getpid());
	if (!in_force || datapath_open("/sys/fs/bpf", name, &dp, &err) < 0)
		give_up(&err);
	datapath_unpin("/sys/fs/bpf", name, &err); /* the descriptors keep them; nothing can be left */
	if (prefix_from(STR("10.60.0.0/16"), true, &spec.range4) < 0 ||
		policy_floor_build(&spec, &floor_list, &err) < 0 ||
		datapath_floor_set(dp, &floor_list, &err) < 0)
		give_up(&err);

	for (size_t i = 0; i <= ARRAY_SIZE(steps); i++) {
		uint32_t count = i < ARRAY_SIZE(steps) ? steps[i] : total;

		if (count > total || count <= have)
			continue;
		while (have < count)
			add_slot(++have);
		if (i == ARRAY_SIZE(steps))
			check_verdicts(have, "filled");
		prices[n_prices++] = take_price(have);
	}
	check_verdicts(have, "after the updates");
	memory = show_memory(have);
	for (uint32_t slot = 1; slot <= total; slot++) {
		datapath_slot_clear(dp, slot);
		policy_free(in_force[slot]);
	}
	datapath_sweep(dp);
	check(empty("weir_links") && empty("weir_policies") && empty("weir_prefixes") &&
			empty("weir_ports"),
		"nothing is left in the maps after the slots");
	if (total >= JUDGED) {
		const struct price *first = &prices[0], *last = &prices[n_prices - 1];

		/* CPU time: what others do on the machine meanwhile is not ours. */
		check(last->cpu50 <= FLAT * first->cpu50,
			"an update costs at %u slots what it cost at %u (%.1f and %.1f µs)",
			last->slots, first->slots, last->cpu50, first->cpu50);
		check(last->cpu99 * (double)NS_PER_US <= (double)P99_LIMIT_NS,
			"p99 of an update at %u slots is below 50 µs of CPU (%.1f)", last->slots,
			last->cpu99);
	}
	printf("1..%u\n# tests %u\n# pass %u\n# fail %u\n", tests, tests, tests - failed, failed);
	printf("slots: %u policies in %.1f s; CPU of an update p50/p99", total,
		(double)(clock_mono_ns() - start) / 1e9);
	for (size_t i = 0; i < n_prices; i++)
		printf("%s %.1f/%.1f µs at %u", i ? "," : "", prices[i].cpu50, prices[i].cpu99,
			prices[i].slots);
	printf("; maps %" PRIu64 " MiB\n", memory >> 20);
	datapath_free(dp);
	free(in_force);
	return failed != 0;
}

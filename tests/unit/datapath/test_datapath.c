/*
 * datapath, pins and keys against the kernel's maps: adoption, stale pins, commits that leave
 * nothing behind, lives of a slot. Needs root; links and packets are for tests/netlab.
 */
#include <bpf/bpf.h>
#include <netinet/in.h>
#include "base/clock.h"
#include "datapath/datapath.h"
#include "ring.h"
#include "datapath/pins.h"
#include "policy/createos.h"
#include "../unit.h"

#define BPFFS	"/sys/fs/bpf"
#define SKIPPED 77

static char name[64];
static struct policy_floor floor_list;
static const struct policy_knobs knobs = { .reject = true };

static struct datapath *reopen(struct datapath *dp)
{
	struct err err = { 0 };

	datapath_free(dp);
	dp = NULL;
	if (datapath_open(BPFFS, name, &dp, &err) < 0)
		fail_msg("%s", err.text);
	return dp;
}

static int fresh(void **state)
{
	datapath_unpin(BPFFS, name, NULL);
	*state = reopen(NULL);
	return 0;
}

static int gone(void **state)
{
	datapath_free(*state);
	return datapath_unpin(BPFFS, name, NULL);
}

static size_t count(const struct datapath *dp, const char *map)
{
	uint8_t key[64], next[64], *last = NULL;
	size_t n = 0;

	while (bpf_map_get_next_key(datapath_fd(dp, map), last, next) == 0) {
		memcpy(key, next, sizeof(key));
		last = key;
		n++;
	}
	return n;
}

static void set_slot(struct datapath *dp, uint32_t slot, uint32_t ifindex)
{
	struct datapath_slot s = { .slot = slot, .ifindex = ifindex, .ip4 = ip_v4(0x0a3c0000 + slot) };

	assert_int_equal(datapath_slot_set(dp, &s, NULL), 0);
}

static struct policy *policy_of(const char *a, const char *b)
{
	struct str rules[] = { str_c(a), str_c(b) };
	struct policy *p = NULL;

	assert_int_equal(createos_policy(rules, b ? 2 : 1, &floor_list, &p, NULL), 0);
	return p;
}

static void commit(struct datapath *dp, uint32_t slot, uint32_t id, const char *a, const char *b)
{
	auto_policy struct policy *p = policy_of(a, b);
	struct err err = { 0 };

	if (datapath_commit(dp, slot, id, p, &knobs, &err) < 0)
		fail_msg("%s", err.text);
}

static void commits_leave_nothing_behind(void **state)
{
	struct datapath *dp = *state;
	struct weir_slot slot;

	set_slot(dp, 1, 11);
	commit(dp, 1, 99, "10.9.0.0/16:8080", "1.1.1.1:443"); /* one range each needs no table */
	assert_int_equal(count(dp, "weir_prefixes"), 2);
	assert_int_equal(count(dp, "weir_ports"), 0);
	dp = *state = reopen(dp);
	commit(dp, 1, 100, "1.1.1.1:8080", "1.1.1.1:443");
	dp = *state = reopen(dp); /* closing deletes what is retired */
	assert_int_equal(count(dp, "weir_policies"), 1);
	assert_int_equal(count(dp, "weir_prefixes"), 1);
	assert_int_equal(count(dp, "weir_ports"), 6);
	datapath_slot_get(dp, 1, &slot);
	assert_int_equal(slot.policy, 100);
	commit(dp, 1, 100, "2.2.2.2", NULL); /* done already: nothing happens */
	assert_int_equal(count(dp, "weir_prefixes"), 1);
	for (uint32_t id = 101; id < 200; id++)
		commit(dp, 1, id, "10.9.0.0/16:8080", "10.9.0.0/16:443");
	dp = *state = reopen(dp);
	assert_int_equal(count(dp, "weir_policies"), 1);
	assert_int_equal(count(dp, "weir_prefixes"), 1);
	assert_int_equal(count(dp, "weir_ports"), 6);
	datapath_slot_clear(dp, 1);
	dp = *state = reopen(dp);
	assert_int_equal(count(dp, "weir_policies"), 0);
	assert_int_equal(count(dp, "weir_prefixes"), 0);
	assert_int_equal(count(dp, "weir_ports"), 0);
	assert_int_equal(count(dp, "weir_links"), 0);
}

static void adoption(void **state)
{
	struct datapath *dp = *state;
	struct weir_slot slot;

	assert_false(datapath_adopted(dp));
	set_slot(dp, 9, 19);
	commit(dp, 9, 7, "1.1.1.1:8080", "1.1.1.1:443");
	dp = *state = reopen(dp);
	assert_true(datapath_adopted(dp));
	assert_int_equal(datapath_slot_get(dp, 9, &slot), 0);
	assert_int_equal(slot.policy, 7);
	assert_int_equal(slot.ifindex, 19);
	commit(dp, 9, 8, "3.3.3.3", NULL); /* the keys of 7 were found again */
	dp = *state = reopen(dp);
	assert_int_equal(count(dp, "weir_prefixes"), 1);
	assert_int_equal(count(dp, "weir_ports"), 0);
}

static void write_version(struct datapath *dp, uint32_t maps, uint32_t lives)
{
	struct weir_version v = { maps, lives };
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(datapath_fd(dp, "weir_version"), &zero, &v, BPF_ANY), 0);
}

static struct weir_flow_key add_flow(struct datapath *dp, uint32_t slot, uint32_t policy)
{
	struct weir_flow_key key = { .slot = slot, .family = 4, .proto = 6 };
	struct weir_flow flow = { .policy = policy };

	assert_int_equal(bpf_map_update_elem(datapath_fd(dp, "weir_flows"), &key, &flow, BPF_ANY), 0);
	return key;
}

static void stale_pins_are_replaced(void **state)
{
	static const uint32_t versions[][2] = { { WEIR_MAPS_VERSION + 1, WEIR_LIVES_VERSION + 1 },
		{ WEIR_MAPS_VERSION, WEIR_LIVES_VERSION - 1 } };
	struct datapath *dp = *state;
	struct weir_slot slot;
	char path[200];

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		set_slot(dp, 9, 19);
		commit(dp, 9, 7, "10.9.0.0/16", NULL);
		add_flow(dp, 9, 7);
		write_version(dp, versions[i][0], versions[i][1]);
		dp = *state = reopen(dp);
		assert_false(datapath_adopted(dp));
		assert_int_equal(datapath_slot_get(dp, 9, &slot), -ENOENT);
		assert_int_equal(count(dp, "weir_prefixes") + count(dp, "weir_flows"), 0);
	}
	dp = *state = reopen(dp);
	assert_true(datapath_adopted(dp));
	/* a missing map is as bad as another version */
	add_flow(dp, 9, 7);
	snprintf(path, sizeof(path), BPFFS "/%s/weir_ports", name);
	assert_int_equal(unlink(path), 0);
	dp = *state = reopen(dp);
	assert_false(datapath_adopted(dp));
	assert_int_equal(count(dp, "weir_flows"), 0);
}

static void lives_outlast_another_layout_of_policies(void **state)
{
	struct datapath *dp = *state;
	struct weir_slot before, after;
	struct weir_flow_key key;
	struct weir_flow flow;
	char path[200];

	set_slot(dp, 9, 19);
	commit(dp, 9, 7, "10.9.0.0/16", NULL);
	key = add_flow(dp, 9, 7);
	datapath_slot_get(dp, 9, &before);
	write_version(dp, WEIR_MAPS_VERSION + 1, WEIR_LIVES_VERSION);
	dp = *state = reopen(dp);
	assert_false(datapath_adopted(dp));
	assert_int_equal(datapath_slot_get(dp, 9, &after), 0);
	assert_int_equal(after.policy, 0); /* quarantined: the policy itself is not carried over */
	assert_int_equal(after.epoch, before.epoch);
	assert_int_equal(after.ifindex, 19);
	assert_int_equal(count(dp, "weir_prefixes") + count(dp, "weir_policies"), 0);
	assert_int_equal(bpf_map_lookup_elem(datapath_fd(dp, "weir_flows"), &key, &flow), 0);
	commit(dp, 9, 8, "10.9.0.0/16", NULL);
	dp = *state = reopen(dp);
	assert_true(datapath_adopted(dp)); /* and what stands there now is ours */
	datapath_slot_get(dp, 9, &after);
	assert_int_equal(after.policy, 8);
	/* the control: lives that are not whole are nobody's */
	write_version(dp, WEIR_MAPS_VERSION + 1, WEIR_LIVES_VERSION);
	snprintf(path, sizeof(path), BPFFS "/%s/weir_names", name);
	assert_int_equal(unlink(path), 0);
	dp = *state = reopen(dp);
	assert_int_equal(datapath_slot_get(dp, 9, &after), -ENOENT);
	assert_int_equal(count(dp, "weir_flows"), 0);
}

static void lives_of_a_slot(void **state)
{
	struct datapath *dp = *state;
	struct weir_slot before, after;
	uint32_t ifindex = 11, slot;
	struct err err;

	set_slot(dp, 3, 11);
	commit(dp, 3, 50, "1.1.1.1", NULL);
	datapath_slot_get(dp, 3, &before);
	set_slot(dp, 3, 12);
	datapath_slot_get(dp, 3, &after);
	assert_int_equal(after.policy, 0);
	assert_int_equal(after.epoch, before.epoch + 1);
	assert_true(bpf_map_lookup_elem(datapath_fd(dp, "weir_links"), &ifindex, &slot) < 0);
	/* the former link's number is another slot's now: clearing leaves it alone */
	set_slot(dp, 4, 12);
	datapath_slot_clear(dp, 3);
	ifindex = 12;
	assert_int_equal(bpf_map_lookup_elem(datapath_fd(dp, "weir_links"), &ifindex, &slot), 0);
	assert_int_equal(slot, 4);
	commit(dp, 4, 51, "1.1.1.1", NULL);
	datapath_quarantine(dp, 4);
	datapath_slot_get(dp, 4, &after);
	assert_int_equal(after.policy, 0);
	assert_true(datapath_slot_set(dp, &(struct datapath_slot){ .slot = 0, .ifindex = 1 }, &err) < 0);
	assert_true(datapath_slot_set(dp,
		&(struct datapath_slot){ .slot = WEIR_SLOTS_MAX + 1, .ifindex = 1 }, &err) < 0);
	datapath_slot_clear(dp, UINT32_MAX);
}

static void refused_commits_change_nothing(void **state)
{
	struct datapath *dp = *state;
	auto_policy struct policy *big = policy_new(POLICY_NATIVE, WEIR_DENY);
	struct weir_slot slot;
	struct err err = { 0 };

	set_slot(dp, 1, 11);
	commit(dp, 1, 5, "1.1.1.1", NULL);
	policy_add_rule(big, WEIR_ALLOW);
	for (uint32_t i = 0; i < POLICY_PORTS_MAX; i++)
		policy_add_port(big, POLICY_TCP, (uint16_t)(4 * i), (uint16_t)(4 * i));
	for (uint32_t i = 0; i < 5; i++) {
		policy_add_rule(big, WEIR_DENY);
		policy_add_prefix(big, prefix_of(ip_v4(0x0b000000 + i), 32));
	}
	assert_int_equal(datapath_commit(dp, 1, 6, big, &knobs, &err), -E2BIG);
	assert_int_equal(err.kind, ERR_INVALID);
	datapath_slot_get(dp, 1, &slot);
	assert_int_equal(slot.policy, 5);
	assert_int_equal(count(dp, "weir_policies"), 1);
	assert_int_equal(count(dp, "weir_ports"), 0);
	assert_int_equal(datapath_commit(dp, 1, 0, big, &knobs, &err), -EINVAL);
	assert_int_equal(datapath_commit(dp, 1, 1u << 31, big, &knobs, &err), -EINVAL);
}

static void pins_and_the_sweep(void **state)
{
	struct datapath *dp = *state;
	struct pins pins = { datapath_fd(dp, "weir_pins"), datapath_fd(dp, "weir_ports") };
	auto_policy struct policy *p = policy_of("a.test:443", "a.test:80");
	struct policy_pin_image img;
	struct name a;

	name_from(STR("a.test"), &a, NULL);
	set_slot(dp, 1, 11);
	assert_int_equal(policy_pin(p, &knobs, ip_v4(0x01010101), &a, 1, 0x80000001, &img), 0);
	for (uint32_t id = 20; id < 23; id++)
		assert_int_equal(pin_set_image(&pins, id, ip_v4(0x01010101), &img, 1000), 0);
	assert_int_equal(datapath_commit(dp, 1, 21, p, &knobs, NULL), 0);
	assert_int_equal(pin_last_used(&pins, 21, ip_v4(0x01010101)), 1000);
	assert_int_equal(pin_set(&pins, 21, ip_v4(0x01010101), &img.decision, 2000), 0);
	assert_int_equal(pin_last_used(&pins, 21, ip_v4(0x01010101)), 1000); /* kept */
	assert_int_equal(pin_last_used(&pins, 21, ip_v4(0x01010102)), 0);
	assert_int_equal(count(dp, "weir_pins"), 3);
	assert_int_equal(datapath_sweep(dp), 2 * (1 + (int)img.n_ports));
	assert_int_equal(count(dp, "weir_pins"), 1);
	assert_int_equal(count(dp, "weir_ports"), img.n_ports);
	pin_delete(&pins, 21, ip_v4(0x01010101));
	pin_ports_delete(&pins, 21, img.ports, img.n_ports);
	assert_int_equal(count(dp, "weir_pins") + count(dp, "weir_ports"), 0);
	policy_pin_image_done(&img);
}

static void floor_is_replaced(void **state)
{
	struct datapath *dp = *state;
	static struct policy_floor f;
	struct weir_config config;
	uint32_t zero = 0, generation;
	struct prefix p;

	f = floor_list;
	assert_int_equal(datapath_floor_set(dp, &f, NULL), 0);
	assert_int_equal(count(dp, "weir_floor"), f.n);
	bpf_map_lookup_elem(datapath_fd(dp, "weir_config"), &zero, &config);
	generation = config.floor;
	prefix_from(STR("198.51.100.0/24"), true, &p);
	f.e[0] = (struct policy_floor_entry){ p, WEIR_FLOOR_OPERATOR };
	f.n = 5;
	assert_int_equal(datapath_floor_set(dp, &f, NULL), 0);
	assert_int_equal(count(dp, "weir_floor"), 5);
	bpf_map_lookup_elem(datapath_fd(dp, "weir_config"), &zero, &config);
	assert_int_equal(config.floor, generation + 1);
}

static void on_event(const struct weir_event *e, void *arg)
{
	(*(int *)arg)++;
}

static void quiet_life(void **state)
{
	struct datapath *dp = *state;
	struct weir_counters counters;
	struct events_ring *ring;
	int seen = 0;

	assert_int_equal(datapath_counters(dp, 1, &counters), 0);
	assert_int_equal(counters.out_packets, 0);
	assert_int_equal(datapath_counters(dp, 0, &counters), -EINVAL);
	assert_int_equal(datapath_fd(dp, "no such map"), -ENOENT);
	assert_int_equal(events_ring_open(datapath_fd(dp, "weir_events"), on_event, &seen, &ring, NULL),
		0);
	assert_true(events_ring_fd(ring) >= 0);
	assert_int_equal(events_ring_read(ring), 0);
	events_ring_free(ring);
	assert_int_equal(datapath_dns_workers(dp, WEIR_DNS_WORKERS_MAX + 1, NULL), -EINVAL);
	assert_true(datapath_dns_socket(dp, 0, IPPROTO_UDP, 4, 0, NULL) < 0); /* not a socket */
}

/* --- single packets, asked of a program --- */

#define SYN 0x02
#define ACK 0x10
#define RST 0x04

struct probe {
	uint32_t from, to; /* IPv4, host order */
	uint16_t from_port, to_port;
	uint8_t proto, flags; /* of TCP */
};

/* What the program returns; ctx says which slot (the mark) or link (ifindex) it is on. */
static uint32_t ask(struct datapath *dp, const char *program, struct __sk_buff *ctx,
	const struct probe *p)
{
	uint8_t frame[64] = { 0x02, 0x57, 0x45, 0x49, 0x52, 0x01, 0x02, 0x57, 0x45, 0x49, 0x52,
		0x02, 0x08, 0x00, 0x45, [17] = 50, [22] = 64 };
	DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame,
		.data_size_in = sizeof(frame), .ctx_in = ctx, .ctx_size_in = sizeof(*ctx));

	frame[23] = p->proto;
	for (int i = 0; i < 4; i++) {
		frame[26 + i] = (uint8_t)(p->from >> (24 - 8 * i));
		frame[30 + i] = (uint8_t)(p->to >> (24 - 8 * i));
	}
	frame[34] = (uint8_t)(p->from_port >> 8);
	frame[35] = (uint8_t)p->from_port;
	frame[36] = (uint8_t)(p->to_port >> 8);
	frame[37] = (uint8_t)p->to_port;
	frame[46] = 0x50; /* TCP: a header of 20 bytes */
	frame[47] = p->flags;
	if (bpf_prog_test_run_opts(datapath_fd(dp, program), &opts) < 0)
		fail_msg("%s: %s", program, strerror(errno));
	return opts.retval;
}

#define PASSES	  WEIR_TEST_RESULT(WEIR_ALLOW, WEIR_R_NONE, 0, WEIR_RULE_NONE)
#define DENIED(r) WEIR_TEST_RESULT(WEIR_DENY, r, 0, WEIR_RULE_NONE)

/* --- private networks --- */

#define OVERLAY 0x0a2a0000u

/* What the program makes of a packet of this slot, from one IPv4 address to another. */
static uint32_t verdict(struct datapath *dp, uint32_t slot, uint32_t from, uint32_t to,
	uint8_t proto, uint16_t port)
{
	return ask(dp, "weir_verdict_test", &(struct __sk_buff){ .mark = slot },
		&(struct probe){ from, to, 0x9c00, port, proto, SYN });
}

static uint32_t between(struct datapath *dp, uint32_t from, uint32_t to, uint16_t port)
{
	return verdict(dp, from, OVERLAY + from, OVERLAY + to, IPPROTO_TCP, port);
}

static void join(struct datapath *dp, uint32_t slot, uint32_t n, const uint32_t *nets)
{
	const struct calls open = { .fallback = WEIR_ALLOW };
	uint32_t version;

	for (uint32_t i = 0; i < n; i++)
		if (datapath_net_get(dp, nets[i], &version) < 0)
			assert_int_equal(datapath_net_set(dp, nets[i], 0, &open, NULL), 0);
	assert_int_equal(datapath_members_set(dp, slot, nets, n, NULL), 0);
}

/* Rows 10 and 26 of the decision table, and what stands around them. */
static void private_networks(void **state)
{
	const struct prefix range = prefix_of(ip_v4(OVERLAY), 16);
	struct policy_floor_spec spec = { .overlay4 = range };
	struct datapath *dp = *state;
	struct policy_floor floor;
	struct weir_member m;

	for (uint32_t slot = 1; slot <= 4; slot++) {
		set_slot(dp, slot, 10 + slot);
		if (slot < 4)
			commit(dp, slot, 10 + slot, "10.9.0.0/16:8080", NULL);
	}
	join(dp, 1, 2, (uint32_t[]){ 7, 9 });
	join(dp, 2, 1, (uint32_t[]){ 9 });
	join(dp, 3, 1, (uint32_t[]){ 8 });
	join(dp, 4, 1, (uint32_t[]){ 9 });
	/* Without a range there are no private networks: such a source is nobody's. */
	assert_int_equal(between(dp, 1, 2, 80), DENIED(WEIR_R_SPOOF));
	assert_int_equal(datapath_overlay_set(dp, range, NULL), 0);
	assert_int_equal(policy_floor_build(&spec, &floor, NULL), 0);
	assert_int_equal(datapath_floor_set(dp, &floor, NULL), 0);

	assert_int_equal(between(dp, 1, 2, 80), PASSES);
	assert_int_equal(between(dp, 2, 1, 53), PASSES); /* every port */
	assert_int_equal(verdict(dp, 1, OVERLAY + 1, OVERLAY + 2, IPPROTO_UDP, 9), PASSES);
	assert_int_equal(verdict(dp, 1, OVERLAY + 1, OVERLAY + 2, IPPROTO_GRE, 9),
		DENIED(WEIR_R_PROTOCOL));
	assert_int_equal(between(dp, 1, 2, WEIR_AGENT_PORT), DENIED(WEIR_R_OVERLAY));
	assert_int_equal(between(dp, 1, 3, 80), DENIED(WEIR_R_OVERLAY)); /* 7 and 9, against 8 */
	assert_int_equal(between(dp, 1, 4, 80), DENIED(WEIR_R_OVERLAY)); /* in quarantine */
	assert_int_equal(between(dp, 4, 1, 80), DENIED(WEIR_R_QUARANTINE));
	assert_int_equal(between(dp, 1, 99, 80), DENIED(WEIR_R_OVERLAY)); /* nobody */
	assert_int_equal(verdict(dp, 1, OVERLAY + 1, OVERLAY, IPPROTO_TCP, 80),
		DENIED(WEIR_R_OVERLAY));
	assert_int_equal(verdict(dp, 1, OVERLAY + 1, OVERLAY + 0xffff, IPPROTO_UDP, 80),
		DENIED(WEIR_R_OVERLAY));
	/* Sources: another's, its own of the other kind, and the overlay's towards the world. */
	assert_int_equal(verdict(dp, 3, OVERLAY + 2, OVERLAY + 1, IPPROTO_TCP, 80),
		DENIED(WEIR_R_SPOOF));
	assert_int_equal(verdict(dp, 1, 0x0a3c0001, OVERLAY + 2, IPPROTO_TCP, 80) >> 20 & 0xff,
		WEIR_R_FLOOR);
	assert_int_equal(verdict(dp, 1, OVERLAY + 1, 0x0a090001, IPPROTO_TCP, 8080),
		DENIED(WEIR_R_SPOOF));
	assert_int_equal(verdict(dp, 1, 0x0a3c0001, 0x0a090001, IPPROTO_TCP, 8080) >> 28, WEIR_ALLOW);

	/* Every pair of places in two full sets. */
	for (uint32_t i = 0; i < WEIR_NETS_MAX; i++)
		for (uint32_t j = 0; j < WEIR_NETS_MAX; j++) {
			uint32_t a[WEIR_NETS_MAX], b[WEIR_NETS_MAX];

			for (uint32_t k = 0; k < WEIR_NETS_MAX; k++) {
				a[k] = k < i ? 1 + k : 101 + 2 * k;
				b[k] = k < j ? 51 + k : 102 + 2 * k;
			}
			join(dp, 1, WEIR_NETS_MAX, a);
			join(dp, 2, WEIR_NETS_MAX, b);
			assert_int_equal(between(dp, 1, 2, 80), DENIED(WEIR_R_OVERLAY));
			a[i] = b[j] = 100;
			join(dp, 1, WEIR_NETS_MAX, a);
			join(dp, 2, WEIR_NETS_MAX, b);
			assert_int_equal(between(dp, 1, 2, 80), PASSES);
		}

	/* A slot's next life is in none; a set must be one. */
	set_slot(dp, 2, 12);
	commit(dp, 2, 22, "10.9.0.0/16:8080", NULL);
	datapath_members_get(dp, 2, &m);
	assert_int_equal(m.n, 0);
	assert_int_equal(between(dp, 1, 2, 80), DENIED(WEIR_R_OVERLAY));
	assert_int_equal(datapath_members_set(dp, 2, (uint32_t[]){ 9, 7 }, 2, NULL), -EINVAL);
	assert_int_equal(datapath_members_set(dp, 2, (uint32_t[]){ 7, 7 }, 2, NULL), -EINVAL);
	assert_int_equal(datapath_members_set(dp, 2, (uint32_t[]){ 0 }, 1, NULL), -EINVAL);
	assert_int_equal(datapath_members_set(dp, 2, (uint32_t[9]){ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, 9,
				 NULL), -EINVAL);
	join(dp, 1, 0, NULL);
	assert_int_equal(count(dp, "weir_members"), 2);
}

/* --- ingress --- */

#define LOOPBACK 1u /* the link that BPF_PROG_TEST_RUN has */
#define OWN	 0x0a3c0005u
#define VISITOR	 40000
#define SHOT	 2u

/* To the sandbox in slot 5, from the gateway. */
static uint32_t visit(struct datapath *dp, uint32_t to, uint16_t port, uint8_t proto)
{
	return ask(dp, "weir_to_sandbox", &(struct __sk_buff){ .ifindex = LOOPBACK },
		&(struct probe){ WEIR_LINK_GATEWAY, to, VISITOR, port, proto, SYN });
}

static uint32_t reply(struct datapath *dp, uint16_t port, uint8_t flags)
{
	return ask(dp, "weir_verdict_test", &(struct __sk_buff){ .mark = 5 },
		&(struct probe){ OWN, WEIR_LINK_GATEWAY, port, VISITOR, IPPROTO_TCP, flags });
}

/* Answers of the DNS proxy: by the mark of its sockets, or by their port. Both only from here. */
static void dns_answers(void **state)
{
	struct probe from_53 = { WEIR_LINK_GATEWAY, OWN, 53, VISITOR, IPPROTO_UDP, 0 };
	struct probe other = { WEIR_LINK_GATEWAY, OWN, 54, VISITOR, IPPROTO_UDP, 0 };
	struct __sk_buff plain = { .ifindex = LOOPBACK };
	struct __sk_buff marked = { .ifindex = LOOPBACK, .mark = WEIR_MARK_ANSWER };
	struct __sk_buff mistaken = { .ifindex = LOOPBACK, .mark = WEIR_MARK_ANSWER + 1 };
	struct __sk_buff forwarded = { .ifindex = LOOPBACK, .ingress_ifindex = LOOPBACK,
		.mark = WEIR_MARK_ANSWER };
	struct datapath *dp = *state;
	struct weir_counters c;

	set_slot(dp, 5, LOOPBACK);
	commit(dp, 5, 11, "10.9.0.0/16:8080", NULL);
	assert_int_equal(ask(dp, "weir_to_sandbox", &plain, &from_53), 0);
	assert_int_equal(ask(dp, "weir_to_sandbox", &marked, &from_53), 0);
	assert_int_equal(ask(dp, "weir_to_sandbox", &marked, &other), 0);
	assert_int_equal(ask(dp, "weir_to_sandbox", &plain, &other), SHOT);
	assert_int_equal(ask(dp, "weir_to_sandbox", &mistaken, &other), SHOT);
	assert_int_equal(ask(dp, "weir_to_sandbox", &forwarded, &from_53), SHOT);
	assert_int_equal(datapath_counters(dp, 5, &c), 0);
	assert_int_equal(c.dns_packets, 3);
	assert_int_equal(c.denied[WEIR_R_UNSOLICITED], 3);
}

static void ingress(void **state)
{
	struct datapath *dp = *state;
	struct weir_counters c;

	set_slot(dp, 5, LOOPBACK);
	assert_int_equal(visit(dp, WEIR_LINK_SANDBOX, WEIR_AGENT_PORT, IPPROTO_TCP), 0);
	assert_int_equal(datapath_ingress_set(dp, 5, true, NULL), 0);
	assert_int_equal(visit(dp, OWN, 80, IPPROTO_TCP), SHOT); /* in quarantine */
	assert_int_equal(reply(dp, 80, ACK), DENIED(WEIR_R_QUARANTINE));
	commit(dp, 5, 11, "10.9.0.0/16:8080", NULL);
	assert_int_equal(visit(dp, OWN, 80, IPPROTO_TCP), 0);
	assert_int_equal(visit(dp, OWN, 53, IPPROTO_TCP), 0); /* every port */
	assert_int_equal(visit(dp, OWN, WEIR_AGENT_PORT, IPPROTO_TCP), SHOT); /* but one */
	assert_int_equal(visit(dp, OWN, 80, IPPROTO_UDP), SHOT);
	assert_int_equal(visit(dp, OWN + 1, 80, IPPROTO_TCP), SHOT); /* another's address */
	assert_int_equal(reply(dp, 80, SYN | ACK), PASSES);
	assert_int_equal(reply(dp, 80, RST), PASSES);
	assert_int_equal(reply(dp, 80, SYN), DENIED(WEIR_R_GATEWAY)); /* begins nothing itself */
	assert_int_equal(reply(dp, 80, 0), DENIED(WEIR_R_GATEWAY));
	assert_int_equal(reply(dp, WEIR_AGENT_PORT, ACK), DENIED(WEIR_R_GATEWAY));
	assert_int_equal(ask(dp, "weir_verdict_test", &(struct __sk_buff){ .mark = 5 },
				 &(struct probe){ OWN, WEIR_LINK_GATEWAY, 80, VISITOR, IPPROTO_UDP, 0 }),
		DENIED(WEIR_R_GATEWAY));
	/* Counted, and not as what the sandbox itself began. */
	assert_int_equal(datapath_counters(dp, 5, &c), 0);
	assert_int_equal(c.ingress_in_packets, 2);
	assert_int_equal(c.in_packets + c.out_packets, 0);
	assert_int_equal(c.denied[WEIR_R_QUARANTINE], 1);
	assert_int_equal(c.denied[WEIR_R_UNSOLICITED], 3);

	assert_int_equal(datapath_ingress_set(dp, 5, false, NULL), 0);
	assert_int_equal(visit(dp, OWN, 80, IPPROTO_TCP), SHOT);
	assert_int_equal(reply(dp, 80, ACK), DENIED(WEIR_R_GATEWAY)); /* at once, also what is open */
	/* What was said of one life is not said of the next, nor of a slot without a link. */
	assert_int_equal(datapath_ingress_set(dp, 5, true, NULL), 0);
	dp = *state = reopen(dp); /* it outlives us, though */
	assert_int_equal(visit(dp, OWN, 80, IPPROTO_TCP), 0);
	set_slot(dp, 5, LOOPBACK);
	commit(dp, 5, 12, "10.9.0.0/16:8080", NULL);
	assert_int_equal(visit(dp, OWN, 80, IPPROTO_TCP), SHOT);
	assert_int_equal(datapath_ingress_set(dp, 6, true, NULL), -ENOENT);
	assert_int_equal(datapath_ingress_set(dp, 0, true, NULL), -ENOENT);
	datapath_slot_clear(dp, 5);
}

/* --- the collector --- */

/* A datagram of slot 5's; the program makes a flow of it. */
static void begin_flow(struct datapath *dp, uint16_t port)
{
	assert_int_equal(ask(dp, "weir_from_sandbox", &(struct __sk_buff){ .ifindex = LOOPBACK },
				 &(struct probe){ OWN, 0x0a090001, port, 8080, IPPROTO_UDP, 0 }), 0);
}

/* Did it walk `seconds` after `at`, what lived on, and what went? */
static void assert_collects(struct datapath *dp, uint64_t at, uint32_t seconds, int walked,
	uint32_t live, uint32_t removed)
{
	struct weir_collect result;

	assert_int_equal(datapath_collect(dp, at + seconds * NS_PER_SEC, &result), walked);
	assert_int_equal(result.live, live);
	assert_int_equal(result.removed, removed);
}

/* It walks when something may have run out, and never misses it. */
static void collects(void **state)
{
	struct datapath *dp = *state;
	uint64_t at = clock_mono_ns();
	struct weir_slot slot;

	assert_collects(dp, at, 0, 1, 0, 0); /* it knows nothing yet */
	assert_collects(dp, at, 5, 0, 0, 0);
	assert_collects(dp, at, 100000, 0, 0, 0); /* an empty table stays so by itself */
	set_slot(dp, 5, LOOPBACK);
	commit(dp, 5, 11, "10.9.0.0/16:8080", NULL);
	begin_flow(dp, 1000);
	at = clock_mono_ns();
	assert_collects(dp, at, 20, 0, 0, 0); /* whatever came lasts for thirty seconds */
	assert_collects(dp, at, 40, 1, 1, 0);
	assert_collects(dp, at, 50, 0, 1, 0); /* this one for sixty */
	begin_flow(dp, 1001);
	assert_collects(dp, at, 200, 1, 0, 2);
	assert_int_equal(datapath_slot_get(dp, 5, &slot), 0);
	assert_int_equal(slot.flows, 0);
	assert_int_equal(count(dp, "weir_flows"), 0);
	assert_collects(dp, at, 100000, 0, 0, 0);

	/* A sandbox that is gone: at once, when the host forgot it. */
	begin_flow(dp, 1002);
	assert_collects(dp, at, 0, 0, 0, 0);
	datapath_slot_clear(dp, 5);
	assert_collects(dp, at, 1, 0, 0, 0);
	datapath_slot_forgotten(dp, 5);
	assert_collects(dp, at, 2, 1, 0, 1);
	assert_int_equal(count(dp, "weir_flows"), 0);

	/* What a former program let begin is found by the first walk of the next. */
	set_slot(dp, 5, LOOPBACK);
	commit(dp, 5, 12, "10.9.0.0/16:8080", NULL);
	begin_flow(dp, 1003);
	dp = *state = reopen(dp);
	assert_collects(dp, clock_mono_ns(), 0, 1, 1, 0);
	datapath_slot_clear(dp, 5);
}

/* --- rules of private networks --- */

#define ALLOWED(rule) WEIR_TEST_RESULT(WEIR_ALLOW, WEIR_R_NONE, 0, rule)
#define REFUSED(rule) WEIR_TEST_RESULT(WEIR_DENY, WEIR_R_OVERLAY, WEIR_OVERLAY_RULES, rule)

static uint32_t drawn = 7;

static uint32_t draw(uint32_t n)
{
	drawn = drawn * 1664525u + 1013904223u;
	return (drawn >> 8) % n;
}

/* What the kernel says of calls between slots 1 to 3 is what the list says. */
static void assert_reads(struct datapath *dp, const struct calls *c, uint32_t times)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_TCP };

	while (times--) {
		uint32_t from = 1 + draw(3), to = 1 + (from + draw(2)) % 3;
		uint16_t port = (uint16_t)(79 + draw(4));
		uint8_t proto = protos[draw(3)];
		struct calls_verdict v = calls_reference(c, from, to, proto, port);

		assert_int_equal(verdict(dp, from, OVERLAY + from, OVERLAY + to, proto, port),
			v.verdict ? ALLOWED(v.rule) : REFUSED(v.rule));
	}
}

static void rules_of_networks(void **state)
{
	const struct prefix range = prefix_of(ip_v4(OVERLAY), 16);
	struct datapath *dp = *state;
	struct calls c = { .n = 2,
		.rules = { { .from = 1, .to = 2, .action = WEIR_ALLOW, .protos = CALLS_TCP,
				   .n_ports = 1, .ports = { { 80, 81 } } },
			{ .from = 3, .to = CALLS_NOBODY, .action = WEIR_ALLOW, .protos = CALLS_EVERY } } };
	const struct calls open = { .fallback = WEIR_ALLOW };
	struct weir_member m;
	uint32_t version;

	assert_int_equal(datapath_overlay_set(dp, range, NULL), 0);
	for (uint32_t slot = 1; slot <= 3; slot++) {
		set_slot(dp, slot, 10 + slot);
		commit(dp, slot, 10 + slot, "10.9.0.0/16:8080", NULL);
		/* A network that nobody made known is closed. */
		assert_int_equal(datapath_members_set(dp, slot, (uint32_t[]){ 5 }, 1, NULL), 0);
	}
	assert_int_equal(between(dp, 1, 2, 80), DENIED(WEIR_R_OVERLAY));
	assert_int_equal(datapath_net_set(dp, 5, 100, &c, NULL), 0);
	assert_int_equal(between(dp, 1, 2, 80), ALLOWED(0));
	assert_int_equal(between(dp, 1, 2, 82), REFUSED(WEIR_RULE_NONE));
	assert_int_equal(between(dp, 2, 1, 80), REFUSED(WEIR_RULE_NONE));
	assert_int_equal(between(dp, 3, 1, 80), REFUSED(WEIR_RULE_NONE));
	/* Another network that both share lets it through. */
	join(dp, 2, 2, (uint32_t[]){ 5, 9 });
	join(dp, 1, 2, (uint32_t[]){ 5, 9 });
	assert_int_equal(between(dp, 2, 1, 80), PASSES);
	join(dp, 1, 1, (uint32_t[]){ 5 });
	assert_int_equal(between(dp, 2, 1, 80), REFUSED(WEIR_RULE_NONE));

	/* One version after the other; nothing of them stays. */
	for (uint32_t round = 0; round < 40; round++) {
		c = (struct calls){ .fallback = (uint8_t)draw(2), .n = 1 + draw(6) };
		for (uint32_t i = 0; i < c.n; i++)
			c.rules[i] = (struct calls_rule){ .from = draw(4), .to = draw(4),
				.action = (uint8_t)draw(2), .protos = (uint8_t)(1 + draw(3)),
				.n_ports = (uint16_t)draw(2),
				.ports = { { (uint16_t)(79 + draw(2)), (uint16_t)(80 + draw(3)) } } };
		assert_int_equal(datapath_net_set(dp, 5, 200 + round, &c, NULL), 0);
		assert_reads(dp, &c, 50);
	}
	/* Refused: what was, holds. */
	c.rules[0].protos = 0;
	assert_int_equal(datapath_net_set(dp, 5, 300, &c, NULL), -EINVAL);
	assert_int_equal(datapath_net_get(dp, 5, &version), 0);
	assert_int_equal(version, 239);
	assert_int_equal(datapath_net_set(dp, 5, 0, &c, NULL), -EINVAL); /* rules without a version */
	assert_int_equal(datapath_net_set(dp, 5, 0, &open, NULL), 0);
	assert_int_equal(between(dp, 3, 2, 9999), PASSES);
	datapath_net_drop(dp, 5);
	assert_int_equal(between(dp, 3, 2, 9999), DENIED(WEIR_R_OVERLAY));
	assert_int_equal(datapath_net_get(dp, 5, &version), -ENOENT);
	datapath_members_get(dp, 3, &m);
	assert_int_equal(m.n, 1);
	datapath_net_drop(dp, 9);
	do
		datapath_purge(dp);
	while (count(dp, "weir_calls")); /* old keys go when no packet can be looking */
	assert_int_equal(count(dp, "weir_nets"), 0);
}

/* A version that a crash cut short leaves keys that nobody means. */
static void rules_are_found_again(void **state)
{
	struct calls c = { .n = 1, .rules = { { .from = 1, .to = 2, .action = WEIR_ALLOW,
						    .protos = CALLS_EVERY } } };
	struct weir_call_key stray = { .prefixlen = 104, .version = 77, .from = 1 };
	struct weir_call value = { .verdict = WEIR_ALLOW };
	struct datapath *dp = *state;
	uint32_t version;

	assert_int_equal(datapath_net_set(dp, 5, 100, &c, NULL), 0);
	assert_int_equal(bpf_map_update_elem(datapath_fd(dp, "weir_calls"), &stray, &value, BPF_ANY),
		0);
	assert_int_equal(count(dp, "weir_calls"), 5);
	*state = dp = reopen(dp);
	assert_int_equal(count(dp, "weir_calls"), 4);
	assert_int_equal(datapath_net_get(dp, 5, &version), 0);
	assert_int_equal(version, 100);
	/* They are known as the network's: they go with it, when it has no member. */
	join(dp, 1, 1, (uint32_t[]){ 5 });
	assert_int_equal(datapath_sweep(dp), 0);
	assert_int_equal(count(dp, "weir_calls"), 4);
	join(dp, 1, 0, NULL);
	assert_int_equal(datapath_sweep(dp), 1);
	assert_int_equal(datapath_net_get(dp, 5, &version), -ENOENT);
	assert_int_equal(count(dp, "weir_calls"), 0);
}

/* [PATTERN...]: only the tests that one of them names; opening takes long by emulation. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(commits_leave_nothing_behind, fresh, gone),
		cmocka_unit_test_setup_teardown(adoption, fresh, gone),
		cmocka_unit_test_setup_teardown(stale_pins_are_replaced, fresh, gone),
		cmocka_unit_test_setup_teardown(lives_outlast_another_layout_of_policies, fresh, gone),
		cmocka_unit_test_setup_teardown(lives_of_a_slot, fresh, gone),
		cmocka_unit_test_setup_teardown(refused_commits_change_nothing, fresh, gone),
		cmocka_unit_test_setup_teardown(pins_and_the_sweep, fresh, gone),
		cmocka_unit_test_setup_teardown(floor_is_replaced, fresh, gone),
		cmocka_unit_test_setup_teardown(quiet_life, fresh, gone),
		cmocka_unit_test_setup_teardown(private_networks, fresh, gone),
		cmocka_unit_test_setup_teardown(dns_answers, fresh, gone),
		cmocka_unit_test_setup_teardown(ingress, fresh, gone),
		cmocka_unit_test_setup_teardown(collects, fresh, gone),
		cmocka_unit_test_setup_teardown(rules_of_networks, fresh, gone),
		cmocka_unit_test_setup_teardown(rules_are_found_again, fresh, gone),
	};
	struct policy_floor_spec spec = { 0 };

	if (geteuid() != 0) {
		printf("skipped: BPF needs root\n");
		return SKIPPED;
	}
	snprintf(name, sizeof(name), "unit-%d-%" PRIx64, getpid(), clock_mono_ns());
	policy_floor_build(&spec, &floor_list, NULL);
	for (int i = 1, failed; i < argc; i++) {
		cmocka_set_test_filter(argv[i]);
		failed = cmocka_run_group_tests_name("datapath", tests, NULL, NULL);
		if (failed || i == argc - 1)
			return failed;
	}
	return cmocka_run_group_tests_name("datapath", tests, NULL, NULL);
}

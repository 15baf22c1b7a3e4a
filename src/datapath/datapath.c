/* Slots, the floor, counters, flows and the DNS proxy's sockets: writing what the program reads. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include "datapath/dp.h"
#include "datapath/keys.h"

static struct weir_slot *slot_of(const struct datapath *dp, uint32_t slot)
{
	return dp_slot_ok(slot) ? &dp->slots[slot] : NULL;
}

static int counters_zero(struct datapath *dp, uint32_t slot)
{
	int cpus = libbpf_num_possible_cpus();
	auto_free struct weir_counters *all = NULL;
	struct weir_dns_counters dns = { 0 };

	if (cpus < 0)
		return cpus;
	all = calloc((size_t)cpus, sizeof(*all));
	if (!all)
		return -ENOMEM;
	if (bpf_map_update_elem(dp->counters, &slot, all, BPF_ANY) < 0 ||
		bpf_map_update_elem(datapath_fd(dp, "weir_dns_counters"), &slot, &dns, BPF_ANY) < 0)
		return -errno;
	return 0;
}

int datapath_slot_set(struct datapath *dp, const struct datapath_slot *s, struct err *err)
{
	struct weir_slot *k = slot_of(dp, s->slot);
	int r;

	if (!k || s->ifindex == 0 || s->ip4.family != 4 || (s->ip6.family && s->ip6.family != 6))
		return err_set(err, -EINVAL, ERR_INTERNAL, "slot %" PRIu32 ": not a slot, link or "
			"address", s->slot);
	datapath_slot_clear(dp, s->slot);
	r = counters_zero(dp, s->slot);
	if (r < 0)
		return err_sys(err, r, "clear the counters of slot %" PRIu32, s->slot);
	memcpy(&k->ip4, s->ip4.a, sizeof(k->ip4));
	k->ip6 = s->ip6.family ? key_addr(s->ip6) : (struct weir_addr){ { 0 } };
	k->epoch++;
	k->next_event = k->next_refusal = 0;
	k->share = 0;
	k->ingress = 0;
	k->tap = s->tap;
	__atomic_store_n(&k->flows, 0, __ATOMIC_RELEASE);
	if (bpf_map_update_elem(dp->links, &s->ifindex, &s->slot, BPF_ANY) < 0)
		return err_sys(err, -errno, "name slot %" PRIu32 " by its link", s->slot);
	__atomic_store_n(&k->ifindex, s->ifindex, __ATOMIC_RELEASE);
	return 0;
}

void datapath_slot_clear(struct datapath *dp, uint32_t slot)
{
	struct weir_slot *k = slot_of(dp, slot);
	uint32_t ifindex, named;

	if (!k)
		return;
	ifindex = k->ifindex;
	datapath_quarantine(dp, slot);
	bpf_map_delete_elem(dp->members, &slot);
	k->ingress = 0;
	__atomic_store_n(&k->ifindex, 0, __ATOMIC_RELEASE);
	/* the link's number may by now be another slot's */
	if (ifindex && bpf_map_lookup_elem(dp->links, &ifindex, &named) == 0 && named == slot)
		bpf_map_delete_elem(dp->links, &ifindex);
}

void datapath_slot_forgotten(struct datapath *dp, uint32_t slot)
{
	struct weir_slot *k = slot_of(dp, slot);

	if (!k || k->ifindex)
		return;
	__atomic_store_n(&k->gone, k->epoch, __ATOMIC_RELEASE);
	__atomic_store_n(&dp->forgotten, true, __ATOMIC_RELEASE);
}

int datapath_slot_get(const struct datapath *dp, uint32_t slot, struct weir_slot *ret)
{
	const struct weir_slot *k = slot_of(dp, slot);

	if (!k || k->ifindex == 0)
		return -ENOENT;
	*ret = *k;
	return 0;
}

static bool floor_has(const struct policy_floor *floor, const struct weir_floor_key *key)
{
	for (uint32_t i = 0; i < floor->n; i++) {
		struct weir_floor_key k = key_floor(floor->e[i].prefix);

		if (memcmp(&k, key, sizeof(k)) == 0)
			return true;
	}
	return false;
}

/* Flows carry the generation under which they were judged. */
static int floor_generation_next(struct datapath *dp)
{
	struct weir_config config;
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(dp->config, &zero, &config) < 0)
		return -errno;
	config.floor++;
	return bpf_map_update_elem(dp->config, &zero, &config, BPF_EXIST) < 0 ? -errno : 0;
}

int datapath_floor_set(struct datapath *dp, const struct policy_floor *floor, struct err *err)
{
	struct weir_floor_key key, next;
	bool more;
	int r;

	for (uint32_t i = 0; i < floor->n; i++) {
		struct weir_floor_key k = key_floor(floor->e[i].prefix);
		uint32_t value = floor->e[i].floor;

		if (bpf_map_update_elem(dp->floor, &k, &value, BPF_ANY) < 0)
			return err_sys(err, -errno, "write the floor");
	}
	more = bpf_map_get_next_key(dp->floor, NULL, &key) == 0;
	while (more) {
		more = bpf_map_get_next_key(dp->floor, &key, &next) == 0;
		if (!floor_has(floor, &key))
			bpf_map_delete_elem(dp->floor, &key);
		key = next;
	}
	r = floor_generation_next(dp);
	return r < 0 ? err_sys(err, r, "announce the floor") : 0;
}

int datapath_counters(const struct datapath *dp, uint32_t slot, struct weir_counters *ret)
{
	int cpus = libbpf_num_possible_cpus();
	auto_free struct weir_counters *all = NULL;
	uint64_t *sum = (uint64_t *)ret;

	_Static_assert(sizeof(*ret) % sizeof(*sum) == 0, "counters are all 64 bits wide");
	if (!dp_slot_ok(slot))
		return -EINVAL;
	if (cpus < 0)
		return cpus;
	all = calloc((size_t)cpus, sizeof(*all));
	if (!all)
		return -ENOMEM;
	if (bpf_map_lookup_elem(dp->counters, &slot, all) < 0)
		return -errno;
	memset(ret, 0, sizeof(*ret));
	for (int cpu = 0; cpu < cpus; cpu++)
		for (size_t i = 0; i < sizeof(*ret) / sizeof(*sum); i++)
			sum[i] += ((const uint64_t *)&all[cpu])[i];
	return 0;
}

void datapath_purge(struct datapath *dp)
{
	dp_policies_purge(dp, false);
	dp_nets_purge(dp, false);
}

/*
 * When is the next walk due? What the last one left lasts until `due`, what was begun or touched since
 * for WEIR_FLOW_LASTS_NS, and what the host forgot is to go at once. Links that ran an older program,
 * which knows nothing of weir_begun, run ours before the first walk.
 */
static bool collect_is_due(const struct datapath *dp, uint64_t now)
{
	const struct dp_collected *c = &dp->collected;
	bool any = c->live || __atomic_load_n(dp->begun, __ATOMIC_ACQUIRE);

	return !c->at || (any && now >= MIN(c->due, c->at + WEIR_FLOW_LASTS_NS)) ||
		__atomic_load_n(&dp->forgotten, __ATOMIC_ACQUIRE);
}

int datapath_collect(struct datapath *dp, uint64_t now, struct weir_collect *ret)
{
	struct weir_collect walk = { .now = now };
	DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &walk, .ctx_size_in = sizeof(walk));
	struct dp_collected *c = &dp->collected;
	bool due = collect_is_due(dp, now);

	if (due) {
		/* before the walk: what comes during it may be overlooked */
		__atomic_store_n(&dp->forgotten, false, __ATOMIC_SEQ_CST);
		__atomic_store_n(dp->begun, 0, __ATOMIC_SEQ_CST);
		c->at = 0; /* if it fails, the next is due */
		if (bpf_prog_test_run_opts(datapath_fd(dp, "weir_collect"), &opts) < 0)
			return -errno;
		*c = (struct dp_collected){ now, walk.due, walk.live };
	}
	if (ret)
		*ret = (struct weir_collect){ now, c->due, c->live, walk.removed };
	return due;
}

int datapath_dns_socket(struct datapath *dp, uint32_t worker, uint8_t proto, uint8_t family, int fd,
	struct err *err)
{
	int map = datapath_fd(dp, proto == IPPROTO_TCP ? "weir_dns_tcp" : "weir_dns_udp");
	uint32_t at = worker * 2 + (family == 6);
	uint64_t value = (uint64_t)fd;

	if (worker >= WEIR_DNS_WORKERS_MAX)
		return err_set(err, -EINVAL, ERR_INTERNAL, "more than %u DNS workers",
			WEIR_DNS_WORKERS_MAX);
	if (bpf_map_update_elem(map, &at, &value, BPF_ANY) < 0)
		return err_sys(err, -errno, "give worker %" PRIu32 "'s DNS socket to the program",
			worker);
	return 0;
}

int datapath_ingress_set(struct datapath *dp, uint32_t slot, bool on, struct err *err)
{
	struct weir_slot *k = slot_of(dp, slot);

	if (!k || k->ifindex == 0)
		return err_set(err, -ENOENT, ERR_INTERNAL, "slot %" PRIu32 " has no link", slot);
	__atomic_store_n(&k->ingress, on, __ATOMIC_RELEASE);
	return 0;
}

int datapath_overlay_set(struct datapath *dp, struct prefix range, struct err *err)
{
	struct weir_config config;
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(dp->config, &zero, &config) < 0)
		return err_sys(err, -errno, "read the program's configuration");
	config.overlay4 = range.ip.family == 4 ? ip_v4_u32(range.ip) : 0;
	config.overlay4_mask =
		range.ip.family == 4 && range.len ? UINT32_MAX << (32 - range.len) : 0;
	if (bpf_map_update_elem(dp->config, &zero, &config, BPF_EXIST) < 0)
		return err_sys(err, -errno, "write the program's configuration");
	return 0;
}

int datapath_members_set(struct datapath *dp, uint32_t slot, const uint32_t *nets, uint32_t n,
	struct err *err)
{
	struct weir_member m = { .n = n };
	bool ok = n <= WEIR_NETS_MAX && dp_slot_ok(slot);

	for (uint32_t i = 0; ok && i < n; i++) {
		m.net[i] = nets[i];
		ok = nets[i] > (i ? nets[i - 1] : 0);
	}
	if (!ok)
		return err_set(err, -EINVAL, ERR_INTERNAL, "slot %" PRIu32 ": not a set of networks",
			slot);
	if (n == 0)
		bpf_map_delete_elem(dp->members, &slot);
	else if (bpf_map_update_elem(dp->members, &slot, &m, BPF_ANY) < 0)
		return err_sys(err, -errno, "write the networks of slot %" PRIu32, slot);
	return 0;
}

void datapath_members_get(const struct datapath *dp, uint32_t slot, struct weir_member *ret)
{
	*ret = (struct weir_member){ 0 };
	if (bpf_map_lookup_elem(dp->members, &slot, ret) < 0)
		*ret = (struct weir_member){ 0 };
}

int datapath_dns_workers(struct datapath *dp, uint32_t n, struct err *err)
{
	struct weir_config config;
	uint32_t zero = 0;

	if (n > WEIR_DNS_WORKERS_MAX)
		return err_set(err, -EINVAL, ERR_INTERNAL, "more than %u DNS workers",
			WEIR_DNS_WORKERS_MAX);
	if (bpf_map_lookup_elem(dp->config, &zero, &config) < 0)
		return err_sys(err, -errno, "read the program's configuration");
	config.dns_workers = n;
	if (bpf_map_update_elem(dp->config, &zero, &config, BPF_EXIST) < 0)
		return err_sys(err, -errno, "write the program's configuration");
	return 0;
}

/*
 * Policies in the maps.
 *
 * Writing order of a version: ports, prefixes, header; then the slot's word; the version before
 * is retired. Its keys are deleted header first, and only PURGE_AFTER later, when no packet that
 * read the old id can still be looking: with the header as witness in the program, that makes
 * two reasons why no packet sees half a policy.
 *
 * The edge role's keys (pins, and tables with the top bit set) are its own to delete; only
 * datapath_sweep(), which runs when there is no edge role yet, takes everything.
 */
#include <bpf/bpf.h>
#include "base/clock.h"
#include "base/fault.h"
#include "datapath/dp.h"
#include "datapath/keys.h"

#define PURGE_AFTER (20 * NS_PER_MS)
#define TABLE_EDGE  0x80000000u

static void policy_keys_free(struct dp_policy *k)
{
	free(k->prefixes);
	free(k->ports);
	free(k);
}

static struct dp_policy *policy_keys_find(struct datapath *dp, uint32_t id)
{
	struct dp_policy *k;

	HASH_FIND(hh, dp->known, &id, sizeof(id), k);
	return k;
}

static struct dp_policy *policy_keys_new(struct datapath *dp, uint32_t id)
{
	struct dp_policy *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->id = id;
	HASH_ADD(hh, dp->known, id, sizeof(id), k);
	if (!table_has(k)) {
		free(k);
		return NULL;
	}
	return k;
}

/* Keys of one map in as few calls as can be. Some may be missing: a version whose writing failed is
 * remembered whole. */
static void keys_delete(int map, const void *keys, size_t size, size_t n)
{
	const char *at = keys, *end = n ? at + n * size : at;

	while (at < end) {
		__u32 done = (__u32)((size_t)(end - at) / size);

		if (bpf_map_delete_batch(map, at, &done, NULL) == 0)
			return;
		if (errno == ENOENT)
			at += done * size; /* those before the missing one are deleted */
		else
			bpf_map_delete_elem(map, at);
		at += size;
	}
}

static int keys_write(int map, const void *keys, const void *values, size_t n)
{
	__u32 count = (__u32)n;

	return n && bpf_map_update_batch(map, keys, values, &count, NULL) < 0 ? -errno : 0;
}

/* Delete what is in the maps, header first. */
static void policy_keys_delete(struct datapath *dp, const struct dp_policy *k)
{
	bpf_map_delete_elem(dp->policies, &k->id);
	keys_delete(dp->prefixes, k->prefixes, sizeof(*k->prefixes), k->n_prefixes);
	keys_delete(dp->ports, k->ports, sizeof(*k->ports), k->n_ports);
}

static void policy_keys_drop(struct datapath *dp, struct dp_policy *k)
{
	policy_keys_delete(dp, k);
	HASH_DEL(dp->known, k);
	policy_keys_free(k);
}

/* They went out of force one after the other: the first that is too young ends the search. */
void dp_policies_purge(struct datapath *dp, bool all)
{
	uint64_t now = clock_mono_ns();

	while (dp->retired && (all || now - dp->retired->retired >= PURGE_AFTER)) {
		struct dp_policy *k = dp->retired;

		dp->retired = k->next;
		policy_keys_drop(dp, k);
	}
}

void dp_policies_forget(struct datapath *dp)
{
	struct dp_policy *k, *tmp;

	HASH_ITER(hh, dp->known, k, tmp) {
		HASH_DEL(dp->known, k);
		policy_keys_free(k);
	}
	dp->retired = NULL;
}

static void policy_retire(struct datapath *dp, uint32_t id)
{
	struct dp_policy *k = id ? policy_keys_find(dp, id) : NULL;

	if (!k || k->retired)
		return;
	dp_share_give(dp, k->share, dp_keys(k));
	k->retired = clock_mono_ns();
	if (dp->retired)
		dp->retired_last->next = k;
	else
		dp->retired = k;
	dp->retired_last = k;
}

static int remember_prefix(struct dp_policy *k, const struct weir_prefix_key *key)
{
	if (k->n_prefixes == k->prefixes_cap) {
		size_t cap = k->prefixes_cap ? k->prefixes_cap * 2 : 16;
		struct weir_prefix_key *bigger = reallocarray(k->prefixes, cap, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		k->prefixes = bigger;
		k->prefixes_cap = cap;
	}
	k->prefixes[k->n_prefixes++] = *key;
	return 0;
}

static int remember_port(struct dp_policy *k, const struct weir_port_key *key)
{
	if (k->n_ports == k->ports_cap) {
		size_t cap = k->ports_cap ? k->ports_cap * 2 : 16;
		struct weir_port_key *bigger = reallocarray(k->ports, cap, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		k->ports = bigger;
		k->ports_cap = cap;
	}
	k->ports[k->n_ports++] = *key;
	return 0;
}

static struct dp_policy *policy_keys_get(struct datapath *dp, uint32_t id)
{
	struct dp_policy *k = policy_keys_find(dp, id);

	return k ? k : policy_keys_new(dp, id);
}

int dp_policies_recover(struct datapath *dp)
{
	struct weir_prefix_key prefix, *last_prefix = NULL;
	struct weir_port_key port, *last_port = NULL;
	uint32_t id, *last_id = NULL;
	struct dp_policy *k;
	int r = 0;

	while (r == 0 && bpf_map_get_next_key(dp->policies, last_id, &id) == 0) {
		last_id = &id;
		r = policy_keys_get(dp, id) ? 0 : -ENOMEM;
	}
	while (r == 0 && bpf_map_get_next_key(dp->prefixes, last_prefix, &prefix) == 0) {
		last_prefix = &prefix;
		k = policy_keys_get(dp, prefix.scope >> 1);
		r = k ? remember_prefix(k, &prefix) : -ENOMEM;
	}
	while (r == 0 && bpf_map_get_next_key(dp->ports, last_port, &port) == 0) {
		last_port = &port;
		if (port.table & TABLE_EDGE)
			continue;
		k = policy_keys_get(dp, port.policy);
		r = k ? remember_port(k, &port) : -ENOMEM;
	}
	return r;
}

/* The keys of an image under this id are remembered before the first of them is written. */
static int write_ports(struct datapath *dp, struct dp_policy *k, const struct policy_image *img)
{
	auto_free struct weir_port *values = calloc(img->n_ports + 1, sizeof(*values));

	if (!values)
		return -ENOMEM;
	for (size_t i = 0; i < img->n_ports; i++) {
		struct weir_port_key key = key_port(k->id, &img->ports[i]);

		if (remember_port(k, &key) < 0)
			return -ENOMEM;
		values[i] = img->ports[i].value;
	}
	return keys_write(dp->ports, k->ports, values, img->n_ports);
}

static int write_prefixes(struct datapath *dp, struct dp_policy *k, const struct policy_image *img)
{
	auto_free struct weir_decision *values = calloc(img->n_prefixes + 1, sizeof(*values));

	if (!values)
		return -ENOMEM;
	for (size_t i = 0; i < img->n_prefixes; i++) {
		struct weir_prefix_key key = key_prefix(k->id, img->prefixes[i].prefix);

		if (remember_prefix(k, &key) < 0)
			return -ENOMEM;
		values[i] = img->prefixes[i].decision;
	}
	return keys_write(dp->prefixes, k->prefixes, values, img->n_prefixes);
}

static int policy_write(struct datapath *dp, struct dp_policy *k, const struct policy_image *img)
{
	int r = write_ports(dp, k, img);

	if (r < 0)
		return r;
	FAULT("host.policy.ports");
	r = write_prefixes(dp, k, img);
	if (r < 0)
		return r;
	FAULT("host.policy.prefixes");
	return bpf_map_update_elem(dp->policies, &k->id, &img->header, BPF_ANY) < 0 ? -errno : 0;
}

static size_t policy_keys_in_force(struct datapath *dp, uint32_t id)
{
	const struct dp_policy *k = id ? policy_keys_find(dp, id) : NULL;

	return k && !k->retired ? dp_keys(k) : 0;
}

static int write_failed(struct err *err, int r)
{
	if (r == -ENOSPC || r == -E2BIG)
		return err_set(err, r, ERR_CAPACITY, "the kernel's policy tables are full");
	return err_sys(err, r, "write the policy into the kernel's tables");
}

int datapath_commit(struct datapath *dp, uint32_t slot, uint32_t policy, const struct policy *p,
	const struct policy_knobs *knobs, struct err *err)
{
	struct policy_image img;
	struct dp_policy *k;
	uint32_t before;
	int r;

	if (!dp_slot_ok(slot) || policy == 0 || policy >> 31)
		return err_set(err, -EINVAL, ERR_INTERNAL, "no such slot or policy: %" PRIu32
			", %" PRIu32, slot, policy);
	before = dp->slots[slot].policy;
	if (before == policy)
		return 0;
	dp_policies_purge(dp, false);
	k = policy_keys_find(dp, policy);
	if (k && k->retired)
		return err_set(err, -EEXIST, ERR_INTERNAL, "policy id %" PRIu32 " is used up", policy);
	if (k) /* an attempt that a crash cut short */
		policy_keys_drop(dp, k);
	r = policy_compile(p, knobs, &img, err);
	if (r < 0)
		return r;
	r = dp_share_fits(dp, dp->slots[slot].share, img.n_ports + img.n_prefixes,
		policy_keys_in_force(dp, before), err);
	if (r < 0) {
		policy_image_done(&img);
		return r;
	}
	k = policy_keys_new(dp, policy);
	r = k ? policy_write(dp, k, &img) : -ENOMEM;
	if (r == 0)
		r = FAULT_ERROR("host.policy.written");
	policy_image_done(&img);
	if (r == 0)
		r = dp_share_take(dp, dp->slots[slot].share, dp_keys(k));
	if (r < 0) {
		if (k)
			policy_keys_drop(dp, k);
		return write_failed(err, r);
	}
	k->share = dp->slots[slot].share;
	__atomic_store_n(&dp->slots[slot].policy, policy, __ATOMIC_RELEASE);
	FAULT("host.policy.flipped");
	policy_retire(dp, before);
	return 0;
}

void datapath_quarantine(struct datapath *dp, uint32_t slot)
{
	uint32_t before;

	if (!dp_slot_ok(slot))
		return;
	before = dp->slots[slot].policy;
	__atomic_store_n(&dp->slots[slot].policy, 0, __ATOMIC_RELEASE);
	policy_retire(dp, before);
	dp_policies_purge(dp, false);
}

/* --- the sweep --- */

struct id_set {
	uint32_t *ids;
	size_t n;
};

static int id_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static bool id_in(const struct id_set *s, uint32_t id)
{
	return s->n && bsearch(&id, s->ids, s->n, sizeof(id), id_cmp);
}

static uint32_t policy_of_pin(const void *key)
{
	return ((const struct weir_pin_key *)key)->scope >> 1;
}

static uint32_t policy_of_port(const void *key)
{
	return ((const struct weir_port_key *)key)->policy;
}

/* Delete the keys whose policy is not in force. A key is fetched before its forerunner goes, as
 * the next of a deleted key is the first again. */
static int sweep_map(int fd, size_t key_size, uint32_t (*policy_of)(const void *key),
	const struct id_set *in_force)
{
	union {
		struct weir_pin_key pin;
		struct weir_port_key port;
	} key, next;
	int removed = 0;
	bool more = bpf_map_get_next_key(fd, NULL, &key) == 0;

	while (more) {
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (!id_in(in_force, policy_of(&key)) && bpf_map_delete_elem(fd, &key) == 0)
			removed++;
		memcpy(&key, &next, key_size);
	}
	return removed;
}

int datapath_sweep(struct datapath *dp)
{
	auto_free uint32_t *ids = calloc(WEIR_SLOTS_MAX, sizeof(*ids));
	struct id_set in_force = { ids, 0 };
	struct dp_policy *k, *tmp;
	int removed = dp_nets_sweep(dp);

	if (!ids || removed < 0)
		return -ENOMEM;
	for (uint32_t slot = 1; slot <= WEIR_SLOTS_MAX; slot++)
		if (dp->slots[slot].policy)
			ids[in_force.n++] = dp->slots[slot].policy;
	if (in_force.n)
		qsort(ids, in_force.n, sizeof(*ids), id_cmp);
	dp_policies_purge(dp, true);
	HASH_ITER(hh, dp->known, k, tmp) {
		if (id_in(&in_force, k->id))
			continue;
		removed += (int)(1 + k->n_prefixes + k->n_ports);
		policy_keys_drop(dp, k);
	}
	removed += sweep_map(dp->pins, sizeof(struct weir_pin_key), policy_of_pin, &in_force);
	removed += sweep_map(dp->ports, sizeof(struct weir_port_key), policy_of_port, &in_force);
	return removed;
}

/*
 * Rules of private networks in the maps.
 *
 * Writing order of a version: its keys, then the network's entry, in one update; the keys of the
 * version before are deleted PURGE_AFTER later, when no packet that read the old entry can still be
 * looking. Keys that no entry stands for, of an attempt that a crash cut short, go when the maps are
 * found again.
 */
#include <bpf/bpf.h>
#include "base/clock.h"
#include "base/fault.h"
#include "datapath/dp.h"

#define PURGE_AFTER (20 * NS_PER_MS)

/* The keys that one network has in the map. */
struct dp_net {
	UT_hash_handle hh;
	uint32_t number;
	struct weir_call_key *keys;
	size_t n, cap;
};

/* Keys that are out of force. */
struct dp_net_old {
	struct dp_net_old *next;
	uint64_t since;
	struct weir_call_key *keys;
	size_t n;
};

static struct dp_net *net_find(const struct datapath *dp, uint32_t number)
{
	struct dp_net *n;

	HASH_FIND(hh, dp->nets, &number, sizeof(number), n);
	return n;
}

static struct dp_net *net_get(struct datapath *dp, uint32_t number)
{
	struct dp_net *n = net_find(dp, number);

	if (n)
		return n;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->number = number;
	HASH_ADD(hh, dp->nets, number, sizeof(number), n);
	if (table_has(n))
		return n;
	free(n);
	return NULL;
}

static void net_forget(struct datapath *dp, struct dp_net *n)
{
	HASH_DEL(dp->nets, n);
	free(n->keys);
	free(n);
}

static void keys_delete(struct datapath *dp, const struct weir_call_key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		bpf_map_delete_elem(dp->calls, &keys[i]);
}

void dp_nets_purge(struct datapath *dp, bool all)
{
	uint64_t now = clock_mono_ns();

	while (dp->old_nets && (all || now - dp->old_nets->since >= PURGE_AFTER)) {
		struct dp_net_old *old = dp->old_nets;

		dp->old_nets = old->next;
		keys_delete(dp, old->keys, old->n);
		free(old->keys);
		free(old);
	}
}

void dp_nets_forget(struct datapath *dp)
{
	struct dp_net *n, *tmp;

	HASH_ITER(hh, dp->nets, n, tmp)
		net_forget(dp, n);
}

/* Take the network's keys out of force; they go after those that went before. */
static void retire(struct datapath *dp, struct dp_net *n, struct dp_net_old *old)
{
	struct dp_net_old **last = &dp->old_nets;

	*old = (struct dp_net_old){ .since = clock_mono_ns(), .keys = n->keys, .n = n->n };
	n->keys = NULL;
	n->n = n->cap = 0;
	while (*last)
		last = &(*last)->next;
	*last = old;
}

static int remember(struct dp_net *n, const struct weir_call_key *key)
{
	if (n->n == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 16;
		struct weir_call_key *bigger = reallocarray(n->keys, cap, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		n->keys = bigger;
		n->cap = cap;
	}
	n->keys[n->n++] = *key;
	return 0;
}

struct version {
	UT_hash_handle hh;
	uint32_t version, number;
};

static void versions_free(struct version *all)
{
	struct version *v, *tmp;

	HASH_ITER(hh, all, v, tmp) {
		HASH_DEL(all, v);
		free(v);
	}
}

static int versions_in_force(struct datapath *dp, struct version **all)
{
	uint32_t number, *last = NULL;
	struct weir_net entry;

	while (bpf_map_get_next_key(dp->nets_fd, last, &number) == 0) {
		struct version *v;

		last = &number;
		if (bpf_map_lookup_elem(dp->nets_fd, &number, &entry) < 0 || !entry.version)
			continue;
		v = calloc(1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		v->version = entry.version;
		v->number = number;
		HASH_ADD(hh, *all, version, sizeof(v->version), v);
		if (!table_has(v)) {
			free(v);
			return -ENOMEM;
		}
	}
	return 0;
}

int dp_nets_recover(struct datapath *dp)
{
	struct weir_call_key key, next;
	struct version *all = NULL, *v;
	int r = versions_in_force(dp, &all);
	bool more = r == 0 && bpf_map_get_next_key(dp->calls, NULL, &key) == 0;

	while (more && r == 0) {
		struct dp_net *n;

		/* first, as the next of a deleted key is the first again */
		more = bpf_map_get_next_key(dp->calls, &key, &next) == 0;
		HASH_FIND(hh, all, &key.version, sizeof(key.version), v);
		if (v) {
			n = net_get(dp, v->number);
			r = n ? remember(n, &key) : -ENOMEM;
		} else {
			bpf_map_delete_elem(dp->calls, &key);
		}
		key = next;
	}
	versions_free(all);
	return r;
}

static int write_keys(struct datapath *dp, const struct calls_image *img)
{
	for (size_t i = 0; i < img->n; i++)
		if (bpf_map_update_elem(dp->calls, &img->keys[i], &img->values[i], BPF_ANY) < 0)
			return -errno;
	return 0;
}

int datapath_net_set(struct datapath *dp, uint32_t number, uint32_t version,
	const struct calls *c, struct err *err)
{
	auto_free struct dp_net_old *old = calloc(1, sizeof(*old));
	struct weir_net entry = { .version = version, .fallback = c->fallback };
	struct calls_image img = { 0 };
	struct dp_net *n;
	int r;

	if (!number || version >> 31 || !calls_valid(c) || (!version && !calls_open(c)))
		return err_set(err, -EINVAL, ERR_INTERNAL, "network %" PRIu32 ": no such rules",
			number);
	dp_nets_purge(dp, false);
	n = net_get(dp, number);
	if (!old || !n)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	r = calls_compile(c, version, &img, err);
	if (r < 0)
		return r;
	r = write_keys(dp, &img);
	FAULT("host.net.written");
	if (r == 0 && bpf_map_update_elem(dp->nets_fd, &number, &entry, BPF_ANY) < 0)
		r = -errno;
	if (r < 0) {
		keys_delete(dp, img.keys, img.n);
		calls_image_done(&img);
		if (r == -ENOSPC || r == -E2BIG)
			return err_set(err, r, ERR_CAPACITY, "the kernel's tables of rules are full");
		return err_sys(err, r, "write the rules of network %" PRIu32, number);
	}
	FAULT("host.net.flipped");
	retire(dp, n, take_ptr(old));
	n->keys = take_ptr(img.keys);
	n->n = img.n;
	n->cap = img.cap;
	calls_image_done(&img);
	return 0;
}

void datapath_net_drop(struct datapath *dp, uint32_t number)
{
	struct dp_net *n = net_find(dp, number);

	bpf_map_delete_elem(dp->nets_fd, &number);
	if (!n)
		return;
	keys_delete(dp, n->keys, n->n); /* without its entry nobody looks for them */
	net_forget(dp, n);
}

int datapath_net_get(const struct datapath *dp, uint32_t number, uint32_t *ret_version)
{
	struct weir_net entry;

	if (bpf_map_lookup_elem(dp->nets_fd, &number, &entry) < 0)
		return -ENOENT;
	*ret_version = entry.version;
	return 0;
}

static int number_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int dp_nets_sweep(struct datapath *dp)
{
	auto_free uint32_t *used = calloc(WEIR_SLOTS_MAX * WEIR_NETS_MAX, sizeof(*used));
	uint32_t slot, number, next, *last = NULL;
	struct weir_member m;
	size_t n = 0;
	bool more;
	int removed = 0;

	if (!used)
		return -ENOMEM;
	for (; bpf_map_get_next_key(dp->members, last, &slot) == 0; last = &slot)
		if (bpf_map_lookup_elem(dp->members, &slot, &m) == 0)
			for (uint32_t i = 0; i < MIN(m.n, WEIR_NETS_MAX); i++)
				used[n++] = m.net[i];
	if (n)
		qsort(used, n, sizeof(*used), number_cmp);
	more = bpf_map_get_next_key(dp->nets_fd, NULL, &number) == 0;
	while (more) {
		more = bpf_map_get_next_key(dp->nets_fd, &number, &next) == 0;
		if (!n || !bsearch(&number, used, n, sizeof(number), number_cmp)) {
			datapath_net_drop(dp, number);
			removed++;
		}
		number = next;
	}
	return removed;
}

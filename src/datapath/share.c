/*
 * Shares: what the sandboxes of one user have together, so that many of them cannot take what one
 * may not.
 *
 * Flows are counted by the program in weir_shares, where entry 0 is everybody; keys of policies are
 * counted here, as long as their policy is in force. A share's number stands for its user; it comes
 * with a commit, stays in the slot, and is found there again after a restart. Entries of users
 * without flows and sandboxes go when there is no room for another.
 */
#include <bpf/bpf.h>
#include "datapath/dp.h"

static struct dp_share *share_find(const struct datapath *dp, uint32_t id)
{
	struct dp_share *s;

	HASH_FIND(hh, dp->shares, &id, sizeof(id), s);
	return s;
}

int dp_share_take(struct datapath *dp, uint32_t share, size_t keys)
{
	struct dp_share *s = share_find(dp, share);

	if (!share || !keys)
		return 0;
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -ENOMEM;
		s->id = share;
		HASH_ADD(hh, dp->shares, id, sizeof(s->id), s);
		if (!table_has(s)) {
			free(s);
			return -ENOMEM;
		}
	}
	s->keys += keys;
	return 0;
}

void dp_share_give(struct datapath *dp, uint32_t share, size_t keys)
{
	struct dp_share *s = share_find(dp, share);

	if (!s)
		return;
	s->keys -= MIN(s->keys, (uint64_t)keys);
	if (s->keys)
		return;
	HASH_DEL(dp->shares, s);
	free(s);
}

int dp_share_fits(const struct datapath *dp, uint32_t share, size_t more, size_t less,
	struct err *err)
{
	const struct dp_share *s = share_find(dp, share);
	uint64_t keys = s ? s->keys : 0;

	if (!share || !dp->limits.keys_per_share ||
		keys - MIN(keys, (uint64_t)less) + more <= dp->limits.keys_per_share)
		return 0;
	return err_field(err, -EDQUOT, ERR_FORBIDDEN, "egress",
		"egress limit reached: this policy takes %zu entries of the kernel's tables, your "
		"sandboxes have %" PRIu64 ", and %" PRIu32 " is the limit per user", more, keys,
		dp->limits.keys_per_share);
}

void dp_shares_forget(struct datapath *dp)
{
	struct dp_share *s, *tmp;

	HASH_ITER(hh, dp->shares, s, tmp) {
		HASH_DEL(dp->shares, s);
		free(s);
	}
}

int dp_shares_recover(struct datapath *dp)
{
	for (uint32_t slot = 1; slot <= WEIR_SLOTS_MAX; slot++) {
		uint32_t id = dp->slots[slot].policy;
		struct dp_policy *k = NULL;
		int r;

		if (id)
			HASH_FIND(hh, dp->known, &id, sizeof(id), k);
		if (!k)
			continue;
		k->share = dp->slots[slot].share;
		r = dp_share_take(dp, k->share, dp_keys(k));
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the program's side --- */

static bool share_has_slot(const struct datapath *dp, uint32_t share)
{
	for (uint32_t slot = 1; slot <= WEIR_SLOTS_MAX; slot++)
		if (dp->slots[slot].share == share && dp->slots[slot].ifindex)
			return true;
	return false;
}

/* Make room for another user. */
static void shares_sweep(struct datapath *dp)
{
	uint32_t key, next;
	bool more = bpf_map_get_next_key(dp->shares_fd, NULL, &key) == 0;

	while (more) {
		struct weir_share s;

		more = bpf_map_get_next_key(dp->shares_fd, &key, &next) == 0;
		if (key != WEIR_SHARE_ALL && bpf_map_lookup_elem(dp->shares_fd, &key, &s) == 0 &&
			s.flows == 0 && !share_has_slot(dp, key))
			bpf_map_delete_elem(dp->shares_fd, &key);
		key = next;
	}
}

/* The bound alone changes; the count beside it is the program's, and a flow that it counts in this
 * very moment would be lost: so only where the bound is another. */
static int share_bound(struct datapath *dp, uint32_t id, uint32_t max)
{
	struct weir_share s = { 0 };

	if (bpf_map_lookup_elem(dp->shares_fd, &id, &s) == 0 && s.flows_max == max)
		return 0;
	s.flows_max = max;
	return bpf_map_update_elem(dp->shares_fd, &id, &s, BPF_ANY) < 0 ? -errno : 0;
}

int datapath_limits_set(struct datapath *dp, const struct datapath_limits *l, struct err *err)
{
	struct weir_config config;
	uint32_t zero = 0, key, *at = NULL;
	int r = share_bound(dp, WEIR_SHARE_ALL, MIN(l->flows_all, WEIR_FLOWS_MAX));

	while (r == 0 && bpf_map_get_next_key(dp->shares_fd, at, &key) == 0) {
		at = &key;
		if (key != WEIR_SHARE_ALL)
			r = share_bound(dp, key, l->flows_per_share);
	}
	if (r == 0 && bpf_map_lookup_elem(dp->config, &zero, &config) < 0)
		r = -errno;
	if (r == 0) {
		config.flows_per_slot = l->flows_per_slot;
		if (bpf_map_update_elem(dp->config, &zero, &config, BPF_EXIST) < 0)
			r = -errno;
	}
	if (r < 0)
		return err_sys(err, r, "write the limits of flows");
	dp->limits = *l;
	return 0;
}

int datapath_slot_share(struct datapath *dp, uint32_t slot, uint32_t share, struct err *err)
{
	struct weir_share fresh = { .flows_max = dp->limits.flows_per_share };
	int r;

	if (!dp_slot_ok(slot) || share == WEIR_SHARE_ALL)
		return err_set(err, -EINVAL, ERR_INTERNAL, "no such slot or share: %" PRIu32
			", %" PRIu32, slot, share);
	if (dp->slots[slot].share == share)
		return 0;
	r = bpf_map_update_elem(dp->shares_fd, &share, &fresh, BPF_NOEXIST) < 0 ? -errno : 0;
	if (r == -E2BIG || r == -ENOSPC) {
		shares_sweep(dp);
		r = bpf_map_update_elem(dp->shares_fd, &share, &fresh, BPF_NOEXIST) < 0 ? -errno : 0;
	}
	if (r < 0 && r != -EEXIST)
		return err_sys(err, r, "make room for another user's flows");
	__atomic_store_n(&dp->slots[slot].share, share, __ATOMIC_RELEASE);
	return 0;
}

/*
 * The seam between what the proxy has learned and where the next process of this role finds it
 * again: keeper_kernel() notes it in a pinned map. Without ops nothing is kept.
 *
 * A name is kept under the sandbox's id, never its slot: whoever has the slot next finds nothing.
 */
#pragma once
#include "base/ip.h"
#include "policy/name.h"

struct kept {
	struct ip ip, from; /* the name led to ip; said by: as in struct known */
	uint64_t expires;   /* CLOCK_MONOTONIC */
	struct name name;
};
typedef void (*kept_fn)(void *arg, const struct kept *k);

struct keeper_ops {
	int (*keep)(void *arg, const char *box, const struct kept *k); /* create or replace */
	void (*forget)(void *arg, const char *box, struct ip ip, const struct name *name);
	/* What a former process kept of this sandbox; said once. */
	void (*recall)(void *arg, const char *box, kept_fn fn, void *fn_arg);
};
struct keeper {
	const struct keeper_ops *ops;
	void *arg;
};

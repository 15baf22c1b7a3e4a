/*
 * Does this machine have what Weir needs? Each check tries the thing itself, in a scratch
 * namespace, and answers in a sentence that says what is missing and what to do. A missing feature
 * that is required refuses the start: Weir never degrades to open. Notes are advice.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "host/uplink.h"

struct probe_env {
	const char *name, *user;
	uint32_t sandboxes, connections; /* wanted at once: for the limit of open files */
	uint32_t sandboxes_max; /* a full daemon's, the ready ones among them */
	bool loops;		/* a loop device for each */
	bool ipv6;
};
struct probe_check {
	const char *name;
	int (*fn)(const struct probe_env *env, struct err *err); /* 0, or negative and a sentence */
	bool note; /* failing is advice, not refusal */
};

/* The host room's own checks. */
extern const struct probe_check probe_checks[];
extern const size_t probe_n_checks;

/* Run them. out (may be NULL): a table for people, a line each. Returns the first failure that is
 * not a note, with its sentence. */
int probe_run(const struct probe_check *checks, size_t n, const struct probe_env *env,
	struct buf *out, struct err *err);

/* Send a packet from the router namespace through the uplink to a scratch namespace beyond the host
 * and back. When it is lost, the sentence names the chains that drop by policy and the rules to
 * add. The uplink and our nft table stand. */
int probe_packet(const struct uplink *u, const char *table, struct rtnl *host, int router_ns,
	struct err *err);

/*
 * The static nft rules: one table, named after the daemon, loaded once at start.
 *
 *	masquerade   what leaves the ranges for anywhere but the uplink
 *	forward      what the uplink sends; towards it only answers. The host forgets a TCP connection
 *		     when the kernel program does, not days later: so the program's bound on flows
 *		     bounds connection tracking too (datapath/flows.bpf.h)
 *	input        from the uplink nothing reaches the host itself but answers, ICMP, and what
 *	             floor.allow opens
 *
 * The last two are a second wall behind the tc programs, and what keeps strangers on the host's
 * network from opening a conversation with the router namespace. Nothing per sandbox is ever here.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/ip.h"

/* The script: pure, for tests and people. range6.family 0: no IPv6. */
int nft_script(const char *table, const char *uplink, struct prefix range4, struct prefix range6,
	const struct prefix *allow, size_t n_allow, struct buf *out);
/* Load it, in place of an older one, in one transaction. */
int nft_load(struct str script, struct err *err);
int nft_remove(const char *table, struct err *err); /* 0 also when it is not there */
bool nft_present(const char *table);

/* Forward chains that are not ours and drop by policy: one line each, such as
 * "table ip filter chain FORWARD", found in the output of `nft list chains`. Pure. */
int nft_foreign_drops(struct str listing, const char *table, struct buf *out);
/* The same of the running system; -ENOENT without nft. */
int nft_find_drops(const char *table, struct buf *out, struct err *err);

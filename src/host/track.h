/*
 * The host's connection tracking, as far as it is about one address of ours.
 *
 * What a sandbox began stays in the host's table for as long as its state says, hours for an open TCP
 * connection, also when the sandbox is gone; and its address is the next one's. So who takes an
 * address away has its entries forgotten.
 */
#pragma once
#include "base/err.h"
#include "base/ip.h"

/* Forget all connections that began at `from`; in the calling thread's namespace. Walks the table
 * once. Returns how many; -EPROTONOSUPPORT or the like where the kernel has no nf_conntrack_netlink. */
int track_forget(struct ip from, struct err *err);

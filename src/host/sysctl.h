/*
 * Kernel parameters of the network. /proc/sys/net shows the namespace of the thread that opens it,
 * so these act where the caller stands (host/netns.h).
 *
 * The host's own namespace is a guest house: what is changed there is written down first, in a file
 * of the run directory, and put back by sysctl_restore().
 */
#pragma once
#include "base/err.h"

/* key: "net/ipv4/ip_forward". */
int sysctl_set(const char *key, const char *value, struct err *err);
/* The value without its newline. */
int sysctl_get(const char *key, char *ret, size_t size);
bool sysctl_exists(const char *key);

/* Set key unless it already has the value; note the old one in memo ("key value" lines), unless
 * this key is noted there already (by an earlier start). */
int sysctl_borrow(const char *memo, const char *key, const char *value, struct err *err);
/* Put everything in memo back, newest first, and remove it. Keys whose interface is gone are
 * skipped. 0 also when there is no memo. */
int sysctl_restore(const char *memo);

/* What the router namespace and every slot's need; called inside of them. */
int sysctl_router(bool ipv6, struct err *err);
int sysctl_slot(bool ipv6, struct err *err);

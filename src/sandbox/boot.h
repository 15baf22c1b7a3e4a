/*
 * The descriptors that a role is given at boot, by name (event/role.h): sent over its channel in
 * one go, ended by IPC_BOOT_DONE. What is not in these two lists a role does not have.
 */
#pragma once
#include "event/chan.h"

struct daemon;

/* peers: the ends of the channels to the edge workers (may be -1). Borrowed. */
int boot_api(struct daemon *d, struct chan *c, const int *peers, struct err *err);
int boot_edge(struct daemon *d, struct chan *c, uint32_t worker, int peer, struct err *err);
/* One more descriptor, also after boot. */
int boot_fd(struct chan *c, const char *name, int fd);

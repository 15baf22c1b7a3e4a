/*
 * Calls to the host role and to the edge workers.
 *
 * A callback always comes, once, perhaps before the call returns (when the peer is gone). To the
 * edge a call goes to every worker; a worker that is not there, or goes away meanwhile, counts as
 * having done it: when it comes back it is told everything anew (edge_up()).
 */
#pragma once
#include "api/api.h"

/* m: the reply when err is NULL. */
typedef void (*host_fn)(struct chan_msg *m, const struct err *err, void *arg);
void host_call(struct api *a, uint16_t type, const void *payload, size_t n, int fd, host_fn fn,
	void *arg);

typedef void (*edges_fn)(const struct err *err, void *arg);
void edges_call(struct api *a, uint16_t type, const void *payload, size_t n, int fd, edges_fn fn,
	void *arg);
void edges_call_fds(struct api *a, uint16_t type, const void *payload, size_t n, const int *fds,
	unsigned int n_fds, edges_fn fn, void *arg);
/* The lines of IPC_EDGE_LEARNED of all workers together; text is valid during the callback. */
typedef void (*learned_fn)(struct str lines, void *arg);
struct learned_call;
struct learned_call *edges_learned(struct api *a, uint32_t slot, learned_fn fn, void *arg);
void learned_forget(struct learned_call *c); /* fn will not be called */

int peers_open(struct api *a, int host_fd, struct err *err);
/* A new worker's channel (taken). Once adopted, it is told of every sandbox. */
int edge_up(struct api *a, uint32_t worker, int fd);
/* Tell every worker everything, then SYNCED: after adoption. */
void edges_sync(struct api *a);

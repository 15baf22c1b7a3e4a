/* What the flows share among themselves. */
#pragma once
#include "api/box.h"
#include "api/ident.h"
#include "api/ingress.h"

/* Edge DEL, then host DESTROY; then `then`, also if they failed (op->err then says so unless it
 * said something before). */
void flow_take_back(struct op *op, bool keep_disk, void (*then)(struct op *op));
/* Start it again from its disk; the row is `resuming`. */
void flow_revive(struct box *b);
/* Put the row's policy in force under a new id: the kernel has another. */
void flow_repolicy(struct box *b);
/* Tell the host role and the edges which networks it is in: the kernel has others. */
void flow_nets_again(struct box *b);
void box_nets_message(const struct box *b, struct ipc_nets *ret);
/* Take an errored sandbox's processes away; its disk stays. */
void flow_reclaim(struct box *b);
/* The host role has something that no row stands for. */
void flow_destroy_unknown(struct api *a, const char *id);
/* A row that failed, and has no box, becomes destroyed. */
int flow_end_failed(struct api *a, struct sandbox_row *row, struct err *err);
/* Host and edges are told how it may be reached, as if it were in this state: fn once. */
void ingress_apply(struct box *b, enum ipc_ingress_state state, edges_fn fn, void *arg);

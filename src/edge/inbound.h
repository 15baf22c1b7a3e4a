/*
 * Ingress in the edge role: the proxy (edge/ingress/ingress.h) between its listeners, which the
 * host role handed in, and the api role, which says what leads where (wire/ipc_ingress.h).
 */
#pragma once
#include "edge/ingress/ingress.h"
#include "event/chan.h"
#include "event/role.h"
#include "wire/config.h"

struct inbound;
int inbound_new(uv_loop_t *loop, struct role *role, const struct config *config,
	struct inbound **ret, struct err *err);
/* Another api role from now on, which tells everything again; NULL: none for the time being. */
void inbound_api(struct inbound *b, struct chan *api);
/* From the api role: 0, an error, or -ENOSYS if it is none of ingress's messages. */
int inbound_told(struct inbound *b, struct chan_msg *m, struct err *err);
void inbound_del(struct inbound *b, uint32_t slot);
void inbound_synced(struct inbound *b);
/* From the host role after boot: fd is taken over if the name is ingress's. */
bool inbound_given(struct inbound *b, const char *name, int *fd);
void inbound_dump(const struct inbound *b, struct buf *out);

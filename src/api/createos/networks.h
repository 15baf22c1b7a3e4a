/* /v1/networks: private networks, made, listed, joined and left. */
#pragma once
#include <jansson.h>
#include "api/req.h"

/* The network that the path names, or NULL and the request is answered. */
struct network *network_of(struct req *q);

void createos_networks(struct req *q);
void createos_network_add(struct req *q);
void createos_network_get(struct req *q);
void createos_network_delete(struct req *q);
void createos_attach(struct req *q);
void createos_detach(struct req *q);

/* "networks" of a create: [{"id": id or name}, …] or NULL. The new box joins them, in the books. */
int networks_join(struct box *b, const json_t *networks, struct err *err);

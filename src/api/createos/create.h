/* POST /v1/sandboxes: what is asked for, read, checked and handed to birth.h. */
#pragma once
#include "api/createos/ingress.h"
#include "api/req.h"

/* What a create body says, checked as far as it can be without the store and the host. Texts and
 * lists borrow from the JSON. */
struct create_ask {
	struct str shape, rootfs, name, host_id, region, runtime;
	json_t *egress, *envs, *ssh_pubkeys, *node_selector, *networks, *disks;
	int64_t disk_mib, auto_pause, bandwidth;
	struct ingress_ask ingress;
	bool auto_pause_seen;
};
int create_decode(const json_t *body, struct create_ask *ret, struct err *err);
void createos_create(struct req *q);

/* CreateOS's egress lists: JSON to policies. And the routes about them (sections 10, 11). */
#pragma once
#include "api/api.h"
#include "policy/policy.h"
#include "wire/json.h"

/* rules: an array of strings, or NULL / JSON null for "allow all". ret_json: as it is stored and
 * echoed, to be freed. */
int egress_from_json(struct api *a, const json_t *rules, struct policy **ret, char **ret_json,
	struct err *err);
/* The stored text again. */
int egress_policy(struct api *a, struct str json, struct policy **ret, struct err *err);
/* A row's list, as it was given. A policy that came through another dialect is told as a list if a
 * list can say it, else as its rules read: nobody takes "deny denied.test" for a host. */
void egress_put(struct jw *w, struct api *a, const struct sandbox_row *row);
void createos_egress_get(struct req *q);
void createos_egress_put(struct req *q);
void createos_bandwidth_get(struct req *q);
void createos_recharge(struct req *q);

/*
 * sandbox0's network policy as JSON, and the two routes about it.
 *
 * A policy is kept as its canonical document: the client's values under the camelCase names, what
 * is empty left out. That is what GET echoes. On the way in the seed's snake_case names of the six
 * lists are taken too, and a bare number for a TCP port.
 */
#pragma once
#include "api/sandbox0/sandbox0.h"

/* A client's document: the policy, and its canonical text (to be freed). in NULL or null: allow all.
 * mode_required: as PUT has it; else a document without a mode means allow-all. Errors are about
 * field "network", but for a missing or unknown mode. */
int network_from_json(struct api *a, const json_t *in, bool mode_required, struct policy **ret,
	char **ret_json, struct err *err);
/* The stored text again. */
int network_policy(struct api *a, struct str json, struct policy **ret, struct err *err);
void sandbox0_network_get(struct req *q);
void sandbox0_network_put(struct req *q);

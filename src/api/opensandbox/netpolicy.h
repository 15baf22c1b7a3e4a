/*
 * networkPolicy: {"defaultAction":"deny","egress":[{"action":"allow","target":"*.example.org"}]}.
 *
 * Stored as this text, targets and order as they were given, and read again from it; "null" is a
 * sandbox that was given none, which may go where the operator lets it.
 */
#pragma once
#include "api/api.h"
#include "wire/json.h"

#define NETPOLICY_NONE "null"

/* What was asked, checked, in its stored form: an object with "defaultAction" and "egress", or JSON
 * null for NULL and null. Errors: field "networkPolicy", "egress[3].action: …". */
int netpolicy_canonical(const json_t *ask, json_t **ret, struct err *err);
/* The stored form as a policy, the operator's lists in front. */
int netpolicy_build(struct api *a, const json_t *canonical, struct policy **ret, struct err *err);
/* A stored text. */
int netpolicy_read(struct api *a, struct str json, struct policy **ret, struct err *err);

/* "egress" after a PATCH (its rules in front, a target that is named again loses its old place) or
 * a DELETE of targets (ret_n: how many matched). Targets are compared as texts, in any case. */
int netpolicy_patch(json_t *canonical, const json_t *rules, struct err *err);
int netpolicy_remove(json_t *canonical, const json_t *targets, size_t *ret_n, struct err *err);

/* A sandbox's policy as this API shows it, whichever dialect stored it: the stored form, or as near
 * to it as another dialect's rules can be said ("api.example.com:443"). *ret_exact: it can be
 * changed rule by rule. New reference. */
json_t *netpolicy_shown(struct api *a, const struct sandbox_row *row, bool *ret_exact);
/* A stored text in CreateOS's words: dialect.h. */
json_t *netpolicy_list(struct str json);

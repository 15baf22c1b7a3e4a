/*
 * What a policy says about names, prepared for being asked often.
 *
 * policy_name() walks the whole list: with thousands of rules that is the dearest part of a query,
 * and a sandbox chooses both the list and the rate. The gate answers the same from a table of the
 * patterns' names: one look-up for the name and one for each of its parents, however long the list.
 * Under each name stands the first rule that settles a query for it and for names below it, and
 * whether a rule denies some of their flows. tests/unit/edge/test_gate.c holds it equal to
 * policy_name().
 *
 * Immutable; one per version of a policy, and no larger than in proportion to it.
 */
#pragma once
#include "policy/policy.h"

struct gate;
struct gate *gate_new(const struct policy *p); /* NULL: no memory. Keeps nothing of p */
struct gate *gate_free(struct gate *g);	       /* NULL */
enum policy_name_verdict gate_ask(const struct gate *g, const struct name *name,
	uint16_t *ret_rule); /* may be NULL */

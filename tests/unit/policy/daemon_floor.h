/* The floor of a daemon with default ranges: what dialects check their rules against. */
#pragma once
#include "policy/floor.h"
#include "../unit.h"

static struct policy_floor *daemon_floor(void)
{
	static struct policy_floor f;
	struct policy_floor_spec spec = { 0 };

	prefix_from(STR("10.60.0.0/16"), true, &spec.range4);
	assert_int_equal(policy_floor_build(&spec, &f, NULL), 0);
	return &f;
}

/*
 * What a rule of any dialect may aim at: a name, a pattern of names, an address, a network. And how
 * a rule that cannot be read is refused: quoted, named, with its reason.
 */
#pragma once
#include "policy/floor.h"
#include "policy/policy.h"

/* Condition of the policy's last rule. Addresses and networks with host bits are taken as the
 * network; one wholly inside the floor is -EACCES. Anything else that does not read is -EINVAL.
 * *why is a literal, so that nothing a client sent is formatted twice. */
int target_add(struct policy *p, struct str target, bool apex_too,
	const struct policy_floor *floor, const char **why);
int target_add_name(struct policy *p, struct str name, bool apex_too, const char **why);
int target_add_prefix(struct policy *p, struct str prefix, const struct policy_floor *floor,
	const char **why);
/* Is it an address or a network, or the attempt at one? Names have neither colon nor slash. */
bool target_is_address(struct str target);

/* "<place> "<text>": <why>", about field. r is kept; -ENOMEM is ours and says only that. */
int target_refuse(struct err *err, int r, const char *field, const char *place, struct str text,
	const char *why);

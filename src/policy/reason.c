/* Verdicts in words: one table for reasons, one for parts of the floor. */
#include "policy/policy.h"

static const struct {
	const char *name, *text;
} reasons[WEIR_R_MAX] = {
	[WEIR_R_NONE] = { "none", "no reason was recorded" },
	[WEIR_R_RULE] = { "rule", "a rule of the policy decides" },
	[WEIR_R_DEFAULT] = { "default", "no rule matches, so the policy's default decides" },
	[WEIR_R_QUARANTINE] = { "quarantine", "no policy is in force yet, so nothing may pass" },
	[WEIR_R_SPOOF] = { "spoof", "the source address is not the sandbox's own" },
	[WEIR_R_FLOOR] = { "floor", "the destination belongs to the floor, which no rule can open" },
	[WEIR_R_GATEWAY] = { "gateway",
		"the gateway answers only DNS and what it asked the agent itself" },
	[WEIR_R_FRAGMENT] = { "fragment",
		"fragmentation hides the port, and the policy cannot judge without it" },
	[WEIR_R_PROTOCOL] = { "protocol", "the protocol has no ports to judge and is not let through" },
	[WEIR_R_SMTP] = { "smtp", "TCP port 25 needs a rule that names the port" },
	[WEIR_R_MALFORMED] = { "malformed", "the packet's headers do not parse" },
	[WEIR_R_UNSOLICITED] = { "unsolicited", "the sandbox has no flow that this packet answers" },
	[WEIR_R_FLOW_LIMIT] = { "flow_limit", "the sandbox, or its user, has too many flows open" },
	[WEIR_R_CUT] = { "cut", "the flow was established, and the policy in force now refuses it" },
	[WEIR_R_NAME] = { "name", "no rule allows the name" },
	[WEIR_R_REBIND] = { "rebind", "the name's answer pointed at an address that names cannot open" },
	[WEIR_R_DNS_LIMIT] = { "dns_limit", "the sandbox asks more DNS questions than it may" },
	[WEIR_R_DNS_INVALID] = { "dns_invalid", "not a DNS query that can be judged" },
	[WEIR_R_OVERLAY] = { "overlay", "the sandboxes share no private network" },
};

#define FLOOR(name, what) { name, what, what "; the floor cannot be opened by a rule" }
static const struct {
	const char *name, *what, *text;
} floors[WEIR_FLOOR_MAX] = {
	[WEIR_FLOOR_NONE] = { "none", "not part of the floor", "not part of the floor" },
	[WEIR_FLOOR_SANDBOX] = FLOOR("sandbox", "the address belongs to the sandboxes' own range"),
	[WEIR_FLOOR_HOST] = FLOOR("host", "the address belongs to the host"),
	[WEIR_FLOOR_OVERLAY] =
		FLOOR("overlay", "the address belongs to private networks, which only members reach"),
	[WEIR_FLOOR_LINKLOCAL] =
		FLOOR("linklocal", "the address is link-local or serves metadata"),
	[WEIR_FLOOR_LOOPBACK] = FLOOR("loopback", "the address is loopback"),
	[WEIR_FLOOR_MULTICAST] =
		FLOOR("multicast", "the address is multicast, broadcast or reserved"),
	[WEIR_FLOOR_ZERO] = FLOOR("zero", "the address means \"this host\""),
	[WEIR_FLOOR_OPERATOR] = FLOOR("operator", "the operator denies the address (floor.deny)"),
	[WEIR_FLOOR_EMBEDDED] = FLOOR("embedded",
		"the IPv6 address carries an IPv4 address, which would escape the rules for it"),
};

const char *policy_reason_name(enum weir_reason reason)
{
	return (unsigned int)reason < WEIR_R_MAX ? reasons[reason].name : "unknown";
}

const char *policy_reason_text(enum weir_reason reason, enum weir_floor floor)
{
	if (reason == WEIR_R_FLOOR && floor > WEIR_FLOOR_NONE && floor < WEIR_FLOOR_MAX)
		return floors[floor].text;
	if (reason == WEIR_R_OVERLAY && (int)floor == WEIR_OVERLAY_RULES)
		return "the rules of the private network do not let it through";
	return (unsigned int)reason < WEIR_R_MAX ? reasons[reason].text : "unknown";
}

const char *policy_floor_name(enum weir_floor floor)
{
	return (unsigned int)floor < WEIR_FLOOR_MAX ? floors[floor].name : "unknown";
}

const char *policy_floor_text(enum weir_floor floor)
{
	return (unsigned int)floor < WEIR_FLOOR_MAX ? floors[floor].what : "unknown";
}

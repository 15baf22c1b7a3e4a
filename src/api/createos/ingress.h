/*
 * How a sandbox may be reached from outside, as create and PATCH say it: CreateOS's ingress_enabled,
 * and the native ingress_access, ingress_hold and host_ports beside it: true or false for both ports
 * of the host, or {"proxy": …, "direct": …} for each.
 */
#pragma once
#include "api/box.h"
#include "wire/json.h"

struct ingress_ask {
	struct str access; /* "open", "token"; empty: as it was */
	bool on, on_seen, hold, hold_seen;
	const json_t *ports;
};
/* The fields of a body whose struct has an ingress_ask as member m. */
#define INGRESS_FIELD(n, type, m, f) { .name = n, .kind = JK_BOOL, .offset = offsetof(type, m.f), \
		.seen_offset = offsetof(type, m.f##_seen) }
#define INGRESS_FIELDS(type, m)						 \
	INGRESS_FIELD("ingress_enabled", type, m, on),			 \
	INGRESS_FIELD("ingress_hold", type, m, hold),			 \
	{ .name = "host_ports", .kind = JK_RAW, .offset = offsetof(type, m.ports), .seen_offset = -1 }, \
	{ .name = "ingress_access", .kind = JK_STR, .offset = offsetof(type, m.access), \
		.seen_offset = -1, .max = 16 }

int ingress_ask_read(const struct api *a, const struct ingress_ask *ask, struct ingress_want *ret,
	struct err *err);
/* Does it ask for anything? */
bool ingress_ask_any(const struct ingress_ask *ask);

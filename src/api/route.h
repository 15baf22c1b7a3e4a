/*
 * Paths to routes. A path is split on '/' first and each segment decoded afterwards, so an escaped
 * slash stays inside its segment. Patterns are literal segments, "{name}", and "{*}" as the last for
 * whatever follows; HTTP_M_OTHER in a table means any method. The first route that fits wins, which
 * lets a literal stand before a parameter. Pure.
 */
#pragma once
#include "api/life.h"
#include "event/httpd.h"

#define ROUTE_SEGS_MAX 16

struct req;

enum route_auth {
	AUTH_OPEN,  /* no credential is looked at */
	AUTH_GUARD, /* the dialect decides, once the sandbox is known: its guard() */
	AUTH_USER,
	AUTH_ADMIN, /* 403 for other keys */
};
enum route_body {
	BODY_NONE,   /* ignored */
	BODY_JSON,   /* read whole and parsed before the handler runs; empty is {} */
	BODY_STREAM, /* the handler reads it */
};
struct route {
	enum http_method method;
	const char *pattern;
	enum route_auth auth;
	enum route_body body;
	enum life_op op; /* for patterns with {sandbox}: what the handler will do to it */
	void (*handler)(struct req *q);
};

static inline bool route_needs_key(const struct route *r)
{
	return r->auth != AUTH_OPEN && r->auth != AUTH_GUARD;
}

struct route_segs {
	struct str seg[ROUTE_SEGS_MAX];
	unsigned int n;
	unsigned int folded; /* segments of the path that a dialect took out */
	bool more; /* the path goes on: only "{*}" fits the rest */
};

struct route_hit {
	const struct route *route; /* NULL: none */
	uint32_t allow;		   /* methods that the path knows: bit 1 << enum http_method */
	bool open;		   /* some route of this path needs no credential */
};

/* Split at '/', still escaped. -EINVAL without a leading slash. */
int route_split(struct str path, struct route_segs *ret);
bool route_fits(const char *pattern, const struct route_segs *segs);
void route_find(const struct route *table, size_t n, enum http_method method,
	const struct route_segs *segs, struct route_hit *ret);
/* The segment that stands where the pattern has {name}; STR_NONE if it has none. */
struct str route_param(const struct route *route, const struct route_segs *segs, const char *name);
/* "GET, HEAD, POST, OPTIONS" */
void route_allow_text(uint32_t allow, struct buf *out);

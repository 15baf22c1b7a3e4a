/*
 * Who may come in: tokens for a port, and OpenSandbox's secure access.
 *
 * A token is random text; the edge holds its SHA-256, its port and its end. What a request shows is
 * hashed and compared with every token of the sandbox, in a time that does not depend on which fits
 * or how nearly. A signed route is good for the port and time it names. Nothing is remembered of a
 * request: a token that was revoked opens nothing from the next request on.
 */
#pragma once
#include "base/err.h"
#include "edge/ingress/target.h"
#include "wire/ipc_ingress.h"

#define ACCESS_TOKEN_TEXT_MAX 256u /* a longer one is refused unread */

struct access_rule {
	enum ipc_ingress_access access;
	struct str secret; /* OpenSandbox-Secure-Access; "": not secured */
	const struct ipc_ingress_token *tokens;
	size_t n_tokens;
	const struct ipc_ingress_keys *keys;
	const char *id;	   /* "sb-…": what a route is signed with */
};

struct access_shown { /* as the request has it; STR_NONE: not there */
	struct str secure;		   /* OpenSandbox-Secure-Access */
	struct str header, cookie, query;  /* the token */
};

/* What the request shows. target: h's, whose path has the query. */
void access_read(const struct http_head *h, struct str path, struct access_shown *ret);
/* 0, or the status to refuse with: 401, 503 where no key is there to verify with.
 * now: seconds since 1970. *ret_by_query: the token that opened came in the query. */
int access_check(const struct access_rule *rule, const struct access_shown *shown,
	const struct target *t, uint64_t now, bool *ret_by_query, struct err *err);

/* The same for a port that is published by itself: 0, or 401. */
int access_route(const struct ipc_ingress_route *route, const struct http_head *h, struct err *err);
/* The header that it looks at; STR_NONE: none. */
struct str access_route_header(const struct ipc_ingress_route *route);

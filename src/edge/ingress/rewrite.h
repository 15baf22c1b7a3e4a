/*
 * Heads as they go on: a request's towards the sandbox, an answer's towards the client. Pure.
 *
 * A head is written anew from what was read, line by line in one spelling, never copied as it came.
 * The framing lines are made from the framing that was understood, so what the other side
 * counts is what was counted here. What belongs to one hop stays behind, with what Connection names;
 * so do the platform's credentials, whatever the client says of where it comes from, and the words
 * that chose the route.
 */
#pragma once
#include "base/buf.h"
#include "edge/ingress/target.h"

#define REWRITE_ROOM 4096u /* more than is ever added to a head, beside the client's own texts */

struct rewrite {
	const struct target *target;
	struct str client;  /* its address */
	struct str host;    /* the request's, for X-Forwarded-Host; valid for request heads only */
	bool tls;
	bool upgrade;	    /* the client may be given another protocol */
	struct str secret;  /* the header that opened the route: it stays behind; "" none */
	struct str secure;  /* towards the api role, for a route that was signed: what it asks for itself */
	struct str cookie;  /* a token the answer sets as a cookie; "" none */
	bool http10;	    /* the client's version */
	struct str service; /* the api role's: where it has it, put before the path; "" a sandbox's */
};

/* Does the request ask for another protocol, in a form that may be passed on? */
bool rewrite_upgrade(const struct http_head *h);
int rewrite_request(struct buf *out, const struct http_head *h, const struct rewrite *w);
/* keep: the client's connection goes on.
 * decode: the client cannot take chunks, so they are not announced. */
int rewrite_answer(struct buf *out, const struct http_head *h, const struct rewrite *w, bool keep,
	bool decode);

/*
 * Heads on their way through execd's proxy, and the server's: a request's towards a port of the
 * sandbox, an answer's back. Written anew line by line, as the edge does (edge/ingress/rewrite.h): what
 * belongs to one hop stays behind, and so do the platform's credentials (event/headpass.h). Pure.
 */
#pragma once
#include "base/buf.h"
#include "base/ip.h"
#include "event/httphead.h"

#define FORWARD_REQUEST_MAX (HTTPD_HEAD_MAX + 2048u)
#define FORWARD_ANSWER_MAX  15360u /* of an answer's head: what http_add_header() takes */

struct forward {
	uint16_t port;
	struct str path; /* what that port is asked for, with its query; "" : "/" */
	struct ip client;
	bool upgrade;	 /* pass_upgrade() (event/headpass.h) */
	bool server;	 /* as the lifecycle server's proxy: neither Cookie nor Authorization, */
	struct str host; /* and the host that was asked for is told */
};

int forward_request(struct buf *out, const struct http_head *h, const struct forward *f);
/* Is this field of an answer for the client? The server itself says the rest, and its framing. */
bool forward_answers(const struct http_head *h, struct str name);
/* Of the lines behind a body ("Name: value\r\n" each) those that may be there (pass_trailer()). */
int forward_trailers(struct buf *out, struct str lines);

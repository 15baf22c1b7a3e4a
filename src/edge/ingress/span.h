/*
 * A body on its way through: how much of what came belongs to it, and which of it goes on.
 *
 * The framing is read byte by byte (event/httpbody.h) and passed on as it came, since what is read
 * here strictly can be read in one way only; or taken out, for a client that knows no chunks. Trailers
 * are held back until all are there: those that may not stand behind a body stay (event/headpass.h).
 */
#pragma once
#include "event/httpbody.h"

struct span { /* does not move between span_begin() and span_done() */
	struct body body;
	struct buf trailers; /* what came of them */
	bool decode;	     /* only the content goes on */
	bool bare;	     /* no trailer does */
};

/* Ends what was before; zeroed memory will do. decode: see above. bare: the head's Connection names fields
 * of this hop, and such a field may come as a trailer. */
void span_begin(struct span *s, struct body body, bool decode, bool bare);
void span_done(struct span *s);
/* Takes the body's bytes off the front of *in: *ret is what goes on of them, in their place (in's
 * memory is the caller's to change), and *ret_tail what follows it, valid until the next call. What was
 * there of the body is taken whole. -EBADMSG: the framing is broken; both are what came before. */
int span_take(struct span *s, struct str *in, struct str *ret, struct str *ret_tail, struct err *err);

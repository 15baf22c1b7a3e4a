/*
 * A body on its way through: how much of what came belongs to it.
 *
 * The framing is read byte by byte (event/httpbody.h) and passed on as it came, since what is read
 * here strictly can be read in one way only; or taken out, for a client that knows no chunks.
 */
#pragma once
#include "event/httpbody.h"

/* Takes the body's bytes off the front of *in and returns them: as they came, or with decode only
 * their content, moved together in place (in's memory is the caller's to change). What was
 * there of the body is taken whole. -EBADMSG: the framing is broken; *ret is what came before. */
int span_take(struct body *b, struct str *in, bool decode, struct str *ret, struct err *err);

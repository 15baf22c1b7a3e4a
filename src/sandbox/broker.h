/*
 * What the unprivileged roles may ask of root: a table of requests. Each entry says who may send
 * it, in which phase, and how large it is; anything else is logged, refused, and the peer dropped.
 * The table in broker.c is the whole list.
 */
#pragma once
#include "sandbox/roles.h"

struct daemon;

/* -EPROTO: the peer broke the rules and is to be dropped. */
int broker_msg(struct daemon *d, const struct role_peer *who, struct chan_msg *m);

/* sandbox0's dialect: what its files share. */
#pragma once
#include "api/box.h"
#include "api/req.h"

extern const struct route sandbox0_routes[];
extern const size_t sandbox0_routes_n;

/* {"success":true, … : the caller adds "data", then reply_send(). */
void sandbox0_begin(struct answer *a, size_t max);
/* {"success":true,"data":{"<name>":true}} */
void sandbox0_done(struct req *q, int status, const char *name);

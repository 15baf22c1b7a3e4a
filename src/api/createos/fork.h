/* POST /v1/sandboxes/{sandbox}/fork: one more, from one that is paused. */
#pragma once
#include "api/req.h"

void createos_fork(struct req *q);

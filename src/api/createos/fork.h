/* POST /v1/sandboxes/{sandbox}/fork: section 7.5. */
#pragma once
#include "api/req.h"

void createos_fork(struct req *q);

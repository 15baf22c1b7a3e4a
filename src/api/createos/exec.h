/* POST …/exec, buffered and streamed: section 8. */
#pragma once
#include "api/req.h"

void createos_exec(struct req *q);

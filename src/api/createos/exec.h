/* POST …/exec, buffered and streamed. */
#pragma once
#include "api/req.h"

void createos_exec(struct req *q);

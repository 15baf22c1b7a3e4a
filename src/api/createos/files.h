/* Files of a sandbox, streamed in both directions. */
#pragma once
#include "api/req.h"

void createos_file_put(struct req *q);
void createos_file_get(struct req *q);

/* What the host role tells the api role by itself. Nobody there to listen: it asks LIST at its next
 * start. */
#pragma once
#include "wire/ipc.h"

struct daemon;
void event_exited(struct daemon *d, const char *id, int32_t status, bool oom);
void event_build(struct daemon *d, const struct ipc_build *ask, int32_t status);

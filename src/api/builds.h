/*
 * Builds of images: the host role runs them and hands us the log's reading end. One client may
 * follow a build; the build goes on whether it stays or not.
 */
#pragma once
#include "api/api.h"

/* The host role says that a build ended. */
void builds_done(struct api *a, const struct ipc_build_done *d);

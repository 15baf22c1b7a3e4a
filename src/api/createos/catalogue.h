/* Health, identity and what there is to choose from. */
#pragma once
#include "api/req.h"

void createos_healthz(struct req *q);
void createos_readyz(struct req *q);
void createos_whoami(struct req *q);
void createos_shapes(struct req *q);
void createos_rootfs(struct req *q);
void createos_hosts(struct req *q);

/* Ask the host role for its images unless we asked within max_age_ms; then fn(arg), maybe at once. */
void images_fresh(struct api *a, uint64_t max_age_ms, void (*fn)(void *arg), void *arg);
bool image_known(const struct api *a, struct str name);

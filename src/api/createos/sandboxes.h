/* The single-sandbox routes and the list: sections 7.4 and 7.5. */
#pragma once
#include "api/req.h"

void createos_list(struct req *q);
void createos_get(struct req *q);
void createos_by_ip(struct req *q);
void createos_patch(struct req *q);
void createos_delete(struct req *q);
void createos_pause(struct req *q);
void createos_resume(struct req *q);
void createos_resize(struct req *q);
void createos_ssh_keys(struct req *q);

/* The routes about sandboxes as such: list, read, change, pause, resume, refresh, delete. */
#pragma once
#include "api/sandbox0/sandbox0.h"

void sandbox0_list(struct req *q);
void sandbox0_get(struct req *q);
void sandbox0_status(struct req *q);
void sandbox0_update(struct req *q);
void sandbox0_delete(struct req *q);
void sandbox0_pause(struct req *q);
void sandbox0_resume(struct req *q);
void sandbox0_refresh(struct req *q);

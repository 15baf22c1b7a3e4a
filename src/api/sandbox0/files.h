/* Files of a sandbox: contents streamed in both directions, and their names. */
#pragma once
#include "api/sandbox0/sandbox0.h"

void sandbox0_file_read(struct req *q);
void sandbox0_file_write(struct req *q); /* or mkdir */
void sandbox0_file_delete(struct req *q);
void sandbox0_file_stat(struct req *q);
void sandbox0_file_list(struct req *q);
void sandbox0_file_move(struct req *q);
void sandbox0_file_watch(struct req *q); /* watch.c */

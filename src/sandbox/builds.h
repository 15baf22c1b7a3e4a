/*
 * Image builds: weir-build, one child per job, which isolates itself (cmd/weir-build.c). Its output
 * goes into a pipe whose reading end the asker gets; the host role never reads it.
 */
#pragma once
#include <uv.h>
#include "base/err.h"

#define BUILDS_MAX 2 /* at once: they are hungry, and people wait for them one at a time */

struct daemon;
struct builds;

int builds_new(struct daemon *d, struct builds **ret, struct err *err);
/* *ret_log: the log's reading end. IPC_EVENT_BUILD follows. One build per name at a time. */
int builds_start(struct builds *b, const char *name, int *ret_log, struct err *err);
void builds_stop(struct builds *b); /* kill them */
bool builds_ended(const struct builds *b);
void builds_free(struct builds *b); /* when they have ended; NULL is fine */

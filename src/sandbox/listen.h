/*
 * The public listeners, opened in the host's namespace and handed to the api role. They stay open
 * here, so while the api role restarts clients wait in the backlog instead of being refused. The
 * addresses, with the ports chosen for port 0, are written to <run_dir>/api.addr, a line each.
 */
#pragma once
#include "base/err.h"

struct daemon;
struct listeners;

int listeners_open(struct daemon *d, struct listeners **ret, struct err *err);
int listeners_fd(const struct listeners *l, unsigned int n); /* borrowed */
void listeners_close(struct listeners *l);		     /* NULL is fine */

/*
 * The public listeners, opened in the host's namespace and handed on: the API's to the api role,
 * ingress's to every edge worker. They stay open here, so while a role restarts clients wait in the
 * backlog instead of being refused. The addresses, with the ports chosen for port 0, are written to
 * <run_dir>/api.addr and <run_dir>/ingress.addr, a line each; ingress's chosen ports become the
 * configuration's, which tells the api role what to publish.
 */
#pragma once
#include "base/err.h"

struct daemon;
struct listeners;

int listeners_open(struct daemon *d, struct listeners **ret, struct err *err);
int listeners_api(const struct listeners *l, unsigned int n);	  /* borrowed; -ENOENT */
int listeners_ingress(const struct listeners *l, unsigned int n); /* borrowed; -ENOENT */
void listeners_close(struct listeners *l);			  /* NULL is fine */

/* One of a sandbox's host ports: of the range in the configuration, on ingress's first address.
 * -EADDRINUSE: somebody else has it. */
int listener_of_port(const struct daemon *d, uint16_t port, struct err *err);

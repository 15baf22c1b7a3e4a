/*
 * A sandbox's services: ports that are published one by one, each open to everybody or to who shows a
 * secret, each perhaps waking the sandbox. They stand beside what opens all ports (ingress.h): a
 * port with a service is reached as the service says, the others as the sandbox does.
 *
 * The row keeps them as a JSON array of the form that sandbox0's dialect has; this reads it. What that
 * form can say and the edge cannot do is refused by name, as are members that nobody knows: what was
 * meant to close must not be passed over.
 */
#pragma once
#include <jansson.h>
#include "api/store.h"
#include "wire/ipc_ingress.h"

#define SERVICES_MAX IPC_INGRESS_ROUTES_MAX
#define SERVICES_NONE "[]"

/* A list as a client gave it, as the row is to have it: *ret is the caller's. Errors name
 * services[i].<member>. */
int services_text(const json_t *list, char **ret, struct err *err);
/* The same of [{"port":…,"resume":…}]; errors name exposed_ports[i].<member>. */
int services_from_ports(const json_t *list, char **ret, struct err *err);
/* What the row has, as a new reference; never NULL but for want of memory. */
json_t *services_of(const struct sandbox_row *row);

/* Is it reached from outside, and does a visitor wake it? */
bool service_public(const json_t *service);
bool service_resumes(const json_t *service);
uint16_t service_port(const json_t *service);

/* For the edges: the public ones. */
uint32_t services_routes(const struct sandbox_row *row,
	struct ipc_ingress_route ret[static IPC_INGRESS_ROUTES_MAX]);

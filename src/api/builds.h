/*
 * Builds of images, as the api role has them: a slot is asked for, its policy and its names are put in
 * place, and the log is read to its end. What a build may reach is build.allow, with the registry that
 * it fetches from and build.proxy; what it tried beside that is told in its log.
 *
 *	BUILD (host)  ->  SET (edges)  ->  COMMIT (host)  ->  log, IPC_EVENT_BUILD  ->  DEL (edges)
 *
 * The end is known when both the log has ended and the host role has told the status; they come in
 * either order. A build goes on whether its asker stays or not.
 */
#pragma once
#include "api/api.h"
#include "base/secret.h"

struct build;
struct build_spec {
	struct str name;
	struct str from; /* a reference for weir-build, or nothing */
	const struct secret *auth; /* credentials as containers-auth.json(5) has them; NULL, empty: none */
	const char *user; /* for whom: shares its limits */
	void (*on_begin)(void *arg); /* it runs; may be NULL */
	/* false: no more until build_more(). */
	bool (*on_line)(struct str line, void *arg);
	/* Once. err NULL: it is in the store. ERR_UPSTREAM: it ran and failed, err says the log's reason;
	 * others: it never ran. */
	void (*on_end)(const struct err *err, void *arg);
	void *arg;
};
/* on_end may come before the call returns. NULL then, or without memory (on_end says so). */
struct build *build_start(struct api *a, const struct build_spec *spec);
void build_more(struct build *b);
void build_forget(struct build *b); /* the asker is gone: nothing is called any more */

/* The configuration's lists can be policies: said at the start. */
int builds_check(const struct api *a, struct err *err);
/* The host role says that a build ended. */
void builds_done(struct api *a, const struct ipc_build_done *d);
/* A worker that has just come is told of every build's slot. */
void builds_tell(struct edge *e);
/* Something was refused in a slot that is no sandbox's. */
void builds_denied(struct api *a, uint32_t slot, const char *name, struct ip addr, uint16_t port);

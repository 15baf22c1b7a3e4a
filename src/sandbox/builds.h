/*
 * Image builds: weir-build, one child per job, which isolates itself (cmd/weir-build.c), in a slot of
 * its own, so that what it fetches from passes the same program and the same resolver as a sandbox's
 * traffic.
 *
 *	BUILD		a slot's net is taken, quarantined; the asker gets its place and a log
 *	(edge SET)	the api role's: whose names the slot may ask
 *	COMMIT		the policy is in force, weir-build starts
 *	IPC_EVENT_BUILD	it has ended, or was ended: the slot goes back
 *
 * Its output goes into a pipe whose reading end the asker gets; the host role never reads it.
 * What a life of the api role asked for ends with it: nobody would hear of the end, and the resolver
 * knows no longer what the slot may ask. Who wants the image asks again, and is not told that it is
 * being built.
 *
 * Bounds: build.at_once, build.time_s, build.memory_mib (with BUILDS_PIDS), build.disk_mib. A slot for
 * which no COMMIT comes in BUILDS_COMMIT_S is let go.
 */
#pragma once
#include <uv.h>
#include "base/err.h"
#include "policy/policy.h"
#include "wire/ipc.h"

#define BUILDS_MAX	16 /* build.at_once may say fewer */
#define BUILDS_PIDS	4096
#define BUILDS_COMMIT_S 30

struct daemon;
struct builds;

int builds_new(struct daemon *d, struct builds **ret, struct err *err);
/* BUILD: answered later, to this life of the api role. auth: credentials or an empty file; taken.
 * One build per name at a time. */
int builds_ask(struct builds *b, const struct ipc_build *q, int auth, uint32_t life, uint32_t serial,
	struct err *err);
/* COMMIT of a build's id; -ENOENT: there is none. */
int builds_commit(struct builds *b, const struct ipc_commit *q, const struct policy *p,
	struct err *err);
bool builds_has(const struct builds *b, const char *id);
/* IMAGE_DROP: what waits in the pool with it goes, then its name and its files. One at a time. */
int builds_drop(struct builds *b, const char *name, uint32_t life, uint32_t serial, struct err *err);
void builds_orphaned(struct builds *b, uint32_t life); /* this life of the api role has ended */
void builds_stop(struct builds *b); /* kill them */
bool builds_ended(const struct builds *b);
void builds_close(struct builds *b); /* before the slots close; NULL is fine */
void builds_free(struct builds *b);  /* when they have ended; NULL is fine */

/*
 * Images that a create names by their place in a registry.
 *
 *	in the store under its own name  ->  pulled before, for this asker  ->  a registry of
 *	images.registries, by a build (builds.h)  ->  the store, under a name that no client can say
 *
 * What came without credentials is everybody's. What came with them is its user's alone, and
 * of these credentials: the name in the store is a keyed digest of user, registry user, password and
 * reference, so that others, right or wrong, ask the registry. The same are asked about at each create,
 * for they may have been revoked: weir-build, which finds the image there, then fetches nothing. A
 * reference that was pulled is not fetched again until its image went: who wants another content names
 * a tag or a digest.
 *
 * Those who want the same wait for one build. build.at_once run at the same time, PULLS_MAX may wait.
 * Beyond images.pulled_mib or PULLED_MAX images, the ones that no sandbox has and that were used
 * longest ago go.
 */
#pragma once
#include "api/api.h"

#define PULLED_PREFIX "pulled." /* of names in the store; no client's create may name one */
#define PULLS_MAX     32u
#define PULLED_MAX    96u

struct pull_wait;
struct pull_ask {
	const char *user;
	struct str uri;
	struct str login, password; /* of the registry; login empty: none */
};
/* The name in the store of what was pulled before; false: it is not there, or the registry is to be
 * asked first. */
bool pull_here(struct api *a, const struct pull_ask *ask, char ret[static IPC_NAME_LEN]);
/* fn comes once, maybe at once, and NULL is returned then. err ERR_UPSTREAM: it cannot be had, and why;
 * ERR_CAPACITY: too many wait. */
typedef void (*pull_fn)(const char *name, const struct err *err, void *arg);
struct pull_wait *pull(struct api *a, const struct pull_ask *ask, pull_fn fn, void *arg);
void pull_forget(struct pull_wait *w); /* fn will not be called; the build goes on */
/* Those under way that a create of this user waits for; user NULL: all. */
struct pull_view {
	const char *from; /* as weir-build is told */
	bool running;	  /* or waits for its turn */
	unsigned int creates;
	uint64_t since_ms;
};
void pulls_each(const struct api *a, const char *user,
	void (*fn)(const struct pull_view *v, void *arg), void *arg);

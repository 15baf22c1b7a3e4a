/*
 * A dialect: one published API in front of the same core.
 *
 * It is its routes, the place where its credential stands and the form of its errors; its handlers
 * (a directory of their own beside this file) translate. It holds no state and no policy logic,
 * and the core asks nothing of it but to read again the policies that came through it. Native
 * additions live among CreateOS's routes.
 *
 * Which dialect a request speaks is told by the listener, the path and the headers alone, before a
 * credential is looked at: dialect_of() is the table.
 */
#pragma once
#include "api/req.h"
#include "policy/policy.h"

struct dialect {
	const char *name; /* as in api.listen, and in logs */
	const struct route *routes;
	const size_t *n_routes;
	struct str (*credential)(const struct http *h); /* STR_NONE: none was given */
	/* The whole body of an error, and its status; *type where it is not JSON. q->code names the
	 * error where its kind does not say enough; NULL: by its kind. */
	int (*error)(const struct req *q, const struct err *err, struct buf *out, const char **type);
	/* Bring a path that has several spellings into the one its routes have. May be NULL. */
	void (*fold)(struct route_segs *segs);
	/* May the request come to the sandbox of an AUTH_GUARD route? NULL: there are none. */
	int (*guard)(struct req *q, struct err *err);
	bool forgets;	/* a destroyed sandbox is 404 here */
	bool echoes_id; /* answers carry the X-Request-Id that the request brought */
	/* A refusal before the handler ran, told otherwise than by error(): true if it was. May be
	 * NULL. */
	bool (*refuse)(struct req *q, const struct err *err);
	/* Policies are stored as they were given, under this number; and such a text read again. */
	enum policy_dialect stores;
	int (*policy)(struct api *a, struct str json, struct policy **ret, struct err *err);
	/* The same as a list of texts for CreateOS's views; NULL: made of the policy. New reference. */
	json_t *(*policy_list)(struct str json);
};
extern const struct dialect dialect_createos, dialect_opensandbox, dialect_sandbox0;

const struct dialect *dialect_of(const struct api *a, const struct http *h);

/* A stored policy, read by the dialect that stored it. */
int dialect_policy(struct api *a, uint32_t dialect, struct str json, struct policy **ret,
	struct err *err);

/* NULL: that dialect leaves it to the policy itself. */
json_t *dialect_policy_list(uint32_t dialect, struct str json);
/* That dialect's name, for people. */
const char *dialect_stored_by(uint32_t dialect);

/* The text of an error as a client may see it: what is ours is logged, not told. */
const char *dialect_text(const struct err *err);
/* "Bearer <token>", the scheme in any case. STR_NONE if it reads otherwise. */
struct str dialect_bearer(struct str header);

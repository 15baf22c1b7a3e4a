/*
 * What was refused, per sandbox: the last DENIALS_MAX refusals, equal ones counted together. Fed by
 * the kernel's events and by the edge's refused names; read by GET …/denials, which can also
 * follow. In memory only; a restart forgets it, the counters do not.
 */
#pragma once
#include <sys/queue.h>
#include "api/api.h"
#include "wire/json.h"

#define DENIALS_MAX 256u /* per sandbox; older ones are dropped */

struct denial {
	uint64_t at_ms; /* of the last one */
	uint64_t seq;	/* grows; newest is largest */
	uint32_t policy, count; /* with net: the version of its rules */
	uint32_t net;		/* private network whose rules refused, or 0 */
	uint8_t reason, detail, proto, inbound;
	uint16_t rule, port;
	struct ip addr;
	char *name; /* or NULL */
};
struct denials {
	struct denial *ring; /* made at the first refusal */
	uint32_t n, head;    /* entries, and where the next goes */
	uint64_t seq;
	uint64_t suppressed; /* by the edge's rate bound; the kernel's is in its counters */
	LIST_HEAD(, follower) followers;
};
struct follower {
	LIST_ENTRY(follower) next;
	void (*on_denial)(struct follower *f, const struct denial *d);
	void (*on_gone)(struct follower *f); /* the sandbox is gone */
};

struct box;
void denials_done(struct denials *d);
void denials_dns(struct api *a, const struct ipc_event_dns *e);
void denials_kernel(struct api *a, const struct weir_event *e, uint64_t at_ms);
/* The i-th newest, or NULL. */
const struct denial *denials_at(const struct denials *d, uint32_t i);
/* Members of one denial. learned: lines "address name ttl" of the edge. */
void denial_write(const struct box *b, const struct denial *d, struct str learned, struct jw *w);
/* Names learned for this address, at most max of them; count. */
size_t learned_names(struct str lines, struct ip addr, struct str *names, size_t max);

/*
 * A connection to a port of a sandbox's loopback, through its agent, and from an upgrade on the
 * client's connection tied to it: each is read only while the other takes what came, the end of one
 * half-closes the other. It is part of its owner, who has the agent's callbacks and the use of the
 * box, passes on what the agent says, and ends it.
 */
#pragma once
#include "api/box.h"
#include "event/httpd.h"

#define RELAYS_MAX	   1024u /* at the same time: their connections are not the HTTP server's any more */
#define RELAYS_PER_SANDBOX 128u  /* of the 512 that an agent takes of all kinds */

struct relay {
	struct box *box;
	struct agent_tunnel *agent;
	uv_stream_t *client; /* once it is upgraded */
	uv_shutdown_t shutdown;
	unsigned int writing;
	bool client_over;
	void (*broken)(struct relay *r); /* by the client: the owner calls relay_end() */
};

/* A port that may be asked for: 1 to 65535, and not the agent's. */
int relay_port(struct str text, uint16_t *ret, struct err *err);
/* Ask the agent. -EBUSY: too many. On failure there is nothing to end. */
int relay_dial(struct relay *r, struct box *b, uint16_t port, const struct agent_tunnel_ops *ops,
	void *arg, struct err *err);
/* 101, and tie. On failure the request is still one, and the relay is to be ended. headers: as
 * http_upgrade() has them. */
int relay_upgrade(struct relay *r, struct http *h, const char *protocol, struct str headers);
/* What the agent's callbacks of these names bring, after the upgrade. */
void relay_data(struct relay *r, struct str data);
void relay_half(struct relay *r);
void relay_drain(struct relay *r);
/* Both connections end, and the memory around the relay is freed, now or when they are closed. */
void relay_end(struct relay *r, void *memory);

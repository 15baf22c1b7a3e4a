/*
 * Which resolvers the DNS proxy asks, and the sockets it cannot make itself.
 *
 * They come from dns.upstream, or else from the host's /etc/resolv.conf. A resolver on loopback or
 * on an address of the host's own is reachable from the host's namespace only (a socket stays
 * where it was made), so the edge gets connected sockets towards it; others it reaches by the
 * uplink. The text that tells the edge is described in event/role.h, "resolv".
 */
#pragma once
#include "base/buf.h"
#include "host/link.h"

#define RESOLV_MAX 8
#define RESOLV_POOL 16 /* UDP sockets given at start: as many source ports to guess from */

struct resolver {
	struct ip ip;
	uint16_t port;
	bool in_host; /* reachable from the host's namespace only */
};
struct resolv {
	unsigned int n;
	struct resolver r[RESOLV_MAX];
};

/* Lines "nameserver ADDRESS" of resolv.conf text; others, and addresses with a zone, are passed
 * over. Appends to ret at most RESOLV_MAX. */
void resolv_parse(struct str text, uint16_t port, struct resolv *ret);
/* dns.upstream if it names any, else path. Addresses of the host are asked of `host`. */
int resolv_find(const struct ip *upstream, unsigned int n_upstream, uint16_t port, const char *path,
	struct rtnl *host, struct resolv *ret, struct err *err);
int resolv_text(const struct resolv *r, struct buf *out);
/* A nonblocking socket, connected (TCP: connecting), in the calling thread's namespace. */
int resolv_socket(const struct resolver *r, bool tcp);

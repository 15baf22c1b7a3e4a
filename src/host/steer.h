/*
 * Steering of port 53: what makes a packet that the tc program marked arrive at a socket here.
 *
 * In the router namespace a rule sends WEIR_MARK_DNS to a table whose only route says "local", so
 * the packet is delivered whatever its destination; the program has assigned it a socket already.
 * Without the rule it would be forwarded, without a socket the program drops it: nothing here can
 * fail open.
 *
 * Answers over UDP carry a mark of their sockets, which an edge cannot set. By it they skip the table of
 * local addresses, which would be looked through in vain for each, and the program passes them
 * without reading them. For that the rule about local addresses, the first of any namespace, is put
 * behind theirs.
 *
 * The sockets are made by the host role, which keeps them: a socket that closes leaves the sockmap,
 * a kept one holds its backlog while an edge worker restarts. SO_REUSEPORT is never set (the kernel
 * refuses to assign such sockets before 6.6), so each worker's TCP listener has a port of its own,
 * which is of no consequence: an assigned connection keeps the port it asked for. UDP sockets must
 * be bound to 53, or answers would come from the wrong port; they share it by SO_REUSEADDR.
 */
#pragma once
#include "host/link.h"

struct steer_sockets {
	int udp4, udp6, tcp4, tcp6;
};
#define STEER_NONE ((struct steer_sockets){ -EBADF, -EBADF, -EBADF, -EBADF })

int steer_routes(struct rtnl *router, bool ipv6, struct err *err);
/* In the router namespace; without ipv6 the sockets of that family stay -EBADF. */
int steer_open(bool ipv6, struct steer_sockets *ret, struct err *err);
void steer_close(struct steer_sockets *s);

/*
 * The resolver's sockets.
 *
 * net_udp.c and net_tcp.c face the sandboxes, net_upstream.c the resolvers. All are readiness
 * watchers (uv_poll) around plain system calls, because what matters here travels beside the bytes:
 * the incoming link, the address the sandbox meant, and the source an answer leaves from.
 *
 * Which sandbox? Its link, as the kernel noted it: for UDP the interface index in IP_PKTINFO; for
 * TCP the index that the kernel keeps of the packet which completed the handshake, read back once
 * through IP_PKTOPTIONS (IPV6_2292PKTOPTIONS). Source addresses name nobody.
 */
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include <uv.h>
#include "edge/resolver.h"

union net_addr {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};
/* Link-local addresses get ifindex as their scope. Returns the length. */
socklen_t net_addr_from(struct ip ip, uint16_t port, uint32_t ifindex, union net_addr *ret);
struct ip net_addr_ip(const union net_addr *a, uint16_t *ret_port);

/* --- UDP towards sandboxes: queries in batches, answers in batches --- */
#define UDP_BATCH	32u
#define UDP_QUERY_MAX	4096u /* longer datagrams are no queries */
#define UDP_ROUNDS_MAX	8u    /* batches per wake-up, so that timers and TCP get their turn */

struct net_udp;
/* Takes fd over. */
int net_udp_new(uv_loop_t *loop, int fd, struct resolver *r, struct net_udp **ret);
void net_udp_free(struct net_udp *u);
bool net_udp_is6(const struct net_udp *u);
void net_udp_reply(struct net_udp *u, const struct dns_client *to, struct str msg);
void net_udp_flush(struct net_udp *u); /* at the end of every turn that may have replied */

/* --- TCP towards sandboxes --- */
#define TCP_CONNS_MAX	  1024u /* in all */
#define TCP_CONNS_PER	  16u	/* per sandbox */
#define TCP_IDLE	  (10 * NS_PER_SEC)
#define TCP_PIPELINE_MAX  16u /* unanswered queries of a connection before reading pauses */
#define TCP_OUT_MAX	  (2u * (DNS_MSG_MAX + 2u)) /* unsent answers before reading pauses */

struct net_tcp;
int net_tcp_new(uv_loop_t *loop, struct resolver *r, struct net_tcp **ret);
int net_tcp_listen(struct net_tcp *t, int fd); /* takes fd over */
void net_tcp_free(struct net_tcp *t);
void net_tcp_reply(struct net_tcp *t, const struct dns_client *to, struct str msg);
void net_tcp_sweep(struct net_tcp *t, uint64_t now); /* idle connections */

/* --- towards resolvers --- */
#define HOST_SOCK_USES	64u /* questions a socket of the host namespace serves, then it is renewed */
#define HOST_SOCKS_MAX	64u

struct net_upstream;
/* Ask the host role for sockets of its namespace. They come, or do not, by net_upstream_given() and
 * net_upstream_refused() with the same sock; UDP ones go to the pool (sock 0). */
typedef int (*net_want_fn)(void *arg, struct ip addr, bool tcp, uint32_t count, uint64_t sock);
int net_upstream_new(uv_loop_t *loop, struct resolver *r, net_want_fn want, void *arg,
	struct net_upstream **ret);
void net_upstream_free(struct net_upstream *u);
int net_upstream_open(struct net_upstream *u, const struct server *s, bool tcp, uint64_t *ret_sock);
int net_upstream_send(struct net_upstream *u, uint64_t sock, struct str msg);
void net_upstream_close(struct net_upstream *u, uint64_t sock);
/* A socket of the host's namespace, connected (TCP: connecting); taken over. */
int net_upstream_given(struct net_upstream *u, int fd, uint64_t sock);
void net_upstream_refused(struct net_upstream *u, uint64_t sock);

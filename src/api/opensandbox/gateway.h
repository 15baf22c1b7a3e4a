/*
 * The ingress gateway as OpenSandbox's clients know it: where a sandbox's port is found there, and the
 * keys that signed addresses are made with. The gateway itself is the edge's reverse proxy; which of
 * three forms its addresses have is gateway.mode.
 *
 *	wildcard  {id}-{port}.{domain}		{id}-{port}-{expires}-{signature}.{domain}
 *	header	  {address}, and GATEWAY_HEADER: {id}-{port}, or the same with both behind it
 *	uri	  {address}/{id}/{port}		{address}/{id}/{port}/{expires}/{signature}
 *
 * A sandbox made with secureAccess is secured: its access token (gateway_token()), or a signed address,
 * is needed on every way in, also those beside the gateway. The token is made of the sandbox's id and
 * the daemon's key (mint.h), so it is the same after every restart and stored nowhere; the edge is
 * told it with the sandbox.
 *
 * Keys come from the host role (wire/keys.h), at boot and whenever their file changes, and go to every
 * edge worker before it is told of a sandbox. Old addresses stay good as long as their key is listed.
 */
#pragma once
#include "api/api.h"
#include "base/secret.h"
#include "wire/ipc_ingress.h"
#include "wire/signed.h"

#define GATEWAY_HEADER "OpenSandbox-Ingress-To"

enum gateway_mode { GATEWAY_OFF, GATEWAY_BY_NAME, GATEWAY_BY_HEADER, GATEWAY_BY_PATH };

struct gateway;
/* fd: the keys, or -EBADF; taken. */
int gateway_open(struct api *a, int fd, struct err *err);
/* Other keys; fd is taken. */
void gateway_keys(struct api *a, int fd);
/* To one worker that has just come. */
void gateway_tell(const struct edge *e);

enum gateway_mode gateway_mode(const struct api *a);
/* A secured sandbox's access token. */
int gateway_token(const struct api *a, const char *id, struct secret *ret);

struct gateway_route {
	char label[96]; /* what names the sandbox, the port and, if it is signed, time and signature; as
			 * the mode has it: a host's first label, the header's value, a path */
};
/* expires: seconds since 1970; 0: not signed. -ENOENT: there is no key to sign with. */
int gateway_route(const struct api *a, const char *id, uint16_t port, uint64_t expires,
	struct gateway_route *ret, struct err *err);
/* What a client appends its path to. */
void gateway_endpoint(const struct api *a, const struct gateway_route *route, struct buf *out);

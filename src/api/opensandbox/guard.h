/*
 * Who may reach a port of a sandbox through this role: execd, and what the server's proxy leads to.
 *
 * Upstream asks for nothing: who knows the id may come in. That holds here as long as the id is a
 * secret between the client and the API. It is none, and a credential is needed, for a sandbox that
 * another API made, whose owner never chose that rule, for one that has, or once had, an address
 * for visitors with its id in it, and for a secured one. Such a request has to show one of
 *
 *	OPEN-SANDBOX-API-KEY or X-Api-Key	a key of the owner
 *	OpenSandbox-Secure-Access		the token of this sandbox and port, from the headers of
 *						the endpoint answer, which clients send with each request;
 *						of a secured sandbox (gateway.h) its access token
 *
 * Whoever shows another user's key instead is told what that user is told everywhere: there is no such
 * sandbox, also where nothing would have been asked for.
 *
 * Every endpoint answer has the token, needed yet or not: a client that asked before its sandbox was
 * opened to visitors goes on. One for execd opens what execd leads to; one for another port only that.
 *
 * Besides, execd of a sandbox that was made with EXECD_ACCESS_TOKEN in its environment answers only
 * who sends X-EXECD-ACCESS-TOKEN with it, as upstream. The text is not kept and does not enter the
 * sandbox: the row has its HMAC.
 */
#pragma once
#include "api/req.h"
#include "api/mint.h"

#define GUARD_HEADER	"OpenSandbox-Secure-Access"
#define GUARD_EXECD_ENV "EXECD_ACCESS_TOKEN"

/* -EACCES with a sentence and the contract's code; -ENOENT to who has another user's key. */
int guard_admits(struct req *q, struct err *err);
/* Does the request bring another user's key, and none of the owner's? */
bool guard_other(const struct req *q);
/* What GUARD_HEADER has to say. */
int guard_token(const struct req *q, uint32_t port, struct secret *ret);
/* Can the text be what X-EXECD-ACCESS-TOKEN says? */
int guard_execd_check(struct str token, struct err *err);
/* What the row keeps of it. */
int guard_execd_token(const struct api *a, struct str token, struct secret *ret);

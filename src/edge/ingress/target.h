/*
 * Whom a request is for: the ways of naming a sandbox and a port (ingress.h has them), read into
 * one struct. Pure; whether such a sandbox exists is asked later.
 *
 * An id has a fixed length, so a label is read from its front: what stands behind the port cannot
 * be mistaken for a part of the id.
 */
#pragma once
#include "base/err.h"
#include "base/ulid.h"
#include "event/httphead.h"

enum target_by { BY_HEADER, BY_HOST, BY_PATH, BY_SERVER, BY_PROXY, BY_DIRECT };

struct target {
	enum target_by by;
	bool gateway;		  /* as at OpenSandbox's gateway: its answers have that one's form */
	struct ulid id;		  /* BY_PROXY, BY_DIRECT: not set, the listener knows */
	uint16_t port;
	struct str path;	  /* what the sandbox is asked for, with the query; borrowed */
	struct str prefix;	  /* what was cut off before it, "" if nothing was */
	struct str expires, sig;  /* signed: both as they stood there; else STR_NONE */
	struct str signed_path;	  /* BY_PATH, signed: the path if the sandbox turns out unsecured */
};

/* At the gateway. names: host names are OpenSandbox's too. 0, or the HTTP status to refuse with; -ENOENT:
 * it names nobody and is "/status.ok", which the gateway answers itself. */
int target_gateway(const struct http_head *h, struct str domain, bool names, struct target *ret,
	struct err *err);
/* At a sandbox's own listener for /proxy/{port}/…. */
int target_proxy(const struct http_head *h, struct target *ret, struct err *err);
void target_direct(const struct http_head *h, uint16_t port, struct target *ret);
/* Is it a port that leads into the agent? */
bool target_reserved(uint16_t port);
/* "{id}-{port}", perhaps signed, as in a header or a host name's first label. -EINVAL. */
int target_label(struct str label, struct target *ret);

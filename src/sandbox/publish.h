/*
 * How services of sandboxes are published: whether names below ingress.domain can be used for it,
 * the certificate that ingress shows, and the keys that the gateway's addresses are signed with.
 *
 * A certificate from files is handed to the edge workers as text, again whenever the files change,
 * and they judge it: what they cannot use they say, and keep the one before. Without files one is
 * made once and kept in daemon.state_dir, so that who has trusted it need not again.
 *
 * Keys are read here, since their file is root's, and handed to the api role as struct ipc_ingress_keys;
 * it tells the workers. A file that does not read changes nothing, and the log says why.
 */
#pragma once
#include "event/chan.h"

struct daemon;
struct publish;

/* Settle ingress.template where it is auto; make the certificate if there is none. Nothing here is
 * worth not starting for: what fails is logged. */
int publish_open(struct daemon *d, struct publish **ret, struct err *err);
/* Hand certificate and key to an edge worker, as "ingress.cert" and "ingress.key". */
int publish_boot(const struct publish *p, struct chan *c);
/* Hand the keys to the api role, as "gateway.keys". */
int publish_boot_api(const struct publish *p, struct chan *c);
void publish_free(struct publish *p); /* NULL is fine */

/*
 * TLS towards clients: one certificate at a time, HTTP/1.1 only.
 *
 * Connections keep the context they began with, so another certificate ends none of them.
 */
#pragma once
#include <openssl/ssl.h>
#include "base/err.h"
#include "base/str.h"

struct tls {
	SSL_CTX *ctx;
};

/* A certificate for the domain and all names right below it, signed by its own new key; in memory
 * only, so a new process has another one. */
int tls_make(struct tls *t, struct str domain, struct err *err);
/* PEM texts. On failure t stays as it was. */
int tls_load(struct tls *t, struct str cert, struct str key, struct err *err);
void tls_done(struct tls *t);
/* A server's end of a connection, or NULL when out of memory. */
SSL *tls_accept(const struct tls *t, int fd);

/*
 * One end of a proxied connection: a socket, what it did not take yet, and what it waits for.
 *
 * A write takes everything: what the socket does not is kept in `out`, and whoever feeds the end
 * stops until it is empty again (end_flush() says so). Feeding is in pieces of at most
 * INGRESS_PIECE, so that is the bound of `out` too. The end of writing is marked by end_shut() and
 * sent behind the last byte.
 *
 * end_watch() is called after everything that may have changed what an end waits for; it costs
 * nothing where nothing changed.
 */
#pragma once
#include <openssl/ssl.h>
#include <sys/uio.h>
#include <uv.h>
#include "base/buf.h"

struct end {
	uv_poll_t poll;
	uv_poll_cb on_ready;
	int fd, events;
	SSL *tls;	 /* NULL: plain */
	struct buf out;
	size_t sent;	 /* of out */
	bool shutting, shut; /* no more is written; that has been sent */
	bool eof;	 /* nothing more comes */
	bool wants_write; /* not for bytes: it is being connected, or TLS cannot read on before */
};

/* Takes fd over, on failure too. */
int end_open(struct end *e, uv_loop_t *loop, int fd, size_t out_max, uv_poll_cb on_ready);
/* Ends everything; on_closed frees the memory around. abort: the peer sees a reset. */
void end_close(struct end *e, bool abort, uv_close_cb on_closed);
void end_watch(struct end *e, bool want_read);
static inline bool end_pending(const struct end *e)
{
	return e->out.n > 0;
}
/* 0, or a negative errno: the connection is broken. At most 4 pieces. */
int end_write(struct end *e, const struct iovec *iov, int n);
/* 1: all is out; 0: the socket takes no more now; negative: broken. */
int end_flush(struct end *e);
/* Bytes, 0 at the end, -EAGAIN, or another error. With TLS room must be at least END_ROOM_TLS. */
#define END_ROOM_TLS 16384u
ssize_t end_read(struct end *e, char *p, size_t room);
/* No more will be written: said to the peer as soon as everything is out. */
int end_shut(struct end *e);
/* The peer's side has ended: let the kernel find out whether it has left, and ask what it found.
 * A peer that closed for good is let go by its own kernel after a minute or so, and by then found. */
void end_probe(struct end *e);
bool end_gone(const struct end *e);
/* Nothing is under way: give memory back. */
void end_rest(struct end *e);

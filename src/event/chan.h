/*
 * A conversation between two roles: SOCK_SEQPACKET, one message per datagram,
 * descriptors beside it.
 *
 * Either side may call (expects one reply with the same serial) or send (expects
 * none). Replies carry a status: 0 or a negative errno, then an `struct ipc_error`
 * as payload when the other side has a sentence to say. Sends never block: a full
 * socket queues up to CHAN_QUEUE_MAX messages, then the peer counts as dead.
 *
 * The call IPC_ALIVE is answered here, without asking the owner: who answers has a loop that turns.
 *
 * Descriptors that arrive belong to the receiver of the callback; those it does not
 * take with chan_take_fd() are closed when the callback returns. Descriptors given
 * to a send are duplicated by the kernel; the caller keeps its own.
 */
#pragma once
#include <uv.h>
#include "base/err.h"
#include "wire/ipc.h"

#define CHAN_QUEUE_MAX 4096
#define CHAN_CALLS_MAX 16384 /* open calls; past it chan_call() says -EBUSY */

struct chan;
struct chan_msg {
	uint16_t type;
	uint32_t serial;   /* of a call; chan_reply() takes it back; 0 for a plain send */
	int32_t status;	   /* replies only */
	struct str payload; /* valid during the callback */
	int *fds;
	unsigned int n_fds;
};

/* on_msg: a call or a send from the peer. on_close: the peer is gone (once; err 0 at plain EOF);
 * open calls have been answered with -ECONNRESET before. */
typedef void (*chan_msg_fn)(struct chan *c, struct chan_msg *m, void *arg);
typedef void (*chan_close_fn)(struct chan *c, int err, void *arg);
/* Reply to a chan_call: m->status, m->payload, m->fds. */
typedef void (*chan_reply_fn)(struct chan_msg *m, void *arg);

/* Takes the descriptor over, on failure too. name: a literal for the log. */
int chan_open(uv_loop_t *loop, int fd, const char *name, chan_msg_fn on_msg, chan_close_fn on_close,
	void *arg, struct chan **ret);
/* Close; on_close is not called; open calls are answered with -ECANCELED. NULL is fine. */
void chan_free(struct chan *c);
int chan_send(struct chan *c, uint16_t type, const void *payload, size_t n, const int *fds,
	unsigned int n_fds);
int chan_call(struct chan *c, uint16_t type, const void *payload, size_t n, const int *fds,
	unsigned int n_fds, chan_reply_fn on_reply, void *arg);
int chan_reply(struct chan *c, uint32_t serial, int32_t status, const void *payload, size_t n,
	const int *fds, unsigned int n_fds);
/* Messages that wait for the peer to read. What can be left out is not sent behind them. */
unsigned int chan_queued(const struct chan *c);
/* Reply with an error: status err->code, payload struct ipc_error. */
int chan_reply_err(struct chan *c, uint32_t serial, const struct err *err);
/* From a reply to an error value: code, kind, field and text as the peer said them. */
int chan_err(const struct chan_msg *m, struct err *err);
int chan_take_fd(struct chan_msg *m, unsigned int i); /* -EBADF if there is none */

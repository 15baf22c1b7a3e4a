/*
 * WebSocket frames (RFC 6455), as a server reads and writes them: what comes in is masked and bound,
 * what goes out is neither masked nor split. Joining the frames of a message is the caller's. Pure.
 */
#pragma once
#include "base/buf.h"

enum ws_op { WS_MORE = 0, WS_TEXT, WS_BINARY, WS_CLOSE = 8, WS_PING, WS_PONG };

#define WS_CONTROL_MAX 125u

struct ws_frame {
	enum ws_op op;
	bool last; /* of its message */
	struct str body;
};

/* Cut one frame off the front of the n bytes at p, unmasking its body in place. 1: got one, *taken
 * bytes; 0: more are needed; -EFBIG: a body over max; -EBADMSG: not what a client may send. */
int ws_next(char *p, size_t n, size_t max, struct ws_frame *ret, size_t *taken);
/* Append one frame. Control frames hold at most WS_CONTROL_MAX bytes: -EINVAL. */
int ws_add(struct buf *out, enum ws_op op, struct str body);
/* A Close frame with its code and reason (cut to what fits). */
int ws_add_close(struct buf *out, uint16_t code, struct str reason);

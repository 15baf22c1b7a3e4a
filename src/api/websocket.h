/*
 * A WebSocket that a request became. Messages come whole, at most WEBSOCKET_MESSAGE_MAX bytes, and go
 * out as text or binary; pings are answered and sent, and who does not answer them is gone. It holds a place
 * among its key's requests under way, as the request did.
 *
 * The owner gives it up by websocket_close(), or is told once by on_gone that it is no
 * more; no callback comes after either. Callbacks come from the loop, never from inside a call.
 */
#pragma once
#include "api/req.h"

#define WEBSOCKET_MESSAGE_MAX (1u << 20)
#define WEBSOCKET_QUEUE_HIGH  262144u	 /* unsent bytes at which websocket_send() says 0 */
#define WEBSOCKET_QUEUE_MAX   (8u << 20) /* and past which a peer that does not read is cut */

struct websocket;
struct websocket_ops {
	void (*on_message)(struct websocket *w, struct str data, void *arg);
	void (*on_drain)(struct websocket *w, void *arg); /* room again after a 0 */
	void (*on_gone)(struct websocket *w, void *arg);
};

/* Is it the beginning of one? Else a sentence: the request is answered with it. */
int websocket_asked(const struct req *q, struct err *err);
/* 101. From here on q is dead, also on failure. */
int websocket_accept(struct req *q, const struct websocket_ops *ops, void *arg,
	struct websocket **ret);
/* Stop delivering messages, and go on. */
void websocket_pause(struct websocket *w, bool paused);
/* One text message. 1: go on; 0: taken, wait for on_drain; negative: on_gone follows. */
int websocket_send(struct websocket *w, struct str text);
int websocket_send_binary(struct websocket *w, struct str bytes);
/* Say goodbye: what is queued still leaves. */
void websocket_close(struct websocket *w, uint16_t code, const char *reason);
/* All of them: the daemon stops, and says so (1001). Their owners are told by on_gone. */
void websockets_stop(struct api *a);

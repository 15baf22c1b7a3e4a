/*
 * The agent's protocol: frames over one TCP connection per operation.
 *
 * Shared by the agent (static, no allocator to speak of) and the api role. A frame
 * is a header of 8 bytes (type u8, flags u8, zero u16, length u32, big-endian) and
 * at most FRAME_MAX bytes. The first frame of a connection names the operation;
 * the kernel's TCP window is the only flow control. doc/protocol-agent.md holds
 * the whole contract; this file the bytes.
 */
#pragma once
#include "base/buf.h"
#include "base/rd.h"

#define FRAME_HEADER 8u
#define FRAME_MAX    65536u

enum frame_type {
	/* first frame, from the api role */
	FRAME_EXEC = 1, /* argv, env, cwd, flags; then STDIN frames */
	FRAME_PUT,	/* path, mode, size or unknown; then DATA, then END */
	FRAME_GET,	/* path */
	FRAME_WAKE,	/* addresses, host name, clock, entropy, files to write */
	FRAME_WATCH,	/* stays open: SIGNAL frames come back */
	FRAME_PING,
	FRAME_CONNECT,	/* port on loopback; then DATA both ways, END half-closes */
	/* during an operation */
	FRAME_DATA = 32, /* stdin, file content, tunnel bytes */
	FRAME_END,	 /* end of DATA from this side */
	FRAME_STDOUT,
	FRAME_STDERR,
	FRAME_STARTED,	 /* exec: pid */
	FRAME_EXIT,	 /* exec: last frame: code, signal, flags */
	FRAME_OK,	 /* put, wake, ping: done; get: size and mode come first */
	FRAME_ERROR,	 /* last frame: errno and a sentence */
	FRAME_SIGNAL,	 /* watch: kind (pause, delete), reason */
	FRAME_KILL,	 /* exec: signal number to the process group */
};

struct frame {
	uint8_t type, flags;
	struct str body;
};

/* Append one frame. */
int frame_add(struct buf *out, uint8_t type, uint8_t flags, struct str body);
/* Cut one frame off the front of *in. 1: got one; 0: more bytes are needed;
 * -EBADMSG: unknown form or too long. The body borrows from in. */
int frame_next(struct str *in, struct frame *ret);

/* Bodies are lists of fields: tag u8, zero u8, length u16... see frame.c. Each operation has an
 * encode and a decode of one struct; decode(encode(x)) is x, and decode refuses what encode would
 * not write. The owner of this file adds them here. */

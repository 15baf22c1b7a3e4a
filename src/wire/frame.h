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
#define FRAME_MORE   1u /* flag: the body goes on in the next frame; only full frames carry it */

/* What a message may hold; the agent allocates no more than these say. */
#define FRAME_REQUEST_MAX  (2u << 20) /* a joined body: the kernel's own bound on argv and env */
#define FRAME_LIST_MAX	   16384u     /* entries of one list */
#define FRAME_PATH_MAX	   4095u
#define FRAME_NAME_MAX	   63u	      /* host name */
#define FRAME_REASON_MAX   512u	      /* 128 characters of UTF-8 */
#define FRAME_SENTENCE_MAX 400u
#define FRAME_ENTROPY_MAX  256u

enum frame_type {
	/* first frame, from the api role */
	FRAME_EXEC = 1, /* argv, env, cwd, flags; then DATA (stdin), END, KILL */
	FRAME_PUT,	/* path, mode; then DATA, then END */
	FRAME_GET,	/* path */
	FRAME_WAKE,	/* addresses, host name, clock, entropy, environment, keys */
	FRAME_WATCH,	/* stays open: SIGNAL frames come back */
	FRAME_PING,
	FRAME_CONNECT,	/* port on loopback; then DATA both ways, END half-closes */
	/* during an operation */
	FRAME_DATA = 32, /* stdin, file content, tunnel bytes */
	FRAME_END,	 /* end of DATA from this side */
	FRAME_STDOUT,
	FRAME_STDERR,
	FRAME_STARTED,	 /* exec: pid */
	FRAME_EXIT,	 /* exec: last frame: code, signal, a sentence if it never started */
	FRAME_OK,	 /* put, wake, ping: done; get: size and mode come first; connect: connected */
	FRAME_ERROR,	 /* last frame: errno and a sentence */
	FRAME_SIGNAL,	 /* watch: kind (pause, delete), reason */
	FRAME_KILL,	 /* exec: signal number to the process group */
};

struct frame {
	uint8_t type, flags;
	struct str body;
};

/* Append one frame. -EINVAL for a form that frame_next() would refuse. */
int frame_add(struct buf *out, uint8_t type, uint8_t flags, struct str body);
/* The header alone, for a body that is sent from elsewhere. */
void frame_header(uint8_t raw[FRAME_HEADER], uint8_t type, uint8_t flags, uint32_t length);
/* Cut one frame off the front of *in. 1: got one; 0: more bytes are needed;
 * -EBADMSG: unknown form or too long. The body borrows from in. */
int frame_next(struct str *in, struct frame *ret);

/*
 * Messages. DATA, STDOUT and STDERR carry raw bytes (never none), END, PING and WATCH nothing; the
 * body of every other type is a list of fields: tag u8, three zero bytes, length u32, then the
 * value. Fields come in the order of their tags, only lists repeat one, and what is optional and
 * zero or empty is not written; decoding refuses every other form, so that one meaning has one
 * spelling. Text holds no NUL.
 */
struct frame_list {
	struct str *v;
	size_t n;
};

#define FRAME_EXEC_KILL 1u /* a lost connection kills the process group */

enum frame_signal { FRAME_SIGNAL_PAUSE = 1, FRAME_SIGNAL_DELETE };

union frame_body {
	struct {
		struct frame_list argv, env; /* "NAME=value" */
		struct str cwd;
		uint32_t flags;
	} exec;
	struct {
		struct str path;
		uint32_t mode; /* of a new file; 0: 0644 */
	} put;
	struct {
		struct str path;
	} get;
	struct {
		struct str hostname, ip4, ip6; /* addresses raw: 4 and 16 bytes */
		uint64_t wall_ns;
		struct str entropy;
		struct frame_list env, ssh_keys;
	} wake;
	struct {
		uint32_t port;
	} connect;
	struct {
		uint32_t pid;
	} started;
	struct {
		uint32_t code, signal;
		struct str error;
	} exit;
	struct {
		uint64_t bytes; /* put: received; get: size of the file */
		uint32_t mode;	/* get */
	} ok;
	struct {
		uint32_t code; /* errno, as a positive number */
		struct str text;
	} error;
	struct {
		uint32_t kind;
		struct str reason;
	} signal;
	struct {
		uint32_t signal;
	} kill;
};

/* Append a message; EXEC and WAKE become several frames where needed. -EINVAL: not a message that
 * the other side would take; -EFBIG past FRAME_REQUEST_MAX. */
int frame_encode(struct buf *out, uint8_t type, const union frame_body *msg);
/* From a whole body. 0, -EBADMSG or -ENOMEM (lists). Texts borrow from body; lists are freed by
 * frame_body_done(), which accepts a zeroed struct. */
int frame_decode(uint8_t type, struct str body, union frame_body *ret);
void frame_body_done(uint8_t type, union frame_body *msg);

/* Joins the frames of one message. */
struct frame_join {
	uint8_t type;
	struct buf body; /* BUF_MAX(FRAME_REQUEST_MAX) */
};
#define FRAME_JOIN ((struct frame_join){ .body = BUF_MAX(FRAME_REQUEST_MAX) })
/* 1: j->type and j->body are whole; 0: more frames follow; -EBADMSG, -EFBIG, -ENOMEM. */
int frame_join(struct frame_join *j, const struct frame *f);

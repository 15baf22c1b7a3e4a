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
#define FRAME_ID_MAX	   63u	      /* of a process; also its label */
#define FRAME_NOTE_MAX	   8192u      /* what whoever starts a process wants to be told of it later */
#define FRAME_OWNER_MAX	   255u	      /* name or number of a user or group */

enum frame_type {
	/* first frame, from the api role */
	FRAME_EXEC = 1, /* argv, env, cwd, flags; then DATA (stdin), END, KILL */
	FRAME_PUT,	/* path, mode; then DATA, then END */
	FRAME_GET,	/* path */
	FRAME_WAKE,	/* addresses, host name, clock, entropy, environment, keys */
	FRAME_WATCH,	/* stays open: SIGNAL frames come back */
	FRAME_PING,
	FRAME_CONNECT,	/* port on loopback; then DATA both ways, END half-closes */
	FRAME_START,	/* a process that outlives its connection; may go on as ATTACH does */
	FRAME_ATTACH,	/* read a process's output from an offset, write its input */
	FRAME_PROCS,	/* tell of processes: PROC frames, then END */
	FRAME_CONTROL,	/* signal, resize, close stdin, forget */
	FRAME_TREE,	/* look at and change names in the file system */
	FRAME_NOTIFY,	/* stays open: CHANGE frames come back */
	FRAME_SLEEP,	/* a machine is about to be copied: hold all that runs, until a WAKE or GO */
	FRAME_GO,	/* it is the one that was copied, not a copy: let go; the time */
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
	FRAME_SIDE,	 /* attach: what the process wrote to its descriptor 3 */
	FRAME_SEEK,	 /* attach: the offset of the next byte of output */
	FRAME_PROC,	 /* procs, control: one process */
	FRAME_RESIZE,	 /* attach: size of the terminal */
	FRAME_ENTRY,	 /* tree: one name */
	FRAME_CHANGE,	 /* notify: what happened to a name */
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
 * Messages. DATA, STDOUT, STDERR and SIDE carry raw bytes (never none), END, PING, WATCH and SLEEP nothing; the
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

enum { /* of START */
	FRAME_START_PTY = 1,	   /* a terminal instead of pipes; its output is STDOUT */
	FRAME_START_STDIN = 2,	   /* input comes later; else it is /dev/null */
	FRAME_START_SIDE = 4,	   /* descriptor 3 is a pipe to SIDE */
	FRAME_START_ATTACH = 8,	   /* the connection goes on as ATTACH, from the first byte */
	FRAME_START_PACE = 16,	   /* … with FRAME_ATTACH_PACE */
	FRAME_START_QUEUE = 32,	   /* wait for those of the same label that were started so */
	FRAME_START_BRIEF = 64,	   /* its output is forgotten when it has ended and was read */
	FRAME_START_GROUP = 128,   /* gid counts, also as 0 */
	FRAME_START_FLAGS = 255,
};
enum { /* of ATTACH */
	FRAME_ATTACH_END = 1,	 /* from the newest byte on, whatever `from` says */
	FRAME_ATTACH_FOLLOW = 2, /* until the process ends; else what is there, then END */
	FRAME_ATTACH_PACE = 4,	 /* the process waits for this reader instead of losing bytes */
	FRAME_ATTACH_CLOSE = 8,	 /* close its stdin behind the input */
	FRAME_ATTACH_FLAGS = 15,
};
enum { /* of CONTROL */
	FRAME_CONTROL_CLOSE = 1,  /* stdin */
	FRAME_CONTROL_FORGET = 2, /* once it has ended; with SIGKILL or a grace it is not found from now */
	FRAME_CONTROL_FLAGS = 3,
};
enum { /* of PROC */
	FRAME_PROC_WAITING = 1,	   /* for those before it */
	FRAME_PROC_RUNNING = 2,	   /* else, with neither: ended */
	FRAME_PROC_TIMED_OUT = 4,
	FRAME_PROC_PTY = 8,
	FRAME_PROC_FLAGS = 15,
};
enum frame_tree { /* of TREE: what to do */
	FRAME_TREE_STAT = 1,
	FRAME_TREE_LIST,    /* depth; 0 means all of it */
	FRAME_TREE_FIND,    /* files whose name fits the pattern */
	FRAME_TREE_REMOVE,
	FRAME_TREE_MOVE,    /* path to target */
	FRAME_TREE_MKDIR,
	FRAME_TREE_CHANGE,  /* mode, owner, group */
	FRAME_TREE_REPLACE, /* every `old` in a file by `new` */
};
enum { /* of TREE */
	FRAME_TREE_FILES = 1,	 /* REMOVE: files only */
	FRAME_TREE_ALL = 2,	 /* REMOVE: with what is below; MKDIR, MOVE: with the parents */
	FRAME_TREE_KEEP = 4,	 /* MOVE: not over what is there; MKDIR: it must not be there */
	FRAME_TREE_DIR = 8,	 /* LIST: the path itself must be a directory, not a link to one */
	FRAME_TREE_MODE = 16,	 /* mode counts, also as 0 */
	FRAME_TREE_FLAGS = 31,
};
enum frame_kind { FRAME_FILE = 1, FRAME_DIR, FRAME_LINK, FRAME_OTHER }; /* of ENTRY */

#define FRAME_NOTIFY_ALL 1u /* of NOTIFY: directories below it too */
enum frame_change {	    /* of CHANGE */
	FRAME_CREATED = 1,
	FRAME_WRITTEN,
	FRAME_REMOVED,
	FRAME_RENAMED,	   /* away from this name; its new one is CREATED, if it is below too */
	FRAME_ATTRIBUTES,
	FRAME_INVALIDATED, /* more happened at or below it than could be told */
};

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
		struct str owner, group; /* empty: as it is */
		uint32_t exact;		 /* 1: the mode is also that of a file which was there */
	} put;
	struct {
		struct str path;
		uint64_t offset, length; /* length 0: all the rest */
	} get;
	struct {
		struct str hostname, ip4, ip6; /* addresses raw: 4 and 16 bytes */
		uint64_t wall_ns;
		struct str entropy;
		struct frame_list env, ssh_keys;
		struct str overlay, machine; /* of machines: an address; 16 bytes of /etc/machine-id */
	} wake;
	struct {
		uint64_t wall_ns;
	} go;
	struct {
		uint32_t port;
	} connect;
	struct {
		struct frame_list argv, env;
		struct str cwd;
		uint32_t flags;
		struct str id, label, note;
		uint32_t size;	     /* of the terminal: rows << 16 | columns */
		uint32_t timeout_ms; /* then it is killed */
		uint32_t idle_ms;    /* … when nothing was read or written for so long */
		uint32_t keep;	     /* bytes of output; 0: PROC_KEEP */
		uint32_t uid, gid;
	} start;
	struct {
		struct str id;
		uint64_t from;
		uint32_t flags;
		struct str input; /* all of it or, with ERROR, nothing */
	} attach;
	struct {
		struct str label, id; /* empty: every */
	} procs;
	struct {
		struct str id;
		uint32_t flags, signal, size;
		uint32_t grace_ms; /* KILL follows the signal after that */
	} control;
	struct {
		uint32_t op;
		struct str path, target, pattern, old, new;
		uint32_t depth, mode, flags;
		struct str owner, group;
	} tree;
	struct {
		struct str path;
		uint32_t flags;
	} notify;
	struct {
		uint32_t pid;
	} started;
	struct {
		uint32_t code, signal;
		struct str error;
	} exit;
	struct {
		uint64_t bytes; /* put: received; get: that follow; tree: how many were found */
		uint32_t mode;	/* get */
		uint64_t size;	/* get: of the file */
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
	struct {
		uint64_t offset;
	} seek;
	struct {
		uint32_t size;
	} resize;
	struct {
		struct str id, label, note;
		uint32_t flags, pid, size;
		uint64_t started_ms, ended_ms; /* since 1970 */
		uint32_t code, signal;
		struct str error;
		uint64_t oldest, newest; /* offsets of the output that is kept, and behind it */
	} proc;
	struct {
		struct str path;
		uint32_t kind, mode;
		uint64_t bytes, modified_ns, created_ns; /* since 1970 */
		struct str owner, group, target;
	} entry;
	struct {
		struct str path;
		uint32_t what;
	} change;
};

/* Append a message; long ones become several frames where needed. -EINVAL: not a message that
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

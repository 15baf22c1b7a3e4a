/*
 * weir-agent: process 1 of every sandbox. It runs commands, moves files, connects to loopback
 * ports and passes on the sandbox's own wish to pause or end, for the api role at 169.254.77.1.
 *
 * One thread, one epoll set. A connection carries one operation; its first message picks the
 * operation from a table (conn.c), which then owns the connection's frames:
 *
 *	loop.c	  descriptors, timers, children
 *	conn.c	  connections: who may connect, frames in and out, ends
 *	exec.c	  commands that belong to their connection
 *	proc.c	  processes that outlive it; attach.c their readers, ring.c what is kept for them
 *	spawn.c	  what happens between fork and exec; drain.c output nobody reads
 *	file.c	  put and get each in a child of its own, so that a stuck disk stops only itself
 *	notify.c  what changes in directories, told as it happens
 *	tunnel.c  connections to loopback ports
 *	wake.c	  what a sandbox is told when it begins or goes on: name, environment, keys, clock
 *	dns.c	  the resolver's other address, 127.0.0.1:15353
 *	machine.c boots a virtual machine: see machine.h
 *	self.c	  the self-signal endpoint and FIFO, and the watcher that hears them
 *
 * Everything has a bound, and what is over it is refused with a sentence. The output of an exec is
 * never stored: a pipe is read only when the frame before it has left, so the kernel's buffers are
 * all there is between a command and whoever reads it, and a stuck reader stops only its own
 * command. What a process of proc.c writes is kept in a ring.
 */
#pragma once
#include <sys/epoll.h>
#include <sys/types.h>
#include "base/base.h"
#include "base/fault.h"
#include "wire/frame.h"

#define CONNS_MAX	 512   /* connections at the same time, parked ones included */
#define WORKERS_MAX	 64    /* file operations at the same time */
#define NOTIFIERS_MAX	 16    /* watches of files at the same time, each a process */
#define DRAINS_MAX	 256   /* pipes of survivors; past it the oldest is closed */
#define ENV_MAX		 (256u << 10) /* the sandbox's environment */
#define HELLO_MS	 10000 /* the first message must be complete by then */
#define LINGER_MS	 5000  /* after the last frame, for the peer to read it */
#define SILENCE_MS	 2000  /* after a command's end, while others hold its pipes */
#define KILL_GRACE_MS	 500   /* between TERM and KILL */
#define PROCS_MAX	 256   /* processes that outlive their connection, ended ones included */
#define PROC_KEEP_MS	 3600000 /* what is known of an ended one; less when a new one needs room */
#define PROC_SILENCE_MS	 200   /* as SILENCE_MS; its output is kept on being read */
#define PROC_KEEP	 (1u << 20) /* output kept of one, unless asked otherwise */
#define PROC_KEEP_MAX	 (4u << 20)
#define STDIN_MAX	 (4u << 20) /* input that a process has not taken yet */
#define RETRY_MS	 100   /* when accepting failed for want of descriptors or memory */
#define SIGNAL_DELAY_MS	 200   /* from the 202 to the signal: the caller may exit first */
#define SIGNAL_KEEP_MS	 10000 /* a signal waits that long for a watcher to come back */
#define SELF_CONNS_MAX	 16
#define SELF_PENDING_MAX 8
#define SELF_HEAD_MAX	 4096  /* request line and headers of a self-signal */
#define REASON_CHARS	 128
#define SELF_PORT	 1029

/* --- loop.c --- */

/* A descriptor in the epoll set. events 0: not in it (not even for errors and hang-ups). */
struct watch {
	int fd;
	uint32_t events;
	void (*fn)(struct watch *w, uint32_t events);
};
int watch_set(struct watch *w, uint32_t events);
void watch_close(struct watch *w); /* out of the set and closed; fd becomes -EBADF */

struct timer {
	struct timer *next;
	uint64_t at;
	void (*fn)(struct timer *t);
	bool armed;
};
void timer_set(struct timer *t, unsigned int ms, void (*fn)(struct timer *t));
void timer_stop(struct timer *t);
uint64_t now_ms(void); /* monotonic */

/* A child of ours; every other child that ends is reaped and forgotten. */
struct child {
	struct child *next;
	pid_t pid;
	void (*fn)(struct child *c, int status);
};
void child_add(struct child *c, pid_t pid, void (*fn)(struct child *c, int status));

int loop_open(void);
_noreturn_ void loop_run(void);
/* In a forked child: dispositions and mask as a new process expects them. */
void signals_reset(void);

/* --- conn.c --- */

struct conn;
struct conn_ops {
	void (*frame)(struct conn *c, const struct frame *f);
	void (*drained)(struct conn *c); /* everything sent so far is with the kernel */
	void (*gone)(struct conn *c);	 /* the peer left; the connection is no more */
};

struct conn {
	struct watch watch;
	struct timer timer;
	struct conn *next, **at;
	struct buf in, out;
	struct frame_join join;
	const struct conn_ops *ops;
	void *op;
	enum { CONN_OPEN, CONN_LAST_WORDS, CONN_LINGER, CONN_DEAD } state;
	bool hold; /* the operation takes no frames now */
};

int conn_listen(int listen_fd);
int conn_send(struct conn *c, uint8_t type, const union frame_body *msg);
int conn_send_raw(struct conn *c, uint8_t type, struct str data);
static inline bool conn_busy(const struct conn *c)
{
	return c->out.n;
}
void conn_hold(struct conn *c);
void conn_unhold(struct conn *c); /* may deliver frames, and so end the connection */
/* The last frame has been sent: deliver it, then close. The operation is done with c. */
void conn_finish(struct conn *c);
void conn_fail(struct conn *c, int error, const char *fmt, ...) _printf_(3, 4);
void conn_close(struct conn *c); /* at once */

/* Shared scratch for one read; never kept across a return to the loop. */
extern char scratch[FRAME_MAX];

/* --- operations: the first message --- */

void exec_start(struct conn *c, const union frame_body *m);
void put_start(struct conn *c, const union frame_body *m);
void get_start(struct conn *c, const union frame_body *m);
void wake_start(struct conn *c, const union frame_body *m);
void sleep_start(struct conn *c, const union frame_body *m);
void go_start(struct conn *c, const union frame_body *m);
void watch_start(struct conn *c, const union frame_body *m);
void ping_start(struct conn *c, const union frame_body *m);
void tunnel_start(struct conn *c, const union frame_body *m);

void proc_start(struct conn *c, const union frame_body *m);
void attach_start(struct conn *c, const union frame_body *m);
void procs_start(struct conn *c, const union frame_body *m);
void control_start(struct conn *c, const union frame_body *m);
void tree_start(struct conn *c, const union frame_body *m);
void notify_start(struct conn *c, const union frame_body *m);

/* --- spawn.c: a new process --- */

struct spawn {
	const struct frame_list *argv, *env;
	struct str cwd;
	int fds[4];	    /* become 0, 1, 2 and, unless negative, 3 */
	bool tty;	    /* 0 is a terminal, which becomes the session's */
	uint32_t uid, gid;  /* uid 0: stays root */
	bool group;	    /* gid counts; else it is the user's own */
};
/* Both ends close on exec; ours does not block. */
int spawn_pipe(int *ours, int *theirs, bool ours_reads);
/* The pid. *ret_status: closes when exec worked, or carries a struct spawn_failure. */
int spawn_run(const struct spawn *s, int *ret_status);
void spawn_done(struct spawn *s); /* closes fds */

enum spawn_stage { SPAWN_CWD = 1, SPAWN_EXEC, SPAWN_INTERPRETER, SPAWN_MEMORY, SPAWN_USER };
struct spawn_failure {
	int stage, error;
};
/* Why it never started: a sentence, and the exit code for it. */
int spawn_sentence(const struct spawn_failure *f, const char *name, char *text, size_t size);
const char *spawn_refusal(int error); /* of spawn_run() */

/* drain.c: read it to nowhere from now on. Takes the descriptor. */
void drain_start(struct watch *from);

/* wake.c: base environment, then the sandbox's, then extra; later values win. NULL: no memory. */
int clock_write(uint64_t wall_ns);
char **env_build(const struct frame_list *extra);
const char *env_get(char *const *env, const char *name);

/* self.c */
int self_open(void);

/* dns.c */
int dns_open(void);

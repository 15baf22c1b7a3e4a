/*
 * Processes that outlive their connection: what proc.c (the life of one), procs.c (all that are known)
 * and attach.c (their readers) share. Only procs.c knows the list; proc.c frees what is on it.
 */
#pragma once
#include "agent/agent.h"
#include "agent/ring.h"

enum { STREAM_OUT, STREAM_ERR, STREAM_SIDE, STREAMS };

struct reader {
	struct reader *next;
	struct proc *proc;
	struct conn *conn;
	uint64_t at;
	bool told;   /* the peer knows where it is: at `at` */
	bool follow, pace, held;
};

struct proc {
	struct proc *next;
	uint64_t number; /* in the order of their starts */
	char id[FRAME_ID_MAX + 1], label[FRAME_ID_MAX + 1], name[64];
	char *note;
	enum { PROC_WAITING, PROC_STARTING, PROC_RUNNING, PROC_ENDED } state;
	uint32_t flags, size; /* as START had them */
	bool reaped, timed_out, forget, closing /* stdin, when it is written */;
	struct child child;
	struct watch in, out[STREAMS], status;
	struct timer end;   /* silence; then how long it is kept */
	struct timer limit, idle, grace;
	unsigned int limit_ms, idle_ms;
	struct buf input; /* not written yet */
	struct ring ring;
	struct reader *readers;
	struct conn *starter; /* has not heard STARTED yet; NULL: left */
	struct buf ask;	      /* WAITING: the message */
	int wait_status, code, signal;
	uint64_t started_ms, ended_ms;
	char error[FRAME_SENTENCE_MAX];
};

static inline bool proc_alive(const struct proc *p)
{
	return p->state != PROC_ENDED;
}

/* --- proc.c --- */
/* As START asks; WAITING, of no list yet. NULL without memory. */
struct proc *proc_new(const union frame_body *m);
/* Begin; a failure ends it. */
void proc_fork(struct proc *p, const union frame_body *m);
/* It cannot begin, by this negative errno: ENDED, with a sentence. */
void proc_never(struct proc *p, int error);
/* Its child, its readers or its life need it. */
bool proc_in_use(const struct proc *p);
void proc_free(struct proc *p);
/* Free it if nobody needs it and it is to be forgotten, or never was; true: done. */
bool proc_leave(struct proc *p);
/* Kill it after so many milliseconds, if it lives. */
void proc_grace(struct proc *p, uint32_t ms);
void proc_signal(struct proc *p, int sig);
void proc_resize(struct proc *p, uint32_t size);
/* All of it or nothing: -EAGAIN when it does not read, -EPIPE when its stdin is closed. */
int proc_input(struct proc *p, struct str data, bool end);
/* Readers have moved or left: perhaps there is room for output, or nothing more to wait for. May
 * free the process. */
void proc_read_on(struct proc *p);

/* --- procs.c --- */
struct proc *proc_find(struct str id);
void procs_remove(struct proc *p);
/* One of this label has ended: the next begins. */
void procs_next(const char *label);

/* --- attach.c --- */
struct reader *reader_add(struct proc *p, struct conn *c, uint64_t from, uint32_t attach_flags);
/* Give readers what there is, and the end when it has come. */
void readers_pump(struct proc *p);
/* Readers whose input waited may send again. */
void readers_unhold(struct proc *p);

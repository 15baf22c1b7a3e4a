/*
 * One TCP connection to an agent and everything hostile about it: it connects, queues frames to
 * send, cuts what arrives into frames, keeps time, and tells its operation (talk_ops) of frames, of
 * room to send, and of the end. For agent.c and procs.c, whose operations embed a talk.
 *
 * talk_over() is true once; then on_end runs, which may free; so what tells the end is always the
 * last thing a function does.
 */
#pragma once
#include "api/agent.h"
#include "base/buf.h"
#include "wire/frame.h"

#define TALK_SEND_MAX (20u << 20) /* queued bytes of one talk: a whole stdin of a JSON request */

struct talk;
struct talk_ops {
	void (*frame)(struct talk *t, const struct frame *f);
	void (*sent)(struct talk *t);			  /* the queue is short again */
	void (*end)(struct talk *t, const struct err *err); /* failed; err is never NULL */
	void (*free)(struct talk *t);
};

struct talk {
	uv_tcp_t tcp;
	uv_timer_t limit; /* the running wait */
	uv_timer_t kick;  /* at once, from the loop: what was read before a pause, or doom */
	uv_connect_t connect;
	const struct talk_ops *ops;
	struct buf in;
	size_t queued;
	unsigned int wait_ms;	/* limit between frames; 0: none */
	unsigned int handles;	/* not closed yet */
	int doom;		/* a failure that the next turn of the loop will tell */
	bool paused, ended, freed, closing;
	bool was_high; /* sent() is owed */
	bool partial;  /* the limit runs for a partial frame */
};

/* Connects and sends `first` (taken). On failure the talk is freed, which frees the operation,
 * without any callback. */
int talk_start(uv_loop_t *loop, struct talk *t, const struct agent_link *link,
	const struct talk_ops *ops, struct buf *first, unsigned int wait_ms, struct err *err);
void talk_free(struct talk *t); /* no callback comes after this */
/* True once: the operation may now tell its owner how it ended. */
bool talk_over(struct talk *t);
void talk_fail(struct talk *t, const struct err *err);
void talk_upstream(struct talk *t, const char *sentence);
/* An ERROR frame ends any operation; another type than expected does so too. */
void talk_unexpected(struct talk *t, const struct frame *f);
/* Fail, but from the loop. */
void talk_doom(struct talk *t, int error);

void talk_limit(struct talk *t, unsigned int ms);
/* Stop reading. Resuming goes through the loop, so that no callback runs inside the caller. */
void talk_pause(struct talk *t, bool paused);

/* Takes the frames over, also on failure. */
int talk_send(struct talk *t, struct buf *frames);
int talk_send_data(struct talk *t, struct str data, bool end);
void talk_data(struct buf *out, struct str data); /* DATA frames */

/* A first message that could not be made: why, as an error. first is dropped. */
int talk_refuse(struct buf *first, int r, struct err *err, const char *what);
/* What the agent says of itself, made fit to print. */
void talk_text(char *dst, size_t size, struct str s);

/* "NAME=value" texts of an environment, in one piece of memory. */
struct env_texts {
	struct buf text;
	struct str *v;
};
int env_texts(struct env_texts *e, const struct agent_env *env, size_t n);
void env_texts_done(struct env_texts *e);

/*
 * One TCP connection to an agent and everything hostile about it: it connects, queues frames to
 * send, cuts what arrives into frames, keeps time, and tells its operation (talk_ops) of frames, of
 * room to send, and of the end. For agent.c, procs.c, tunnel.c, tree.c and notify.c, whose operations
 * begin with a talk: one piece of memory, made by talk_begin() and freed with the talk.
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
	size_t size; /* of the operation: TALK_SIZE of its type, whose first member is `talk` */
};
#define TALK_SIZE(type) (sizeof(type) / !offsetof(type, talk))

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

/*
 * A new operation, the rest of it zeroes; no callback runs before the caller is back in the loop.
 * Its first message, `first`, is taken; made is what encoding it came to, and `what` names in a
 * refusal what of it the asker chose. wait_ms: until the first frame, as in struct talk. On failure
 * there is no operation, and nothing is called.
 */
int talk_begin(uv_loop_t *loop, const struct agent_link *link, const struct talk_ops *ops,
	struct buf *first, int made, const char *what, unsigned int wait_ms, struct talk **ret,
	struct err *err);
/* The same, of a message that is yet to be encoded. */
int talk_ask(uv_loop_t *loop, const struct agent_link *link, const struct talk_ops *ops,
	uint8_t type, const union frame_body *m, const char *what, unsigned int wait_ms,
	struct talk **ret, struct err *err);
void talk_free(struct talk *t); /* no callback comes after this; NULL is fine */
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

/* How a program ended, as EXIT says it; false: it says something else, which has ended the talk. */
bool talk_exit(struct talk *t, const struct frame *f, struct agent_exit *ret);
/* What the agent says of itself, made fit to print. */
void talk_text(char *dst, size_t size, struct str s);

/* "NAME=value" texts of an environment, in one piece of memory. */
struct env_texts {
	struct buf text;
	struct str *v;
};
int env_texts(struct env_texts *e, const struct agent_env *env, size_t n);
void env_texts_done(struct env_texts *e);

/*
 * Inside the HTTP server: a connection and the request it carries.
 *
 * httpd.c  listeners, who is let in, the turns of the loop
 * httpconn.c  the connection: what is read and when, how it ends
 * httpreq.c  what a handler asks of a request
 * httpres.c  what it answers, and every byte that is written
 *
 * Input is consumed in one place only, conn_pump(), which never nests: whatever a handler
 * calls changes state and at most queues the connection, and the loop (or the pump that is
 * already running) goes on from there. So no callback is ever called from inside a call that a
 * handler makes. uv_close() marks a connection C_CLOSED; its memory goes in the close callback.
 *
 *   C_HEAD ----> C_ACTIVE ----> C_HEAD            the next request
 *                   |  `------> C_DRAIN -> C_HEAD a short unread body is skipped first
 *                   `---------> C_LINGER          last answer said; wait for the peer to close,
 *                                                 so that no reset overtakes the answer
 */
#pragma once
#include "base/table.h"
#include "event/httpbody.h"
#include "event/httphead.h"
#include "event/peers.h"

#define READ_SIZE     65536u	/* one read; also what a client can send ahead at once */
#define PIPELINE_MAX  16384u	/* bytes held while a handler works; reading stops there */
#define DRAIN_MAX     262144u	/* an unread body up to this is skipped, else the connection ends */
#define LINGER_MS     2000u	/* silence after which a peer that was answered is not waited for */
#define LINGER_ALL_MS 30000u	/* the same for one that never falls silent */
#define LINGER_MAX    (64u << 20)
#define SLOW_PART     3u	/* of idle_ms (60 s): how long a body or a backlog is not measured */
#define SPARE_PART    36u	/* of idle_ms (5 s): how long a connection is spared when all are taken */
#define WRITE_LOW     (HTTPD_WRITE_HIGH / 4)
#define WRITE_MAX     (16 * HTTPD_WRITE_HIGH) /* a handler that ignores the 0 of http_write() */
#define BODIES_MAX    (256u << 20) /* whole bodies in memory, of all connections */
#define ANSWERS_MAX   (512u << 20) /* answers that were not taken yet, of all connections */
#define ANSWER_SURE   65536u	/* each may have this much */
#define BODY_SURE     16384u	/* each may have this much */
#define EXTRA_HEAD_MAX 16384u
#define REFUSED_EXTRA 64u	/* connections past the limit that are told so at any time */

enum conn_state { C_HEAD, C_ACTIVE, C_DRAIN, C_LINGER, C_CLOSED };

/* A transfer whose speed is watched: a body on its way in, or answers on their way out. */
struct pace {
	uint64_t since; /* uv_now(); 0: nothing is under way */
	uint64_t bytes; /* up: that came; down: that were queued, of which some are unsent */
};

struct httpd {
	uv_loop_t *loop;
	const struct httpd_ops *ops;
	void *arg;
	uint32_t max, n;	   /* connections allowed, connections there */
	uint32_t per_address;
	struct httpd_refused refused;
	struct peer *peers;
	uint64_t bodies;	   /* bytes of whole bodies in memory */
	uint64_t queued, queued_max; /* bytes of answers that sockets did not take yet */
	uint64_t idle_ms, head_ms;
	struct conn *conns;
	struct listener *listeners;
	struct conn *runnable;	   /* work put off to the next turn of the loop */
	struct turns turns;
	uv_idle_t idle;
	uv_prepare_t turn;	   /* counts turns */
	uv_timer_t sweep;
	unsigned int handles;	   /* open libuv handles: the memory goes with the last */
	bool stopping, freed;
	void (*on_stopped)(void *arg);
	void *stopped_arg;
	time_t date_at;
	char date[40];
	char scratch[READ_SIZE];   /* every read lands here; what cannot be used yet is copied */
};

struct conn {
	struct httpd *d;
	struct conn *next, **pprev;	/* d->conns */
	struct conn *next_runnable;
	uv_tcp_t *tcp;			/* of its own, so that an upgrade can hand it over */
	int tag;
	struct peer *peer;
	enum conn_state state;
	struct turn turn;		/* C_HEAD: to begin a request */
	bool behind;			/* what it has sent came before the last one was answered */
	bool pumping, queued, reading, eof, broken, close_after, shutdown_done, dead;
	uint64_t since;			/* when the state, or the wait within it, began: uv_now() */
	uint64_t lingers;		/* when C_LINGER began */
	uint64_t wrote;			/* last progress of writing */
	size_t unsent;			/* bytes queued when last looked at */
	struct pace up, down;		/* the body; the backlog of answers */
	uint64_t paused_at;
	struct buf in;			/* read, not yet consumed */
	struct str view;		/* during a pump: what is left to consume */
	struct head_scan scan;
	struct body body;
	uint64_t dropped;		/* bytes skipped in C_DRAIN and C_LINGER */
	uv_shutdown_t shutdown;
	struct http *h;			/* C_ACTIVE only */
};

enum body_mode { BODY_UNASKED, BODY_WHOLE, BODY_STREAM, BODY_GIVEN };

struct arena_chunk {
	struct arena_chunk *next;
	size_t n, cap;
	max_align_t mem[];
};

struct http {
	struct conn *c;
	struct http_head head;
	struct arena_chunk *arena;
	size_t arena_n;
	char id[32];
	struct str told_id; /* the client's own, which answers carry instead; or STR_NONE */
	void (*on_gone)(struct http *h, void *arg);
	void *gone_arg;
	/* body */
	enum body_mode mode;
	bool paused;
	size_t whole_max;
	struct buf whole;
	struct buf trailers; /* of a body that is passed on */
	bool relayed;
	void (*on_body)(struct http *h, struct str body, void *arg);
	void (*on_data)(struct http *h, struct str data, bool end, void *arg);
	void *body_arg;
	/* response */
	struct buf extra; /* header lines the handler added */
	bool started, chunked, bodyless;
	int64_t left;	  /* of an announced length, or -1 */
	bool want_drain;
	void (*on_drain)(struct http *h, void *arg);
	void *drain_arg;
};

/* httpd.c */
void httpd_wake(struct httpd *d);  /* there is work for the next turn of the loop */
void httpd_unref(struct httpd *d); /* a handle is closed */
/* httpconn.c: after each of these the connection may be closed. */
/* fresh: what was just read, in the server's scratch buffer; what stays is copied. */
void conn_pump(struct conn *c, struct str fresh);
void conn_await_head(struct conn *c);
void conn_settle(struct conn *c);  /* after anything that may have changed what it waits for */
void conn_later(struct conn *c);   /* look at it again on the next turn */
void conn_check(struct conn *c, uint64_t now); /* has it waited too long? */
/* The server answers by itself, whether or not a handler has the request. */
void conn_refuse(struct conn *c, int status, enum err_kind kind, const char *fmt, ...)
	_printf_(4, 5);
void conn_linger(struct conn *c);  /* the last answer is said */
void conn_lost(struct conn *c);	   /* the peer is gone: the handler hears of it */
void conn_close(struct conn *c);
void conn_free(struct conn *c);
void conn_hand_over(struct conn *c); /* its tcp handle has a new owner: forget the rest */
/* The answer is complete: free the request, and what comes next for the connection. */
void conn_request_end(struct conn *c);
/* httpres.c */
int conn_write(struct conn *c, const uv_buf_t *bufs, unsigned int n);
static inline size_t conn_unsent(const struct conn *c)
{
	return c->tcp ? uv_stream_get_write_queue_size((uv_stream_t *)c->tcp) : 0;
}
/* The server's own answer, without or instead of a handler's. The connection ends with it. */
void conn_answer_refusal(struct conn *c, int status, const struct err *err);
void http_new_id(char id[32]);
/* httpreq.c */
void http_free(struct http *h);

/*
 * One request on its way: who asks, for what, and how it is answered.
 *
 * dispatch.c makes it, finds the route, the credential and the sandbox, reads a JSON body and
 * waits for a settled state where the route's table entry says so; then the handler runs, once.
 * It lives in the http request's memory and ends with exactly one of reply_*(), req_end() after a
 * stream, req_abort(), or the client leaving. If the handler has work under way that must be
 * stopped when the client leaves, it sets on_gone.
 */
#pragma once
#include "api/api.h"
#include "wire/json.h"

struct hold { /* a request waiting for its sandbox to settle */
	TAILQ_ENTRY(hold) by_deadline, of_box;
	uint64_t deadline; /* loop time, ms */
	struct req *q;	   /* NULL: not waiting */
};

struct dialect;
struct req {
	struct api *api;
	struct http *h;
	const struct dialect *dialect;
	const char *code; /* the dialect's own name for the error to come; NULL: by its kind */
	const struct route *route;
	struct route_segs segs; /* decoded */
	struct principal who;
	struct box *box; /* a reference; NULL if destroyed or the route names no sandbox */
	struct sandbox_row *row; /* of the sandbox: the box's, or one read for a destroyed one */
	struct sandbox_row stored;
	enum life_answer may;	 /* LIFE_ALLOW or LIFE_NOOP when the handler runs */
	json_t *json;
	struct hold hold;
	uint64_t start_ns;
	void (*on_gone)(struct req *q);
	void (*settled)(struct req *q); /* instead of the handler: see req_when_settled() */
	void *state; /* the handler's */
	void (*reply)(struct req *q); /* of a request that an operation holds */
};

/* The sandbox is between two states: fn(q) once it has settled, or the 409 of a state that does not
 * settle in time. on_gone must be NULL: there is nothing to stop. */
void req_when_settled(struct req *q, void (*fn)(struct req *q));

/* A request that waits for an operation of its sandbox: its state is where the operation puts itself,
 * req_held is what it calls with the request as argument. A failure is answered as one, and reply(q)
 * answers what succeeded. When the client leaves, the operation goes on.
 *
 *	flow_grow(q->box, mib, req_held, q, req_hold(q, reply_size));
 */
struct op **req_hold(struct req *q, void (*reply)(struct req *q));
void req_held(struct op *op, const struct err *err, void *q);

/* The decoded segment that stands for {name}. */
struct str req_param(const struct req *q, const char *name);
/* A query parameter as text; STR_NONE if absent. Malformed escapes: -EINVAL with a sentence. */
int req_query(struct req *q, const char *name, struct str *ret, struct err *err);
int req_query_bool(struct req *q, const char *name, bool *ret, struct err *err);
/* limit (1 to 500, 50) and offset (0) of a list. */
int req_page(struct req *q, uint32_t *limit, uint32_t *offset, struct err *err);

/* A whole answer in the house's envelope: answer_begin(), members under "data", reply_send(). */
struct answer {
	struct buf buf;
	struct jw w;
};
void answer_begin(struct answer *a, size_t max);
void reply_send(struct req *q, int status, struct answer *a);
/* The payload of a list: {"data":[ … ],"pagination":{…}}, items between the two calls. */
void answer_page_begin(struct answer *a);
void answer_page_end(struct answer *a, uint64_t total, uint32_t limit, uint32_t offset,
	uint64_t count);
/* A whole answer that the dialect formed itself. */
void reply_json(struct req *q, int status, const struct buf *body);
/* An error in the form of the request's dialect: api/dialect.h. */
void reply_err(struct req *q, const struct err *err);
/* A handler: what a dialect's contract has and we have not. */
void not_built(struct req *q);
/* In the house's envelope, for what fails before a request is one. */
void reply_err_body(int status, const struct err *err, struct buf *out);
/* {"ok":true} and its relatives. */
void reply_flag(struct req *q, const char *name);

/* For an answer that is not an envelope: let go what the request holds, then http_reply(). */
void req_release(struct req *q);
/* Streams: after http_start(). */
void req_end(struct req *q);   /* http_end() */
void req_end_with(struct req *q, struct str trailers); /* http_end_with() */
void req_abort(struct req *q); /* http_abort() */

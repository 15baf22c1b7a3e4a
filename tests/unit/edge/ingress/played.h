/*
 * The proxy in this process, with both sides of it in the test's hand: socket pairs instead of a
 * network, and a loop that turns only in played_run(). One sandbox is known, as PLAYED_ID, with
 * ingress on; each connection that is made to it is a talk.
 *
 * On the services' side played_serve() is the second parser of everything that is forwarded: it
 * reads it as strictly as event/httphead.h does, checks what must never get there, and answers.
 */
#pragma once
#include "edge/ingress/ingress.h"

#define PLAYED_ULID "01arz3ndektsv4rrffq69g5fav"
#define PLAYED_ID   "sb-" PLAYED_ULID
#define PLAYED_SLOT 5u
#define PLAYED_TALKS 16u

struct talk {
	int fd;		 /* -EBADF: not there */
	struct buf got;	 /* what came and was not consumed */
	bool ended;	 /* nothing more comes */
	unsigned int requests; /* played_serve(): that were complete */
};
struct played {
	uv_loop_t loop;
	struct ingress *in;
	struct talk client, service[PLAYED_TALKS];
	unsigned int n; /* services */
	bool refuse;	/* connections to the sandbox are */
};

/* Called with true before the proxy works and with false after it, if set: whose allocations count. */
extern void (*played_window)(bool open);

/* 0 or -ENOMEM and the like. */
int played_open(struct played *p);
void played_close(struct played *p);
/* A new client; all talks before are over. */
int played_connect(struct played *p);
/* Everything that can happen happens. */
void played_run(struct played *p);
void talk_send(struct played *p, struct talk *t, struct str data);
void talk_shut(struct played *p, struct talk *t);
void talk_end(struct talk *t);
/* Answer every complete request in what the services got; aborts on what must not be there. Bodies
 * go to *seen, if it is not NULL: "GET / [body]\n" for each. */
void played_serve(struct played *p, struct buf *seen);

/*
 * A new sandbox, whichever dialect asks for it.
 *
 *	dialect reads and checks the body  ->  image known, or fetched?  ->  box, with a row that says who and
 *	when  ->  dialect fills in what was asked  ->  name  ->  row stored  ->  flow_create()  ->
 *	dialect answers
 *
 * If the client leaves before the answer, the half-made sandbox is deleted.
 */
#pragma once
#include "api/box.h"
#include "api/req.h"

struct birth_spec {
	struct str rootfs; /* the image; empty: the default. The text lives as long as the request */
	bool pull; /* an image that is not there may be fetched: pull.h */
	struct str pull_login, pull_password;
	struct str name;   /* checked; empty: one is made */
	struct box *from;  /* it is forked from this paused sandbox; NULL: it begins anew */
	bool paused;	   /* a fork: it stays paused */
	bool live;	   /* a fork: also of one that runs */
	/* The rest of the row: size, dialect, policy_json, environment, …; box->policy; networks.
	 * Once, and only if the image is known. */
	int (*fill)(struct box *b, void *arg, struct err *err);
	/* Answer. err: nothing was made, or what was made is failed. Not called for a client that left. */
	void (*done)(struct req *q, const struct sandbox_row *row, const struct err *err, void *arg);
	void (*free)(void *arg); /* in the end, whatever came of it; may be NULL */
	void *arg;		 /* lives as long as the request */
};
/* Everything about the body has been checked. q->state and q->on_gone are birth()'s from here. */
void birth(struct req *q, const struct birth_spec *spec);

/* --- what dialects check alike --- */
/* The runtime wanted ("" and "auto": the operator's choice) -> its name. */
int birth_runtime(const struct api *a, struct str want, char ret[static 16], struct err *err);
/* May this user have one more? ERR_FORBIDDEN, field "quota". */
int birth_quota(const struct req *q, struct err *err);
/* Fill in a shape. */
struct shape;
void birth_shape(struct sandbox_row *row, const struct shape *shape);
/* Another amount of memory: the row is then of that shape, or of none ("custom"). */
void birth_memory(struct sandbox_row *row, uint32_t mem_mib);

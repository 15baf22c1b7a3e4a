/*
 * Errors as values with a sentence.
 *
 * Functions return 0 (or a count) or a negative errno. Where a person will read
 * the outcome they also take a caller-owned `struct err`: nothing in it is
 * allocated, so it works when memory is out and after fork. `kind` says whose
 * fault it is; it becomes an HTTP status in exactly one place (api/reply.c).
 */
#pragma once
#include "base/base.h"

enum err_kind {
	ERR_INTERNAL = 0, /* ours; the text is logged, the client gets a general one */
	ERR_INVALID,	  /* the input is wrong: 400 */
	ERR_UNAUTHORIZED, /* no or unknown credential: 401 */
	ERR_FORBIDDEN,	  /* a quota or plan says no: 403 */
	ERR_NOT_FOUND,	  /* unknown or somebody else's: 404 */
	ERR_METHOD,	  /* 405 */
	ERR_TIMEOUT,	  /* 408 */
	ERR_CONFLICT,	  /* wrong state, duplicate: 409 */
	ERR_TOO_LARGE,	  /* 413 */
	ERR_RATE,	  /* 429, nothing happened */
	ERR_UNSUPPORTED,  /* not built: 501 */
	ERR_UPSTREAM,	  /* the sandbox or a peer answered wrongly: 502 */
	ERR_CAPACITY,	  /* no room now, nothing happened: 503 */
	ERR_KINDS
};

struct err {
	int code;	    /* negative errno */
	enum err_kind kind;
	char field[64];	    /* the input field at fault, "" if none; becomes the JSON key */
	char text[400];	    /* a sentence without a final full stop; UTF-8, whatever it quotes */
};

/* Fill *err (which may be NULL) and return code. */
int err_set(struct err *err, int code, enum err_kind kind, const char *fmt, ...) _printf_(4, 5);
/* The same, naming the input field at fault. */
int err_field(struct err *err, int code, enum err_kind kind, const char *field, const char *fmt,
	...) _printf_(5, 6);
/* Put context in front: "<fmt>: <old text>". Keeps kind; returns code. */
int err_wrap(struct err *err, int code, const char *fmt, ...) _printf_(3, 4);
/* A failed system call: "<fmt>: <strerror>". Kind ERR_INTERNAL. code is a negative errno. */
int err_sys(struct err *err, int code, const char *fmt, ...) _printf_(3, 4);
const char *err_kind_name(enum err_kind kind);

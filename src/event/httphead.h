/*
 * The head of a request, or of an answer: found byte by byte as it arrives, then read whole.
 *
 * Finding refuses at the first byte that two parsers could read differently (a bare LF or
 * CR, a folded line, a control byte, a second space in the request line), so nothing waits
 * for the end of a head that cannot become good. Reading hands the complete head to llhttp
 * and then checks what llhttp lets pass. Both answer with an HTTP status when they refuse; of an
 * answer that status says what would be wrong with a request like it.
 */
#pragma once
#include "base/err.h"
#include "event/httpd.h"

struct http_field {
	struct str name, value; /* borrow from the head */
};

struct http_head {
	struct str method, target; /* of a request */
	enum http_method m;
	struct str reason;	   /* of an answer; perhaps empty */
	int status;
	bool http10;
	bool close;	  /* this side wants, or HTTP/1.0 implies, one request only */
	bool keep;	  /* HTTP/1.0: "keep-alive" was said, which http10's close does not know of */
	bool expect;	  /* Expect: 100-continue */
	bool chunked;
	int64_t length;	  /* of Content-Length, or -1 */
	struct http_field *fields;
	size_t n_fields;
};

struct head_scan {
	size_t at;	   /* bytes looked at; once complete, the head's length */
	size_t line;	   /* where the current line starts */
	size_t start;	   /* where the head starts: past one empty line, which is forgiven */
	unsigned int lines; /* complete lines */
	bool cr;	   /* the last byte was a CR */
	bool answer;	   /* set by who begins: the first line is a status line, not forgiven if empty */
	size_t max;	   /* set by who begins: bytes of the head; 0: HTTPD_HEAD_MAX */
};

/* in: all bytes from the first on; they may have moved since the last call.
 * 0: more are needed; 1: complete; otherwise the status to refuse with. */
int head_scan(struct head_scan *s, struct str in, struct err *err);
/* head: what head_scan() found, from s->start to s->at. fields: room for as many as it has
 * lines. 0, or the status to refuse with. */
int head_read(struct str head, struct http_field *fields, size_t n, struct http_head *ret,
	struct err *err);
/* The same of an answer. Whether it has a body is for who asked to know: length and chunked say
 * what its fields say. */
int head_read_answer(struct str head, struct http_field *fields, size_t n, struct http_head *ret,
	struct err *err);
/* Is the word in a comma-separated list, in any case? */
bool head_list_has(struct str list, struct str word);

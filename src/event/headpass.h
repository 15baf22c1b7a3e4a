/*
 * Which fields of a head go on when we stand between a client and a port of a sandbox: the rules that
 * the reverse proxy and execd's have in common. Names are compared in any case. Pure.
 */
#pragma once
#include "event/httphead.h"

enum head_pass {
	PASS_ON,
	PASS_DROP,    /* of one hop, written anew, or never for the sandbox */
	PASS_COOKIES, /* Cookie: may carry a token of ours */
	PASS_SECRET,  /* Authorization: dropped where it carries a platform key */
	PASS_SERVICE, /* a credential for a port that the api role serves, never for a sandbox */
	PASS_PLACE,   /* Location */
};

enum head_pass pass_request(struct str name);
enum head_pass pass_answer(struct str name);
/* May it stand behind a body? Not what frames, routes, authorizes or qualifies a message, which is
 * decided before its body is read (RFC 9110 6.5.1), nor what would not go on in the head. */
bool pass_trailer(struct str name);
/* Those of these lines ("Name: value\r\n" each) that may, moved together in place; their length. */
size_t pass_trailers(char *lines, size_t n);
/* Does Connection name anything beside the words that every client says? */
bool pass_names_fields(const struct http_head *h);
/* Does some Connection line name it? Then it is of this hop. */
bool pass_is_named(const struct http_head *h, struct str name);
/* "Bearer weir_...": a key of the platform's, which no sandbox may learn. */
bool pass_platform_key(struct str value);
/* Is another protocol asked for, once, in a form that may be passed on? *ret: which. */
bool pass_upgrade(const struct http_head *h, struct str *ret);

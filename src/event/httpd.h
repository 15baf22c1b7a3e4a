/*
 * An HTTP/1.1 server on libuv and llhttp, for the api role (and later ingress).
 *
 * Strict: what two parsers could read differently is refused with 400 and the connection closed (CL
 * with TE, duplicate CL, bare LF, obs-fold, bad Host, control bytes in a target). Keep-alive for
 * HTTPD_IDLE_S; `Expect: 100-continue` answered when the handler first asks for the body, or by one
 * that passes it on (http_body_relay()); a `PRI * HTTP/2.0` preface is answered and closed at once.
 * One request at a time per connection; pipelined requests wait, and take turns with those of other
 * connections and addresses (event/turns.h).
 *
 * Past connections_max, or an address's part of it, a new connection is told 503, unless another (of
 * that address) has asked nothing for some seconds: that one is closed for it. Who sends a body or
 * takes an answer more slowly than HTTPD_RATE_MIN, once HTTPD_IDLE_S / 3 have gone by, is cut: 408
 * where nothing was answered yet. So is who is silent for HTTPD_IDLE_S.
 *
 * A request belongs to the server; the handler keeps the pointer until it has called
 * http_end() (or http_reply(), which ends) or its on_gone was called. on_gone is called once
 * if the client goes away first, or if the server had to refuse the body (413, a broken chunk,
 * 408): then the pointer is dead and nothing more may be called on it. A client that closes its
 * sending side counts as gone. Memory from http_alloc() lives as long as the request.
 *
 * Callbacks come from the loop, never from inside a call that the handler makes.
 */
#pragma once
#include <uv.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/ip.h"

#define HTTPD_IDLE_S	     180u      /* Node clients reuse sockets idle for 60 s: clearly longer */
#define HTTPD_HEADER_S	     20u       /* a request's head must be complete by then */
#define HTTPD_RATE_MIN	     256u      /* bytes a second, on average over a body or an answer's backlog */
#define HTTPD_HEAD_MAX	     32768u    /* request line and headers */
#define HTTPD_HEADERS_MAX    100u
#define HTTPD_WRITE_HIGH     262144u   /* queued response bytes at which http_write() says 0 */
#define HTTPD_ARENA_MAX	     (1u << 20)

struct httpd;
struct http;
struct http_head;

enum http_method { HTTP_M_GET, HTTP_M_HEAD, HTTP_M_POST, HTTP_M_PUT, HTTP_M_PATCH, HTTP_M_DELETE,
	HTTP_M_OPTIONS, HTTP_M_OTHER };

struct httpd_ops {
	/* The head is complete. The handler replies, or asks for the body first. */
	void (*on_request)(struct http *h, void *arg);
	/* The server's own refusal (400, 408, 413, 414, 417, 431, 501, 503, 505) in the error form of
	 * whom it is for: fill body and content type for this error. h: its head was read, NULL if it
	 * was not. 503: too many connections. */
	void (*on_refuse)(struct http *h, int status, const struct err *err, struct buf *body,
		const char **type, void *arg);
};

/* fd: a listening socket, taken over. tag: a number handed back by http_tag(). Several
 * listeners may share one server. */
int httpd_new(uv_loop_t *loop, const struct httpd_ops *ops, void *arg, uint32_t connections_max,
	struct httpd **ret);
int httpd_listen(struct httpd *d, int fd, int tag);
/* A connection that somebody else accepted; fd is taken over. */
int httpd_adopt(struct httpd *d, int fd, int tag);
/* Instead of HTTPD_IDLE_S and HTTPD_HEADER_S. */
void httpd_timeouts(struct httpd *d, uint64_t idle_ms, uint64_t head_ms);
/* Connections that one address (IPv6: one /64) may have open; 0: as many as all together. */
void httpd_per_address(struct httpd *d, uint32_t max);
/* How much of answers may wait for clients that do not read; past it http_reply() says 503. */
void httpd_answers_max(struct httpd *d, uint64_t bytes);
/* Connections that are open now. */
uint32_t httpd_connections(const struct httpd *d);
/* Connections that were refused, by the limit that they met. */
struct httpd_refused {
	uint64_t all, per_address;
};
void httpd_refused(const struct httpd *d, struct httpd_refused *ret);
/* Stop accepting, finish running requests, then call done. */
void httpd_shutdown(struct httpd *d, void (*done)(void *arg), void *arg);
/* End everything at once; running requests see on_gone. Not from a handler. */
void httpd_free(struct httpd *d);

/* --- the request; texts live until its end --- */
enum http_method http_method(const struct http *h);
struct str http_method_text(const struct http *h);
struct str http_target(const struct http *h); /* as sent */
struct str http_path(const struct http *h);   /* as sent, before '?': split on '/', then decode */
struct str http_query(const struct http *h);  /* after '?', or STR_NONE */
struct str http_header(const struct http *h, const char *name); /* first, or STR_NONE (p NULL) */
const struct http_head *http_head(const struct http *h); /* all of it: event/httphead.h */
struct ip http_peer(const struct http *h); /* who sent it; family 0: nobody knows */
int http_tag(const struct http *h);
const char *http_id(const struct http *h); /* the x-request-id of this request */
/* Answer under the id that the client gave its request, if that is a word of at most 128 letters. */
void http_echo_id(struct http *h);
void *http_alloc(struct http *h, size_t n); /* zeroed, request's lifetime; NULL past the ceiling */
struct str http_alloc_str(struct http *h, struct str s);

void http_on_gone(struct http *h, void (*on_gone)(struct http *h, void *arg), void *arg);

/* --- the body: exactly one of these, once --- */
/* Whole, at most max bytes (else 413 by the server, on_body is not called). */
void http_body_whole(struct http *h, size_t max,
	void (*on_body)(struct http *h, struct str body, void *arg), void *arg);
/* In pieces; end: the last call, data may be empty. Pause stops reading from the socket. */
void http_body_stream(struct http *h,
	void (*on_data)(struct http *h, struct str data, bool end, void *arg), void *arg);
/* The same for who passes the body on. Expect is not answered by asking: http_continue() does it, and
 * a client that waits for that is not measured. Trailers are there with the last call. */
void http_body_relay(struct http *h,
	void (*on_data)(struct http *h, struct str data, bool end, void *arg), void *arg);
void http_continue(struct http *h); /* nothing, where nobody waits for it (any more) */
struct str http_trailers(const struct http *h); /* "Name: value\r\n" each; BODY_EXTRA_MAX at most */
void http_body_pause(struct http *h, bool paused);

/* --- the response --- */
/* Before http_reply/http_start: an extra header. -EINVAL on control bytes. */
int http_add_header(struct http *h, const char *name, struct str value);
/* Whole response; ends the request. An unread body is drained or the connection closed. */
int http_reply(struct http *h, int status, const char *content_type, struct str body);
/* Streamed: length -1 is chunked. Headers leave at once. */
int http_start(struct http *h, int status, const char *content_type, int64_t length);
/* 1: go on; 0: taken, but wait for on_drain; negative: the connection is lost (on_gone follows). */
int http_write(struct http *h, struct str data);
void http_on_drain(struct http *h, void (*on_drain)(struct http *h, void *arg), void *arg);
int http_end(struct http *h);
/* With trailers, as http_trailers() has them; dropped where the answer does not go out in chunks. */
int http_end_with(struct http *h, struct str trailers);
/* Break the connection: a streamed response that cannot be finished. on_gone is not called. */
void http_abort(struct http *h);
/* 101 and then raw bytes: hands over the connection's uv stream (caller owns it: uv_close(), then
 * free() in the close callback), with bytes already read beyond the head in *rest (valid until
 * the next loop turn). headers: extra lines, "Name: value\r\n" each. 0: the request has ended;
 * on failure it has not. */
int http_upgrade(struct http *h, const char *protocol, struct str headers, uv_stream_t **ret,
	struct str *rest);

/* Percent-decoding: path segments ('+' stays) and form values ('+' is a space). -EINVAL on bad
 * escapes or NUL. Into request memory. */
int http_decode(struct http *h, struct str in, bool form, struct str *ret);
/* First value of a query parameter, decoded. 0, -ENOENT if absent, -EINVAL. */
int http_query_get(struct http *h, const char *name, struct str *ret);

/*
 * What upstream's execd answers, the daemon inside each sandbox on port 44772. There is none here: the
 * api role answers at /sandboxes/{id}/proxy/44772/… and asks the sandbox's agent.
 *
 *	execd.c		what its files share: bodies, paths, refusals
 *	execd_run.c	one command on its way to a client: the event stream
 *	execd_command.c	/command…, /session…
 *	execd_code.c	/code…: interpreters that keep their state, by drivers.h
 *	execd_pty.c	/pty…: a terminal over WebSocket
 *	execd_files.c	/files/…, /directories… but contents
 *	execd_upload.c	/files/upload; execd_download.c
 *	execd_metrics.c	/metrics…
 *	execd_proxy.c	/proxy/{port}…; forward.c: its heads
 *
 * Upstream asks for no key here; when Weir does, guard.h says. Errors carry execd's codes.
 */
#pragma once
#include "api/box.h"
#include "api/procs.h"
#include "api/req.h"

#define EXECD_BODY_MAX	 (4u << 20) /* a JSON body: a script is sent whole to the agent */
#define EXECD_PATHS_MAX	 1024u	    /* names in one request */
#define EXECD_LABEL	 "execd"    /* of plain commands */

/* An answer with a status and a code of its own. */
void execd_fail(struct req *q, int status, const char *code, const char *fmt, ...) _printf_(4, 5);
/* What the agent said, as execd tells it: what is not there under `gone`. */
void execd_err(struct req *q, const struct err *err, const char *gone);
void execd_bad(struct req *q, const char *fmt, ...) _printf_(2, 3); /* 400 INVALID_REQUEST_BODY */
void execd_empty(struct req *q); /* 200 and nothing, with its length */

/* The whole body as JSON, into q->json; then fn. Empty is {}. */
void execd_json(struct req *q, void (*fn)(struct req *q));
/* A string of the body: *ret, or STR_NONE. -EINVAL: it is something else, or has a NUL; answered. */
int execd_text(struct req *q, const json_t *obj, const char *name, struct str *ret);
/* A whole number from 0 to max; 0 if it is not there. */
int execd_number(struct req *q, const json_t *obj, const char *name, uint64_t max, uint64_t *ret);
/* {mode, owner, group}; texts live as long as the JSON. */
struct execd_mark {
	uint32_t mode;
	bool has_mode;
	struct str owner, group;
};
int execd_mark(struct req *q, const json_t *obj, struct execd_mark *ret);
/* "~", variables, relative to /root: a path as the agent takes it, in the request's memory. */
int execd_path(struct req *q, struct str in, struct str *ret);
/* Every value of a query parameter, decoded; n at most EXECD_PATHS_MAX. */
int execd_query_all(struct req *q, const char *name, struct str **ret, size_t *n);
void execd_id(char ret[static 33]); /* 32 hex digits */

/* --- execd_run.c: commands as streams --- */
struct execd_run_spec {
	struct str cmd;	      /* for bash -c, or sh -c where there is none */
	const struct str *args; /* $0, $1, … */
	size_t n_args;
	struct str cwd, init; /* init: the text of the first event; empty: the id */
	json_t *envs;
	struct str label, note;
	const char *id;
	uint32_t timeout_ms, uid, gid;
	bool has_gid, background, queue;
};
void execd_run(struct req *q, const struct execd_run_spec *spec);

/* --- handlers --- */
void execd_ping(struct req *q);
void execd_nothing(struct req *q);
void execd_isolation(struct req *q);
void execd_no_isolation(struct req *q);
void execd_command(struct req *q);
void execd_interrupt(struct req *q);
void execd_status(struct req *q);
void execd_logs(struct req *q);
void execd_session(struct req *q);
void execd_session_run(struct req *q);
void execd_session_delete(struct req *q);
void execd_context_create(struct req *q);
void execd_contexts(struct req *q);
void execd_context_get(struct req *q);
void execd_context_delete(struct req *q);
void execd_contexts_delete(struct req *q);
void execd_code(struct req *q);
void execd_code_interrupt(struct req *q);
void execd_pty_create(struct req *q);
void execd_pty_get(struct req *q);
void execd_pty_delete(struct req *q);
void execd_pty_ws(struct req *q);
void execd_info(struct req *q);
void execd_delete(struct req *q);
void execd_permissions(struct req *q);
void execd_move(struct req *q);
void execd_replace(struct req *q);
void execd_search(struct req *q);
void execd_list(struct req *q);
void execd_mkdirs(struct req *q);
void execd_rmdirs(struct req *q);
void execd_upload(struct req *q);
void execd_download(struct req *q);
void execd_metrics(struct req *q);
void execd_metrics_watch(struct req *q);
void execd_proxy(struct req *q);
/* execd through its own proxy is execd: /proxy/44772/proxy/44772/x is /proxy/44772/x. */
void execd_fold(struct route_segs *s);

/* clang-format off */
#define EXECD_AT SB "/proxy/44772"
#define EXECD(at) \
	{ HTTP_M_GET,    at EXECD_AT "/ping",			AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_ping }, \
	{ HTTP_M_POST,   at EXECD_AT "/command",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_command }, \
	{ HTTP_M_DELETE, at EXECD_AT "/command",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_interrupt }, \
	{ HTTP_M_GET,    at EXECD_AT "/command/status/{id}",	AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_status }, \
	{ HTTP_M_GET,    at EXECD_AT "/command/{id}/logs",	AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_logs }, \
	{ HTTP_M_POST,   at EXECD_AT "/session",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_session }, \
	{ HTTP_M_POST,   at EXECD_AT "/session/{id}/run",	AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_session_run }, \
	{ HTTP_M_DELETE, at EXECD_AT "/session/{id}",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_session_delete }, \
	{ HTTP_M_POST,   at EXECD_AT "/code/context",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_context_create }, \
	{ HTTP_M_GET,    at EXECD_AT "/code/contexts",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_contexts }, \
	{ HTTP_M_DELETE, at EXECD_AT "/code/contexts",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_contexts_delete }, \
	{ HTTP_M_GET,    at EXECD_AT "/code/contexts/{id}",	AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_context_get }, \
	{ HTTP_M_DELETE, at EXECD_AT "/code/contexts/{id}",	AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_context_delete }, \
	{ HTTP_M_POST,   at EXECD_AT "/code",			AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_code }, \
	{ HTTP_M_DELETE, at EXECD_AT "/code",			AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_code_interrupt }, \
	{ HTTP_M_POST,   at EXECD_AT "/pty",			AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_pty_create }, \
	{ HTTP_M_GET,    at EXECD_AT "/pty/{id}",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_pty_get }, \
	{ HTTP_M_DELETE, at EXECD_AT "/pty/{id}",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_pty_delete }, \
	{ HTTP_M_GET,    at EXECD_AT "/pty/{id}/ws",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_pty_ws }, \
	{ HTTP_M_GET,    at EXECD_AT "/files/info",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_info }, \
	{ HTTP_M_DELETE, at EXECD_AT "/files",			AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_delete }, \
	{ HTTP_M_POST,   at EXECD_AT "/files/permissions",	AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_permissions }, \
	{ HTTP_M_POST,   at EXECD_AT "/files/mv",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_move }, \
	{ HTTP_M_POST,   at EXECD_AT "/files/replace",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_replace }, \
	{ HTTP_M_GET,    at EXECD_AT "/files/search",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_search }, \
	{ HTTP_M_POST,   at EXECD_AT "/files/upload",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_upload }, \
	{ HTTP_M_GET,    at EXECD_AT "/files/download",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_download }, \
	{ HTTP_M_GET,    at EXECD_AT "/directories/list",	AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_list }, \
	{ HTTP_M_POST,   at EXECD_AT "/directories",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_mkdirs }, \
	{ HTTP_M_DELETE, at EXECD_AT "/directories",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_rmdirs }, \
	{ HTTP_M_GET,    at EXECD_AT "/metrics",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_metrics }, \
	{ HTTP_M_GET,    at EXECD_AT "/metrics/watch",		AUTH_GUARD, BODY_NONE,   LIFE_OP_DATA, execd_metrics_watch }, \
	{ HTTP_M_GET,    at EXECD_AT "/v1/isolated/capabilities", AUTH_GUARD, BODY_NONE, LIFE_OP_READ, execd_isolation }, \
	{ HTTP_M_POST,   at EXECD_AT "/v1/isolated/session",	AUTH_GUARD, BODY_NONE,   LIFE_OP_READ, execd_no_isolation }, \
	{ HTTP_M_OTHER,  at EXECD_AT "/proxy/{port}",		AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_proxy }, \
	{ HTTP_M_OTHER,  at EXECD_AT "/proxy/{port}/{*}",	AUTH_GUARD, BODY_STREAM, LIFE_OP_DATA, execd_proxy }, \
	{ HTTP_M_OTHER,  at EXECD_AT "/{*}",			AUTH_GUARD, BODY_NONE,   LIFE_OP_READ, execd_nothing }
/* clang-format on */

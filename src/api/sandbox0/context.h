/*
 * A context: one process of a sandbox, as sandbox0 has it. What a request asks for, what is kept of it
 * in the process's note, how it is told, and the output that an answer carries. No conversation is
 * here: those are in contexts.c and stream.c.
 *
 * A REPL (repl.h) says with its prompt that it is ready for more; prompts are not told.
 */
#pragma once
#include "api/procs.h"
#include "api/sandbox0/repl.h"
#include "api/sandbox0/sandbox0.h"

#define CONTEXT_LABEL	STR("sandbox0")
#define CONTEXT_ID_LEN	(4 + 8 + 1) /* "ctx-" and 8 hexadecimal digits */
#define CONTEXT_KEEP	(1u << 20) /* bytes of each stream, the newest */
#define CONTEXT_ENV_MAX (80u + REPL_ENV_MAX)

struct context_ask {
	struct str type, cwd;
	json_t *cmd, *repl_json, *env_vars, *pty_size;
	bool wait;
	int64_t idle_s, ttl_s;
	/* from the members above */
	bool is_repl, pty;
	struct repl repl;
	struct str input; /* for the first prompt */
	json_t *command;
	uint32_t rows, cols;
};
int context_decode(const json_t *body, struct context_ask *ret, struct err *err);

/* What the agent is asked to start. Texts borrow from the request and from this. */
struct context_start {
	struct proc_spec spec;
	struct str *argv;
	struct agent_env env[CONTEXT_ENV_MAX];
	char *note, cwd[4096];
};
/* nth: of a REPL's candidates; -ENOENT, and nothing said, when there are no more. */
int context_start_from(const struct context_ask *ask, unsigned int nth, const char *id,
	struct context_start *ret, struct err *err);
void context_start_done(struct context_start *s);
void context_id_new(char ret[static CONTEXT_ID_LEN]);

/* How it stands. */
struct context {
	char id[64];
	json_t *note;
	bool running, waiting, pty;
	uint64_t started_ms;
	int code, signal;
};
void context_done(struct context *c);
int context_from(const struct proc_info *info, struct context *ret);
const char *context_state(const struct context *c);

/* The word that a REPL prompts with. */
struct str context_prompt(const struct context *c);
/* The request that would make it again; NULL if its note does not hold all of it. */
json_t *context_request(const struct context *c);

/* --- output --- */

struct kept { /* the newest CONTEXT_KEEP bytes, of both streams together and of each */
	struct box *box;
	struct buf all, stream[2];
};
void kept_begin(struct kept *k, struct box *b);
void kept_done(struct kept *k);
void kept_add(struct kept *k, enum proc_stream stream, struct str data);
/* The REPL is ready for more: its output ends with the prompt. */
bool kept_prompted(const struct kept *k, struct str prompt);
/* Nothing of what came so far. */
void kept_forget(struct kept *k);
/* Members output_raw, and, where streams are told apart, stdout and stderr. What a REPL prompts with is
 * left out; STR_NONE: it is none. */
void kept_put(struct jw *w, const struct kept *k, struct str prompt, bool raw, bool streams);

/* One object. out may be NULL; raw: both streams in one as well. */
void context_put(struct jw *w, const char *name, const struct context *c, const struct kept *out,
	bool raw);

/*
 * REPLs: interpreters on a terminal that say with a prompt that they are ready for more. Those that an
 * alias names are a table; a repl_config describes one that is not in it, in the members of the
 * published client:
 *
 *	name		what it is told as
 *	candidates	programs with their arguments; the first that starts is it
 *	env, default_term	its environment; TERM is dumb otherwise
 *	prompt, ready	the words it prompts with; without any it is told the private ones (PS1, PS2)
 *			and is to use them. With mode startup_delay it is taken to be ready after a
 *			while, and not at its first prompt
 */
#pragma once
#include "wire/json.h"

#define REPL_PROMPT	    "_S0_> " /* the private words: the second is for a line that goes on */
#define REPL_PROMPT2	    "__S0_CONT__ "
#define REPL_PROMPT_MAX	    64u
#define REPL_CANDIDATES_MAX 8u
#define REPL_ARGS_MAX	    32u
#define REPL_ENV_MAX	    32u
#define REPL_DELAY_MAX_MS   30000u

struct repl_known;
struct repl { /* texts borrow from the request */
	struct str alias;
	const struct repl_known *known; /* NULL: as the config says */
	const json_t *config;
	struct str prompt;	/* the word to wait for */
	struct str term;
	uint32_t delay_ms;	/* it is ready after that; 0: at its first prompt */
};

/* The request's "repl"; errors name repl.<member>. */
int repl_decode(const json_t *json, struct repl *ret, struct err *err);
/* The n-th candidate's words; 0: there are no more. */
size_t repl_argv(const struct repl *r, unsigned int n, struct str ret[static 1 + REPL_ARGS_MAX]);

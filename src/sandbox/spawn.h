/*
 * Starting a program of ours without our rights, in stages that each take something away:
 *
 *	1 namespace	the router's network (from here on the host's is out of reach)
 *	2 session	own session, standard input from nowhere, `chan` as 3 and nothing beyond
 *	3 identity	no supplementary groups, group, user; the kernel clears the capabilities
 *	4 no way back	empty bounding set, no_new_privs, no core files, death signal tied to us
 *
 * Between fork and exec nothing is allocated.
 */
#pragma once
#include <sys/types.h>
#include "base/err.h"

struct spawn_as {
	const char *path;
	const char *const *argv;
	const char *
		daemon; /* put into the environment: WEIR_DAEMON, how --leaks knows our processes */
	int netns;	/* -1: stay */
	bool drop;	/* stages 3 and 4; otherwise root stays root (weir-build isolates itself) */
	uid_t uid;
	gid_t gid;
	int chan;	      /* becomes descriptor 3; -1: none */
	int output;	      /* becomes standard output and error; -1: ours */
	int (*enter)(void *arg); /* called in the child before all stages, or NULL; 0 or -errno */
	void *arg;
	const char *pass_env; /* name of one variable of ours to hand on, or NULL */
};
/* The pid, or negative. A failure of a later stage ends in exit code 126 and a line in the log. */
pid_t spawn_program(const struct spawn_as *s, struct err *err);

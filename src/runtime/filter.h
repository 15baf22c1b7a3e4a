/*
 * The system calls a sandbox may make: an allow list in the spirit of the container engines'
 * defaults, compiled once by libseccomp into a classic BPF program and installed by each sandbox's
 * first process before it becomes the agent.
 */
#pragma once
#include <linux/filter.h>
#include "base/err.h"

#define FILTER_PROGRAMS 2

struct filter { /* several filters: the kernel takes the strictest answer */
	struct sock_filter *code[FILTER_PROGRAMS];
	unsigned short n[FILTER_PROGRAMS];
};

int filter_compile(struct filter *ret, struct err *err);
void filter_done(struct filter *p);
/* For the calling process and its descendants, without no_new_privs: needs CAP_SYS_ADMIN in its
 * user namespace. */
int filter_install(const struct filter *p);

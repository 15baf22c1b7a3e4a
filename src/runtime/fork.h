/*
 * What the processes have in common that the host role forks, to begin a sandbox or for a step of
 * its life: they begin with default signals and the few descriptors they need, allocate nothing,
 * and tell by a SOCK_SEQPACKET channel how it went. A pidfd comes along with such news.
 */
#pragma once
#include <sys/types.h>
#include "base/err.h"

struct fork_news { /* one message to the host role */
	int32_t pid; /* > 0: the sandbox's first process, with its pidfd; 0: parked, or err is why it failed */
	struct err err;
};

/* A child with a channel to it, in control group `group` (v2; or -1). Returns 0 in the child, and what
 * clone returns in the parent; *chan is the end of whoever it returns in. */
pid_t fork_begin(int group, int *pidfd, int *chan, const char *what, struct err *err);
/* How the child ended, as waitpid() says, or a negative errno. what: a name for the error. */
int fork_status(pid_t pid, const char *what, struct err *err);
/* In the child: default signals, none blocked. */
void fork_signals(void);
/* Keep 0..2 and those in keep (which is sorted by this); all others close. */
int fork_keep(int *keep, size_t n);
/* With a descriptor, unless fd is negative. */
int fork_send(int chan, const void *data, size_t size, int fd);
/* 1: got one; 0: end of file; -EAGAIN: nothing yet. *fd is -EBADF when none came along. */
int fork_recv(int chan, void *data, size_t size, int *fd);
/* Wait for the child of this pidfd. */
void fork_reap(int pidfd);

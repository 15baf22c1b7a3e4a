/*
 * Network namespaces: made, held, visited.
 *
 * A slot's namespace is anonymous: a descriptor holds it, so a crash of the host role frees it
 * unless a sandbox lives in it. Only the router namespace is pinned, by a bind mount of its
 * namespace file, so that it survives the host role.
 *
 * A namespace is entered by setns for the calling thread alone, and only for the length of a scope:
 *
 *	auto_netns struct netns_visit v = NETNS_HOME;
 *	r = netns_visit(&v, ns);
 *	...					// sockets made here stay in `ns`
 *	}					// and the thread is back
 *
 * A thread that could not come back would do its next work in the wrong network; it aborts.
 */
#pragma once
#include "base/err.h"

struct netns_visit {
	int home; /* -1: not away */
};
#define NETNS_HOME ((struct netns_visit){ .home = -1 })

int netns_current(void); /* a descriptor of the calling thread's namespace */
int netns_visit(struct netns_visit *v, int ns);
/* Make a fresh namespace and stay in it until the visit ends; its descriptor goes to *ret. */
int netns_visit_new(struct netns_visit *v, int *ret);
void netns_leave(struct netns_visit *v);
#define auto_netns _cleanup_(netns_leave)

/* Open the namespace pinned at path; -ENOENT when there is none. */
int netns_pinned(const char *path);
/* Make a fresh one and pin it at path (a file is created; a stale one is reused). */
int netns_pin(const char *path);
/* Undo the pin and remove the file. 0 also when there is none. */
int netns_unpin(const char *path);
/* The namespace's number, as in "net:[4026531992]"; 0 on failure. */
uint64_t netns_inode(int ns);

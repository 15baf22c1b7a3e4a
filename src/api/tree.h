/*
 * Names in a sandbox's file system: looking at, listing, finding, making, moving, changing and
 * removing them, and replacing text inside a file. Contents go through agent_put and agent_get.
 *
 * One conversation each, done by a child of the agent. It ends with exactly one on_end; freeing is
 * fine at any time (what was being done may still be done). At most 100,000 names are told.
 */
#pragma once
#include "api/agent.h"
#include "wire/frame.h"

struct tree_spec {
	enum frame_tree op;
	struct str path, target, pattern, old, new;
	uint32_t depth; /* LIST, FIND: levels; 0: all */
	uint32_t mode;	/* with FRAME_TREE_MODE */
	uint32_t flags; /* FRAME_TREE_… */
	struct str owner, group; /* names or numbers; empty: as they are */
};

struct tree_entry { /* texts live until the callback returns */
	struct str path;
	enum frame_kind kind;
	uint32_t mode;
	uint64_t bytes, modified_ns, created_ns;
	struct str owner, group, target;
};

struct tree;
struct tree_ops {
	void (*on_entry)(struct tree *x, const struct tree_entry *e, void *arg);
	/* n: names told, made, changed or removed; places replaced */
	void (*on_end)(struct tree *x, uint64_t n, const struct err *err, void *arg);
};
int tree_start(uv_loop_t *loop, const struct agent_link *link, const struct tree_spec *spec,
	const struct tree_ops *ops, void *arg, struct tree **ret, struct err *err);
void tree_pause(struct tree *x, bool paused);
void tree_free(struct tree *x);

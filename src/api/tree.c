/* Names in a sandbox's file system, from outside: see the header. */
#include "api/talk.h"
#include "api/tree.h"

#define TREE_MS 240000u /* without any progress: sooner than clients give up, Node's after 300 s */

struct tree {
	struct talk talk;
	const struct tree_ops *ops;
	void *arg;
};

static void tree_frame(struct talk *t, const struct frame *f)
{
	struct tree *x = container_of(t, struct tree, talk);
	union frame_body m;

	if (f->type == FRAME_ENTRY && x->ops->on_entry &&
		frame_decode(FRAME_ENTRY, f->body, &m) == 0) {
		struct tree_entry e = { .path = m.entry.path, .kind = (enum frame_kind)m.entry.kind,
			.mode = m.entry.mode, .bytes = m.entry.bytes,
			.modified_ns = m.entry.modified_ns, .created_ns = m.entry.created_ns,
			.owner = m.entry.owner, .group = m.entry.group,
			.target = m.entry.target };

		x->ops->on_entry(x, &e, x->arg);
	} else if (f->type == FRAME_OK && frame_decode(FRAME_OK, f->body, &m) == 0) {
		if (talk_over(t))
			x->ops->on_end(x, m.ok.bytes, NULL, x->arg);
	} else {
		talk_unexpected(t, f);
	}
}

static void tree_failed(struct talk *t, const struct err *err)
{
	struct tree *x = container_of(t, struct tree, talk);

	x->ops->on_end(x, 0, err, x->arg);
}

static const struct talk_ops tree_talk = { .frame = tree_frame, .end = tree_failed,
	.size = TALK_SIZE(struct tree) };

int tree_start(uv_loop_t *loop, const struct agent_link *link, const struct tree_spec *spec,
	const struct tree_ops *ops, void *arg, struct tree **ret, struct err *err)
{
	union frame_body m = { .tree = { .op = spec->op, .path = spec->path,
		.target = spec->target, .pattern = spec->pattern,
		.old = spec->old, .new = spec->new,
		.depth = MIN(spec->depth, (uint32_t)UINT16_MAX), .mode = spec->mode,
		.flags = spec->flags, .owner = spec->owner, .group = spec->group } };
	struct talk *t;
	int r = talk_ask(loop, link, &tree_talk, FRAME_TREE, &m, "path", TREE_MS, &t, err);

	if (r < 0)
		return r;
	*ret = container_of(t, struct tree, talk);
	(*ret)->ops = ops;
	(*ret)->arg = arg;
	return 0;
}

void tree_pause(struct tree *x, bool paused)
{
	talk_pause(&x->talk, paused);
}

void tree_free(struct tree *x)
{
	if (x)
		talk_free(&x->talk);
}

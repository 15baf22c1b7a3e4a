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

static void tree_memory(struct talk *t)
{
	free(container_of(t, struct tree, talk));
}

static const struct talk_ops tree_talk = { .frame = tree_frame, .end = tree_failed,
	.free = tree_memory };

int tree_start(uv_loop_t *loop, const struct agent_link *link, const struct tree_spec *spec,
	const struct tree_ops *ops, void *arg, struct tree **ret, struct err *err)
{
	union frame_body m = { .tree = { .op = spec->op, .path = spec->path,
		.target = spec->target, .pattern = spec->pattern,
		.old = spec->old, .new = spec->new,
		.depth = MIN(spec->depth, (uint32_t)UINT16_MAX), .mode = spec->mode,
		.flags = spec->flags, .owner = spec->owner, .group = spec->group } };
	struct buf first = BUF_MAX(2 * FRAME_REQUEST_MAX);
	int r = frame_encode(&first, FRAME_TREE, &m);
	struct tree *x;

	if (r < 0)
		return talk_refuse(&first, r, err, "path");
	x = calloc(1, sizeof(*x));
	if (!x)
		return talk_refuse(&first, -ENOMEM, err, "path");
	x->ops = ops;
	x->arg = arg;
	r = talk_start(loop, &x->talk, link, &tree_talk, &first, TREE_MS, err);
	if (r == 0)
		*ret = x;
	return r;
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

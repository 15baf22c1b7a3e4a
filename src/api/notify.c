/* Changes in a sandbox's file system, from outside: see the header. */
#include "api/notify.h"
#include "api/talk.h"

#define OPEN_MS 30000u /* for the agent to look at every directory */

struct notify {
	struct talk talk;
	const struct notify_ops *ops;
	void *arg;
	bool open;
};

static void on_frame(struct talk *t, const struct frame *f)
{
	struct notify *x = container_of(t, struct notify, talk);
	union frame_body m;

	if (!x->open && f->type == FRAME_OK) {
		x->open = true;
		t->wait_ms = 0;
		x->ops->on_open(x, x->arg);
	} else if (x->open && f->type == FRAME_CHANGE &&
		frame_decode(FRAME_CHANGE, f->body, &m) == 0) {
		x->ops->on_change(x, (enum frame_change)m.change.what, m.change.path, x->arg);
	} else if (x->open && f->type == FRAME_END) {
		if (talk_over(t))
			x->ops->on_end(x, NULL, x->arg);
	} else {
		talk_unexpected(t, f);
	}
}

static void on_end(struct talk *t, const struct err *err)
{
	struct notify *x = container_of(t, struct notify, talk);

	x->ops->on_end(x, err, x->arg);
}

static const struct talk_ops notify_talk = { .frame = on_frame, .end = on_end,
	.size = TALK_SIZE(struct notify) };

int notify_start(uv_loop_t *loop, const struct agent_link *link, struct str path, bool all,
	const struct notify_ops *ops, void *arg, struct notify **ret, struct err *err)
{
	union frame_body m = { .notify = { .path = path, .flags = all ? FRAME_NOTIFY_ALL : 0 } };
	struct talk *t;
	int r = talk_ask(loop, link, &notify_talk, FRAME_NOTIFY, &m, "path", OPEN_MS, &t, err);

	if (r < 0)
		return r;
	*ret = container_of(t, struct notify, talk);
	(*ret)->ops = ops;
	(*ret)->arg = arg;
	return 0;
}

void notify_pause(struct notify *x, bool paused)
{
	talk_pause(&x->talk, paused);
}

void notify_free(struct notify *x)
{
	if (x)
		talk_free(&x->talk);
}

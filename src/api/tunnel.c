/*
 * Tunnels: the agent's CONNECT as an operation of agent.h. One direction may be over long before the
 * other: END is a half-close, from either side, and the operation ends when both have said it.
 */
#include "api/talk.h"

#define CONNECT_MS 15000 /* for the agent to say that the port takes the connection, or not */

struct agent_tunnel {
	struct talk talk;
	const struct agent_tunnel_ops *ops;
	void *arg;
	bool open, finished, theirs_over; /* finished: our END is sent */
};

static void end_if_both(struct agent_tunnel *x)
{
	if (x->finished && x->theirs_over && talk_over(&x->talk))
		x->ops->on_end(x, NULL, x->arg);
}

static void on_frame(struct talk *t, const struct frame *f)
{
	struct agent_tunnel *x = container_of(t, struct agent_tunnel, talk);

	if (!x->open && f->type == FRAME_OK) {
		x->open = true;
		t->wait_ms = 0;
		x->ops->on_open(x, x->arg);
	} else if (x->open && !x->theirs_over && f->type == FRAME_DATA) {
		x->ops->on_data(x, f->body, x->arg);
	} else if (x->open && !x->theirs_over && f->type == FRAME_END) {
		x->theirs_over = true;
		x->ops->on_half(x, x->arg);
		end_if_both(x);
	} else {
		talk_unexpected(t, f);
	}
}

static void on_sent(struct talk *t)
{
	struct agent_tunnel *x = container_of(t, struct agent_tunnel, talk);

	if (!x->finished)
		x->ops->on_drain(x, x->arg);
}

static void on_end(struct talk *t, const struct err *err)
{
	struct agent_tunnel *x = container_of(t, struct agent_tunnel, talk);

	x->ops->on_end(x, err, x->arg);
}

static const struct talk_ops tunnel_talk = { .frame = on_frame, .sent = on_sent, .end = on_end,
	.size = TALK_SIZE(struct agent_tunnel) };

int agent_tunnel_start(uv_loop_t *loop, const struct agent_link *link, uint16_t port,
	const struct agent_tunnel_ops *ops, void *arg, struct agent_tunnel **ret, struct err *err)
{
	union frame_body m = { .connect = { .port = port } };
	struct talk *t;
	int r = talk_ask(loop, link, &tunnel_talk, FRAME_CONNECT, &m, "port", CONNECT_MS, &t, err);

	if (r < 0)
		return r;
	*ret = container_of(t, struct agent_tunnel, talk);
	(*ret)->ops = ops;
	(*ret)->arg = arg;
	return 0;
}

int agent_tunnel_write(struct agent_tunnel *x, struct str data)
{
	int r = x->finished ? -EPIPE : talk_send_data(&x->talk, data, false);

	if (r < 0) {
		talk_doom(&x->talk, r);
		return r;
	}
	return !x->talk.was_high;
}

void agent_tunnel_finish(struct agent_tunnel *x)
{
	int r = x->finished ? 0 : talk_send_data(&x->talk, STR_NONE, true);

	x->finished = true;
	if (r < 0)
		talk_doom(&x->talk, r);
	else
		end_if_both(x);
}

void agent_tunnel_pause(struct agent_tunnel *x, bool paused)
{
	talk_pause(&x->talk, paused);
}

void agent_tunnel_free(struct agent_tunnel *x)
{
	if (x)
		talk_free(&x->talk);
}

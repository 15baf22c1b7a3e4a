/*
 * Tunnels: see the header. First the agent connects; only then is the client answered, 101 or an
 * error in the usual form. From there on two streams are tied together (api/relay.h), and the tunnel
 * is over when both have ended or either breaks. It is a use of the sandbox as long as it lasts; a
 * pause breaks it.
 *
 *	asked  --on_open-->  open  --both ended, error, bounce-->  closing  --closed-->  freed
 *	   \--error, client gone: answered, freed
 */
#include "api/createos/tunnel.h"
#include "api/relay.h"
#include "event/httphead.h"

struct tunnel {
	struct use use;
	struct relay relay;
	struct req *q; /* until it is open */
};

/* --- ends --- */

static void tunnel_end(struct tunnel *t)
{
	box_unuse(&t->use);
	relay_end(&t->relay, t);
}

static void tunnel_refuse(struct tunnel *t, const struct err *err)
{
	struct req *q = t->q;

	q->on_gone = NULL;
	tunnel_end(t);
	reply_err(q, err);
}

static void on_bounce(struct use *u, const struct err *err)
{
	struct tunnel *t = container_of(u, struct tunnel, use);

	if (t->q)
		tunnel_refuse(t, err);
	else
		tunnel_end(t);
}

static void client_gone(struct req *q)
{
	tunnel_end(q->state);
}

static void client_broken(struct relay *r)
{
	tunnel_end(container_of(r, struct tunnel, relay));
}

/* --- the agent's side --- */

static void on_open(struct agent_tunnel *x, void *arg)
{
	struct tunnel *t = arg;
	struct http *h = t->q->h;
	struct req *q = take_ptr(t->q);

	q->on_gone = NULL;
	req_release(q);
	if (relay_upgrade(&t->relay, h, "tcp-tunnel", STR_NONE) == 0)
		return;
	http_abort(h); /* a body, or a socket that is gone */
	tunnel_end(t);
}

static void on_data(struct agent_tunnel *x, struct str data, void *arg)
{
	relay_data(&((struct tunnel *)arg)->relay, data);
}

static void on_half(struct agent_tunnel *x, void *arg)
{
	relay_half(&((struct tunnel *)arg)->relay);
}

static void on_drain(struct agent_tunnel *x, void *arg)
{
	relay_drain(&((struct tunnel *)arg)->relay);
}

static void on_end(struct agent_tunnel *x, const struct err *err, void *arg)
{
	struct tunnel *t = arg;

	if (t->q)
		tunnel_refuse(t, err);
	else
		tunnel_end(t);
}

static const struct agent_tunnel_ops ops = { .on_open = on_open, .on_data = on_data,
	.on_half = on_half, .on_drain = on_drain, .on_end = on_end };

/* --- asked --- */

static int tunnel_check(struct req *q, uint16_t *ret_port, struct err *err)
{
	int r = relay_port(req_param(q, "port"), ret_port, err);

	if (r < 0)
		return r;
	if (!head_list_has(http_header(q->h, "upgrade"), STR("tcp-tunnel")) ||
		!head_list_has(http_header(q->h, "connection"), STR("upgrade")))
		return err_field(err, -EINVAL, ERR_INVALID, "upgrade",
			"expected the headers Connection: Upgrade and Upgrade: tcp-tunnel");
	return 0;
}

void createos_tunnel(struct req *q)
{
	struct tunnel *t = NULL;
	uint16_t port = 0;
	struct err err;
	int r = tunnel_check(q, &port, &err);

	if (r == 0) {
		t = calloc(1, sizeof(*t));
		r = t ? 0 : err_set(&err, -ENOMEM, ERR_INTERNAL, "out of memory");
	}
	if (r == 0)
		r = relay_dial(&t->relay, q->box, port, &ops, t, &err);
	if (r < 0) {
		free(t);
		reply_err(q, &err);
		return;
	}
	t->relay.broken = client_broken;
	t->q = q;
	q->state = t;
	q->on_gone = client_gone;
	box_use(q->box, &t->use, on_bounce);
}

/*
 * Tunnels: see the header. First the agent connects; only then is the client answered, 101 or an
 * error in the usual form. From there on two streams are tied together: each is read only while the
 * other takes what came, the end of one half-closes the other, and the tunnel is over when both have
 * ended or either breaks. It is a use of the sandbox as long as it lasts; a pause breaks it.
 *
 *	asked  --on_open-->  open  --both ended, error, bounce-->  closing  --closed-->  freed
 *	   \--error, client gone: answered, freed
 */
#include "api/box.h"
#include "api/createos/tunnel.h"

#define PIECE_MAX 65536

struct tunnel {
	struct use use;
	struct api *api;
	struct box *box; /* use's */
	struct req *q;	 /* until it is open */
	struct agent_tunnel *agent;
	uv_stream_t *client; /* once it is open */
	uv_shutdown_t shutdown;
	unsigned int writing;
	bool client_over;
};

static char piece[PIECE_MAX]; /* one loop, one thread: a read is passed on before the next */

/* --- ends --- */

static void client_closed(uv_handle_t *h)
{
	free(h->data);
	free(h);
}

static void tunnel_end(struct tunnel *t)
{
	uv_stream_t *client = t->client;

	agent_tunnel_free(t->agent);
	t->api->tunnels--;
	t->box->tunnels--;
	box_unuse(&t->use);
	if (!client) {
		free(t);
		return;
	}
	client->data = t; /* what is being written lives in requests of their own */
	uv_close((uv_handle_t *)client, client_closed);
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

/* --- from the client --- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
	*ret = uv_buf_init(piece, sizeof(piece));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct tunnel *t = s->data;

	if (n == UV_EOF) {
		t->client_over = true;
		uv_read_stop(s);
		agent_tunnel_finish(t->agent); /* may end it */
	} else if (n < 0) {
		tunnel_end(t);
	} else if (n > 0 && agent_tunnel_write(t->agent, str_n(b->base, (size_t)n)) == 0) {
		uv_read_stop(s);
	}
}

static void on_drain(struct agent_tunnel *x, void *arg)
{
	struct tunnel *t = arg;

	if (t->client && !t->client_over)
		uv_read_start(t->client, on_alloc, on_read);
}

/* --- to the client --- */

struct write {
	uv_write_t req;
	char bytes[];
};

static void on_written(uv_write_t *req, int status)
{
	struct tunnel *t = req->handle->data;
	bool closing = uv_is_closing((uv_handle_t *)req->handle);

	free(container_of(req, struct write, req));
	if (closing)
		return;
	t->writing--;
	if (status < 0)
		tunnel_end(t);
	else if (!t->writing)
		agent_tunnel_pause(t->agent, false);
}

static void on_data(struct agent_tunnel *x, struct str data, void *arg)
{
	struct tunnel *t = arg;
	uv_buf_t b = uv_buf_init((char *)(uintptr_t)data.p, (unsigned int)data.n);
	int n = t->writing ? 0 : uv_try_write(t->client, &b, 1);
	struct str rest = str_skip(data, (size_t)MAX(n, 0));
	struct write *w;

	if (n < 0 && n != UV_EAGAIN) {
		tunnel_end(t);
		return;
	}
	if (!rest.n)
		return;
	w = malloc(sizeof(*w) + rest.n);
	if (w) {
		memcpy(w->bytes, rest.p, rest.n);
		b = uv_buf_init(w->bytes, (unsigned int)rest.n);
	}
	if (!w || uv_write(&w->req, t->client, &b, 1, on_written) < 0) {
		free(w);
		tunnel_end(t);
		return;
	}
	t->writing++;
	agent_tunnel_pause(x, true);
}

static void on_shut(uv_shutdown_t *req, int status)
{
}

/* Nothing is being written now: the agent was not listened to meanwhile. */
static void on_half(struct agent_tunnel *x, void *arg)
{
	struct tunnel *t = arg;

	uv_shutdown(&t->shutdown, t->client, on_shut);
}

/* --- opening --- */

static void on_open(struct agent_tunnel *x, void *arg)
{
	struct tunnel *t = arg;
	struct http *h = t->q->h;
	struct req *q = take_ptr(t->q);
	struct str rest;
	int r;

	q->on_gone = NULL;
	req_release(q);
	r = http_upgrade(h, "tcp-tunnel", STR_NONE, &t->client, &rest);
	if (r < 0) { /* a body, or a socket that is gone */
		http_abort(h);
		tunnel_end(t);
		return;
	}
	t->client->data = t;
	uv_tcp_nodelay((uv_tcp_t *)t->client, 1);
	uv_tcp_keepalive((uv_tcp_t *)t->client, 1, 60);
	if ((rest.n && agent_tunnel_write(x, rest) < 0) ||
		uv_read_start(t->client, on_alloc, on_read) < 0)
		tunnel_end(t);
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

static bool has_token(struct str list, const char *want)
{
	while (list.p) {
		struct str one = str_trim(str_cut(&list, ','));

		if (one.n == strlen(want) && strncasecmp(one.p, want, one.n) == 0)
			return true;
	}
	return false;
}

static int tunnel_check(struct req *q, uint16_t *ret_port, struct err *err)
{
	uint64_t port;

	if (str_u64(req_param(q, "port"), UINT16_MAX, &port) < 0 || port == 0)
		return err_field(err, -EINVAL, ERR_INVALID, "port", "must be a number from 1 to 65535");
	if (port == WEIR_AGENT_PORT)
		return err_field(err, -EACCES, ERR_INVALID, "port", "port %d belongs to the agent",
			WEIR_AGENT_PORT);
	if (!has_token(http_header(q->h, "upgrade"), "tcp-tunnel") ||
		!has_token(http_header(q->h, "connection"), "upgrade"))
		return err_field(err, -EINVAL, ERR_INVALID, "upgrade",
			"expected the headers Connection: Upgrade and Upgrade: tcp-tunnel");
	if (q->api->tunnels >= TUNNELS_MAX || q->box->tunnels >= TUNNELS_PER_SANDBOX)
		return err_set(err, -EBUSY, ERR_CAPACITY, "too many tunnels: %u of one sandbox, %u in all",
			TUNNELS_PER_SANDBOX, TUNNELS_MAX);
	*ret_port = (uint16_t)port;
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
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	t->api = q->api;
	t->box = q->box;
	t->q = q;
	q->state = t;
	q->on_gone = client_gone;
	t->api->tunnels++;
	t->box->tunnels++;
	box_use(q->box, &t->use, on_bounce);
	if (agent_tunnel_start(q->api->loop, &q->box->link, port, &ops, t, &t->agent, &err) < 0)
		tunnel_refuse(t, &err);
}

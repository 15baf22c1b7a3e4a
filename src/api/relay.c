/* Two connections tied together: see the header. */
#include "api/relay.h"

#define PIECE_MAX 65536

static char piece[PIECE_MAX]; /* one loop, one thread: a read is passed on before the next */

int relay_port(struct str text, uint16_t *ret, struct err *err)
{
	uint64_t port;

	if (str_u64(text, UINT16_MAX, &port) < 0 || port == 0)
		return err_field(err, -EINVAL, ERR_INVALID, "port", "must be a number from 1 to 65535");
	if (port == WEIR_AGENT_PORT)
		return err_field(err, -EACCES, ERR_INVALID, "port", "port %d belongs to the agent",
			WEIR_AGENT_PORT);
	*ret = (uint16_t)port;
	return 0;
}

int relay_dial(struct relay *r, struct box *b, uint16_t port, const struct agent_tunnel_ops *ops,
	void *arg, struct err *err)
{
	struct api *a = b->api;
	int rc;

	if (a->relays >= RELAYS_MAX || b->relays >= RELAYS_PER_SANDBOX)
		return err_set(err, -EBUSY, ERR_CAPACITY, "too many tunnels: %u of one sandbox, %u in all",
			RELAYS_PER_SANDBOX, RELAYS_MAX);
	rc = agent_tunnel_start(a->loop, &b->link, port, ops, arg, &r->agent, err);
	if (rc < 0)
		return rc;
	r->box = b;
	a->relays++;
	b->relays++;
	return 0;
}

static void client_closed(uv_handle_t *h)
{
	free(h->data);
	free(h);
}

void relay_end(struct relay *r, void *memory)
{
	uv_stream_t *client = r->client;

	agent_tunnel_free(r->agent);
	if (r->box) {
		r->box->api->relays--;
		r->box->relays--;
	}
	if (!client) {
		free(memory);
		return;
	}
	client->data = memory; /* what is being written lives in requests of their own */
	uv_close((uv_handle_t *)client, client_closed);
}

/* --- from the client --- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
	*ret = uv_buf_init(piece, sizeof(piece));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct relay *r = s->data;

	if (n == UV_EOF) {
		r->client_over = true;
		uv_read_stop(s);
		agent_tunnel_finish(r->agent); /* may end it */
	} else if (n < 0) {
		r->broken(r);
	} else if (n > 0 && agent_tunnel_write(r->agent, str_n(b->base, (size_t)n)) == 0) {
		uv_read_stop(s);
	}
}

void relay_drain(struct relay *r)
{
	if (r->client && !r->client_over)
		uv_read_start(r->client, on_alloc, on_read);
}

/* --- to the client --- */

struct write {
	uv_write_t req;
	char bytes[];
};

static void on_written(uv_write_t *req, int status)
{
	struct relay *r = req->handle->data;
	bool closing = uv_is_closing((uv_handle_t *)req->handle);

	free(container_of(req, struct write, req));
	if (closing)
		return;
	r->writing--;
	if (status < 0)
		r->broken(r);
	else if (!r->writing)
		agent_tunnel_pause(r->agent, false);
}

void relay_data(struct relay *r, struct str data)
{
	uv_buf_t b = uv_buf_init((char *)(uintptr_t)data.p, (unsigned int)data.n);
	int n = r->writing ? 0 : uv_try_write(r->client, &b, 1);
	struct str rest = str_skip(data, (size_t)MAX(n, 0));
	struct write *w;

	if (n < 0 && n != UV_EAGAIN) {
		r->broken(r);
		return;
	}
	if (!rest.n)
		return;
	w = malloc(sizeof(*w) + rest.n);
	if (w) {
		memcpy(w->bytes, rest.p, rest.n);
		b = uv_buf_init(w->bytes, (unsigned int)rest.n);
	}
	if (!w || uv_write(&w->req, r->client, &b, 1, on_written) < 0) {
		free(w);
		r->broken(r);
		return;
	}
	r->writing++;
	agent_tunnel_pause(r->agent, true);
}

static void on_shut(uv_shutdown_t *req, int status)
{
}

/* Nothing is being written now: the agent was not listened to meanwhile. */
void relay_half(struct relay *r)
{
	uv_shutdown(&r->shutdown, r->client, on_shut);
}

/* --- the upgrade --- */

int relay_upgrade(struct relay *r, struct http *h, const char *protocol, struct str headers)
{
	struct str rest;
	int rc = http_upgrade(h, protocol, headers, &r->client, &rest);

	if (rc < 0)
		return rc;
	r->client->data = r;
	uv_tcp_nodelay((uv_tcp_t *)r->client, 1);
	uv_tcp_keepalive((uv_tcp_t *)r->client, 1, 60);
	if (rest.n)
		rc = agent_tunnel_write(r->agent, rest); /* a failure is told by the agent's end */
	if (rc >= 0)
		uv_read_start(r->client, on_alloc, on_read);
	return 0;
}

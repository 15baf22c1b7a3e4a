/* Ingress in the edge role: see the header. */
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/secret.h"
#include "edge/inbound.h"
#include "wire/keys.h"

#define PEM_MAX		(256u << 10)
#define LISTENERS_MAX	CONFIG_LISTEN_MAX
#define SEEN_QUEUED_MAX (CHAN_QUEUE_MAX / 4) /* a busy api role must not lose its edge over this */

struct inbound {
	struct ingress *in;
	struct chan *api;
	int cert; /* of a pair whose key is still to come */
};

/* --- what the proxy asks of the world --- */

static bool do_seen(void *arg, const struct ipc_ingress_seen *seen)
{
	struct inbound *b = arg;

	return b->api && chan_queued(b->api) < SEEN_QUEUED_MAX &&
		chan_send(b->api, IPC_EVENT_INGRESS_SEEN, seen, sizeof(*seen), NULL, 0) >= 0;
}

struct wish {
	struct inbound *b;
	uint32_t slot;
};

static void on_woken(struct chan_msg *m, void *arg)
{
	auto_free struct wish *wish = arg;
	struct err err;

	if (m->status < 0)
		chan_err(m, &err);
	ingress_woken(wish->b->in, wish->slot, m->status < 0 ? &err : NULL);
}

static int do_wake(void *arg, const struct ipc_ingress_wake *wake)
{
	struct inbound *b = arg;
	struct wish *wish;
	int r;

	if (!b->api)
		return -ENOTCONN;
	wish = malloc(sizeof(*wish));
	if (!wish)
		return -ENOMEM;
	*wish = (struct wish){ b, wake->slot };
	r = chan_call(b->api, IPC_EVENT_INGRESS_WAKE, wake, sizeof(*wake), NULL, 0, on_woken, wish);
	if (r < 0)
		free(wish);
	return r;
}

static int do_serve(void *arg, const struct ipc_ingress_conn *conn, int fd)
{
	struct inbound *b = arg;

	if (!b->api)
		return -ENOTCONN;
	return chan_send(b->api, IPC_EVENT_INGRESS_CONN, conn, sizeof(*conn), &fd, 1);
}

static const struct ingress_ops ops = { do_seen, do_wake, do_serve, NULL };

/* --- the certificate --- */

static int use_pair(struct inbound *b, int cert_fd, int key_fd, struct err *err)
{
	auto_secret struct secret key = SECRET_NONE;
	auto_buf struct buf cert = BUF_MAX(PEM_MAX);
	int r = memfd_read(cert_fd, PEM_MAX, &cert);

	if (r == 0)
		r = secret_room(&key, PEM_MAX);
	if (r == 0)
		r = memfd_read(key_fd, PEM_MAX, secret_writer(&key));
	if (r < 0)
		return err_sys(err, r, "read the certificate");
	return ingress_cert(b->in, buf_str(&cert), secret_reveal(&key), err);
}

bool inbound_given(struct inbound *b, const char *name, int *fd)
{
	auto_fd int key = -EBADF;
	struct err err = { 0 };

	if (strcmp(name, "ingress.cert") == 0) {
		fd_close(b->cert);
		b->cert = take_fd(*fd);
		return true;
	}
	if (strcmp(name, "ingress.key") != 0)
		return false;
	key = take_fd(*fd);
	if (b->cert >= 0 && use_pair(b, b->cert, key, &err) < 0)
		log_event(LOG_WARN, "ingress.cert", "error=%s; the one before stays",
			log_q(str_c(err.text)));
	else if (b->cert >= 0)
		log_event(LOG_INFO, "ingress.cert", "loaded");
	b->cert = fd_close(b->cert);
	return true;
}

/* --- from the api role --- */

static int told_keys(struct inbound *b, struct str payload, struct err *err)
{
	auto_keys struct ipc_ingress_keys keys = { 0 };
	int r = ingress_keys_read(payload, &keys, err);

	return r < 0 ? r : ingress_keys(b->in, &keys, err);
}

int inbound_told(struct inbound *b, struct chan_msg *m, struct err *err)
{
	auto_ingress struct ipc_edge_ingress set;
	unsigned int n = 0;
	int fds[2], r;

	if (m->type == IPC_EDGE_INGRESS_KEYS)
		return told_keys(b, m->payload, err);
	if (m->type != IPC_EDGE_INGRESS)
		return -ENOSYS;
	FAULT("edge.ingress.asked");
	r = ingress_set_read(m->payload, &set, err);
	if (r < 0)
		return r;
	while (n < m->n_fds && n < ARRAY_SIZE(fds)) {
		fds[n] = chan_take_fd(m, n);
		n++;
	}
	r = ingress_set(b->in, &set, fds, n, err);
	FAULT("edge.ingress.done");
	return r;
}

void inbound_api(struct inbound *b, struct chan *api)
{
	b->api = api;
	if (api)
		ingress_unsync(b->in);
}

void inbound_del(struct inbound *b, uint32_t slot)
{
	ingress_del(b->in, slot);
}

void inbound_synced(struct inbound *b)
{
	ingress_synced(b->in);
}

void inbound_dump(const struct inbound *b, struct buf *out)
{
	struct ingress_counters n;

	ingress_counters(b->in, &n);
	buf_fmt(out, "clients=%u upstreams=%u tunnels=%u held=%u accepted=%" PRIu64 " full=%" PRIu64
		     " per_address=%" PRIu64 " requests=%" PRIu64 " malformed=%" PRIu64 " refused=%" PRIu64
		     " failed=%" PRIu64 " dialled=%" PRIu64 " reused=%" PRIu64 " handshakes=%" PRIu64
		     " handshakes_failed=%" PRIu64,
		n.clients, n.upstreams, n.tunnels, n.held, n.accepted, n.full, n.per_address, n.requests,
		n.malformed, n.refused, n.failed, n.dialled, n.reused, n.handshakes,
		n.handshakes_failed);
}

/* --- boot --- */

static int open_listeners(struct inbound *b, struct role *role, struct err *err)
{
	for (unsigned int i = 0; i < LISTENERS_MAX; i++) {
		char name[32];
		int fd, r;

		snprintf(name, sizeof(name), "ingress.%u", i);
		fd = role_fd(role, name);
		r = fd < 0 ? 0 : ingress_listen(b->in, fd);
		if (r < 0)
			return err_sys(err, r, "listen on %s", name);
	}
	return 0;
}

static void conf_from(const struct config *c, struct ingress_conf *ret)
{
	ingress_conf_defaults(ret);
	snprintf(ret->domain, sizeof(ret->domain), "%s", c->ingress_domain);
	ret->gateway_names = str_eq_c(STR("wildcard"), c->gateway_mode);
	ret->connections_max = c->ingress_connections_max;
	ret->per_address = c->ingress_connections_per_address ? c->ingress_connections_per_address :
								c->ingress_connections_max;
	ret->per_sandbox = c->ingress_connections_per_sandbox;
	ret->upstream_max = c->ingress_upstreams_max;
	ret->head_max = c->ingress_head_max;
	ret->head_ms = c->ingress_head_s * 1000;
	ret->idle_ms = c->ingress_idle_s * 1000;
	ret->connect_ms = c->ingress_connect_s * 1000;
	ret->answer_ms = c->ingress_answer_s * 1000;
	ret->silence_ms = c->ingress_silence_s * 1000;
	ret->hold_ms = c->ingress_hold_s * 1000;
	ret->hold_max = c->ingress_held_max;
}

int inbound_new(uv_loop_t *loop, struct role *role, const struct config *config,
	struct inbound **ret, struct err *err)
{
	struct inbound *b = calloc(1, sizeof(*b));
	struct ingress_conf conf;
	int fd, r;

	if (!b)
		return err_sys(err, -ENOMEM, "ingress");
	b->cert = -EBADF;
	conf_from(config, &conf);
	r = ingress_new(loop, &conf, &ops, b, &b->in);
	if (r < 0) {
		free(b);
		return err_sys(err, r, "ingress");
	}
	*ret = b; /* the role ends where this fails */
	if ((fd = role_fd(role, "ingress.cert")) >= 0)
		inbound_given(b, "ingress.cert", &fd);
	if ((fd = role_fd(role, "ingress.key")) >= 0)
		inbound_given(b, "ingress.key", &fd);
	return open_listeners(b, role, err);
}

/* The gateway's addresses and keys: see the header. */
#include "api/ingress.h"
#include "api/mint.h"
#include "api/opensandbox/gateway.h"
#include "base/fd.h"
#include "base/log.h"
#include "wire/keys.h"

#define TOKEN_PURPOSE "secure"

struct gateway {
	enum gateway_mode mode;
	struct ipc_ingress_keys keys;
};

/* --- keys --- */

static int read_keys(int fd, struct ipc_ingress_keys *ret, struct err *err)
{
	auto_secret struct secret raw = SECRET_NONE;
	auto_keys struct ipc_ingress_keys keys = { 0 };
	int r = secret_room(&raw, sizeof(keys));

	if (r == 0)
		r = memfd_read(fd, sizeof(keys), secret_writer(&raw));
	if (r == 0 && secret_reveal(&raw).n == sizeof(keys))
		memcpy(&keys, secret_reveal(&raw).p, sizeof(keys));
	else if (r == 0)
		r = -EBADMSG;
	if (r == 0 && !keys_ok(&keys))
		r = -EBADMSG;
	if (r < 0)
		return err_sys(err, r, "read the keys that endpoints are signed with");
	*ret = keys;
	return 0;
}

static void on_told(const struct err *err, void *arg)
{
	if (err)
		log_event(LOG_ERROR, "gateway.keys", "text=%s", log_q(str_c(err->text)));
}

void gateway_keys(struct api *a, int fd)
{
	auto_fd int taken = fd;
	struct gateway *g = a->gateway;
	struct err err;

	if (read_keys(taken, &g->keys, &err) < 0) {
		log_event(LOG_ERROR, "gateway.keys", "text=%s", log_q(str_c(err.text)));
		return;
	}
	edges_call(a, IPC_EDGE_INGRESS_KEYS, &g->keys, sizeof(g->keys), -1, on_told, NULL);
	log_event(LOG_INFO, "gateway.keys", "keys=%u", g->keys.n);
}

static void on_told_one(struct chan_msg *m, void *arg)
{
	struct err err;

	if (m->status < 0 && m->status != -ECONNRESET && m->status != -ECANCELED) {
		chan_err(m, &err);
		on_told(&err, NULL);
	}
}

/* Without a gateway there is nothing to say: a worker begins without keys. */
void gateway_tell(const struct edge *e)
{
	const struct gateway *g = e->api->gateway;

	if (g->mode != GATEWAY_OFF || g->keys.n)
		chan_call(e->chan, IPC_EDGE_INGRESS_KEYS, &g->keys, sizeof(g->keys), NULL, 0, on_told_one,
			NULL);
}

/* --- what it is --- */

int gateway_open(struct api *a, int fd, struct err *err)
{
	static const char *const modes[] = { [GATEWAY_OFF] = "off", [GATEWAY_BY_NAME] = "wildcard",
		[GATEWAY_BY_HEADER] = "header", [GATEWAY_BY_PATH] = "uri" };
	auto_fd int taken = fd;
	struct gateway *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	a->gateway = g;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (str_eq_c(str_c(a->config.gateway_mode), modes[i]))
			g->mode = (enum gateway_mode)i;
	return taken < 0 ? 0 : read_keys(taken, &g->keys, err);
}

enum gateway_mode gateway_mode(const struct api *a)
{
	return a->gateway->mode;
}

int gateway_token(const struct api *a, const char *id, struct secret *ret)
{
	return mint_token(a->mint, TOKEN_PURPOSE, str_c(id), ret);
}

/* --- addresses --- */

int gateway_route(const struct api *a, const char *id, uint16_t port, uint64_t expires,
	struct gateway_route *ret, struct err *err)
{
	const struct gateway *g = a->gateway;
	char mark = g->mode == GATEWAY_BY_PATH ? '/' : '-';
	char at[SIGNED_TIME_MAX + 1], sig[SIGNED_LEN + 1];
	int r;

	if (!expires) {
		snprintf(ret->label, sizeof(ret->label), "%s%c%u", id, mark, port);
		return 0;
	}
	if (!g->keys.n)
		return err_field(err, -ENOENT, ERR_INVALID, "expires",
			"expires: this server has no key to sign endpoints with: gateway.keys names a file "
			"of them");
	signed_time(expires, at);
	r = signed_make(&g->keys.key[0], str_c(id), port, str_c(at), sig);
	if (r < 0)
		return err_set(err, r, ERR_INTERNAL, "the endpoint could not be signed");
	snprintf(ret->label, sizeof(ret->label), "%s%c%u%c%s%c%s", id, mark, port, mark, at, mark, sig);
	return 0;
}

/* gateway.address, or what stands in its place. */
static void put_address(const struct api *a, struct buf *out)
{
	const char *said = a->config.gateway_address;
	bool wildcard = a->gateway->mode == GATEWAY_BY_NAME;

	if (said[0])
		buf_add_c(out, wildcard ? said + 2 : said); /* "*." */
	else
		ingress_authority(a, wildcard, out);
}

void gateway_endpoint(const struct api *a, const struct gateway_route *route, struct buf *out)
{
	switch (a->gateway->mode) {
	case GATEWAY_BY_NAME:
		buf_fmt(out, "%s.", route->label);
		put_address(a, out);
		break;
	case GATEWAY_BY_PATH:
		put_address(a, out);
		buf_fmt(out, "/%s", route->label);
		break;
	case GATEWAY_BY_HEADER:
	case GATEWAY_OFF:
		put_address(a, out);
		break;
	}
}

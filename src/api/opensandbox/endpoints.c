/*
 * Where a port of a sandbox is reached. execd and the egress API are answered by this role itself,
 * below /sandboxes/{id}/proxy/{port} on the listener that the request came to: the same authority is
 * given back. With the address of the egress API comes the
 * token that it asks for.
 */
#include "api/box.h"
#include "api/opensandbox/opensandbox.h"
#include "api/secret.h"

static int port_from(struct req *q, uint32_t *ret, struct err *err)
{
	uint64_t n;

	if (str_u64(req_param(q, "port"), 65535, &n) < 0 || !n) {
		q->code = "DOCKER::INVALID_PORT";
		return err_field(err, -EINVAL, ERR_INVALID, "port", "port: expected 1 to 65535");
	}
	*ret = (uint32_t)n;
	return 0;
}

/* "expires" asks for a signed route, which only a gateway has. */
static int check_query(struct req *q, bool *ret_proxy, struct err *err)
{
	struct str expires;
	int r = req_query(q, "expires", &expires, err);
	uint64_t at;

	if (r == 0)
		r = req_query_bool(q, "use_server_proxy", ret_proxy, err);
	if (r < 0 || !expires.p)
		return r;
	if (*ret_proxy)
		return err_field(err, -EINVAL, ERR_INVALID, "expires",
			"expires: not together with use_server_proxy");
	if (expires.n > 20 || str_u64(expires, UINT64_MAX, &at) < 0 ||
		(expires.n > 1 && expires.p[0] == '0'))
		return err_field(err, -EINVAL, ERR_INVALID, "expires",
			"expires: expected seconds since 1970");
	q->code = "SANDBOX::API_NOT_SUPPORTED";
	return err_field(err, -ENOTSUP, ERR_INVALID, "expires",
		"expires: signed endpoints need an ingress gateway");
}

static int no_mapping(struct req *q, uint32_t port, struct err *err)
{
	q->code = "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE";
	return err_field(err, -ENOENT, ERR_UPSTREAM, "port",
		"there is no host mapping for container port %u", port);
}

static void put_headers(struct req *q, struct jw *w, uint32_t port)
{
	char token[SECRET_TOKEN_LEN + 1];

	if (port != EGRESS_PORT || secret_token(q->api->secret, "egress", q->row->id, token) < 0)
		return;
	jw_obj(w, "headers");
	jw_c(w, "OPENSANDBOX-EGRESS-AUTH", token);
	jw_end(w);
	explicit_bzero(token, sizeof(token));
}

void opensandbox_endpoint(struct req *q)
{
	auto_buf struct buf body = BUF_MAX(4096), at = BUF_MAX(1024);
	struct jw w = JW(&body);
	bool proxy = false;
	uint32_t port = 0;
	struct err err;
	int r = port_from(q, &port, &err);

	if (r == 0)
		r = check_query(q, &proxy, &err);
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	if (!opensandbox_there(q))
		return;
	if (port != EXECD_PORT && port != EGRESS_PORT) {
		no_mapping(q, port, &err);
		reply_err(q, &err);
		return;
	}
	buf_add_str(&at, http_header(q->h, "host"));
	buf_fmt(&at, "/sandboxes/%s/proxy/%u", q->row->id, port);
	jw_obj(&w, NULL);
	jw_str(&w, "endpoint", buf_str(&at));
	put_headers(q, &w, port);
	jw_end(&w);
	reply_json(q, 200, &body);
}

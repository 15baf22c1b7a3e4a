/*
 * Where a port of a sandbox is reached: through the reverse proxy, 8080 by a port of the host of its
 * own, every other by another one below /proxy/{port}. execd and the egress API are among these; the
 * edge brings who asks for them to this role (ingress_on_conn()). With use_server_proxy it is
 * /sandboxes/{id}/proxy/{port} on the listener that the request came to. With the address of what
 * this role answers for comes the token that opens it.
 */
#include "api/box.h"
#include "api/ingress.h"
#include "api/opensandbox/guard.h"
#include "api/opensandbox/opensandbox.h"

#define DIRECT_PORT 8080u

static bool is_service(uint32_t port)
{
	return port == EXECD_PORT || port == EGRESS_PORT;
}

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
	return err_field(err, -ENOENT, ERR_UPSTREAM, "port", port == DIRECT_PORT ?
		"the host mapping for container port 8080 is missing" :
		"the host mapping for execd proxy port 44772 is missing");
}

/* What the port is opened with, where this role answers for it. */
static void put_headers(struct req *q, struct jw *w, uint32_t port, bool through_execd)
{
	char token[SECRET_TOKEN_LEN + 1];
	int r = port == EGRESS_PORT ? secret_token(q->api->secret, "egress", q->row->id, token) :
				      guard_token(q, through_execd ? EXECD_PORT : port, token);

	if (r < 0)
		return;
	jw_obj(w, "headers");
	jw_c(w, port == EGRESS_PORT ? "OPENSANDBOX-EGRESS-AUTH" : GUARD_HEADER, token);
	jw_end(w);
	explicit_bzero(token, sizeof(token));
}

static void reply_endpoint(struct req *q, uint32_t port, struct str at, bool ours, bool through_execd)
{
	auto_buf struct buf body = BUF_MAX(4096);
	struct jw w = JW(&body);

	jw_obj(&w, NULL);
	jw_str(&w, "endpoint", at);
	if (ours)
		put_headers(q, &w, port, through_execd);
	jw_end(&w);
	reply_json(q, 200, &body);
}

/* --- by its two ports of the host --- */

static void reply_port(struct req *q)
{
	auto_buf struct buf at = BUF_MAX(1024);
	const struct sandbox_row *row = q->row;
	struct err err;
	uint32_t port;
	bool guarded; /* execd asks for its token, and everything below /proxy/ passes it */

	if (port_from(q, &port, &err) < 0 || !(ingress_ports_open(q->api, row) & (port == DIRECT_PORT ?
			INGRESS_PORTS_DIRECT : INGRESS_PORTS_PROXY))) {
		no_mapping(q, port == DIRECT_PORT ? port : EXECD_PORT, &err);
		reply_err(q, &err);
		return;
	}
	ingress_address(q->api, port == DIRECT_PORT ? row->port_direct : row->port_proxy, &at);
	if (port != DIRECT_PORT)
		buf_fmt(&at, "/proxy/%u", port);
	guarded = port != DIRECT_PORT && row->execd_token[0];
	reply_endpoint(q, port, buf_str(&at), is_service(port) || guarded, guarded);
}

/* They are opened when they are first asked for, and stay, unless their owner closes them. What another
 * API made keeps its own ways in: opening more of them is not for a GET to do. */
static void host_port(struct req *q)
{
	uint32_t given = ingress_ports_given(q->api);
	struct ingress_want want = { .on = -1, .access = -1, .hold = -1 };

	if (q->row->ingress_ports || q->row->port_proxy || !ingress_services(q->row) || !given) {
		reply_port(q);
		return;
	}
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		want.ports[i] = given & 1u << i ? 1 : -1;
	flow_ingress(q->box, &want, req_held, q, req_hold(q, reply_port));
}

void opensandbox_endpoint(struct req *q)
{
	auto_buf struct buf at = BUF_MAX(1024);
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
	/* Another API's sandbox has them without any port of the host's. */
	if (!proxy && !(is_service(port) && !ingress_services(q->row))) {
		host_port(q);
		return;
	}
	buf_add_str(&at, http_header(q->h, "host"));
	buf_fmt(&at, "/sandboxes/%s/proxy/%u", q->row->id, port);
	reply_endpoint(q, port, buf_str(&at), true, false);
}

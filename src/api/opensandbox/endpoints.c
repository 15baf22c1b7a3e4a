/*
 * Where a port of a sandbox is reached: through the reverse proxy. Without a gateway 8080 is a port of the
 * host of its own, every other is below /proxy/{port} of another one; with one, the address has the form
 * that gateway.mode says (gateway.h), signed if the question has `expires`. execd and the egress API are
 * among these; the edge brings who asks for them to this role (ingress_on_conn()). With use_server_proxy
 * it is /sandboxes/{id}/proxy/{port} on the listener that the request came to.
 *
 * With the address come the headers that a client sends with each request: what a secured sandbox asks
 * of its visitors, unless the address is signed; what this role asks for the ports that it answers for.
 */
#include "api/box.h"
#include "api/ingress.h"
#include "api/opensandbox/gateway.h"
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

struct ask { /* a question, as it was asked */
	uint32_t port;
	bool proxy;	  /* use_server_proxy */
	uint64_t expires; /* asks for a signed address; 0: not said */
};

/* Seconds since 1970 in one spelling, and still to come. Only a gateway has signed addresses. */
static int expires_from(struct req *q, struct str text, uint64_t *ret, struct err *err)
{
	if (!text.n || text.n > 20 || str_u64(text, UINT64_MAX, ret) < 0 || (text.n > 1 && text.p[0] == '0'))
		return err_field(err, -EINVAL, ERR_INVALID, "expires",
			"expires: expected seconds since 1970, 1 to 20 digits");
	if (gateway_mode(q->api) == GATEWAY_OFF) {
		q->code = "SANDBOX::API_NOT_SUPPORTED";
		return err_field(err, -ENOTSUP, ERR_INVALID, "expires",
			"expires: signed endpoints need an ingress gateway: gateway.mode and gateway.keys");
	}
	if (*ret <= api_now_ms() / 1000)
		return err_field(err, -ERANGE, ERR_INVALID, "expires",
			"expires: %" PRIu64 " is not in the future", *ret);
	return 0;
}

static int ask_from(struct req *q, struct ask *ret, struct err *err)
{
	struct str expires;
	int r;

	*ret = (struct ask){ 0 };
	r = port_from(q, &ret->port, err);
	if (r == 0)
		r = req_query(q, "expires", &expires, err);
	if (r == 0)
		r = req_query_bool(q, "use_server_proxy", &ret->proxy, err);
	if (r < 0 || !expires.p)
		return r;
	if (ret->proxy)
		return err_field(err, -EINVAL, ERR_INVALID, "expires",
			"expires: not together with use_server_proxy");
	return expires_from(q, expires, &ret->expires, err);
}

static int no_mapping(struct req *q, uint32_t port, struct err *err)
{
	q->code = "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE";
	return err_field(err, -ENOENT, ERR_UPSTREAM, "port", port == DIRECT_PORT ?
		"the host mapping for container port 8080 is missing" :
		"the host mapping for execd proxy port 44772 is missing");
}

/* --- answers --- */

struct way {
	struct str at;		/* where */
	const char *route;	/* the header that chooses, or NULL */
	bool is_signed;
	bool ours;		/* this role answers, or passes on what it lets in */
	bool through_execd;	/* by way of that port's */
};

/* An endpoint that needs nothing has no headers. The egress API of a sandbox that is not secured is
 * content with its own token. */
static void put_headers(struct req *q, struct jw *w, uint32_t port, const struct way *way)
{
	auto_secret struct secret token = SECRET_NONE;
	bool egress = way->ours && port == EGRESS_PORT;
	bool secured = q->row->secured ? !way->is_signed : way->ours && !egress;

	if (!way->route && !egress && !secured)
		return;
	jw_obj(w, "headers");
	if (way->route)
		jw_c(w, GATEWAY_HEADER, way->route);
	if (secured && guard_token(q, way->through_execd ? EXECD_PORT : port, &token) == 0)
		jw_str(w, GUARD_HEADER, secret_reveal(&token));
	if (egress && mint_token(q->api->mint, "egress", str_c(q->row->id), &token) == 0)
		jw_str(w, "OPENSANDBOX-EGRESS-AUTH", secret_reveal(&token));
	jw_end(w);
}

static void reply_endpoint(struct req *q, uint32_t port, const struct way *way)
{
	auto_buf struct buf body = BUF_MAX(4096);
	struct jw w = JW(&body);

	jw_obj(&w, NULL);
	jw_str(&w, "endpoint", way->at);
	put_headers(q, &w, port, way);
	jw_end(&w);
	reply_json(q, 200, &body);
}

/* --- by its two ports of the host --- */

static void reply_port(struct req *q)
{
	auto_buf struct buf at = BUF_MAX(1024);
	const struct sandbox_row *row = q->row;
	struct way way = { 0 };
	struct ask ask;
	struct err err;
	bool direct;

	if (ask_from(q, &ask, &err) < 0) {
		reply_err(q, &err);
		return;
	}
	direct = ask.port == DIRECT_PORT;
	if (!(ingress_ports_open(q->api, row) & (direct ? INGRESS_PORTS_DIRECT : INGRESS_PORTS_PROXY))) {
		no_mapping(q, direct ? ask.port : EXECD_PORT, &err);
		reply_err(q, &err);
		return;
	}
	ingress_address(q->api, direct ? row->port_direct : row->port_proxy, &at);
	if (!direct)
		buf_fmt(&at, "/proxy/%u", ask.port);
	/* execd asks for its token, and everything below /proxy/ passes it */
	way.through_execd = !direct && row->execd_token[0];
	way.ours = is_service(ask.port) || way.through_execd;
	way.at = buf_str(&at);
	reply_endpoint(q, ask.port, &way);
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

/* --- by the gateway --- */

/* Without secureAccess a path's signature would be read as a part of the path. */
static int sign_check(struct req *q, const struct ask *ask, struct err *err)
{
	if (!ask->expires || q->row->secured || gateway_mode(q->api) != GATEWAY_BY_PATH)
		return 0;
	return err_field(err, -ENOTSUP, ERR_INVALID, "expires",
		"expires: with gateway.mode = uri only endpoints of a sandbox that was made with secureAccess "
		"can be signed");
}

static void reply_gateway(struct req *q)
{
	auto_buf struct buf at = BUF_MAX(1024);
	struct gateway_route route;
	struct way way = { 0 };
	struct ask ask;
	struct err err;
	int r = ask_from(q, &ask, &err);

	if (r == 0)
		r = sign_check(q, &ask, &err);
	if (r == 0 && !q->row->ingress) {
		q->code = "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE";
		r = err_field(&err, -ENOENT, ERR_UPSTREAM, "port", "ingress is off for this sandbox, and "
			"endpoints lead through the gateway: its owner may switch it on");
	}
	if (r == 0)
		r = gateway_route(q->api, q->row->id, (uint16_t)ask.port, ask.expires, &route, &err);
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	gateway_endpoint(q->api, &route, &at);
	way.at = buf_str(&at);
	way.route = gateway_mode(q->api) == GATEWAY_BY_HEADER ? route.label : NULL;
	way.is_signed = ask.expires;
	way.ours = is_service(ask.port);
	reply_endpoint(q, ask.port, &way);
}

/* What this API made has been open since it was made, or, if that was before there was a gateway, is
 * opened when it is first asked for; what its owner closed stays closed. */
static void gateway_port(struct req *q)
{
	struct ingress_want want = { .on = 1, .access = -1, .hold = -1, .ports = { -1, -1 } };

	if (q->row->ingress || q->row->id_told || !ingress_services(q->row))
		reply_gateway(q);
	else
		flow_ingress(q->box, &want, req_held, q, req_hold(q, reply_gateway));
}

/* --- by the server's proxy --- */

static void server_proxy(struct req *q, uint32_t port)
{
	auto_buf struct buf at = BUF_MAX(1024);
	struct way way = { .ours = true };

	buf_add_str(&at, http_header(q->h, "host"));
	buf_fmt(&at, "/sandboxes/%s/proxy/%u", q->row->id, port);
	way.at = buf_str(&at);
	reply_endpoint(q, port, &way);
}

void opensandbox_endpoint(struct req *q)
{
	struct ask ask;
	struct err err;
	int r = ask_from(q, &ask, &err);
	bool here; /* another API's sandbox has the ports of this role only here */

	here = r == 0 && is_service(ask.port) && !ingress_services(q->row);
	if (here && ask.expires)
		r = err_field(&err, -ENOTSUP, ERR_INVALID, "expires",
			"expires: port %u of a sandbox that another API made has no other endpoint than "
			"the server's proxy, which is not signed", ask.port);
	if (r < 0) {
		reply_err(q, &err);
		return;
	}
	if (!opensandbox_there(q))
		return;
	if (ask.proxy || here)
		server_proxy(q, ask.port);
	else if (gateway_mode(q->api) != GATEWAY_OFF)
		gateway_port(q);
	else
		host_port(q);
}

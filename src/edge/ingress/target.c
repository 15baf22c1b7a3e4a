/* Naming a target: see the header. Labels, then paths, then which of them counts. */
#include "bpf/maps.h"
#include "edge/ingress/target.h"
#include "wire/signed.h"

static int refuse(struct err *err, int status, const char *text)
{
	err_set(err, -EINVAL, status == 404 ? ERR_NOT_FOUND : ERR_INVALID, "%s", text);
	return status;
}

bool target_reserved(uint16_t port)
{
	/* The agent, and its door for the sandbox's own processes. */
	return port == WEIR_AGENT_PORT || port == WEIR_AGENT_PORT + 1;
}

/* 1 to 65535 in its one spelling. */
static bool port_from(struct str s, uint16_t *ret)
{
	uint64_t n;

	if (!s.n || s.p[0] == '0' || str_u64(s, UINT16_MAX, &n) < 0)
		return false;
	*ret = (uint16_t)n;
	return true;
}

/* The id at the front of *s, taken off. */
static bool id_from(struct str *s, struct ulid *ret)
{
	struct str rest = *s;

	if (rest.n > 3 && (rest.p[0] | 0x20) == 's' && (rest.p[1] | 0x20) == 'b' &&
		(rest.p[2] == '-' || rest.p[2] == '_'))
		rest = str_skip(rest, 3);
	if (rest.n < ULID_LEN || ulid_from(str_n(rest.p, ULID_LEN), ret) < 0)
		return false;
	*s = str_skip(rest, ULID_LEN);
	return true;
}

int target_label(struct str label, struct target *ret)
{
	struct str port, expires;

	if (!id_from(&label, &ret->id) || label.n < 2 || label.p[0] != '-')
		return -EINVAL;
	label = str_skip(label, 1);
	if (label.n > 2 && label.p[0] == '-' && (label.p[1] | 0x20) == 'p')
		return port_from(str_skip(label, 2), &ret->port) ? 0 : -EINVAL;
	port = str_cut(&label, '-');
	if (!port_from(port, &ret->port))
		return -EINVAL;
	if (!label.p)
		return 0;
	expires = str_cut(&label, '-');
	if (!label.p || !signed_is_time(expires) || !signed_is_sig(label))
		return -EINVAL;
	ret->expires = expires;
	ret->sig = label;
	return 0;
}

/* --- paths --- */

/* The path without its query, and the next segment of it taken off; *rest then begins with '/' or
 * '?', or is empty. */
static struct str segment(struct str *rest)
{
	struct str s = *rest;
	size_t n = 1;

	if (!s.n || s.p[0] != '/')
		return STR_NONE;
	while (n < s.n && s.p[n] != '/' && s.p[n] != '?')
		n++;
	*rest = str_skip(s, n);
	return str_n(s.p + 1, n - 1);
}

/* What is left of the target, as a target; "" becomes "/", "?q" is asked for as "/?q" by who writes
 * it (rewrite.c), since nothing is copied here. */
static void path_set(const struct http_head *h, struct str rest, struct target *ret)
{
	ret->prefix = str_n(h->target.p, h->target.n - rest.n);
	ret->path = rest;
}

/* (/v1)?/sandboxes/{id}/proxy/{port} : -ENOENT if it is no such path, else 0 or a status. */
static int server_path(const struct http_head *h, struct target *ret, struct err *err)
{
	struct str rest = h->target, s = segment(&rest), id;

	if (str_eq_c(s, "v1"))
		s = segment(&rest);
	if (!str_eq_c(s, "sandboxes"))
		return -ENOENT;
	id = segment(&rest);
	if (!str_eq_c(segment(&rest), "proxy"))
		return -ENOENT;
	ret->by = BY_SERVER;
	if (!id_from(&id, &ret->id) || id.n)
		return refuse(err, 404, "no such sandbox");
	if (!port_from(segment(&rest), &ret->port))
		return refuse(err, 400, "the port in the path is not 1 to 65535");
	path_set(h, rest, ret);
	return 0;
}

static int plain_path(const struct http_head *h, struct target *ret, struct err *err)
{
	struct str rest = h->target, id = segment(&rest), after;
	struct str expires, sig;

	ret->by = BY_PATH;
	if (!id_from(&id, &ret->id) || id.n)
		return refuse(err, 400, "neither a header, nor the host name, nor the path names a "
					"sandbox: use OpenSandbox-Ingress-To: {id}-{port}, "
					"{id}-{port}.{domain} or /{id}/{port}/");
	if (!port_from(segment(&rest), &ret->port))
		return refuse(err, 400, "the port in the path is not 1 to 65535");
	path_set(h, rest, ret);
	after = rest;
	expires = segment(&after);
	sig = segment(&after);
	if (signed_is_time(expires) && signed_is_sig(sig)) {
		ret->expires = expires;
		ret->sig = sig;
		ret->signed_path = after;
	}
	return 0;
}

int target_proxy(const struct http_head *h, struct target *ret, struct err *err)
{
	struct str rest = h->target;

	*ret = (struct target){ .by = BY_PROXY };
	if (!str_eq_c(segment(&rest), "proxy")) {
		/* The port belongs to execd; what is not said to be for another port is for it. */
		ret->port = 44772;
		ret->prefix = STR("");
		ret->path = h->target;
		return 0;
	}
	if (!port_from(segment(&rest), &ret->port))
		return refuse(err, 400, "the port in the path is not 1 to 65535");
	path_set(h, rest, ret);
	return 0;
}

void target_direct(const struct http_head *h, uint16_t port, struct target *ret)
{
	*ret = (struct target){ .by = BY_DIRECT, .port = port, .path = h->target,
		.prefix = STR("") };
}

/* --- which one counts --- */

static struct str field(const struct http_head *h, struct str name)
{
	for (size_t i = 0; i < h->n_fields; i++)
		if (str_caseeq(h->fields[i].name, name))
			return h->fields[i].value;
	return STR_NONE;
}

static struct str without_port(struct str host)
{
	if (host.n && host.p[0] == '[')
		return host;
	return str_cut(&host, ':');
}

/* The first label, if the rest is the domain; STR_NONE otherwise. */
static struct str label_below(struct str host, struct str domain)
{
	struct str rest, label;

	if (host.n && host.p[host.n - 1] == '.')
		host.n--;
	rest = host;
	label = str_cut(&rest, '.');
	return rest.p && str_caseeq(rest, domain) ? label : STR_NONE;
}

int target_gateway(const struct http_head *h, struct str domain, bool names, struct target *ret,
	struct err *err)
{
	struct str to = field(h, STR("opensandbox-ingress-to"));
	int r;

	*ret = (struct target){ .gateway = true, .path = h->target, .prefix = STR("") };
	if (!to.n)
		to = field(h, STR("open-sandbox-ingress"));
	if (to.n) {
		ret->by = BY_HEADER;
		if (str_starts(to, STR("http://")) || str_starts(to, STR("https://")))
			to = str_skip(to, (size_t)str_find(to, '/') + 2);
		to = str_cut(&to, '.');
		if (target_label(without_port(to), ret) < 0)
			return refuse(err, 400, "the routing header does not read {id}-{port}");
		return 0;
	}
	to = label_below(without_port(field(h, STR("host"))), domain);
	if (to.p) {
		ret->by = BY_HOST;
		ret->gateway = names;
		if (target_label(to, ret) < 0)
			return refuse(err, names ? 400 : 404,
				"the host name does not read {id}-{port}.{domain}");
		return 0;
	}
	r = server_path(h, ret, err);
	if (r != -ENOENT) {
		ret->gateway = false;
		return r;
	}
	if (str_eq_c(h->target, "/status.ok"))
		return -ENOENT;
	return plain_path(h, ret, err);
}

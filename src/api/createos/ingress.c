/* What a body says of ingress: see the header. */
#include "api/createos/ingress.h"
#include "api/ingress.h"

bool ingress_ask_any(const struct ingress_ask *ask)
{
	return ask->on_seen || ask->hold_seen || ask->ports || ask->access.n;
}

static int set_port(const struct api *a, const json_t *value, unsigned int i, const char *name,
	int *ret, struct err *err)
{
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_boolean(value))
		return err_field(err, -EINVAL, ERR_INVALID, name, "expected a boolean");
	if (json_is_true(value) && !(ingress_ports_given(a) & 1u << i))
		return err_field(err, -ENOTSUP, ERR_UNSUPPORTED, name,
			"this daemon gives out no such ports (ingress.ports, ingress.ports_open)");
	*ret = json_is_true(value);
	return 0;
}

/* Both by one word: those that this daemon gives out. */
static int set_both(const struct api *a, bool open, int ret[IPC_INGRESS_PORTS], struct err *err)
{
	uint32_t given = ingress_ports_given(a);

	if (open && !given)
		return err_field(err, -ENOTSUP, ERR_UNSUPPORTED, "host_ports",
			"this daemon gives out no ports (ingress.ports)");
	for (unsigned int i = 0; i < IPC_INGRESS_PORTS; i++)
		if (!open || given & 1u << i)
			ret[i] = open;
	return 0;
}

static int set_ports(const struct api *a, const json_t *ask, int ret[IPC_INGRESS_PORTS],
	struct err *err)
{
	const json_t *proxy, *direct;
	int r;

	if (!ask || json_is_null(ask))
		return 0;
	if (json_is_boolean(ask))
		return set_both(a, json_is_true(ask), ret, err);
	proxy = json_object_get(ask, "proxy");
	direct = json_object_get(ask, "direct");
	if (!json_is_object(ask) || json_object_size(ask) != (size_t)(!!proxy + !!direct))
		return err_field(err, -EINVAL, ERR_INVALID, "host_ports",
			"expected a boolean, or an object of the booleans proxy and direct");
	r = set_port(a, proxy, 0, "host_ports.proxy", &ret[0], err);
	return r < 0 ? r : set_port(a, direct, 1, "host_ports.direct", &ret[1], err);
}

int ingress_ask_read(const struct api *a, const struct ingress_ask *ask, struct ingress_want *ret,
	struct err *err)
{
	struct ingress_want w = INGRESS_AS_IT_WAS;
	int r;

	if (ask->access.n && !str_eq_c(ask->access, "open") && !str_eq_c(ask->access, "token"))
		return err_field(err, -EINVAL, ERR_INVALID, "ingress_access",
			"unknown access. Allowed: [open, token]");
	if (ask->on_seen)
		w.on = ask->on;
	if (ask->hold_seen)
		w.hold = ask->hold;
	if (ask->access.n)
		w.access = str_eq_c(ask->access, "token") ? IPC_INGRESS_TOKEN : IPC_INGRESS_OPEN;
	r = set_ports(a, ask->ports, w.ports, err);
	if (r == 0)
		*ret = w;
	return r;
}

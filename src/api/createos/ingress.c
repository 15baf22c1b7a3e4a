/* What a body says of ingress: see the header. */
#include "api/createos/ingress.h"

bool ingress_ask_any(const struct ingress_ask *ask)
{
	return ask->on_seen || ask->hold_seen || ask->ports_seen || ask->access.n;
}

int ingress_ask_read(const struct api *a, const struct ingress_ask *ask, struct ingress_want *ret,
	struct err *err)
{
	struct ingress_want w = INGRESS_AS_IT_WAS;

	if (ask->access.n && !str_eq_c(ask->access, "open") && !str_eq_c(ask->access, "token"))
		return err_field(err, -EINVAL, ERR_INVALID, "ingress_access",
			"unknown access. Allowed: [open, token]");
	if (ask->ports && !a->config.ingress_ports.first)
		return err_field(err, -ENOTSUP, ERR_UNSUPPORTED, "host_ports",
			"this daemon gives out no ports (ingress.ports)");
	if (ask->on_seen)
		w.on = ask->on;
	if (ask->hold_seen)
		w.hold = ask->hold;
	if (ask->ports_seen)
		w.ports = ask->ports;
	if (ask->access.n)
		w.access = str_eq_c(ask->access, "token") ? IPC_INGRESS_TOKEN : IPC_INGRESS_OPEN;
	*ret = w;
	return 0;
}

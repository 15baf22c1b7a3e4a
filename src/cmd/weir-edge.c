/*
 * weir-edge: the edge role. Started by weird with a channel as descriptor 3, as user weir, inside
 * the router namespace; answers the DNS queries of every sandbox. See edge/edge.c and
 * edge/resolver.h.
 */
#include "base/fault.h"
#include "base/log.h"
#include "edge/edge.h"

int main(int argc, char **argv)
{
	struct role *role;
	struct err err = { 0 };
	int r;

	log_open("edge", LOG_INFO);
	fault_open(FAULT_DIR, "edge");
	r = role_boot(&role, &err);
	if (r == 0)
		r = edge_run(role, &err);
	if (r == 0)
		return 0;
	log_event(LOG_ERROR, "edge.end", "error=\"%s\"", err.text);
	return 1;
}

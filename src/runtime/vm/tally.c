/* What is counted of machines: how each began, and what is kept for those to come. */
#include "runtime/vm/vm.h"

enum ipc_start vm_start_of(const struct runtime_parked *p)
{
	if (p->seat.asleep)
		return IPC_STARTS;
	if (p->from[0])
		return IPC_START_FORK;
	if (!p->warm)
		return IPC_START_BOOT;
	return p->starter.stands ? IPC_START_READY : IPC_START_WARM;
}

void vm_began(struct runtime *rt, enum ipc_start how)
{
	if (how < IPC_STARTS)
		rt->starts[how]++;
}

void vm_tally(const struct runtime *rt, struct ipc_machines *ret)
{
	*ret = (struct ipc_machines){
		.templates = { [IPC_TEMPLATE_WARM] = { rt->warms.made, warms_count(&rt->warms),
					warms_mib(&rt->warms) },
			[IPC_TEMPLATE_FORK] = { rt->templates.made, templates_count(&rt->templates),
				templates_mib(&rt->templates) } },
		.ready = ready_count(rt),
		.ready_mib = ready_mib(rt) };
	for (unsigned int i = 0; i < IPC_STARTS; i++)
		ret->starts[i] = rt->starts[i];
}

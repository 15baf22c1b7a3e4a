/* Services, and the list of ports that was before them: two views of one list. */
#pragma once
#include "api/sandbox0/sandbox0.h"

void sandbox0_services_get(struct req *q);
void sandbox0_services_put(struct req *q);
void sandbox0_ports_get(struct req *q);
void sandbox0_ports_put(struct req *q);
void sandbox0_ports_delete(struct req *q);	/* all of them */
void sandbox0_port_delete(struct req *q);

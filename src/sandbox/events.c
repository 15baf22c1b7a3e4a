/* News for the api role: see the header. */
#include "base/log.h"
#include "sandbox/daemon.h"
#include "sandbox/events.h"
#include "sandbox/roles.h"

static void tell(struct daemon *d, uint16_t type, const void *payload, size_t n)
{
	struct chan *api = roles_api(d->roles, 0);

	if (api && chan_send(api, type, payload, n, NULL, 0) < 0)
		log_event(LOG_WARN, "event.lost", "type=%u", type);
}

void event_exited(struct daemon *d, const char *id, int32_t status, bool oom)
{
	struct ipc_exited m = { .status = status, .oom = oom };

	snprintf(m.id, sizeof(m.id), "%s", id);
	tell(d, IPC_EVENT_EXITED, &m, sizeof(m));
}

void event_build(struct daemon *d, const struct ipc_build *ask, int32_t status)
{
	struct ipc_build_done m = { .status = status };

	memcpy(m.id, ask->id, sizeof(m.id));
	memcpy(m.name, ask->name, sizeof(m.name));
	tell(d, IPC_EVENT_BUILD, &m, sizeof(m));
}

/*
 * A sandbox as OpenSandbox's API shows it: see opensandbox.h. The contract's states are fewer than
 * ours and its reasons are a container runtime's; the texts are informative.
 */
#include <sys/utsname.h>
#include "api/box.h"
#include "api/opensandbox/opensandbox.h"
#include "base/clock.h"

#define VIEW_MAX (2u << 20)

static const struct {
	enum opensandbox_state state; /* NONE: this API does not show it */
	const char *reason;
} shown[LIFE_STATES] = {
	[LIFE_CREATING] = { OPENSANDBOX_PENDING, "CONTAINER_STARTING" },
	[LIFE_RUNNING] = { OPENSANDBOX_RUNNING, "CONTAINER_RUNNING" },
	[LIFE_PAUSING] = { OPENSANDBOX_PAUSING, "CONTAINER_PAUSING" },
	[LIFE_PAUSED] = { OPENSANDBOX_PAUSED, "CONTAINER_PAUSED" },
	[LIFE_RESUMING] = { OPENSANDBOX_RESUMING, "CONTAINER_STARTING" },
	[LIFE_FORKING] = { OPENSANDBOX_RESUMING, "CONTAINER_STARTING" },
	[LIFE_ERROR] = { OPENSANDBOX_FAILED, "CONTAINER_EXITED_ERROR" },
};

static const char *const names[OPENSANDBOX_STATES] = {
	[OPENSANDBOX_PENDING] = "Pending",
	[OPENSANDBOX_RUNNING] = "Running",
	[OPENSANDBOX_PAUSING] = "Pausing",
	[OPENSANDBOX_PAUSED] = "Paused",
	[OPENSANDBOX_RESUMING] = "Resuming",
	[OPENSANDBOX_STOPPING] = "Stopping", /* what is being destroyed is gone here */
	[OPENSANDBOX_TERMINATED] = "Terminated",
	[OPENSANDBOX_FAILED] = "Failed",
};

bool opensandbox_shows(enum life_state state)
{
	return shown[state].state != OPENSANDBOX_NONE;
}

enum opensandbox_state opensandbox_state_from(struct str word)
{
	for (enum opensandbox_state s = OPENSANDBOX_NONE + 1; s < OPENSANDBOX_STATES; s++)
		if (str_caseeq(word, str_c(names[s])))
			return s;
	return OPENSANDBOX_NONE;
}

/* Our error is upstream's exit: of an entry point that ended well, or of anything else. */
static bool ended_well(const struct sandbox_row *row)
{
	return row->state == LIFE_ERROR && row->reason && str_eq_c(str_c(row->reason), ENTRY_ENDED);
}

enum opensandbox_state opensandbox_state_of(const struct sandbox_row *row)
{
	return ended_well(row) ? OPENSANDBOX_TERMINATED : shown[row->state].state;
}

static void put_time(struct jw *w, const char *name, uint64_t ms)
{
	jw_c(w, name, rfc3339_from(ms * NS_PER_MS).s);
}

static uint64_t last_change(const struct sandbox_row *row)
{
	if (row->state == LIFE_PAUSED)
		return row->paused_ms;
	return MAX(MAX(row->running_ms, row->resumed_ms), row->created_ms);
}

static void put_platform(struct jw *w)
{
	struct utsname u;

	jw_obj(w, "platform");
	jw_c(w, "os", "linux");
	jw_c(w, "arch", uname(&u) == 0 && str_eq_c(STR("aarch64"), u.machine) ? "arm64" : "amd64");
	jw_end(w);
}

void opensandbox_view(struct jw *w, const char *name, const struct sandbox_row *row, bool created)
{
	jw_obj(w, name);
	jw_c(w, "id", row->id);
	if (!created) {
		jw_obj(w, "image");
		jw_c(w, "uri", row->image && *row->image ? row->image : row->rootfs);
		jw_end(w);
	}
	put_platform(w);
	jw_obj(w, "status");
	jw_c(w, "state", names[opensandbox_state_of(row)]);
	jw_c(w, "reason", ended_well(row) ? "CONTAINER_EXITED" : shown[row->state].reason);
	if (row->reason && *row->reason)
		jw_c(w, "message", row->reason);
	put_time(w, "lastTransitionAt", last_change(row));
	jw_end(w);
	jw_raw(w, "metadata", str_c(row->metadata && *row->metadata ? row->metadata : "{}"));
	jw_raw(w, "entrypoint", str_c(row->entrypoint && *row->entrypoint ? row->entrypoint : "[]"));
	if (row->expires_ms)
		put_time(w, "expiresAt", row->expires_ms);
	put_time(w, "createdAt", row->created_ms);
	jw_end(w);
}

void opensandbox_reply(struct req *q, int status, const struct sandbox_row *row, bool created)
{
	auto_buf struct buf body = BUF_MAX(VIEW_MAX);
	struct jw w = JW(&body);

	opensandbox_view(&w, NULL, row, created);
	reply_json(q, status, &body);
}

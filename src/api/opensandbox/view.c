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
	const char *name, *reason; /* NULL: this API does not show it */
} shown[LIFE_STATES] = {
	[LIFE_CREATING] = { "Pending", "CONTAINER_STARTING" },
	[LIFE_RUNNING] = { "Running", "CONTAINER_RUNNING" },
	[LIFE_PAUSING] = { "Pausing", "CONTAINER_PAUSING" },
	[LIFE_PAUSED] = { "Paused", "CONTAINER_PAUSED" },
	[LIFE_RESUMING] = { "Resuming", "CONTAINER_STARTING" },
	[LIFE_FORKING] = { "Resuming", "CONTAINER_STARTING" },
	[LIFE_ERROR] = { "Failed", "CONTAINER_EXITED_ERROR" },
};

/* Words of the contract for which no sandbox of ours is found: one that ended well is found among
 * the failed. */
static const char *const never[] = { "Stopping", "Terminated" };

bool opensandbox_shows(enum life_state state)
{
	return shown[state].name != NULL;
}

uint32_t opensandbox_states(struct str word)
{
	uint32_t mask = 0;

	for (unsigned int s = 0; s < LIFE_STATES; s++)
		if (shown[s].name && str_caseeq(word, str_c(shown[s].name)))
			mask |= 1u << s;
	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		if (str_caseeq(word, str_c(never[i])))
			mask |= 1u << LIFE_NONE;
	return mask;
}

/* Our error is upstream's exit: of an entry point that ended well, or of anything else. */
static bool ended_well(const struct sandbox_row *row)
{
	return row->state == LIFE_ERROR && row->reason && str_eq_c(str_c(row->reason), ENTRY_ENDED);
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
	jw_c(w, "state", ended_well(row) ? "Terminated" : shown[row->state].name);
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

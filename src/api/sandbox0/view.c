/* sandbox0's words for a row: see the header. */
#include "api/birth.h"
#include "api/sandbox0/config.h"
#include "api/sandbox0/view.h"
#include "base/clock.h"

/* There is no word for pausing and resuming: a client waits for what comes of them. */
static const char *const statuses[LIFE_STATES] = {
	[LIFE_CREATING] = "starting",
	[LIFE_RUNNING] = "running",
	[LIFE_PAUSING] = "running",
	[LIFE_PAUSED] = "paused",
	[LIFE_RESUMING] = "starting",
	[LIFE_FORKING] = "paused",
	[LIFE_ERROR] = "failed",
	[LIFE_FAILED] = "failed",
	[LIFE_DESTROYING] = "terminating",
};

const char *view_status(enum life_state state)
{
	return statuses[state] ? statuses[state] : "terminating";
}

uint32_t view_states(struct str status)
{
	uint32_t states = 0;

	for (unsigned int s = 0; s < LIFE_STATES; s++)
		if (statuses[s] && str_eq_c(status, statuses[s]))
			states |= 1u << s;
	return states;
}

const char *view_template(const struct api *a, const struct sandbox_row *row)
{
	bool vm = str_eq_c(str_c(row->runtime), "vm");
	char unasked[16] = "";
	struct err err;

	if (!str_eq_c(str_c(row->rootfs), a->config.rootfs_default))
		return row->rootfs;
	birth_runtime(a, STR_NONE, unasked, &err);
	return vm && strcmp(unasked, "vm") != 0 ? "vm" : "default";
}

static void put_time(struct jw *w, const char *name, uint64_t ms)
{
	if (ms)
		jw_c(w, name, rfc3339_from(ms * NS_PER_MS).s);
	else
		jw_raw(w, name, STR("null")); /* absent, the client would make an invalid date of it */
}

void view_put_times(struct jw *w, const struct sandbox_row *row)
{
	put_time(w, "expires_at", row->sleeps_ms);
	put_time(w, "hard_expires_at", row->expires_ms);
}

static uint64_t updated(const struct sandbox_row *row)
{
	uint64_t at = MAX(MAX(row->created_ms, row->running_ms), MAX(row->paused_ms, row->resumed_ms));

	return MAX(at, row->updated_ms);
}

static void put_resources(struct jw *w, const struct sandbox_row *row)
{
	char memory[16];

	config_memory_text(row->mem_mib, memory);
	jw_obj(w, "resources");
	jw_c(w, "memory", memory);
	jw_end(w);
}

void view_put(struct jw *w, const char *name, const struct api *a, const struct sandbox_row *row,
	enum view_kind kind)
{
	jw_obj(w, name);
	jw_c(w, kind == VIEW_STATUS ? "sandbox_id" : "id", row->id);
	jw_c(w, "template_id", view_template(a, row));
	jw_c(w, "status", view_status(row->state));
	if (kind != VIEW_ITEM) {
		jw_c(w, "team_id", row->user);
		jw_c(w, "user_id", row->user);
		jw_c(w, "pod_name", row->name);
		put_time(w, "claimed_at", row->created_ms);
	}
	if (kind != VIEW_STATUS) {
		jw_bool(w, "paused", row->state == LIFE_PAUSED);
		jw_u64(w, "runtime_generation", row->generation);
		put_time(w, "updated_at", updated(row));
	}
	if (kind == VIEW_SANDBOX) {
		jw_bool(w, "auto_resume", row->auto_resume);
		put_resources(w, row);
	}
	put_time(w, "created_at", row->created_ms);
	view_put_times(w, row);
	jw_end(w);
}

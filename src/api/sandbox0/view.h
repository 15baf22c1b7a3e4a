/* sandbox0's words for a row. */
#pragma once
#include "api/sandbox0/sandbox0.h"

/* "default", "vm", or the image where another dialect chose one. */
const char *view_template(const struct api *a, const struct sandbox_row *row);
/* starting, running, paused, terminating, failed. */
const char *view_status(enum life_state state);
/* The states that a status stands for, as bits 1 << state; 0: there is no such status. */
uint32_t view_states(struct str status);

enum view_kind {
	VIEW_SANDBOX, /* GET /sandboxes/{id} */
	VIEW_STATUS,  /* …/status */
	VIEW_ITEM,    /* of a list */
};
void view_put(struct jw *w, const char *name, const struct api *a, const struct sandbox_row *row,
	enum view_kind kind);
void view_put_times(struct jw *w, const struct sandbox_row *row); /* expires_at, hard_expires_at */

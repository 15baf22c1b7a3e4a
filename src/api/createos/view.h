/* A sandbox as this API shows it: CreateOS's words for a row. */
#pragma once
#include "api/req.h"

/* An object; name NULL inside an array. */
void view_write(struct jw *w, const char *name, struct api *a, const struct sandbox_row *row);
/* The whole answer, with the view as "data". */
void reply_view(struct req *q, int status, const struct sandbox_row *row);
#define VIEW_MAX (2u << 20) /* rules, keys and names of one sandbox */

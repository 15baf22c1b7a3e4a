/* A policy that came through another dialect, told in this one's words. */
#pragma once
#include "api/sandbox0/sandbox0.h"

/* The document as GET has it; to be freed. ERR_CONFLICT for the little that has no words here. */
int foreign_json(struct api *a, const struct sandbox_row *row, char **ret, struct err *err);
/* The same of a policy; whose: the dialect's name, for the error. */
int foreign_from(const struct policy *p, const char *whose, char **ret, struct err *err);

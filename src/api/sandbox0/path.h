/* Paths as clients give them: what is relative is below /workspace. */
#pragma once
#include "base/err.h"
#include "base/str.h"

#define PATH_BASE "/workspace"

/* field: what the error is about. */
/* Take out of an absolute path what says nothing: "//", "/./", a slash at the end. */
void path_clean(char *path);
int path_from(struct str text, char *ret, size_t size, const char *field, struct err *err);

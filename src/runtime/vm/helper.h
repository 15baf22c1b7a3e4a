/* Running a program of ours from a starter, and hearing what it says. */
#pragma once
#include "base/err.h"

/* argv[0] is a path. ret gets the first line of its standard output. It failed: err is the last line
 * of its standard error, as it is. Allocates nothing. */
int helper_run(const char *const *argv, char *ret, size_t size, struct err *err);

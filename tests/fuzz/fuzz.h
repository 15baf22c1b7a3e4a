/* What every target begins with: its entry, and checks that end the run. */
#pragma once
#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

/* The same, saying what was violated. */
static inline void must(bool held, const char *what)
{
	if (held)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

/*
 * ULIDs, lower case: 48 bits of milliseconds, 80 bits of randomness, 26 letters
 * of Crockford's base 32. They sort by creation time. Format:
 * https://github.com/ulid/spec
 */
#pragma once
#include "base/str.h"

#define ULID_LEN 26

struct ulid {
	char s[ULID_LEN + 1]; /* NUL-terminated */
};

struct ulid ulid_new(uint64_t wall_ns);
/* Accepts either case, folds to lower. -EINVAL for anything else. */
int ulid_from(struct str s, struct ulid *ret);
/* Its 128 bits. */
void ulid_raw(const struct ulid *u, uint8_t ret[static 16]);
/* n random bytes from the kernel; never fails (waits for the pool). */
void random_bytes(void *p, size_t n);

/* Bytes as hexadecimal digits, in lower case, and back. */
#pragma once
#include "base/str.h"

/* 2 × n digits and a NUL. */
void hex_spell(char *dst, const void *bytes, size_t n);
/* Exactly n bytes, in digits of either case; -EINVAL otherwise, and nothing is written. */
int hex_read(struct str digits, void *ret, size_t n);

/*
 * The hash of every table in this room: SipHash-1-3 under a key drawn at start, so nobody who
 * chooses names or addresses can choose their buckets. Include before (or instead of) base/table.h.
 */
#pragma once
#include "base/base.h"

void hash_seed(const uint8_t key[16]); /* once, at start; without it the key is zero (tests) */
uint64_t hash_bytes(const void *p, size_t n);

#define HASH_FUNCTION(keyptr, keylen, hashv) ((hashv) = (unsigned int)hash_bytes(keyptr, keylen))
#include "base/table.h"
#include <utlist.h>

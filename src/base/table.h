/*
 * Hash tables: uthash, and the one rule about it that everybody must keep. Without memory an insertion
 * fails alone: the element is not in the table then, and says so. Nobody else includes uthash.h, or a
 * file that forgets this would end its role instead.
 *
 *	HASH_ADD_STR(table, id, e);
 *	if (!table_has(e))
 *		…
 */
#pragma once
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define table_has(e) ((e)->hh.tbl != NULL)

/*
 * SPAWN requests: each waits for its turn, then for its slot (slots.h), then becomes a sandbox.
 *
 * Turns are one per turn of the loop, so that policies are committed and other requests answered in
 * between. The slow parts of a start overlap: some sixteen slots are on order at once, and a
 * request that finds a ready one overtakes those whose slots are being made.
 */
#pragma once
#include <uv.h>
#include "base/err.h"
#include "wire/ipc.h"

#define BURST_MAX 4096 /* waiting at once; more are refused, nothing happened */

struct daemon;
struct burst;

int burst_new(struct daemon *d, struct burst **ret, struct err *err);
/* The call `serial` of the api role's life `life` will be answered. ERR_CAPACITY when full. */
int burst_add(struct burst *b, const struct ipc_spawn *req, uint32_t life, uint32_t serial,
	struct err *err);
void burst_free(struct burst *b); /* NULL is fine */

/*
 * SPAWN requests, one after another, one per turn of the loop: policies are committed and other
 * requests answered in between.
 *
 * What makes the queue worth having is that its length is known. Some of a start's slow parts
 * (entering v1 control groups waits for an RCU grace period) overlap if they are begun together, so
 * while several creates wait, the runtime is told to prepare for as many.
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

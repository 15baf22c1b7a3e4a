/*
 * Denial events from the ring buffer, for tests: through libbpf, where the api role reads the same
 * memory by itself (api/kmaps.c).
 */
#pragma once
#include "base/err.h"
#include "bpf/maps.h"

struct events_ring;
typedef void (*events_fn)(const struct weir_event *e, void *arg);

/* ring_fd: of weir_events; borrowed for the life of the ring. */
int events_ring_open(int ring_fd, events_fn fn, void *arg, struct events_ring **ret, struct err *err);
struct events_ring *events_ring_free(struct events_ring *r);
int events_ring_fd(const struct events_ring *r);
/* Hand over what is there, without waiting. The number of events, or negative errno. */
int events_ring_read(struct events_ring *r);

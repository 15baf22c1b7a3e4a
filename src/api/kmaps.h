/*
 * The kernel maps that the api role may read: counters per slot, of the program and of the edge
 * role, and the ring of denial events. By system call and shared memory, without a library for BPF:
 * this process is given the maps' descriptors and can do nothing else in that world.
 */
#pragma once
#include "api/api.h"

struct counters;
struct events;
/* Descriptors are taken; -EBADF: there is none, and that is fine. */
int counters_open(int map_fd, int dns_fd, struct counters **ret, struct err *err);
/* Summed over CPUs, with what the edge role refused. -ENODATA without the map. */
int counters_read(const struct counters *c, uint32_t slot, struct weir_counters *ret);
int events_open(struct api *a, int ring_fd, struct events **ret, struct err *err);

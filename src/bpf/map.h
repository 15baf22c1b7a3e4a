/*
 * Kernel maps through descriptors alone: four calls of bpf(2), for roles that are handed a map
 * and can do nothing else in that world. The loader uses libbpf; these need no library.
 *
 * Keys and values are as large as the map says; each returns 0 or a negative errno.
 */
#pragma once
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int map_call(int cmd, int fd, const void *key, const void *value)
{
	union bpf_attr attr = { 0 };

	attr.map_fd = (uint32_t)fd;
	attr.key = (uintptr_t)key;
	attr.value = (uintptr_t)value; /* or next_key: the same member */
	return syscall(SYS_bpf, cmd, &attr, sizeof(attr)) < 0 ? -errno : 0;
}
/* ret_value: of a per-CPU map, one value per possible CPU. -ENOENT. */
static inline int map_get(int fd, const void *key, void *ret_value)
{
	return map_call(BPF_MAP_LOOKUP_ELEM, fd, key, ret_value);
}
/* Create or replace. */
static inline int map_set(int fd, const void *key, const void *value)
{
	return map_call(BPF_MAP_UPDATE_ELEM, fd, key, value);
}
static inline int map_delete(int fd, const void *key)
{
	return map_call(BPF_MAP_DELETE_ELEM, fd, key, NULL);
}
/* key NULL, or one that is gone: the first. -ENOENT: that was the last. */
static inline int map_next(int fd, const void *key, void *ret_next)
{
	return map_call(BPF_MAP_GET_NEXT_KEY, fd, key, ret_next);
}

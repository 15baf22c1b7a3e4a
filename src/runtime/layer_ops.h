/* Between layer.c and its two backends. */
#pragma once
#include <pthread.h>
#include "runtime/layer.h"

struct layers {
	const struct layer_ops *ops;
	char dir[256];	   /* <state_dir>/layers */
	int fd;		   /* it, opened */
	int templates;	   /* how many template images there are */
	struct {
		pthread_mutex_t lock; /* of who tells it something */
		pid_t pid;
		int chan;
	} janitor; /* chan -EBADF: none */
	/* quota only */
	int volume;	   /* root of the mounted state volume */
	char device[32];   /* its loop device */
};

/* Where the layers' directories are. */
static inline int layers_home(const struct layers *ls)
{
	return ls->volume >= 0 ? ls->volume : ls->fd;
}

struct layer_ops {
	const char *name;
	int (*open)(struct layers *ls, struct err *err);
	int (*ready)(struct layers *ls, uint32_t mib, struct err *err);
	/* The directory <name> is there and empty; make what mount() needs. */
	int (*make)(struct layers *ls, const char *name, uint32_t mib, struct err *err);
	/* As make, with what another holds; NULL: not yet. */
	int (*copy)(struct layers *ls, const char *from, const char *name, struct err *err);
	int (*blank)(struct layers *ls, const char *name, struct err *err); /* NULL: has no image */
	int (*mount)(struct layers *ls, const char *name, struct layer_at *ret, struct err *err);
	int (*image)(struct layers *ls, const char *name, struct err *err); /* NULL: has none */
	int (*grow)(struct layers *ls, const char *name, uint32_t mib, bool mounted,
		struct err *err);
	uint64_t (*used)(struct layers *ls, const char *name);
};

extern const struct layer_ops layer_loop, layer_quota;

/* mkfs.ext4 on a new sparse file of this size, with what is in the directory `dirs` (NULL: empty). */
int layer_mkfs(const char *path, uint32_t mib, const char *features, const char *dirs,
	struct err *err);
/* Run a program of e2fsprogs, quietly; 0 if it exits with 0. */
int layer_run(const char *const *argv, struct err *err);
/* Mount an ext4 device, detached. quota: with project quotas. */
int layer_mount_ext4(const char *device, bool quota, struct err *err);
/* upper/ and work/ in a directory, made when missing. */
int layer_dirs(int at, struct err *err);

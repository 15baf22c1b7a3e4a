/*
 * The parts of weir-build: what one job is, and what each file does for it. cmd/weir-build.c has the
 * theory and the order of things.
 */
#pragma once
#include "base/err.h"
#include "base/secret.h"

#define UID_BASE_DEFAULT 4293918720u /* 0xfff00000: above the range of every slot */
#define UID_COUNT	 65536u
#define FETCH		 "fetch" /* the recipe of images that come from a registry */
#define AUTH_MAX	 (1u << 16)
#define CA_MAX		 (1u << 20)

enum build_net {
	BUILD_NET_NONE, /* an empty namespace */
	BUILD_NET_SLOT, /* the one we were started in, whose resolver is the gateway */
	BUILD_NET_HOST, /* the machine's own: an operator's choice, by hand */
};

struct job {
	const char *name, *store, *cache, *recipes;
	const char *from;  /* an image of a registry: the recipe is `fetch`; or NULL */
	const char *proxy; /* or NULL */
	enum build_net net;
	uint32_t uid_base, disk_mib, layers_mib;
	bool force;
	bool check; /* it is there: only ask the registry whether `auth` still opens it */
	struct secret auth;	 /* these two are read before anything foreign runs; empty: none */
	struct buf ca;
	char staging[1000];	 /* <store>/tmp/<pid>: where the disk is mounted */
	char rootfs[1024];	 /* <staging>/rootfs: what the recipe makes */
	char script[1024];	 /* the recipe, below <staging>/recipes */
	const char *script_name; /* its last part */
	int publish_lock, build_lock, name_lock;
};

/* util.c */
void say(const char *fmt, ...) _printf_(1, 2);
int path_fmt(char *dst, size_t size, struct err *err, const char *fmt, ...) _printf_(4, 5);
/* Run a program of ours to its end; 0 or -EIO. */
int run(const char *const *argv);
int remove_tree(const char *path);

/* disk.c: a file system of its own for what comes, so that it cannot fill the machine's. */
int disk_open(struct job *job, struct err *err);
bool disk_full(const struct job *job); /* or nearly: the likely reason of a failure */
void disk_close(struct job *job);

/* recipe.c, view.c: run it in its namespaces, with what it may see. */
int recipe_stage(struct job *job, struct err *err);
int recipe_run(const struct job *job, struct err *err);

struct view { /* detached mounts, taken while the machine's paths can still be walked */
	int staging, cache;
	char resolv[200]; /* where /etc/resolv.conf leads */
};
int view_take(const struct job *job, struct view *v); /* -errno, and errno */
int view_make(const struct job *job, struct view *v);
#define VIEW_STAGING "/run/build/at"
#define VIEW_CACHE   "/run/build/cache"
#define VIEW_AUTH    "/run/build/auth.json"
#define VIEW_CA	     "/run/build/ca.pem"

/* digest.c */
int tree_digest(const char *root, uint32_t uid_base, char hex[65], uint64_t *ret_bytes,
	struct err *err);

/* store.c */
int store_open(struct job *job, struct err *err);
void store_close(struct job *job);
bool store_has(const struct job *job); /* is it there already? Prints its digest. */
int store_publish(struct job *job, const char *hex, uint64_t bytes, struct err *err);
int store_drop(struct job *job, struct err *err);

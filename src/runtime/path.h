/*
 * Paths that somebody else can steer. An image or a tenant may have put a symbolic link, a bind
 * target or a device anywhere below a root; these calls resolve as if that root were "/", never
 * through a magic link of procfs, and so never leave it.
 */
#pragma once
#include "base/err.h"
#include "base/str.h"

/* Resolve inside root (a directory descriptor). flags as for open(2); O_CLOEXEC is added. */
int path_in_root(int root, const char *path, int flags, unsigned int mode);
/* Stricter, for kernel file systems: no link of any kind, no crossing into another mount. */
int path_on_mount(int mnt, const char *path);
/* A directory directly in root, made when missing. A link or a file in its place is -ENOTDIR. */
int path_dir_in_root(int root, const char *name, unsigned int mode);
/* Write dir/name inside root: whatever is there is unlinked, never followed or written to. */
int path_replace_in_root(int root, const char *dir, const char *name, struct str text);

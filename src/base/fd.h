/*
 * Descriptors and small files: whole reads and writes, sealed memory files.
 * Everything here opens with O_CLOEXEC. Paths are trusted (ours); paths that a
 * tenant can steer go through host/path.h, which resolves inside a root.
 */
#pragma once
#include "base/buf.h"

int fd_write_all(int fd, const void *p, size_t n);
/* Read exactly n bytes; -ENODATA on an early end. */
int fd_read_all(int fd, void *p, size_t n);
/* To its end, for which there must be room as well: a file of out->max bytes is -EFBIG. */
int fd_read_end(int fd, struct buf *out);
int fd_nonblock(int fd, bool on);
/* The data of a sparse file of this size into a new one: shared where the file system can, else hole for
 * hole. */
int fd_copy_sparse(int from, int to, off_t size);
/* The file below dirfd (AT_FDCWD allowed), as fd_read_end(). */
int file_read(int dirfd, const char *path, struct buf *out);
/* Write to an existing kernel file (sysfs, cgroup): one write, no creation. */
int file_write_kernel(int dirfd, const char *path, struct str text);
/* Create or replace a file of ours whole: temporary name, fsync if durable, rename. */
int file_replace(int dirfd, const char *path, struct str text, unsigned int mode, bool durable);
/* A sealed, read-only memory file with this content; returns its descriptor. */
int memfd_sealed(const char *name, struct str content);
/* The content of a memory file: checks that it is fully sealed and <= max, reads it into out. */
int memfd_read(int fd, size_t max, struct buf *out);
int path_mkdirs(const char *path, unsigned int mode);

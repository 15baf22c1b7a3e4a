/*
 * Writing a file so that it takes its place whole or not at all: file.c does it for uploads, tree.c
 * for replacements. In a worker (worker.h); what fails ends it with an answer.
 */
#pragma once
#include "agent/worker.h"

#define FILE_UPLOAD ".weir-put-" /* how the name begins that an upload may have at first */

#define FD_PATH 32 /* "/proc/self/fd/N" */

struct file_mark {
	unsigned int mode;
	uint32_t uid, gid;
	bool must; /* the owner was asked for; else it is kept if that is possible */
};

/* What is written goes here: *tmp is its name, "" if it has none yet. */
int file_temporary(const char *path, char *tmp, size_t size, char fd_path[FD_PATH]);
_noreturn_ void file_abort(const char *tmp, int error, const char *what); /* error 0: the peer left */
/* All of it takes the place of what the path named. Closes fd. */
void file_place(int fd, const char *fd_path, char *tmp, size_t size, const char *path,
	const struct file_mark *mark);
/* Take the slashes off its end; its length. */
size_t file_without_slashes(char *path);
/* The directories above the path. */
void file_parents(const char *path);
/* A user's or group's number, from its name or its number. */
uint32_t file_id(struct str name, bool group);

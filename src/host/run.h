/*
 * Run a program of the system to its end, with text for it to read and its output caught. For start
 * and stop only: it blocks. The program is looked up in the directories of administration, never in
 * an inherited PATH.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* out (may be NULL): standard output. Standard error becomes the error's sentence. The exit status
 * must be 0. -ENOENT: not installed. `in` is at most 64 KiB, what a pipe takes at once. */
int run_program(const char *const *argv, struct str in, struct buf *out, struct err *err);

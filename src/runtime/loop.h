/*
 * Loop devices that clear themselves: a device lives as long as something is mounted from it.
 * Attaching one file to two devices destroys its file system, so a file that may already be
 * attached is looked up first.
 */
#pragma once
#include "base/err.h"

/* Attach file (read-write). `fresh`: nobody can have attached it. On success dev holds "/dev/loopN"
 * and the descriptor returned keeps the device until it is mounted. Allocates nothing. */
int loop_attach(int file, bool fresh, char dev[32], struct err *err);
/* The device of this file, or -ENOENT; opened as above. */
int loop_find(int file, char dev[32]);
/* The file has grown: so shall the device. */
int loop_resized(int loop);

/*
 * Each allocation of a scenario fails once.
 *
 * A scenario is a function that does its work from nothing to nothing and says how it went: 0 or a
 * negative errno, as our own functions do. nth_each() runs it with the first allocation failing,
 * then the second, and so on until a run in which none was asked to fail; that one must succeed.
 * After each run nothing that was allocated in it may be left. Counted are the allocations of our
 * own objects (linked with --wrap, so this holds under AddressSanitizer too), of jansson and of
 * libuv, which take other allocators.
 */
#pragma once
#include <stdbool.h>
#include "unit.h"

typedef int (*nth_fn)(void *arg);
/* How many allocations the undisturbed run made; at least `least`, or the test has no object. */
unsigned int nth_each(const char *name, nth_fn scenario, void *arg, unsigned int least);
/* For a scenario that makes thousands: the first `all` one by one, from there on every step-th. */
unsigned int nth_some(const char *name, nth_fn scenario, void *arg, unsigned int least,
	unsigned int all, unsigned int step);
/* For allocators of other libraries. */
void *nth_malloc(size_t n);
void *nth_calloc(size_t n, size_t size);
void *nth_realloc(void *p, size_t n);
void nth_free(void *p);
/* Where in a scenario allocations may fail: everywhere, unless it was closed before nth_each(). A
 * player around the object of the test keeps it closed but for its calls. */
void nth_window(bool open);
/* From here on nothing fails, in this run: the scenario looks at what it has. */
void nth_stop(void);

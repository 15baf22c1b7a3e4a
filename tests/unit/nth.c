/* The n-th allocation fails: see the header. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "nth.h"

#define RUNS_MAX 100000 /* far more than a scenario makes */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void __wrap_free(void *p);

static bool counting, window = true;
static unsigned int asked, failing;
static long live;

static bool fails(void)
{
	if (!counting || !window || ++asked != failing)
		return false;
	errno = ENOMEM;
	return true;
}

static void *counted(void *p)
{
	live += counting && p;
	return p;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : counted(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n)
{
	if (fails())
		return NULL;
	return p ? __real_realloc(p, n) : counted(__real_realloc(NULL, n));
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	if (fails())
		return NULL;
	return p ? __real_reallocarray(p, n, size) : counted(__real_reallocarray(NULL, n, size));
}

void __wrap_free(void *p)
{
	live -= counting && p;
	__real_free(p);
}

void *nth_malloc(size_t n)
{
	return __wrap_malloc(n);
}

void *nth_calloc(size_t n, size_t size)
{
	return __wrap_calloc(n, size);
}

void *nth_realloc(void *p, size_t n)
{
	return __wrap_realloc(p, n);
}

void nth_free(void *p)
{
	__wrap_free(p);
}

void nth_window(bool open)
{
	window = open;
}

void nth_stop(void)
{
	failing = 0;
}

unsigned int nth_some(const char *name, nth_fn scenario, void *arg, unsigned int least,
	unsigned int all, unsigned int step)
{
	unsigned int errors = 0;

	for (unsigned int n = 1; n < RUNS_MAX; n += n < all ? 1 : step) {
		int r;

		asked = 0;
		failing = n;
		live = 0;
		counting = true;
		r = scenario(arg);
		counting = false;
		if (live)
			fail_msg("%s, allocation %u failing: %ld blocks are left", name, n, live);
		if (r > 0)
			fail_msg("%s, allocation %u failing: %d is no outcome", name, n, r);
		errors += r < 0;
		if (asked >= n)
			continue;
		if (r < 0)
			fail_msg("%s fails by itself: %d", name, r);
		if (asked < least)
			fail_msg("%s makes only %u allocations", name, asked);
		printf("%s: %u allocations, %u of them needed\n", name, asked, errors);
		return asked;
	}
	fail_msg("%s: there is no end to its allocations", name);
	return 0;
}

unsigned int nth_each(const char *name, nth_fn scenario, void *arg, unsigned int least)
{
	return nth_some(name, scenario, arg, least, RUNS_MAX, 1);
}
